"""The one loop of every method: order, rounding, ranges, and what exactness implies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from waterlevel.reference.arithmetic import products, triangular
from waterlevel.reference.errors import CodeOverflow
from waterlevel.reference.grids.codebooks import AffineGrid, ScaledLattice, UniformLattice
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers import scalar
from ...helpers.codebooks import KINDS, codebooks
from ...helpers.inputs import (
    FLOATS,
    bell,
    dtypes,
    flavours,
    integers,
    keys,
    lower,
    numbers,
    ragged,
    same_bits,
)
from ...helpers.scalar import FLOATING, ROUNDED

every_codebook = pytest.mark.parametrize("which", KINDS)
few_rows = st.sampled_from((1, 3))
UNTOUCHED = -77


def run(target, factor, codebook, start=0, stop=None):
    """What is left of the target, the codes, the gains; the arguments stay as they are."""
    stop = target.shape[1] if stop is None else stop
    left, codes = target.copy(), np.full(target.shape, UNTOUCHED, np.int32)
    gains = NUMPY.sic(left, codes, factor, codebook, start, stop)
    return left, codes, gains


def same_results(found, expected):
    for part, wanted in zip(found, expected, strict=True):
        same_bits(part, wanted)


# Order and rounding ------------------------------------------------------------------------------


def check(which, Y, L, key, start, stop, kinds) -> None:
    a, n = Y.shape
    kind = kinds[Y.dtype]
    diagonal = np.ones(n, Y.dtype) if L is None else np.diag(L)
    codebook, scalars = codebooks(key, a, diagonal)[which]
    y, l = scalar.lists(Y, kind), None if L is None else scalar.lists(L, kind)
    try:
        with np.errstate(all="ignore"):
            left, codes, gains = scalar.sic(y, l, scalars(kind), start, stop, kind)
    except scalar.Overflow as overflow:
        expected = overflow.args
    else:
        all_codes = np.full((a, n), UNTOUCHED, np.int32)
        all_codes[:, start:stop] = np.array(codes, np.int32).reshape(a, stop - start)
        gains = np.array([float(g) for g in gains], np.float64)
        same_results(
            run(Y, L, codebook, start, stop), (scalar.array(left, Y.dtype), all_codes, gains)
        )
        return
    with pytest.raises(CodeOverflow) as caught:
        run(Y, L, codebook, start, stop)
    assert (caught.value.row, caught.value.column) == expected[:2]
    same_bits(np.float64(caught.value.value), np.float64(expected[2]))


@every_codebook
@settings(max_examples=40)
@given(few_rows, ragged, ragged, ragged, flavours, st.booleans(), keys, dtypes)
def test_sic(which, a, n, start, stop, flavour, with_factor, key, dtype):
    start, stop = sorted((min(start - 1, n), min(stop, n)))
    L = lower(key + 6, n, dtype) if with_factor else None
    check(which, numbers(flavour, key + 5, (a, n), dtype), L, key, start, stop, FLOATING)


@every_codebook
@given(few_rows, st.integers(1, 5), st.sampled_from(("bell", "ties", "zeros")), keys, dtypes)
def test_sic_correctly_rounded(which, a, n, flavour, key, dtype):
    Y, L = numbers(flavour, key + 5, (a, n), dtype), lower(key + 6, n, dtype)
    check(which, Y, L, key, 0, n, ROUNDED)


@every_codebook
@given(ragged, ragged, keys, dtypes)
def test_a_range_may_be_cut_anywhere(which, n, cut, key, dtype):
    """stop-1 … start in one call or in two: the same bits; columns from stop on are not read."""
    stop, start = n - n // 5, n // 7
    cut = min(max(cut, start), stop)
    Y, L = bell(key + 5, (3, n), dtype), lower(key + 6, n, dtype)
    Y[:, stop:] = np.nan
    codebook, _ = codebooks(key, 3, np.diag(L))[which]
    left, codes, gains = run(Y, L, codebook, start, stop)
    first, first_codes, first_gains = run(Y, L, codebook, cut, stop)
    second, second_codes, second_gains = run(first, L, codebook, start, cut)
    second_codes[:, cut:] = first_codes[:, cut:]
    gains_in_two = np.concatenate([second_gains, first_gains])
    same_results((second, second_codes, gains_in_two), (left, codes, gains))
    same_bits(left[:, stop:], Y[:, stop:])
    assert (codes[:, stop:] == UNTOUCHED).all()
    assert (codes[:, :start] == UNTOUCHED).all()


@every_codebook
@pytest.mark.parametrize("panel", [1, 3, 64, 1000])
@pytest.mark.parametrize("dtype", FLOATS)
def test_panels_and_tiles_change_nothing(monkeypatch, which, panel, dtype):
    Y, L = bell(1, (9, 67), dtype), lower(2, 67, dtype)
    codebook, _ = codebooks(3, 9, np.diag(L))[which]
    expected = run(Y, L, codebook, 1, 66)
    monkeypatch.setattr(triangular, "PANEL", panel)
    monkeypatch.setattr(products, "TILE", 2 * panel)
    same_results(run(Y, L, codebook, 1, 66), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_overflow_names_the_column_of_the_target(dtype):
    """Column 3 is decided first and pushes column 1 beyond the edge."""
    Y, L = np.zeros((3, 5), dtype), np.eye(5, dtype=dtype)
    Y[2, 3], L[3, 1] = -(2.0**20), 2.0**11
    with pytest.raises(CodeOverflow) as caught:
        run(Y, L, UniformLattice(1.0), 0, 4)
    assert (caught.value.row, caught.value.column, caught.value.value) == (2, 1, 2.0**31)
    _, codes, _ = run(-Y, L, UniformLattice(1.0), 0, 4)
    assert codes[2, 1] == -(2**31)  # which still fits


# Consequences of exactness -----------------------------------------------------------------------


@pytest.mark.parametrize("which", ["uniform", "unscaled"])
@given(ragged, keys, dtypes)
def test_permuting_the_rows_permutes_the_codes(which, n, key, dtype):
    order = np.argsort(integers(key, 0, 10**6, 7), kind="stable")
    Y, L = bell(key + 5, (7, n), dtype), lower(key + 6, n, dtype)
    codebook, _ = codebooks(key, 7, np.diag(L))[which]
    left, codes, gains = run(Y, L, codebook)
    same_results(run(Y[order], L, codebook), (left[order], codes[order], gains))


@given(ragged, keys, dtypes)
def test_permuting_the_rows_permutes_the_codes_of_a_grid(n, key, dtype):
    order = np.argsort(integers(key, 0, 10**6, 7), kind="stable")
    Y, L = bell(key + 5, (7, n), dtype), lower(key + 6, n, dtype)
    grid, _ = codebooks(key, 7, np.diag(L))["affine"]
    left, codes, gains = run(Y, L, grid)
    permuted = AffineGrid(grid.scale[order], grid.zero[order], grid.group, grid.maximum)
    same_results(run(Y[order], L, permuted), (left[order], codes[order], gains))


@given(ragged, st.integers(-9, 9), st.booleans(), keys, dtypes)
def test_scaling_by_a_power_of_two(n, p, lmmse, key, dtype):
    """W times 2^p, c and α with it: the same codes and gains. The factor and c: the same values."""
    Y, L = bell(key + 5, (5, n), dtype), lower(key + 6, n, dtype)
    spacing = dtype(0.3) / np.diag(L)
    left, codes, gains = run(Y, L, ScaledLattice(0.3, spacing, lmmse))
    scaled = ScaledLattice(0.3 * 2.0**p, np.ldexp(spacing, p), lmmse)
    same_results(run(np.ldexp(Y, p), L, scaled), (np.ldexp(left, p), codes, gains))
    same_factor = ScaledLattice(0.3 * 2.0**p, spacing, lmmse)
    same_results(run(np.ldexp(Y, p), np.ldexp(L, p), same_factor), (left, codes, gains))


@every_codebook
@given(ragged, st.sampled_from((1, 2, 510)), keys, dtypes)
def test_rows_of_zeros_below_change_nothing(which, n, more, key, dtype):
    Y, L = bell(key + 5, (3, n), dtype), lower(key + 6, n, dtype)
    taller = np.concatenate([Y, np.zeros((more, n), dtype)])
    few, _ = codebooks(key, 3, np.diag(L))[which]
    many = few
    if hasattr(few, "scale"):
        extend = {"scale": np.concatenate([few.scale, np.ones((more, 2), dtype)])}
        if which == "affine":
            extend["zero"] = np.concatenate([few.zero, np.zeros((more, 2), np.int32)])
        many = type(few)(**{**vars(few), **extend})
    left, codes, gains = run(Y, L, few)
    found_left, found_codes, found_gains = run(taller, L, many)
    same_results((found_left[:3], found_codes[:3], found_gains), (left, codes, gains))
    same_bits(found_left[3:], np.zeros((more, n), dtype))


class WithoutRounding:
    """The value is what the loop asks for: y / l."""

    def decide(self, y, diagonal, column):
        return np.zeros(len(y), np.int32), y / diagonal, 1.0


@given(few_rows, ragged, flavours, keys, dtypes)
def test_without_rounding_it_is_the_triangular_solve(a, n, flavour, key, dtype):
    Y, L = numbers(flavour, key, (a, n), dtype), lower(key + 6, n, dtype)
    same_bits(run(Y, L, WithoutRounding())[0], NUMPY.solve_reversed(Y, L, 0, n))
