"""Which numbers can a small floating-point format hold, and which of them is nearest?

A format with E exponent bits, M mantissa bits and bias B holds, for the magnitude bits p = (e, f),

    f·2^(1-B-M)  for e = 0 (subnormal),        (2^M + f)·2^(e-B-M)  for e > 0

Its magnitudes ascend with their bit pattern p, so p itself is a fine code: an integer, in order,
with the sign in front. A value of -0 is not a code of its own. The formats are those of the OCP
Microscaling specification: FP4 E2M1, FP6 E2M3 and E3M2, FP8 E4M3 (whose last pattern is NaN, so
that the largest value is 448) and E5M2 (whose last exponent is infinity and NaN: 57344).

The nearest magnitude is found with comparisons alone: x lies above the p-th midpoint or it does
not, and every midpoint is an exact number. On a midpoint the even mantissa wins, which is the even
p. Beyond the largest value the format saturates.

Worked example: FP4 E2M1 in full; 2.5 lies between 2 (p = 4) and 3 (p = 5) and goes to the even one.

>>> FORMATS["fp4-e2m1"].magnitudes.tolist()
[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
>>> import numpy as np
>>> FORMATS["fp4-e2m1"].nearest(np.array([2.5, -2.6, 100.0, -0.2]))
array([ 4, -5,  7,  0], dtype=int32)

Exercise: which number between 4 and 6 goes down, which one up? (Check: 5 is the midpoint and p = 6
is even, so 5 itself goes down to 4.)

>>> FORMATS["fp4-e2m1"].values(FORMATS["fp4-e2m1"].nearest(np.array([5.0, 5.1])), np.float64)
array([4., 6.])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import BadInput


@dataclass(frozen=True)
class FloatFormat:
    """A small floating-point format; `largest_code` is the pattern of its largest finite value."""

    name: str
    bits: int
    mantissa_bits: int
    bias: int
    largest_code: int

    @cached_property
    def magnitudes(self) -> NDArray[np.float64]:
        """All magnitudes in ascending order; the index is the bit pattern. Exact."""
        pattern = np.arange(self.largest_code + 1)
        exponent, fraction = pattern >> self.mantissa_bits, pattern % (1 << self.mantissa_bits)
        significand = np.where(exponent > 0, fraction + (1 << self.mantissa_bits), fraction)
        power = np.maximum(exponent, 1) - self.bias - self.mantissa_bits
        return np.ldexp(significand.astype(np.float64), power)

    @cached_property
    def midpoints(self) -> NDArray[np.float64]:
        """Halfway between neighbouring magnitudes; exact."""
        return (self.magnitudes[:-1] + self.magnitudes[1:]) / 2

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return float(self.magnitudes[-1])

    def nearest(self, values: NDArray) -> NDArray[np.int32]:
        """Codes of the nearest values: sign · bit pattern of the magnitude; bits.

        Args:
            values: float64 or float32, any shape; infinities saturate.

        Raises:
            BadInput: NaN, which no pattern of these stands for.
        """
        if np.isnan(values).any():
            raise BadInput(f"{self.name} holds no NaN")
        magnitude = np.abs(values).astype(np.float64)
        code = np.searchsorted(self.midpoints, magnitude, side="left")
        tie = magnitude == np.append(self.midpoints, np.inf)[code]
        code = np.where(tie & (code < self.largest_code), code + code % 2, code)
        return np.where(values < 0, -code, code).astype(np.int32)

    def values(self, codes: NDArray[np.int32], dtype: DTypeLike) -> NDArray:
        """The numbers that the codes stand for; exact in float32 and float64."""
        magnitude = self.magnitudes[np.abs(codes)].astype(dtype)
        return np.where(codes < 0, -magnitude, magnitude)


FORMATS = {
    form.name: form
    for form in (
        FloatFormat("fp4-e2m1", bits=4, mantissa_bits=1, bias=1, largest_code=0x7),
        FloatFormat("fp6-e2m3", bits=6, mantissa_bits=3, bias=1, largest_code=0x1F),
        FloatFormat("fp6-e3m2", bits=6, mantissa_bits=2, bias=3, largest_code=0x1F),
        FloatFormat("fp8-e4m3", bits=8, mantissa_bits=3, bias=7, largest_code=0x7E),
        FloatFormat("fp8-e5m2", bits=8, mantissa_bits=2, bias=15, largest_code=0x7B),
    )
}
