"""IEEE 754 without a floating-point unit: every result is a fraction that is rounded once.

`Binary64` and `Binary32` carry an exact fraction and the sign of a zero. Each of + - * / and the
square root is computed exactly (the root to more bits than it keeps, with one sticky bit) and then
rounded to nearest, ties to even, with gradual underflow. Integers alone do the work.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Self


def floor_log2(x: Fraction) -> int:
    """The e with 2^e ≤ x < 2^(e+1), x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if x >= Fraction(2) ** e else e - 1


class Binary:
    """A finite number of a binary format; overflow raises OverflowError."""

    precision: int
    least: int  # the smallest subnormal is 2^least
    largest: int  # numbers are below 2^largest

    __slots__ = ("negative", "value")

    def __init__(self, x: int | float | Fraction, negative: bool | None = None) -> None:
        """`x`, rounded; `negative` is the sign of the result should it be 0."""
        if negative is None:
            negative = x < 0 or (isinstance(x, float) and math.copysign(1.0, x) < 0)
        exact = Fraction(x)
        if exact:
            unit = Fraction(2) ** max(floor_log2(abs(exact)) - self.precision + 1, self.least)
            negative = exact < 0
            exact = round(exact / unit) * unit  # `round` of a fraction: half to even
            if abs(exact) >= Fraction(2) ** self.largest:
                raise OverflowError(float(exact))
        self.value, self.negative = exact, negative

    def __add__(self, other: Self) -> Self:
        return type(self)(self.value + other.value, self.negative and other.negative)

    def __neg__(self) -> Self:
        return type(self)(-self.value, not self.negative)

    def __sub__(self, other: Self) -> Self:
        return self + -other

    def __mul__(self, other: Self) -> Self:
        return type(self)(self.value * other.value, self.negative != other.negative)

    def __truediv__(self, other: Self) -> Self:
        return type(self)(self.value / other.value, self.negative != other.negative)

    def __abs__(self) -> Self:
        return -self if self.negative else self

    def sqrt(self) -> Self:
        if not self.value:
            return self
        shift = self.precision + 2 - floor_log2(self.value) // 2
        scaled = self.value * Fraction(4) ** shift
        root = math.isqrt(math.floor(scaled))
        sticky = int(root * root != scaled)
        return type(self)(Fraction(2 * root + sticky) / Fraction(2) ** (shift + 1))

    def __float__(self) -> float:
        return math.copysign(float(self.value), -1.0 if self.negative else 1.0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({float(self)!r})"


class Binary64(Binary):
    precision, least, largest = 53, -1074, 1024


class Binary32(Binary):
    precision, least, largest = 24, -149, 128
