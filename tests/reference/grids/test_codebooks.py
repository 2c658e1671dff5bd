"""One column at a time: rounding, ties, gains, clamping, and the edge of int32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.errors import CodeOverflow
from waterlevel.reference.grids.codebooks import (
    AffineGrid,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from waterlevel.reference.grids.float_formats import FORMATS
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers import scalar
from ...helpers.codebooks import KINDS, codebooks
from ...helpers.inputs import (
    FLAVOURS,
    FLOATS,
    bell,
    dtypes,
    flavours,
    integers,
    keys,
    numbers,
    same_bits,
)
from ...helpers.scalar import FLOATING, ROUNDED

floats = pytest.mark.parametrize("dtype", FLOATS)
tame = st.sampled_from(sorted(set(FLAVOURS) - {"huge"}))
every_codebook = pytest.mark.parametrize("which", KINDS)


def decide(codebook, y, diagonal, column=0):
    with np.errstate(all="ignore"):
        return codebook.decide(y, diagonal, column)


def same_refusal(found: CodeOverflow, expected: scalar.Overflow) -> None:
    row, column, value = expected.args
    assert (found.row, found.column) == (row, column)
    same_bits(np.float64(found.value), np.float64(value))


def check(which: str, y: np.ndarray, key: int, kinds) -> None:
    kind, number = kinds[y.dtype], y.dtype.type
    diagonal = np.abs(bell(key + 4, (1,), y.dtype))[0] + number(0.1) if key % 3 else number(1)
    codebook, scalars = codebooks(key, len(y), np.full(3, diagonal))[which]
    rewritten = scalars(kind)
    try:
        with np.errstate(all="ignore"):
            codes, values, gain = rewritten(
                scalar.lists(y, kind), scalar.lists(np.asarray(diagonal), kind), 2
            )
    except scalar.Overflow as expected:
        with pytest.raises(CodeOverflow) as caught:
            decide(codebook, y, diagonal, 2)
        same_refusal(caught.value, expected)
        return
    found_codes, found_values, found_gain = decide(codebook, y, diagonal, 2)
    same_bits(found_codes, np.array(codes, np.int32))
    same_bits(found_values, scalar.array(values, y.dtype))
    same_bits(np.float64(found_gain), np.float64(float(gain)))


@every_codebook
@given(st.sampled_from((1, 2, 7, 513)), flavours, keys, dtypes)
def test_decisions(which, a, flavour, key, dtype):
    """All flavours; the huge ones overflow, or clamp, or saturate."""
    check(which, numbers(flavour, key + 5, (a,), dtype), key, FLOATING)


@every_codebook
@given(st.sampled_from((1, 2, 9)), tame, keys, dtypes)
def test_decisions_correctly_rounded(which, a, flavour, key, dtype):
    check(which, numbers(flavour, key + 5, (a,), dtype), key, ROUNDED)


@floats
def test_ties_go_to_the_even_code(dtype):
    """Every half from -4.5 to 4.5; an affine grid rounds first and adds its zero after."""
    y = np.arange(-9, 10, 2).astype(dtype) / dtype(2)
    even = np.array([-4, -4, -2, -2, 0, 0, 2, 2, 4, 4], np.int32)
    ones = np.ones((len(y), 1), dtype)
    column = np.zeros(1, np.int64)
    same_bits(decide(UniformLattice(1.0), y, dtype(1))[0], even)
    same_bits(decide(ScaledLattice(1.0, np.ones(1, dtype), False), y, dtype(1))[0], even)
    for zero in (7, 8):
        zeros = np.full((len(y), 1), zero, np.int32)
        same_bits(
            decide(AffineGrid(ones, zeros, column, 15), y, dtype(1))[0], even + np.int32(zero)
        )


@floats
def test_division_is_not_multiplication_by_the_reciprocal(dtype):
    """y / α with y = (z + ½)·α rounded: for some α and z the reciprocal decides otherwise."""
    differing = 0
    for key in range(100):
        spacing = np.abs(bell(key, (1,), dtype))[0] + dtype(0.5)
        y = (np.arange(64).astype(dtype) + dtype(0.5)) * spacing
        codes = decide(UniformLattice(float(spacing)), y, dtype(1))[0]
        kind = ROUNDED[np.dtype(dtype)]
        exact = scalar.uniform_lattice(kind(float(spacing)))(scalar.lists(y, kind), kind(1), 0)[0]
        same_bits(codes, np.array(exact, np.int32))
        differing += int((np.rint(y * (dtype(1) / spacing)) != codes).sum())
    assert differing > 20  # else this test would prove nothing


# The gain ----------------------------------------------------------------------------------------


@floats
def test_gain_of_a_column_without_codes(dtype):
    """Nothing was sent, so there is nothing to scale: γ = 0, and all values are +0.0."""
    y = np.array([0.4, -0.4, -0.0], dtype)
    codes, values, gain = decide(ScaledLattice(1.0, np.ones(1, dtype), True), y, dtype(1))
    same_bits(codes, np.zeros(3, np.int32))
    same_bits(values, np.zeros(3, dtype))
    same_bits(np.float64(gain), np.float64(0))


@given(st.sampled_from((1, 5, 600)), keys, dtypes, st.sampled_from((1, 2, 511, 512, 700)))
def test_rows_of_zeros_below_change_no_gain(a, key, dtype, more):
    y = bell(key, (a,), dtype)
    lattice = ScaledLattice(0.25, np.ones(1, dtype), True)
    codes, values, gain = decide(lattice, y, dtype(1))
    taller = np.concatenate([y, np.zeros(more, dtype)])
    more_codes, more_values, more_gain = decide(lattice, taller, dtype(1))
    same_bits(more_codes[:a], codes)
    same_bits(more_values[:a], values)
    same_bits(np.float64(more_gain), np.float64(gain))


@given(st.sampled_from((1, 5, 600)), keys, dtypes, st.integers(-20, 20))
def test_scaling_by_a_power_of_two_leaves_codes_and_gain(a, key, dtype, p):
    """y, c and α times 2^p: the same z and γ, the values times 2^p."""
    y, spacing = bell(key, (a,), dtype), np.array([0.7], dtype)
    codes, values, gain = decide(ScaledLattice(0.3, spacing, True), y, dtype(1))
    scaled = ScaledLattice(0.3 * 2.0**p, np.ldexp(spacing, p), True)
    scaled_codes, scaled_values, scaled_gain = decide(scaled, np.ldexp(y, p), dtype(1))
    same_bits(scaled_codes, codes)
    same_bits(np.float64(scaled_gain), np.float64(gain))
    same_bits(scaled_values, np.ldexp(values, p))


@every_codebook
@given(keys, dtypes)
def test_no_negative_zero_among_the_values(which, key, dtype):
    y = np.array([-0.0, -1e-30, 1e-30, 0.0], dtype)
    codebook, _ = codebooks(key, 4, np.ones(1, dtype))[which]
    codes, values, _ = decide(codebook, y, dtype(1))
    zeros = values[values == 0]
    same_bits(zeros, np.zeros(len(zeros), dtype))
    if which != "affine":
        same_bits(codes, np.zeros(4, np.int32))


# The edge of int32 -------------------------------------------------------------------------------

LATTICES = {
    "uniform": lambda dtype: UniformLattice(1.0),
    "scaled": lambda dtype: ScaledLattice(1.0, np.ones(1, dtype), False),
    "lmmse": lambda dtype: ScaledLattice(1.0, np.ones(1, dtype), True),
}
every_lattice = pytest.mark.parametrize("which", LATTICES)
FITS = {
    np.float64: [2147483647.0, 2147483647.25, -2147483648.0, -2147483648.5, 2147483646.5],
    np.float32: [2147483520.0, -2147483648.0],  # the last below 2³¹, the first at -2³¹
}
EXCEEDS = {
    np.float64: [2147483648.0, 2147483647.5, -2147483649.0, -2147483648.75, 1e300, -1e300],
    np.float32: [2147483648.0, -2147483904.0, 1e38],
}
CASES = [(dtype, x) for dtype in FLOATS for x in (*EXCEEDS[dtype], np.nan, np.inf, -np.inf)]


@every_lattice
@pytest.mark.parametrize(("dtype", "x"), [(d, x) for d in FLOATS for x in FITS[d]])
def test_codes_up_to_the_edge(which, dtype, x):
    codes, _, _ = decide(LATTICES[which](dtype), np.array([1.0, x], dtype), dtype(1))
    assert codes.tolist() == [1, round(x)]


@every_lattice
@pytest.mark.parametrize(("dtype", "x"), CASES)
def test_codes_beyond_the_edge(which, dtype, x):
    """The first row that does not fit is named, with what stood there."""
    y = np.array([1.0, 2.0, x, np.nan], dtype)
    with pytest.raises(CodeOverflow) as caught:
        decide(LATTICES[which](dtype), y, dtype(1), 0)
    assert (caught.value.row, caught.value.column) == (2, 0)
    same_bits(np.float64(caught.value.value), np.rint(np.float64(y[2])))


@pytest.mark.parametrize("which", ["affine", "float"])
@pytest.mark.parametrize(("dtype", "x"), CASES)
def test_finite_grids_clamp_what_is_finite(which, dtype, x):
    """Large is the largest code; not finite is refused, whatever stands above it."""
    y = np.array([1.0, -1e30, x, 1e30], dtype)
    ones, zero, group = np.ones((4, 1), dtype), np.full((4, 1), 8, np.int32), np.zeros(1, np.int64)
    form = FORMATS["fp4-e2m1"]
    grid = FloatGrid(ones, group, form) if which == "float" else AffineGrid(ones, zero, group, 15)
    if np.isfinite(x):
        lowest, one, highest = (-7, 2, 7) if which == "float" else (0, 9, 15)
        expected = [one, lowest, highest if x > 0 else lowest, highest]
        assert decide(grid, y, dtype(1))[0].tolist() == expected
    else:
        with pytest.raises(CodeOverflow) as caught:
            decide(grid, y, dtype(1))
        assert (caught.value.row, caught.value.column) == (2, 0)
        same_bits(np.float64(caught.value.value), np.float64(x))


# The error of a grid -----------------------------------------------------------------------------


def check_grid_error(X: np.ndarray, key: int, kinds) -> None:
    a, dtype = len(X), X.dtype
    scale = np.abs(bell(key, (a,), dtype)) + dtype.type(0.125)
    zero = integers(key + 1, 0, 15, a).astype(np.int32)
    kind = kinds[dtype]
    with np.errstate(all="ignore"):
        expected = [
            scalar.affine_error(row, s, z, 15)
            for row, s, z in zip(
                scalar.lists(X, kind), scalar.lists(scale, kind), zero.tolist(), strict=True
            )
        ]
    same_bits(NUMPY.grid_error(X, scale, zero, 15), scalar.array(expected, dtype))


@given(st.sampled_from((1, 3)), st.sampled_from((1, 64, 513)), tame, keys, dtypes)
def test_grid_error(a, n, flavour, key, dtype):
    check_grid_error(numbers(flavour, key + 5, (a, n), dtype), key, FLOATING)


@given(st.sampled_from((1, 7)), tame, keys, dtypes)
def test_grid_error_correctly_rounded(n, flavour, key, dtype):
    check_grid_error(numbers(flavour, key + 5, (2, n), dtype), key, ROUNDED)
