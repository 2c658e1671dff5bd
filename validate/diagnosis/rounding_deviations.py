"""Other deviations of rounding: what else could be computed in place of one number?

Each class is the contract with one method of `arithmetic.Arithmetic` changed (or a few that say the
same thing). `deviations` gives them names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...reference.grids.float_formats import FloatFormat
from ...reference.operations.numpy_operations import ieee
from ..golden.fused import fma
from .deviating_operations import Arithmetic, Pairs

# One rounding, or another ---------------------------------------------------------------------


class FusedMultiplyAdd(Arithmetic):
    """x·y + z is rounded once."""

    def multiply_add(self, c: NDArray, a: NDArray, b: NDArray) -> NDArray:
        return fma(a, b, c)

    def multiply_subtract(self, c: NDArray, a: NDArray, b: NDArray) -> NDArray:
        return fma(-a, b, c)


class Reciprocal(Arithmetic):
    """x/d becomes x·(1/d)."""

    def divide(self, x: NDArray, divisor: NDArray) -> NDArray:
        return x * (divisor.dtype.type(1) / divisor)


class ProductOfDivisors(Arithmetic):
    """(y/l)/s becomes y/(l·s)."""

    def weight_level(self, y: NDArray, diagonal: NDArray, spacing: NDArray) -> NDArray:
        return y / (diagonal * spacing)


class HalfAway(Arithmetic):
    """Half goes away from zero, as C's `round` has it."""

    def rint(self, x: NDArray) -> NDArray:
        return half_away(x)

    def nearest(self, form: FloatFormat, level: NDArray) -> NDArray[np.int32]:
        code = np.searchsorted(form.midpoints, np.abs(level).astype(np.float64), side="right")
        return np.where(level < 0, -code, code).astype(np.int32)


class HalfUp(Arithmetic):
    """floor(x + 0.5)."""

    def rint(self, x: NDArray) -> NDArray:
        return np.floor(x + x.dtype.type(0.5))


class Truncation(Arithmetic):
    """Towards zero, as a cast from float to int."""

    def rint(self, x: NDArray) -> NDArray:
        return np.trunc(x)

    def nearest(self, form: FloatFormat, level: NDArray) -> NDArray[np.int32]:
        magnitude = np.abs(level).astype(np.float64)
        code = np.searchsorted(form.magnitudes, magnitude, side="right") - 1
        return np.where(level < 0, -code, code).astype(np.int32)


class ZeroInsideRounding(Arithmetic):
    """rint(v/s) + zero becomes rint(v/s + zero)."""

    def affine_level(self, level: NDArray, zero: NDArray) -> NDArray:
        return np.rint(level + zero)


@ieee
def half_away(x: NDArray) -> NDArray:
    """The nearest whole number; half goes away from zero."""
    magnitude = np.abs(x)
    whole = np.trunc(magnitude)
    up = (magnitude - whole >= 0.5).astype(x.dtype)  # the difference is exact
    return np.copysign(whole + up, x)


class FlushResults(Arithmetic):
    """Every result below the smallest normal number becomes a zero of its sign."""

    def add(self, x: NDArray, y: NDArray) -> NDArray:
        return _flushed(self.operand(x) + self.operand(y))

    def subtract(self, x: NDArray, y: NDArray) -> NDArray:
        return _flushed(self.operand(x) - self.operand(y))

    def multiply(self, x: NDArray, y: NDArray) -> NDArray:
        return _flushed(self.operand(x) * self.operand(y))

    def divide(self, x: NDArray, divisor: NDArray) -> NDArray:
        return _flushed(self.operand(x) / self.operand(divisor))

    def convert(self, x: NDArray, dtype: DTypeLike) -> NDArray:
        converted = np.array(self.operand(x), dtype, order="C")
        return _flushed(converted) if converted.dtype.kind == "f" else converted

    def operand(self, x: NDArray) -> NDArray:
        return x


