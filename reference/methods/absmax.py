"""How is a block of numbers quantised when nothing is known but its largest magnitude?

Without calibration there is no Σ to look at. Each block of n neighbouring entries in a row gets
one scale, from M = max|x|, and every entry is rounded to the nearest value of the format:

| format | values, in multiples of the scale s | s |
|---|---|---|
| `int` | -2^(b-1) … 2^(b-1) - 1 | 2M/(2^b - 1) |
| `int-symmetric` | -(2^(b-1) - 1) … 2^(b-1) - 1 | M/(2^(b-1) - 1) |
| a float format | its values | M/largest value |

`int` has a use for all 2^b codes, but neither M nor -M is among its values: both miss theirs by
s/2. The others hold ±M; `int-symmetric` leaves one code unused.

The first is the grid of published GPTQ code (`grid_fitting`) in every block that has a negative
entry; that code treats a block without one differently, and loses most of it by clipping. The
second is what "absmax INT8" means elsewhere.

Worked example: the block (1.5, -0.4, 0.2, 0.7) on 2 bits. `int` has s = 1 and the values -2 … 1:
1.5 is halfway to 2, which is not there. `int-symmetric` has s = 1.5 and -1.5, 0, 1.5.

>>> import numpy as np
>>> from ..operations.numpy_operations import NUMPY
>>> block = np.array([[1.5, -0.4, 0.2, 0.7]])
>>> for name in ("int", "int-symmetric"):
...     print(absmax_quantize(NUMPY, block, absmax_format(name, bits=2)).values)
[[1. 0. 0. 1.]]
[[1.5 0.  0.  0. ]]

Exercise: what does FP4 E2M1 make of it? (Check: s = 1.5/6 = ¼, so its values are 0, ⅛, ¼, … 1, 1½;
the entries are 6, -1.6, 0.8, 2.8 of them, and go to 6, -1.5, 1, 3.)

>>> absmax_quantize(NUMPY, block, absmax_format("fp4-e2m1")).values
array([[ 1.5  , -0.375,  0.25 ,  0.75 ]])

Exactness: bits. A scale is one division; the rounding is that of `codebooks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..grids.codebooks import AffineGrid, FloatGrid
from ..grids.float_formats import FORMATS
from ..operations import Matrix, Operations
from .grid_fitting import group_starts

INTEGER_FORMATS = ("int", "int-symmetric")
ABSMAX_FORMATS = (*INTEGER_FORMATS, *FORMATS)


@dataclass(frozen=True)
class AbsmaxFormat:
    """Which values there are, and where M lies among them.

    Attributes:
        name: one of ABSMAX_FORMATS. bits: b, per entry, without scales.
    """

    name: str
    bits: int

    @property
    def maximum(self) -> int:
        """Of the integer formats: the largest code, counted from 0."""
        return (1 << self.bits) - (1 if self.name == "int" else 2)

    @property
    def zero(self) -> int:
        """Of the integer formats: the code that stands for 0."""
        return (self.maximum + 1) // 2

    @property
    def reach(self) -> float:
        """M/s."""
        if self.name in FORMATS:
            return FORMATS[self.name].largest
        return self.maximum / 2

    @property
    def levels(self) -> NDArray[np.float64]:
        """All values for s = 1, ascending; exact.

        >>> absmax_format("int", 3).levels.tolist(), absmax_format("int", 3).reach
        ([-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0], 3.5)
        """
        if self.name in FORMATS:
            magnitudes = FORMATS[self.name].magnitudes
            return np.concatenate((-magnitudes[:0:-1], magnitudes))
        return np.arange(self.maximum + 1, dtype=np.float64) - self.zero

    def codebook(self, scale: NDArray, group: NDArray[np.int64]) -> AffineGrid | FloatGrid:
        """The codebook with these scales, a×groups; group of each column."""
        if self.name in FORMATS:
            return FloatGrid(scale, group, FORMATS[self.name])
        zero = np.full(scale.shape, self.zero, np.int32)
        return AffineGrid(scale, zero, group, self.maximum)


def absmax_format(name: str = "int", bits: int | None = None) -> AbsmaxFormat:
    """The format of a name, one of ABSMAX_FORMATS; b, from 2 to 8, belongs to the integer ones.

    Raises:
        BadInput: an unknown name, bits that are missing or too many.
    """
    if name in FORMATS and bits is None:
        return AbsmaxFormat(name, FORMATS[name].bits)
    if name in FORMATS:
        raise BadInput(f"format {name} brings its own bits; leave bits out")
    if name not in INTEGER_FORMATS:
        raise BadInput(f"format is {name!r}; it must be one of {', '.join(ABSMAX_FORMATS)}")
    if bits is None or not 2 <= bits <= 8:
        raise BadInput(f"bits is {bits}; format {name} needs 2 to 8")
    return AbsmaxFormat(name, bits)


@dataclass(frozen=True, eq=False)
class AbsmaxCodes:
    """A matrix quantised by blocks.

    Attributes:
        codes: a×n int32, values: a×n, what the codes stand for; both on the backend.
        scale: s, a×groups on the host, in the dtype of the matrix.
        group: n integers, the group of each column.
    """

    codes: Matrix
    values: Matrix
    scale: NDArray
    group: NDArray[np.int64]


def absmax_quantize(
    backend: Operations, matrix: Matrix, form: AbsmaxFormat, group_size: int | None = None
) -> AbsmaxCodes:
    """Quantise each row of a matrix by blocks of `group_size` columns.

    Args:
        matrix: a×n on the backend, finite, kept.
        group_size: n of the formulas (None: the whole row); the last block may be shorter.

    Raises:
        BadInput: group_size below 1, or values that overflow, next to the largest numbers.

    A block of zeros, or one so small that s underflows to 0, becomes zeros with the scale 1.
    """
    rows, columns = backend.shape(matrix)
    dtype = backend.dtype(matrix)
    groups = group_starts(columns, group_size)
    scale = np.empty((rows, len(groups)), dtype)
    for g, (first, end) in enumerate(groups):
        least, greatest = backend.row_extrema(matrix, first, end)
        scale[:, g] = np.maximum(-least, greatest) / dtype.type(form.reach)
    scale = np.where(scale > 0, scale, dtype.type(1))
    group = np.arange(columns) // (group_size or columns)
    values = backend.convert(matrix, dtype)
    codes = backend.zeros(rows, columns, np.int32)
    backend.sic(values, codes, None, form.codebook(scale, group), 0, columns)
    overflown = backend.find_nonfinite(values)
    if overflown:
        row, column, _ = overflown
        raise BadInput(
            f"the value of element [{row}, {column}] overflows {dtype}; scale the matrix down"
        )
    return AbsmaxCodes(codes, values, scale, group)
