"""The small float formats against `ml_dtypes`, against their definition and against fractions."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.grids.float_formats import FORMATS

from ...helpers import scalar
from ...helpers.codebooks import FORMAT_FIELDS
from ...helpers.inputs import FLOATS, same_bits

FOREIGN = {
    "fp4-e2m1": ml_dtypes.float4_e2m1fn,
    "fp6-e2m3": ml_dtypes.float6_e2m3fn,
    "fp6-e3m2": ml_dtypes.float6_e3m2fn,
    "fp8-e4m3": ml_dtypes.float8_e4m3fn,
    "fp8-e5m2": ml_dtypes.float8_e5m2,
}
DEFINITIONS = {name: (FOREIGN[name], *FORMAT_FIELDS[name]) for name in FOREIGN}
names = pytest.mark.parametrize("name", DEFINITIONS)
floats = pytest.mark.parametrize("dtype", FLOATS)


def foreign_codes(values: np.ndarray, name: str) -> np.ndarray:
    """What `ml_dtypes` rounds to, as sign · pattern; where it overflows, ours is the largest."""
    foreign, *_, count = DEFINITIONS[name]
    with np.errstate(over="ignore", invalid="ignore"):
        # One by one, because it casts arrays of float64 by way of float32, which rounds twice.
        rounded = np.array([foreign(x) for x in values.tolist()], foreign)
        finite = np.isfinite(rounded.astype(np.float64))
    sign_bit = 2 ** (FORMATS[name].bits - 1)
    pattern = (rounded.view(np.uint8) % sign_bit).astype(np.int32)
    pattern = np.where(finite, pattern, count - 1)
    return np.where(np.signbit(values), -pattern, pattern).astype(np.int32)


def interesting(name: str, dtype) -> np.ndarray:
    """Every value, every midpoint, one midpoint beyond the largest, and all their neighbours."""
    values = np.array([float(v) for v in scalar.magnitudes(*DEFINITIONS[name][1:])])
    beyond = values[-1] + (values[-1] - values[-2]) / 2
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, [beyond]]).astype(dtype)
    limits = np.array([np.inf, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype)
    above = np.nextafter(points, dtype(np.inf))
    below = np.nextafter(points, dtype(-np.inf))
    all_points = np.concatenate([points, above, below, limits])
    return np.concatenate([all_points, -all_points])


@names
def test_largest_values(name):
    """The figures of the OCP Microscaling specification."""
    largest = {"fp4-e2m1": 6, "fp6-e2m3": 7.5, "fp6-e3m2": 28, "fp8-e4m3": 448, "fp8-e5m2": 57344}
    assert FORMATS.keys() == largest.keys()
    assert FORMATS[name].largest == largest[name]


@names
def test_every_value(name):
    foreign, *fields = DEFINITIONS[name]
    patterns = np.arange(fields[-1], dtype=np.uint8)
    same_bits(FORMATS[name].magnitudes, patterns.view(foreign).astype(np.float64))
    assert [Fraction(float(x)) for x in FORMATS[name].magnitudes] == scalar.magnitudes(*fields)
    assert not np.isfinite(np.uint8(fields[-1]).view(foreign).astype(np.float64)) or (
        fields[-1] == 2 ** (FORMATS[name].bits - 1)
    )  # there is no larger one


@names
@floats
def test_codes_stand_for_their_values(name, dtype):
    count = DEFINITIONS[name][-1]
    codes = np.arange(-count + 1, count, dtype=np.int32)
    values = FORMATS[name].values(codes, dtype)
    same_bits(FORMATS[name].nearest(values), codes)
    foreign = (np.abs(codes).astype(np.uint8)).view(DEFINITIONS[name][0]).astype(dtype)
    same_bits(values, np.where(codes < 0, -foreign, foreign))


@names
@floats
def test_ties_and_their_neighbours(name, dtype):
    values = interesting(name, dtype)
    codes = FORMATS[name].nearest(values)
    same_bits(codes, foreign_codes(values, name))
    finite = values[np.isfinite(values)]
    exact = [
        scalar.nearest(Fraction(float(x)), scalar.magnitudes(*DEFINITIONS[name][1:]))
        for x in finite
    ]
    same_bits(codes[np.isfinite(values)], np.array(exact, np.int32))


@names
@floats
def test_numbers_of_all_sizes(name, dtype):
    """All numbers whose float32 pattern ends in 16 zeros: ±0, subnormals, up to 10³⁸ and ±∞."""
    values = (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)
    values = values[~np.isnan(values)].astype(dtype)
    same_bits(FORMATS[name].nearest(values), foreign_codes(values, name))


@names
@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_nearest_by_exact_distance(name, x):
    magnitudes = scalar.magnitudes(*DEFINITIONS[name][1:])
    assert int(FORMATS[name].nearest(np.array(x))) == scalar.nearest(Fraction(x), magnitudes)


@names
@floats
def test_shape_is_kept_and_zero_has_one_code(name, dtype):
    codes = FORMATS[name].nearest(np.array([[0.0, -0.0, 1e-30], [-1e-30, 1.0, -1.0]], dtype))
    one = int(FORMATS[name].nearest(np.array([1.0]))[0])
    same_bits(codes, np.array([[0, 0, 0], [0, one, -one]], np.int32))
    same_bits(FORMATS[name].values(codes, dtype)[0], np.zeros(3, dtype))
