"""Which finite grid fits a group of weights?

A finite grid of b bits has 2^b values; a scale (and a zero point) puts them where the weights are.
One grid serves a whole row, or a group of g columns of a row.

**Affine grids.** With maximum = 2^b - 1, xmin = min(0, least weight), xmax = max(0, greatest):

    symmetric:   xmax ← max(|xmin|, xmax), and xmin ← -xmax where xmin < 0
    nothing but zeros: xmin = -1, xmax = 1
    s = (xmax - xmin)/maximum          zero = (maximum + 1)/2 if symmetric, else rint(-xmin/s)

A range so small that s underflows to 0 is treated like zeros: nothing on it could be told from 0.

**MSE search.** The largest weight need not be representable: shrinking the range by p = 1 - i/100,
i = 0 … 79, trades a clipped outlier against a finer grid for all others. The first p with the least
Σ|q(x) - x|^2.5 wins, where d^2.5 is computed as d·d·√d. (Published code uses the exponent 2.4,
which needs `pow`, and `pow` has no fixed bits.)

**Float formats.** s = max|x| / largest value of the format, one grid per row or group.

This is the choice of published GPTQ code, its corners included: a symmetric grid of a row without
negative weights keeps xmin = 0 and leaves half of its codes unused.

Worked example: the row (-1, 0.5, 2) on 2 bits. Asymmetric: s = (2 - (-1))/3 = 1 and zero = 1, so
the values are -1, 0, 1, 2. Symmetric: the range is ±2, s = 4/3 and zero = 2.

>>> import numpy as np
>>> from ..operations.numpy_operations import NUMPY
>>> row = np.array([[-1.0, 0.5, 2.0]])
>>> scale, zero = find_grid(NUMPY, row, 0, 3, GridFormat(bits=2, asymmetric=True))
>>> scale, zero
(array([1.]), array([1], dtype=int32))
>>> find_grid(NUMPY, row, 0, 3, GridFormat(bits=2))
(array([1.33333333]), array([2], dtype=int32))

Exercise: which grid does FP4 E2M1 find for this row? (Check: its largest value is 6, so s = 2/6.)

>>> find_grid(NUMPY, row, 0, 3, GridFormat(name="fp4-e2m1"))[0]
array([0.33333333])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import check_count
from ..errors import BadInput
from ..grids.codebooks import AffineGrid, FloatGrid
from ..grids.float_formats import FORMATS
from ..operations import Matrix, Operations

INTEGER = "int"
GRID_NAMES = (INTEGER, *FORMATS)
SHRINKS = 80

Grid = tuple[NDArray, NDArray[np.int32]]


@dataclass(frozen=True)
class GridFormat:
    """Which finite grid the user wants.

    Attributes:
        name: "int" for an affine grid, or one of `formats.FORMATS`.
        bits: b, from 2 to 8, for "int"; float formats bring their own.
        asymmetric: affine grids only: whether the zero point is free.
        mse: affine grids only: whether the range is searched for the least error.
    """

    name: str = INTEGER
    bits: int | None = None
    asymmetric: bool = False
    mse: bool = False

    def __post_init__(self) -> None:
        if self.name not in GRID_NAMES:
            raise BadInput(f"format is {self.name!r}; it must be one of {', '.join(GRID_NAMES)}")
        if self.name == INTEGER:
            if not isinstance(self.bits, (int, np.integer)) or not 2 <= self.bits <= 8:
                raise BadInput(f"bits is {self.bits!r}; an integer grid needs 2 to 8")
        elif self.bits is not None or self.asymmetric or self.mse:
            raise BadInput(
                f"format {self.name} brings its own bits and is symmetric; bits, asymmetric and "
                "mse belong to format int"
            )

    @property
    def bits_per_code(self) -> int:
        """How many bits a code takes."""
        return FORMATS[self.name].bits if self.bits is None else int(self.bits)

    @property
    def maximum(self) -> int:
        """The largest code of an affine grid."""
        return (1 << self.bits_per_code) - 1

    def parameters(self) -> dict[str, Any]:
        """For the record of a result."""
        return {
            "format": self.name,
            "bits": self.bits_per_code,
            "asymmetric": self.asymmetric,
            "mse": self.mse,
        }

    def codebook(
        self, scale: NDArray, zero: NDArray[np.int32], group: NDArray[np.int64]
    ) -> AffineGrid | FloatGrid:
        """The codebook on these grids: scale and zero a×groups, group of each column."""
        if self.name == INTEGER:
            return AffineGrid(scale, zero, group, self.maximum)
        return FloatGrid(scale, group, FORMATS[self.name])


def grid_format(
    bits: int | None, name: str = INTEGER, asymmetric: bool = False, mse: bool = False
) -> GridFormat | None:
    """The `GridFormat` of a user's arguments, or None if they do not speak of a grid."""
    if bits is None and name == INTEGER and not (asymmetric or mse):
        return None
    return GridFormat(name, bits, asymmetric, mse)


