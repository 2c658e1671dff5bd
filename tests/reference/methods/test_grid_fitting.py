"""Finite grids: exact in fractions, the search for the least error, ranges without a middle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference import NUMPY, BadInput
from waterlevel.reference.methods.grid_fitting import (
    GridFormat,
    find_grid,
    find_grids,
    grid_format,
    group_starts,
)

from ...helpers import scalar
from ...helpers.formats_by_value import FORMATS
from ...helpers.inputs import bell, dtypes, flavours, integers, keys, numbers, same_bits
from ...helpers.scalar import ROUNDED

bit_widths = st.integers(2, 8)


def rounded_grid(row: list, bits: int, symmetric: bool, kind: type) -> tuple[object, int]:
    """The affine grid of one row, each operation rounded once."""
    zero = kind(0)
    low = min([zero, *row], key=lambda x: x.value)
    high = max([zero, *row], key=lambda x: x.value)
    if symmetric:
        if abs(low).value > high.value:
            high = abs(low)
        if low.value < 0:
            low = -high
    maximum = 2**bits - 1
    scale = (high - low) / kind(maximum)
    if not scale.value:  # only zeros, or a range that underflows
        low, high = kind(-1), kind(1)
        scale = (high - low) / kind(maximum)
    return scale, 2 ** (bits - 1) if symmetric else round((-low / scale).value)


@given(keys, flavours, dtypes, bit_widths, st.booleans(), st.integers(1, 5))
def test_grid_of_a_row_by_single_roundings(key, flavour, dtype, bits, asymmetric, columns):
    X = numbers(flavour, key, (3, columns), dtype)
    scale, zero = find_grid(NUMPY, X, 0, columns, GridFormat(bits=bits, asymmetric=asymmetric))
    kind = ROUNDED[np.dtype(dtype)]
    for i, row in enumerate(scalar.lists(X, kind)):
        expected, middle = rounded_grid(row, bits, not asymmetric, kind)
        assert Fraction(float(scale[i])) == expected.value
        assert zero[i] == middle
    assert scale.dtype == dtype
    assert zero.dtype == np.int32


@given(keys, dtypes, bit_widths)
def test_every_weight_lies_on_the_grid_up_to_half_a_step(key, dtype, bits):
    """No search, nothing clipped: zero is a code, and so are the ends of an asymmetric range."""
    X = bell(key, (4, 6), dtype)
    X[:, 0] = -np.abs(X[:, 0]) - dtype(0.25)  # a symmetric grid without negative weights is halved
    u = float(np.finfo(dtype).eps)
    for asymmetric in (False, True):
        form = GridFormat(bits=bits, asymmetric=asymmetric)
        scale, zero = find_grid(NUMPY, X, 0, 6, form)
        values, codes = X.copy(), np.zeros(X.shape, np.int32)
        book = form.codebook(scale[:, None], zero[:, None], np.zeros(6, np.int64))
        NUMPY.sic(values, codes, None, book, 0, 6)
        assert codes.min() >= 0
        assert codes.max() <= form.maximum
        # The ends lie at ±maximum/2 steps, and the rounding of `zero` moves an asymmetric range by
        # up to half a step: half a step is the worst in either case.
        error = np.abs(values.astype(float) - X) / scale[:, None]
        assert error.max() <= 0.5 + 2 ** (bits + 2) * u


def test_the_corners_of_published_code():
    X = np.array([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    scale, zero = find_grid(NUMPY, X, 0, 3, GridFormat(bits=2))
    # Without negative weights xmin stays 0: half the range, yet the zero point of a whole one.
    assert scale.tolist() == [1.0, 2.0, 4 / 3, 2 / 3]
    assert zero.tolist() == [2, 2, 2, 2]
    scale, zero = find_grid(NUMPY, X, 0, 3, GridFormat(bits=2, asymmetric=True))
    assert scale.tolist() == [1.0, 1.0, 1.0, 2 / 3]
    assert zero.tolist() == [0, 3, 1, 2]  # 1/(2/3) = 1.5 → 2, to even
    scale, zero = find_grid(NUMPY, X, 1, 2, GridFormat(bits=2, asymmetric=True))
    assert scale.tolist() == [1.0, 1.0, 2 / 3, 2 / 3]


@given(keys, st.integers(2, 4), st.booleans(), st.integers(1, 7))
def test_search_takes_the_first_of_the_least_errors(key, bits, asymmetric, columns):
    X = bell(key, (3, columns), np.float64)
    X[0, 0] *= 8  # an outlier that is worth clipping
    X[1] = integers(key, -3, 3, columns)  # many equal errors
    scale, zero = find_grid(
        NUMPY, X, 0, columns, GridFormat(bits=bits, asymmetric=asymmetric, mse=True)
    )
    full, middle = find_grid(NUMPY, X, 0, columns, GridFormat(bits=bits, asymmetric=asymmetric))
    maximum = 2**bits - 1
    for i, row in enumerate(X):
        low, high = min(0, row.min()), max(0, row.max())
        if not asymmetric:
            high = max(-low, high)
            low = -high if low < 0 else 0.0
        if low == high:
            low, high = -1.0, 1.0
        trials = []
        for j in range(80):
            p = 1 - j / 100
            s = (p * high - p * low) / maximum
            z = int(np.rint(-(p * low) / s)) if asymmetric else (maximum + 1) // 2
            q = np.clip(np.rint(row / s) + z, 0, maximum)
            trials.append((s, z, (np.abs(s * (q - z) - row) ** 2.5).sum()))
        assert (trials[0][0], trials[0][1]) == (full[i], middle[i])
        # d·d·√d and its sum err by a few units in the last place: among errors that close, the
        # first or a later one may win.
        least = min(error for _, _, error in trials)
        close = [(s, z) for s, z, error in trials if error <= least * (1 + 1e-14 * columns)]
        assert (scale[i], zero[i]) in close
        if least == 0:
            assert (scale[i], zero[i]) == close[0]


def test_search_is_worth_it_and_equal_errors_keep_the_larger_range():
    X = np.concatenate([bell(1, (1, 200), np.float64), [[5.0]]], axis=1)
    full, _ = find_grid(NUMPY, X, 0, 201, GridFormat(bits=3))
    found, _ = find_grid(NUMPY, X, 0, 201, GridFormat(bits=3, mse=True))
    assert found[0] < full[0]
    # One weight on an asymmetric grid is met at every p but for rounding; zeros at every p exactly.
    zeros = np.zeros((1, 5))
    same_bits(
        find_grid(NUMPY, zeros, 0, 5, GridFormat(bits=4, asymmetric=True, mse=True))[0],
        np.array([2 / 15]),
    )


def test_search_goes_down_to_a_fifth_of_the_range():
    # 20000 weights of one step at p = 0.21 and two outliers of 1, which do not count against them:
    # the last of the 80 ranges is the best, p = 1 - 79/100.
    row = np.concatenate([[1.0, -1.0], np.tile([0.14, -0.14], 10000)])[None]
    scale, _ = find_grid(NUMPY, row, 0, row.shape[1], GridFormat(bits=2, mse=True))
    assert scale[0] == (1 - 79 / 100) * 2 / 3


@pytest.mark.parametrize("name", FORMATS)
@given(keys, flavours, dtypes)
def test_float_formats_reach_the_largest_weight(name, key, flavour, dtype):
    X = numbers(flavour, key, (3, 4), dtype)
    scale, zero = find_grid(NUMPY, X, 0, 4, GridFormat(name=name))
    kind = ROUNDED[np.dtype(dtype)]
    for i in range(3):
        largest = kind(float(np.abs(X[i]).max()))
        expected = largest / kind(FORMATS[name][3])
        if not expected.value:
            expected = kind(1) / kind(FORMATS[name][3])
        assert Fraction(float(scale[i])) == expected.value
    assert not zero.any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_range_that_overflows_is_named(dtype):
    X = np.array([[1.0, 1.0], [-1.0, 1.0]], dtype) * np.finfo(dtype).max
    with pytest.raises(BadInput, match=r"weight row 1 spans .* overflows"):
        find_grid(NUMPY, X, 0, 2, GridFormat(bits=4))
    scale, _ = find_grid(NUMPY, X[:1], 0, 2, GridFormat(bits=4))
    assert np.isfinite(scale).all()


def test_groups_are_neighbours_and_the_last_one_is_ragged():
    X = bell(2, (3, 10), np.float64)
    form = GridFormat(bits=4)
    scale, zero, group = find_grids(NUMPY, X, 4, form)
    assert group.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    for g, (first, end) in enumerate([(0, 4), (4, 8), (8, 10)]):
        part, middle = find_grid(NUMPY, X[:, first:end].copy(), 0, end - first, form)
        same_bits(scale[:, g], part)
        same_bits(zero[:, g], middle)
    assert group_starts(7, None) == [(0, 7)]
    assert group_starts(7, 100) == [(0, 7)]
    assert find_grids(NUMPY, X, None, form)[2].tolist() == [0] * 10


def test_a_format_is_asked_for_or_not():
    assert grid_format(None) is None
    assert grid_format(4) == GridFormat(bits=4)
    assert grid_format(None, "fp8-e5m2").bits_per_code == 8
    with pytest.raises(BadInput, match="bits is None"):
        grid_format(None, mse=True)