class FlushAll(FlushResults):
    """Operands too."""

    def sqrt(self, x: NDArray) -> NDArray:
        return np.sqrt(self.operand(x))

    def operand(self, x: NDArray) -> NDArray:
        return _flushed(x) if x.dtype.kind == "f" else x


def _flushed(x: NDArray) -> NDArray:
    subnormal = np.abs(x) < np.finfo(x.dtype).tiny
    return np.where(subnormal, np.copysign(x.dtype.type(0), x), x)


# Other precision --------------------------------------------------------------------------------


class Float32Arithmetic(Arithmetic):
    """Everything in float32, widened at the end."""

    def add(self, x: NDArray, y: NDArray) -> NDArray:
        return _narrow(x.astype(np.float32) + y.astype(np.float32), x)

    def subtract(self, x: NDArray, y: NDArray) -> NDArray:
        return _narrow(x.astype(np.float32) - y.astype(np.float32), x)

    def multiply(self, x: NDArray, y: NDArray) -> NDArray:
        return _narrow(x.astype(np.float32) * y.astype(np.float32), x)

    def divide(self, x: NDArray, divisor: NDArray) -> NDArray:
        return _narrow(x.astype(np.float32) / divisor.astype(np.float32), x)

    def sqrt(self, x: NDArray) -> NDArray:
        return _narrow(np.sqrt(x.astype(np.float32)), x)


class Float32Accumulator(Arithmetic):
    """Products in float64, each sum rounded to float32, from the first on."""

    def add_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return super().add_products(_narrow(c, c), pairs)

    def subtract_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return super().subtract_products(_narrow(c, c), pairs)

    def add(self, x: NDArray, y: NDArray) -> NDArray:
        return _narrow(x + y, x)

    def subtract(self, x: NDArray, y: NDArray) -> NDArray:
        return _narrow(x - y, x)


class Float32Products(Float32Accumulator):
    """Products are rounded to float32 as well before they are added."""

    def multiply_add(self, c: NDArray, a: NDArray, b: NDArray) -> NDArray:
        return self.add(c, _narrow(a * b, c))

    def multiply_subtract(self, c: NDArray, a: NDArray, b: NDArray) -> NDArray:
        return self.subtract(c, _narrow(a * b, c))

    def total(self, values: NDArray) -> NDArray:
        return super().total(_narrow(values, values))


class Float64Accumulator(Arithmetic):
    """Chains and sums of float32 numbers in float64, rounded once at the end."""

    def add_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return super().add_products(c.astype(np.float64), _widened(pairs)).astype(c.dtype)

    def subtract_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return super().subtract_products(c.astype(np.float64), _widened(pairs)).astype(c.dtype)

    def total(self, values: NDArray) -> NDArray:
        return super().total(values.astype(np.float64)).astype(values.dtype)


def _narrow(x: NDArray, like: NDArray) -> NDArray:
    return np.asarray(x, np.float32).astype(like.dtype)


def _widened(pairs: Pairs) -> Pairs:
    return [(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs]


# Other gains ------------------------------------------------------------------------------------


class ClampedGain(Arithmetic):
    """γ is clipped to a range."""

    def __init__(self, least: float, greatest: float) -> None:
        self.least, self.greatest = least, greatest

    def gain(self, z: NDArray, y: NDArray, step: NDArray) -> NDArray:
        number = y.dtype.type
        gain = super().gain(z, y, step)
        return np.minimum(np.maximum(gain, number(self.least)), number(self.greatest))


class UnitGain(Arithmetic):
    """γ = 1, everywhere or where every code is 0."""

    def __init__(self, everywhere: bool) -> None:
        self.everywhere = everywhere

    def gain(self, z: NDArray, y: NDArray, step: NDArray) -> NDArray:
        if self.everywhere or not z.any():
            return y.dtype.type(1)
        return super().gain(z, y, step)
