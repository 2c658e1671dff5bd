"""Which numbers may a quantised weight be, and which of them is chosen?

A codebook decides one column at a time. It receives the column y of the whitened target and the
diagonal element l of the factor that goes with it, so that v = y/l is the weight it should come
close to, and returns integer codes and the values that the codes stand for.

| codebook | code | value | who uses it |
|---|---|---|---|
| `UniformLattice` | z = rint(v/α) | z·α | entropy-coded RTN and GPTQ: one spacing α |
| `ScaledLattice` | z = rint(y/c) | z·(γ·α_k) | WaterSIC, waterfilling: spacings α_k = c/l_kk |
| `AffineGrid` | q = clamp(rint(v/s) + zero, 0, maximum) | s·(q - zero) | finite grids of b bits |
| `FloatGrid` | the nearest value of a small float format to v/s | s·value | FP4, FP6, FP8 |

**The gain.** At low rate most codes of a column are 0 and what is not 0 was rounded, so z·α_k is
not the best multiple of z. The linear minimum-mean-square-error (LMMSE) estimate of y is the
projection on z: y ≈ γ·c·z with

    γ = ⟨z, y⟩ / ⟨z, z⟩ / c

and γ → 1 when the spacing is small. Without a single nonzero code there is nothing to scale: γ = 0.

Codes become int32 as soon as they are decided and are widened again before they are used, so there
is no -0.0 among them. What does not fit, or is not finite, is a `CodeOverflow`.

Worked example: y = (0.7, 1.8, -0.2) with c = 1 is rounded to z = (1, 2, 0), and the best multiple
of z is γ = (1·0.7 + 2·1.8)/(1 + 4) = 0.86; with l = 1 that gives the values (0.86, 1.72, 0).

>>> import numpy as np
>>> y = np.array([0.7, 1.8, -0.2])
>>> lattice = ScaledLattice(step=1.0, spacing=np.ones(1), lmmse=True)
>>> codes, values, gain = lattice.decide(y, 1.0, 0)
>>> codes, [round(float(v), 9) for v in values], round(gain, 9)
(array([1, 2, 0], dtype=int32), [0.86, 1.72, 0.0], 0.86)

A gain below 1 is typical where a density falls: of the numbers that are rounded to 1, more lie
below 1 than above. For a Gaussian y and a spacing of two standard deviations it is 0.76, and near 1
for a fine spacing.

>>> y = np.random.default_rng(0).standard_normal(100_000)
>>> for step in (2.0, 1.0, 0.5):
...     print(round(ScaledLattice(step, np.ones(1), True).decide(y, 1.0, 0)[2], 2))
0.76
0.92
0.98

A tie goes to the even neighbour, for every codebook:

>>> UniformLattice(spacing=1.0).decide(np.array([0.5, 1.5, 2.5]), 1.0, 0)[0]
array([0, 2, 2], dtype=int32)

Exercise: an affine grid with s = 1, zero = 2 and maximum 3 holds which values? (Check: -2 … 1.)

>>> grid = AffineGrid(np.ones((1, 1)), np.full((1, 1), 2, np.int32), np.zeros(1, np.int64), 3)
>>> [float(grid.decide(np.array([v]), 1.0, 0)[1][0]) for v in (-9.0, -1.0, 0.4, 9.0)]
[-2.0, -1.0, 0.0, 1.0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.sums import tree_sum
from ..errors import CodeOverflow
from .float_formats import FloatFormat

Decision = tuple[NDArray[np.int32], NDArray, float]


def to_codes(values: NDArray, column: int) -> NDArray[np.int32]:
    """A column of whole numbers as int32, or `CodeOverflow` naming the first that does not fit."""
    fits = (values >= -2147483648.0) & (values < 2147483648.0)
    if not fits.all():
        row = int(np.argmin(fits))
        raise CodeOverflow(row, column, float(values[row]))
    return values.astype(np.int32)


@dataclass(frozen=True)
class UniformLattice:
    """All multiples of one spacing α (a float64, rounded once to the dtype of the target)."""

    spacing: float

    def decide(self, y: NDArray, diagonal: float, column: int) -> Decision:
        """Codes rint((y/l)/α), values z·α, gain 1; bits."""
        spacing = y.dtype.type(self.spacing)
        codes = to_codes(np.rint(y / diagonal / spacing), column)
        return codes, codes.astype(y.dtype) * spacing, 1.0


@dataclass(frozen=True)
class ScaledLattice:
    """Multiples of α_k = c/l_kk, so that every column is rounded with the same c where it counts.

    Attributes:
        step: c, a float64, rounded once to the dtype of the target.
        spacing: α, n numbers in the dtype of the target.
        lmmse: whether the values are scaled by the gain γ; otherwise γ = 1.
    """

    step: float
    spacing: NDArray
    lmmse: bool

    def decide(self, y: NDArray, diagonal: float, column: int) -> Decision:
        """Codes z = rint(y/c), values z·(γ·α_k), and γ; bits, sums by `tree_sum`."""
        step = y.dtype.type(self.step)
        codes = to_codes(np.rint(y / step), column)
        z = codes.astype(y.dtype)
        gain = y.dtype.type(1)
        if self.lmmse:
            energy = tree_sum(z * z)
            gain = tree_sum(z * y) / energy / step if energy > 0 else y.dtype.type(0)
        return codes, z * (gain * self.spacing[column]), float(gain)


def affine_levels(v: NDArray, scale: NDArray, zero: NDArray[np.int32], maximum: int) -> NDArray:
    """clamp(rint(v/s) + zero, 0, maximum), still in floating point; what is not finite stays so."""
    level = np.rint(v / scale) + zero.astype(v.dtype)
    clamped = np.minimum(np.maximum(level, v.dtype.type(0)), v.dtype.type(maximum))
    return np.where(np.isfinite(level), clamped, level)


@dataclass(frozen=True)
class AffineGrid:
    """maximum + 1 equally spaced values per row and group.

    Attributes:
        scale: s, a×groups, positive, in the dtype of the target.
        zero: the code that stands for 0, a×groups, int32.
        group: the group of each column, n integers.
        maximum: the largest code, 2^b - 1 for b bits.
    """

    scale: NDArray
    zero: NDArray[np.int32]
    group: NDArray[np.int64]
    maximum: int

    def decide(self, y: NDArray, diagonal: float, column: int) -> Decision:
        """Codes q = clamp(rint((y/l)/s) + zero, 0, maximum), values s·(q - zero), gain 1; bits."""
        scale = self.scale[:, self.group[column]]
        zero = self.zero[:, self.group[column]]
        level = affine_levels(y / diagonal, scale, zero, self.maximum)
        codes = to_codes(level, column)
        return codes, scale * (codes - zero).astype(y.dtype), 1.0


@dataclass(frozen=True)
class FloatGrid:
    """The values of a small float format, scaled per row and group.

    Attributes:
        scale: s, a×groups, positive, in the dtype of the target.
        group: the group of each column, n integers.
        form: the format.
    """

    scale: NDArray
    group: NDArray[np.int64]
    form: FloatFormat

    def decide(self, y: NDArray, diagonal: float, column: int) -> Decision:
        """Codes of the nearest values to (y/l)/s, values s·value, gain 1; bits."""
        scale = self.scale[:, self.group[column]]
        level = y / diagonal / scale
        finite = np.isfinite(level)
        if not finite.all():
            row = int(np.argmin(finite))
            raise CodeOverflow(row, column, float(level[row]))
        codes = self.form.nearest(level)
        return codes, scale * self.form.values(codes, y.dtype), 1.0


Codebook = UniformLattice | ScaledLattice | AffineGrid | FloatGrid
