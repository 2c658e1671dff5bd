"""Inner products of rows and of columns, and the error of a grid, by `tree_sum`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..reference.sums import CHUNK
from .numba_compiler import Array, parallel, prange, serial
from .numba_trees import fold, fold_partials

COLUMNS = 32  # summed side by side, a few cache lines of each row
ROWS = 16  # that share a buffer


@serial
def _row_inner(
    left: Array,
    right: Array,
    row: int,
    buffer: Array,
    partials: Array,
) -> float:
    n = left.shape[1]
    chunks = (n + CHUNK - 1) // CHUNK
    for chunk in range(chunks):
        first = chunk * CHUNK
        count = min(CHUNK, n - first)
        for j in range(count):
            buffer[j] = left[row, first + j] * right[row, first + j]
        fold(buffer, 0, count, 1)
        partials[chunk] = buffer[0]
    fold_partials(partials, chunks, 1)
    return partials[0]


@parallel
def row_inner(
    left: Array,
    right: Array,
) -> Array:
    """Σ_j a_ij·b_ij."""
    rows, n = left.shape
    sums = np.empty(rows, left.dtype)
    for block in prange((rows + ROWS - 1) // ROWS):
        buffer = np.empty(CHUNK, left.dtype)
        partials = np.zeros((n + CHUNK - 1) // CHUNK + 1, left.dtype)
        for row in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            sums[row] = _row_inner(left, right, row, buffer, partials)
    return sums


@serial
def _column_inner(
    left: Array,
    right: Array,
    column: int,
    width: int,
    buffer: Array,
    partials: Array,
) -> None:
    rows = len(left)
    chunks = (rows + CHUNK - 1) // CHUNK
    for chunk in range(chunks):
        first = chunk * CHUNK
        count = min(CHUNK, rows - first)
        for i in range(count):
            for w in range(width):
                product = left[first + i, column + w] * right[first + i, column + w]
                buffer[i * width + w] = product
        fold(buffer, 0, count, width)
        for w in range(width):
            partials[chunk * width + w] = buffer[w]
    fold_partials(partials, chunks, width)


@parallel
def column_inner(
    left: Array,
    right: Array,
) -> Array:
    """Σ_i a_ij·b_ij."""
    rows, n = left.shape
    sums = np.zeros(n, left.dtype)
    for block in prange((n + COLUMNS - 1) // COLUMNS if rows > 0 else 0):
        column = block * COLUMNS
        width = min(COLUMNS, n - column)
        buffer = np.empty(CHUNK * width, left.dtype)
        partials = np.empty(((rows + CHUNK - 1) // CHUNK) * width, left.dtype)
        _column_inner(left, right, column, width, buffer, partials)
        sums[column : column + width] = partials[:width]
    return sums


@serial
def _grid_error(
    matrix: Array,
    row: int,
    scale: float,
    zero: int,
    maximum: float,
    buffer: Array,
    partials: Array,
) -> float:
    n = matrix.shape[1]
    number = matrix.dtype.type
    origin = number(zero)
    chunks = (n + CHUNK - 1) // CHUNK
    for chunk in range(chunks):
        first = chunk * CHUNK
        count = min(CHUNK, n - first)
        for j in range(count):
            x = matrix[row, first + j]
            level = np.rint(x / scale) + origin
            if level - level == 0:
                level = min(max(level, number(0)), maximum)
            d = abs(scale * (level - origin) - x)
            buffer[j] = d * d * np.sqrt(d)
        fold(buffer, 0, count, 1)
        partials[chunk] = buffer[0]
    fold_partials(partials, chunks, 1)
    return partials[0]


@parallel
def _grid_errors(
    matrix: Array,
    scale: Array,
    zero: Array,
    maximum: float,
) -> Array:
    rows, n = matrix.shape
    errors = np.empty(rows, matrix.dtype)
    for block in prange((rows + ROWS - 1) // ROWS):
        buffer = np.empty(CHUNK, matrix.dtype)
        partials = np.zeros((n + CHUNK - 1) // CHUNK + 1, matrix.dtype)
        for row in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            errors[row] = _grid_error(matrix, row, scale[row], zero[row], maximum, buffer, partials)
    return errors


def grid_error(matrix: NDArray, scale: NDArray, zero: NDArray[np.int32], maximum: int) -> NDArray:
    """Σ_j d·d·√d, d = |s·(q - zero) - x|, of each row."""
    return _grid_errors(matrix, scale, zero, matrix.dtype.type(maximum))
