"""Element and scale formats as pure value sets: which bit pattern stands for which number.

A format of b bits is a table of 2^b numbers, one for each pattern, so that reading is a look-up and
writing is its inverse. The floating-point tables follow from exponent, mantissa and bias as in
`reference`; what the OCP Microscaling specification v1.0 adds is here: the sign is the highest bit,
E8M0 holds the powers of two 2^(p-127) with p = 255 as NaN, and MXINT8 holds p/64 in two's
complement.

>>> ELEMENTS["fp4-e2m1"].decode(np.array([1, 7, 8, 15], np.uint8)).tolist()
[0.5, 6.0, -0.0, -6.0]
>>> ELEMENTS["e8m0"].encode(np.array([0.25, 1.0, 8.0], np.float32)).tolist()
[125, 127, 130]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from ...reference.grids.float_formats import FORMATS, FloatFormat


@dataclass(frozen=True, eq=False)
class Element:
    """A value set: the float32 number of each of the 2^bits patterns; NaN where there is none."""

    name: str
    bits: int
    values: NDArray[np.float32]

    @cached_property
    def largest(self) -> float:
        """The largest finite value."""
        return float(self.values[np.isfinite(self.values)].max())

    def decode(self, patterns: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The numbers of the patterns; exact. Patterns below 2^bits, any shape."""
        return np.take(self.values, patterns)

    def first_nan(self, patterns: NDArray[np.uint8]) -> tuple[int, ...] | None:
        """Where a pattern stands for NaN: the place of one, or None."""
        for nan in np.flatnonzero(np.isnan(self.values)):
            if (found := patterns == nan).any():
                return tuple(int(index) for index in np.argwhere(found)[0])
        return None

    def encode(self, numbers: NDArray) -> NDArray[np.uint8]:
        """The patterns of numbers that are in the set, -0 included.

        Raises:
            BadInput: a number that is not in the set. Nothing is rounded here.
        """
        ascending, patterns = self._ascending
        place = np.minimum(np.searchsorted(ascending, numbers), len(ascending) - 1)
        wrong = ascending[place] != numbers
        if wrong.any():
            value = np.asarray(numbers)[wrong].flat[0]
            raise BadInput(f"{value!s} is not a value of {self.name}")
        negative_zero = np.signbit(numbers) & (numbers == 0)
        zero = self.values.view(np.uint32) == 0x80000000  # the pattern of -0, where there is one
        if negative_zero.any() and zero.any():
            return np.where(negative_zero, np.argmax(zero), patterns[place]).astype(np.uint8)
        return patterns[place]

    @cached_property
    def _ascending(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        patterns = np.flatnonzero(np.isfinite(self.values))
        values, first = np.unique(self.values[patterns], return_index=True)
        return values, patterns[first].astype(np.uint8)


def _floating(form: FloatFormat, after_largest: tuple[float, ...] = ()) -> Element:
    """Sign, then the magnitudes in order; `after_largest` stands for infinity, and NaN follows."""
    half = 1 << (form.bits - 1)
    magnitudes = np.full(half, np.nan)
    known = [*form.magnitudes.tolist(), *after_largest]
    magnitudes[: len(known)] = known
    values = np.concatenate([magnitudes, -magnitudes])
    return Element(form.name, form.bits, values.astype(np.float32))


def _e8m0() -> Element:
    values = np.ldexp(1.0, np.arange(256) - 127)
    values[255] = np.nan
    return Element("e8m0", 8, values.astype(np.float32))


def _mxint8() -> Element:
    values = np.arange(256).astype(np.uint8).view(np.int8) / 64.0
    return Element("mxint8", 8, values.astype(np.float32))


ELEMENTS = {
    element.name: element
    for element in (
        _floating(FORMATS["fp4-e2m1"]),
        _floating(FORMATS["fp6-e2m3"]),
        _floating(FORMATS["fp6-e3m2"]),
        _floating(FORMATS["fp8-e4m3"]),
        _floating(FORMATS["fp8-e5m2"], after_largest=(float("inf"),)),
        _e8m0(),
        _mxint8(),
    )
}