def find_grid(backend: Operations, matrix: Matrix, start: int, stop: int, form: GridFormat) -> Grid:
    """The grid of each row for the weights in the columns start … stop-1.

    Args:
        matrix: a×n on the backend.

    Returns:
        (scale, zero): a numbers in the dtype of the matrix, a int32 (0 for float formats).

    Raises:
        BadInput: a row whose range overflows.

    Exactness: bits; the MSE search sums by `tree_sum` over the columns in their order.
    """
    least, greatest = backend.row_extrema(matrix, start, stop)
    number = least.dtype.type
    xmin, xmax = np.minimum(number(0), least), np.maximum(number(0), greatest)
    with np.errstate(over="ignore"):
        if form.name == INTEGER:
            xmin, xmax = _affine_range(xmin, xmax, form)
            steps = number(form.maximum)
        else:
            xmin, xmax = np.zeros_like(xmin), np.maximum(-xmin, xmax)
            xmax = np.where(xmax == 0, number(1), xmax)
            steps = number(FORMATS[form.name].largest)
        scale = (xmax - xmin) / steps
    vanished = scale == 0
    if vanished.any():
        xmin = np.where(vanished, number(-1 if form.name == INTEGER else 0), xmin)
        xmax = np.where(vanished, number(1), xmax)
        scale = (xmax - xmin) / steps
    if not np.isfinite(scale).all():
        row = int(np.argmin(np.isfinite(scale)))
        raise BadInput(
            f"weight row {row} spans from {float(least[row]):g} to {float(greatest[row]):g}, "
            f"which overflows {least.dtype}; scale the weight down"
        )
    if form.name != INTEGER:
        return scale, np.zeros(len(scale), np.int32)
    zero = _zero_point(xmin, scale, form)
    if not form.mse:
        return scale, zero
    columns = backend.take(matrix, None, np.arange(start, stop))
    return _least_error(backend, columns, xmin, xmax, scale, zero, form)


def _affine_range(xmin: NDArray, xmax: NDArray, form: GridFormat) -> tuple[NDArray, NDArray]:
    number = xmin.dtype.type
    if not form.asymmetric:
        xmax = np.maximum(np.abs(xmin), xmax)
        xmin = np.where(xmin < 0, -xmax, xmin)
    nothing = (xmin == 0) & (xmax == 0)
    return np.where(nothing, number(-1), xmin), np.where(nothing, number(1), xmax)


def _zero_point(xmin: NDArray, scale: NDArray, form: GridFormat) -> NDArray[np.int32]:
    if form.asymmetric:
        return np.rint(-xmin / scale).astype(np.int32)
    return np.full(len(xmin), (form.maximum + 1) // 2, np.int32)


def _least_error(
    backend: Operations,
    columns: Matrix,
    xmin: NDArray,
    xmax: NDArray,
    scale: NDArray,
    zero: NDArray[np.int32],
    form: GridFormat,
) -> Grid:
    number = xmin.dtype.type
    least = np.full(len(xmin), np.inf, xmin.dtype)
    best_scale, best_zero = scale, zero
    for i in range(SHRINKS):
        p = number(1.0 - i / 100)
        scale_i = (p * xmax - p * xmin) / number(form.maximum)
        usable = scale_i > 0
        scale_i = np.where(usable, scale_i, scale)
        zero_i = _zero_point(np.where(usable, p * xmin, xmin), scale_i, form)
        error = backend.grid_error(columns, scale_i, zero_i, form.maximum)
        better = usable & (error < least)
        least = np.where(better, error, least)
        best_scale = np.where(better, scale_i, best_scale)
        best_zero = np.where(better, zero_i, best_zero)
    return best_scale, best_zero


def group_starts(columns: int, group_size: int | None) -> list[tuple[int, int]]:
    """The groups (first, end) of neighbouring columns; None is one group of them all.

    >>> group_starts(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    """
    if group_size is not None:
        check_count("group_size", group_size)
    size = columns if group_size is None else group_size
    return [(first, min(first + size, columns)) for first in range(0, columns, size)]


def group_of_column(groups: list[tuple[int, int]]) -> NDArray[np.int64]:
    """The number of the group of each column.

    >>> group_of_column(group_starts(10, 4)).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    """
    return np.repeat(np.arange(len(groups)), [end - first for first, end in groups])


def find_grids(
    backend: Operations, matrix: Matrix, group_size: int | None, form: GridFormat
) -> tuple[NDArray, NDArray[np.int32], NDArray[np.int64]]:
    """The grids of all groups of neighbouring columns.

    Returns:
        (scale, zero, group): a×groups, a×groups int32, and the group of each of the n columns.
    """
    rows, columns = backend.shape(matrix)
    groups = group_starts(columns, group_size)
    scale = np.empty((rows, len(groups)), backend.dtype(matrix))
    zero = np.empty((rows, len(groups)), np.int32)
    for g, (first, end) in enumerate(groups):
        scale[:, g], zero[:, g] = find_grid(backend, matrix, first, end, form)
    return scale, zero, group_of_column(groups)
