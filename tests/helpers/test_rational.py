"""Before the rational arithmetic judges anything: it agrees with the processor, bit by bit."""

from __future__ import annotations

import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from .inputs import bell, dtypes, same_bits
from .rational import Binary32, Binary64
from .scalar import ROUNDED

OPERATIONS = [operator.add, operator.sub, operator.mul, operator.truediv]
doubles = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(doubles)
def test_rounding_a_fraction(x: float):
    same_bits(np.float64(float(Binary64(x))), np.float64(x))
    third = Fraction(x) / 3
    assert Binary64(third).value == Fraction(float(third))  # which Python rounds correctly
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(x)
    if np.isfinite(single):
        same_bits(np.float32(float(Binary32(x))), single)
    else:
        with pytest.raises(OverflowError):
            Binary32(x)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(dtypes, doubles, doubles, singles, singles)
def test_one_operation(operation, dtype, x, y, x32, y32):
    a, b = (dtype(x), dtype(y)) if dtype is np.float64 else (dtype(x32), dtype(y32))
    with np.errstate(all="ignore"):
        expected = operation(a, b)
    rounded = ROUNDED[np.dtype(dtype)]
    try:
        found = operation(rounded(float(a)), rounded(float(b)))
    except (OverflowError, ZeroDivisionError):
        assert not np.isfinite(expected)
    else:
        same_bits(dtype(float(found)), expected)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_operation_near_the_underflow(operation, dtype):
    rounded = ROUNDED[np.dtype(dtype)]
    small = np.sqrt(np.finfo(dtype).smallest_subnormal)
    for a, b in bell(1, (300, 2), dtype) * small:
        with np.errstate(under="ignore"):
            expected = operation(a, b)
        found = operation(rounded(float(a)), rounded(float(b)))
        same_bits(dtype(float(found)), expected)


@given(dtypes, st.floats(min_value=0, allow_infinity=False), singles)
def test_square_root(dtype, x, x32):
    a = dtype(x) if dtype is np.float64 else abs(dtype(x32))
    found = float(ROUNDED[np.dtype(dtype)](float(a)).sqrt())
    same_bits(dtype(found), np.sqrt(a))
    if dtype is np.float64:
        assert found == math.sqrt(x)
