"""What would a fused multiply-add have given?

fma(a, b, c) is a·b + c rounded once. NumPy has none, and the hardware's must not be used here, so
it is put together from ordinary additions and multiplications that make no error, or one that is
known exactly:

    a·b = uh + ul        two_product: Dekker's, on halves split as Veltkamp does
    x + y = sh + sl      two_sum: Knuth's

With a·b = uh + ul, c + ul = th + tl and uh + th = vh + vl the exact value is vh + (vl + tl), and
one rounding of vh + z gives the result if z stands for vl + tl well enough. Rounded to nearest
it does not (twice rounded is not once rounded); *rounded to odd* it does: if vl + tl is no
floating-point number, z is that one of its two neighbours whose last bit is 1. It can then never be
mistaken for a point halfway between two results. (Boldo and Melquiond, Emulation of a FMA and
correctly rounded sums: proved algorithms using rounding to odd, 2008.)

**Range.** The theorem wants no overflow and no underflow on the way. Elements with
2⁻⁴⁵⁰ ≤ |a|, |b| ≤ 2⁴⁵⁰ and |c| ≤ 2⁹⁹⁰ are within it: the least bit of a·b is then above 2⁻¹⁰⁷⁴ and
nothing overflows. Where a or b is 0, or an operand is not finite, a·b + c makes no error before the
sum. What is left is computed one element after the other in exact rational numbers. So every result
is right; a NaN is the one that NumPy's a·b + c gives.

float32 needs less: in float64 a·b is exact, and a·b + c rounded to odd in 53 bits can be rounded
once more to 24. There is no limit of range.

Worked example: (1 + 2⁻³⁰)² - (1 + 2⁻²⁹) is 2⁻⁶⁰, which two roundings lose.

>>> x, y = np.array([1 + 2.0**-30]), np.array([-1 - 2.0**-29])
>>> float((x * x + y)[0]), bool(fma(x, x, y)[0] == 2.0**-60)
(0.0, True)
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

SPLIT = 2.0**27 + 1.0
LEAST_FACTOR, GREATEST_FACTOR, GREATEST_TERM = 2.0**-450, 2.0**450, 2.0**990

ieee = np.errstate(over="ignore", under="ignore", invalid="ignore")


@ieee
def fma(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
    """a·b + c rounded once, element by element; shapes are broadcast.

    Args:
        a, b, c: all float64 or all float32.

    Exactness: bits of IEEE 754 fusedMultiplyAdd, subnormals and signed zeros included.

    Raises:
        TypeError: another dtype, or a mixture.
    """
    a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
    if not (a.dtype == b.dtype == c.dtype) or a.dtype not in (np.float64, np.float32):
        raise TypeError(f"fma needs float64 or float32 alone, got {a.dtype}, {b.dtype}, {c.dtype}")
    if a.dtype == np.float32:
        return _fma32(a, b, c)
    if _is_factor(a).all() and _is_factor(b).all() and (np.abs(c) <= GREATEST_TERM).all():
        return _sum_of_three(a, b, c)  # the rule, and much faster than sorting out exceptions
    return _fma64(*np.broadcast_arrays(a, b, c))


def _fma32(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
    product = a.astype(np.float64) * b.astype(np.float64)
    return _add_to_odd(product, c.astype(np.float64)).astype(np.float32)


def _fma64(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
    plain = a * b + c
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    # An overflowing product must not meet an infinite c as an infinity.
    only_c = np.isfinite(a) & np.isfinite(b) & np.isinf(c)
    rounded = finite & (a != 0) & (b != 0)
    within = rounded & _is_factor(a) & _is_factor(b) & (np.abs(c) <= GREATEST_TERM)
    a_within, b_within = np.where(within, a, 1.0), np.where(within, b, 1.0)
    fused = _sum_of_three(a_within, b_within, np.where(within, c, 0.0))
    result = np.asarray(np.where(within, fused, np.where(only_c, c, plain)))
    for place in zip(*np.nonzero(rounded & ~within), strict=True):
        result[place] = _exact(float(a[place]), float(b[place]), float(c[place]))
    return result


def _is_factor(x: NDArray) -> NDArray[np.bool_]:
    magnitude = np.abs(x)
    return (magnitude >= LEAST_FACTOR) & (magnitude <= GREATEST_FACTOR)


def _sum_of_three(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
    uh, ul = two_product(a, b)
    th, tl = two_sum(c, ul)
    vh, vl = two_sum(uh, th)
    return vh + _add_to_odd(tl, vl)


def two_sum(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """(s, e) with s = x + y rounded and s + e = x + y exactly, barring overflow."""
    s = x + y
    part = s - x
    return s, (x - (s - part)) + (y - part)


def two_product(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """(p, e) with p = x·y rounded and p + e = x·y exactly; float64 within the range above."""
    p = x * y
    xh, xl = _halves(x)
    yh, yl = _halves(y)
    return p, ((xh * yh - p) + xh * yl + xl * yh) + xl * yl


def _halves(x: NDArray) -> tuple[NDArray, NDArray]:
    scaled = SPLIT * x
    high = scaled - (scaled - x)
    return high, x - high


def _add_to_odd(x: NDArray, y: NDArray) -> NDArray:
    """x + y in float64, rounded to odd."""
    s, error = two_sum(x, y)
    even = np.ascontiguousarray(s).view(np.int64).reshape(s.shape) % 2 == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    return np.where(even & (error != 0), np.nextafter(s, towards), s)


def _exact(a: float, b: float, c: float) -> float:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        # Division of integers is correctly rounded. An exact zero cannot be negative here.
        rounded = exact.numerator / exact.denominator
    except OverflowError:
        return float(np.copysign(np.inf, 1.0 if exact > 0 else -1.0))
    return -0.0 if rounded == 0 and exact < 0 else rounded
