"""The finite grids of published quantisers, each by name: where do the values of a group lie?

Published packages mean different grids by "4 bits, symmetric". Here M is the largest magnitude of
the group, b the bits, and a grid is a scale s, a zero point and a range of levels around it:

| kind | s | levels | who |
|---|---|---|---|
| `range` | (xmax - xmin)/(2ᵇ - 1), xmin = 0 where nothing is negative | -2^(b-1) … 2^(b-1)-1 | \
GPTQ as published, this package |
| `full` | 2M/(2ᵇ - 1) | the same | compressed-tensors |
| `half` | M/2^(b-1) | the same | "M/8" |
| `narrow` | M/(2^(b-1) - 1) | the same | "M/7" |
| `restricted` | M/(2^(b-1) - 1) | ±(2^(b-1) - 1) | absmax as signed integers |
| `signed` | the value of largest magnitude, over -2^(b-1) | the same | GGUF's Q4_0 |
| `wide` | 2M/2ᵇ of the whole range, 2ᵇ steps and not 2ᵇ - 1 | as `range` | |
| `unused` | M/(2ᵇ - 1): half of the codes are never used | as `range` | |

An asymmetric grid spans xmin … xmax, both pushed to 0 unless `zero_inside` is off; its zero point
is -xmin/s, rounded in the way that `zero_rounding` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.grids.float_formats import FORMATS
from ...reference.methods.grid_fitting import INTEGER, SHRINKS

Array = NDArray[np.float64]

STORAGE = ("float32", "float16", "bfloat16", "float8-e4m3")
ROUNDINGS = {
    "nearest": np.rint,
    "truncated": np.trunc,
    "down": np.floor,
    "up": np.ceil,
    "exact": lambda x: x,
}


@dataclass(frozen=True)
class GridRule:
    """How a grid is found and used; the defaults are those of this package.

    Attributes:
        bits, format, asymmetric, mse: as in `waterlevel.gptq`.
        kind: of a symmetric grid, see above.
        zero_inside: whether the range of an asymmetric grid is made to hold 0.
        zero_rounding: of ROUNDINGS. zero_shift: is added to the zero point.
        intervals: of an asymmetric range, in place of 2ᵇ - 1: that number plus this.
        mse_exponent: of |q(x) - x| in the search. mse_least: the smallest part of the range.
        scale_dtype: what the scale is rounded to before it decides anything, or "".
        chosen_dtype: what it is rounded to after the search and the zero point, before codes.
        rounding: of ROUNDINGS: how a level is decided: "truncated" is v/s towards 0, the others
            round v/s + zero. clamped: whether levels stay in range.
        clamped_signed: levels are clamped before the zero point is added, as if it were 2^(b-1).
        shrunk: the range is multiplied by this.
    """

    bits: int | None = None
    format: str = INTEGER
    asymmetric: bool = False
    mse: bool = False
    kind: str = "range"
    zero_inside: bool = True
    zero_rounding: str = "nearest"
    zero_shift: int = 0
    intervals: int = 0
    mse_exponent: float = 2.5
    mse_least: float = 0.2
    scale_dtype: str = ""
    chosen_dtype: str = ""
    rounding: str = "nearest"
    clamped: bool = True
    clamped_signed: bool = False
    shrunk: float = 1.0

    @property
    def half(self) -> int:
        """2^(b-1)."""
        assert self.bits is not None
        return 1 << (self.bits - 1)

    def find(self, x: Array) -> tuple[Array, Array]:
        """(s, zero), one of each for every row of x; zero counts from the lowest level."""
        low, high = np.minimum(x.min(axis=1), 0.0), np.maximum(x.max(axis=1), 0.0)
        if self.asymmetric and not self.zero_inside:
            low, high = x.min(axis=1), x.max(axis=1)
        scale, zero = self._of_range(x, low * self.shrunk, high * self.shrunk)
        if self.mse and self.format == INTEGER:
            scale, zero = self._searched(x, low, high)
        return rounded_to(scale, self.chosen_dtype), zero

    def _of_range(self, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
        M = np.maximum(-low, high)
        if self.format != INTEGER:
            scale = np.where(M == 0, 1.0, M) / FORMATS[self.format].largest
            return self._stored(scale), np.zeros(len(x))
        assert self.bits is not None
        steps, half = 2**self.bits - 1, self.half
        if self.asymmetric:
            empty = high == low
            low, high = np.where(empty, -1.0, low), np.where(empty, 1.0, high)
            scale = self._stored((high - low) / (steps + self.intervals))
            return scale, ROUNDINGS[self.zero_rounding](-low / scale) + self.zero_shift
        empty, M = M == 0, np.where(M == 0, 1.0, M)
        first = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], 1)[:, 0]
        scale = {
            "range": np.where((low < 0) | empty, 2 * M, M) / steps,
            "full": 2 * M / steps,
            "half": M / half,
            "narrow": M / (half - 1),
            "restricted": M / (half - 1),
            "signed": np.where(first == 0, M, first) / -half,
            "wide": np.where((low < 0) | empty, 2 * M, M) / (steps + 1),
            "unused": M / steps,
        }[self.kind]
        return self._stored(scale), np.full(len(x), half + self.zero_shift, np.float64)

    def _stored(self, scale: Array) -> Array:
        return rounded_to(scale, self.scale_dtype)

    def _searched(self, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
        best, least = self._of_range(x, low, high), np.full(len(x), np.inf)
        for i in range(SHRINKS):
            p = 1 - i / 100
            if p < self.mse_least - 1e-9:
                break
            scale, zero = self._of_range(x, p * low, p * high)
            s, z = scale[:, None], zero[:, None]
            error = np.abs(self.values(self.levels(x / s, z), s, z) - x) ** self.mse_exponent
            total = error.sum(axis=1)
            better = total < least
            least = np.where(better, total, least)
            best = np.where(better, scale, best[0]), np.where(better, zero, best[1])
        return best

    def levels(self, t: Array, zero: Array) -> Array:
        """The levels, counted from the zero point, that t = v/s is given."""
        if self.format != INTEGER:
            form = FORMATS[self.format]
            return form.values(form.nearest(t), np.float64)
        low, high = self._ends(zero)
        if self.clamped_signed:
            low, high = np.full_like(zero, -self.half), np.full_like(zero, self.half - 1)
        before = 0.0 if self.rounding == "truncated" else zero
        whole = ROUNDINGS[self.rounding](t + before) - before
        return np.clip(whole, low, high) if self.clamped else whole

    def _ends(self, zero: Array) -> tuple[Array, Array]:
        assert self.bits is not None
        restricted = self.kind == "restricted" and not self.asymmetric
        return restricted - zero, 2**self.bits - 1 - zero

    def values(self, levels: Array, scale: Array, zero: Array) -> Array:
        """What the levels stand for."""
        return levels * scale

    def from_tie(self, t: Array, zero: Array) -> Array:
        """How far v/s is from the next place where the decision changes, in spacings."""
        if self.format != INTEGER:
            ties = FORMATS[self.format].midpoints
            place = np.searchsorted(ties, np.abs(t)).clip(1, len(ties) - 1)
            return np.minimum(*(np.abs(np.abs(t) - ties[place - k]) for k in (0, 1)))
        half = 0.5 if self.rounding == "nearest" else 0.0
        _, last = self._ends(np.zeros_like(zero))
        tie = np.floor(t + zero - half + 0.5) + half
        return np.abs(t + zero - np.clip(tie, half, last - half))


def rounded_to(x: Array, dtype: str) -> Array:
    """x as it comes back from storage, to nearest even; "" leaves it alone.

    >>> [float(rounded_to(np.array(0.3), name)) for name in ("float16", "bfloat16", "float8-e4m3")]
    [0.300048828125, 0.30078125, 0.3125]
    """
    if dtype == "":
        return x
    if dtype == "bfloat16":
        bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
        even = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
        return even.astype(np.uint32).view(np.float32).astype(np.float64)
    if dtype == "float8-e4m3":
        form = FORMATS["fp8-e4m3"]
        return form.values(form.nearest(x), np.float64)
    return x.astype(dtype).astype(np.float64)
