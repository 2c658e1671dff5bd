"""Inner products of rows and of columns, and the error of a grid, by `tree_sum`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..reference.sums import CHUNK
from .numba_compiler import Array, entry, parallel, prange, serial
from .numba_trees import fold, fold_partials

WIDTH = 32  # sums formed side by side: some cache lines of each row
ROWS = 16  # that share a buffer


@serial
def _inner(
    left: Array,
    right: Array,
    origin: int,
    width: int,
    length: int,
    step: int,
    buffer: Array,
    partials: Array,
) -> None:
    """`width` neighbouring sums of `length` products each, `step` apart, by way of a buffer."""
    flat = buffer.reshape(-1)
    chunks = (length + CHUNK - 1) // CHUNK
    for chunk in range(chunks):
        first = origin + chunk * CHUNK * step
        count = min(CHUNK, length - chunk * CHUNK)
        runs, run = (1, count) if step == 1 else (count, width)  # of neighbours in memory
        for i in range(runs):
            for w in range(run):
                at = first + i * step + w
                flat[i * buffer.shape[1] + w] = left[at] * right[at]
        fold(buffer, count)
        for w in range(width):
            partials[chunk, w] = buffer[0, w]
    fold_partials(partials, chunks)


@entry
def inner(
    left: Array,
    right: Array,
    sums: Array,
    lane: int,
    length: int,
    step: int,
    buffer: Array,
    partials: Array,
) -> None:
    """Writes sums of `length` products; number i of sum w is at w·lane + i·step.

    As many sums are formed side by side as the buffer has columns.
    """
    flat_left, flat_right = left.reshape(-1), right.reshape(-1)
    side_by_side = buffer.shape[1]
    for first in range(0, len(sums), side_by_side):
        width = min(side_by_side, len(sums) - first)
        _inner(flat_left, flat_right, first * lane, width, length, step, buffer, partials)
        for w in range(width):
            sums[first + w] = partials[0, w]


def _inner_products(
    left: NDArray, right: NDArray, count: int, lane: int, length: int, step: int
) -> NDArray:
    sums = np.empty(count, left.dtype)
    width = 1 if step == 1 else WIDTH
    buffer = np.zeros((CHUNK, width), left.dtype)
    partials = np.zeros((length // CHUNK + 1, width), left.dtype)
    inner(left, right, sums, lane, length, step, buffer, partials)
    return sums


def row_inner(left: NDArray, right: NDArray) -> NDArray:
    """Σ_j a_ij·b_ij."""
    rows, n = left.shape
    return _inner_products(left, right, rows, n, n, 1)


def column_inner(left: NDArray, right: NDArray) -> NDArray:
    """Σ_i a_ij·b_ij."""
    rows, n = left.shape
    return _inner_products(left, right, n, 1, rows, n)


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
            buffer[j, 0] = d * d * np.sqrt(d)
        fold(buffer, count)
        partials[chunk, 0] = buffer[0, 0]
    fold_partials(partials, chunks)
    return partials[0, 0]


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
        buffer = np.empty((CHUNK, 1), matrix.dtype)
        partials = np.zeros(((n + CHUNK - 1) // CHUNK + 1, 1), matrix.dtype)
        for row in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            errors[row] = _grid_error(matrix, row, scale[row], zero[row], maximum, buffer, partials)
    return errors


def grid_error(matrix: NDArray, scale: NDArray, zero: NDArray[np.int32], maximum: int) -> NDArray:
    """Σ_j d·d·√d, d = |s·(q - zero) - x|, of each row."""
    return _grid_errors(matrix, scale, zero, matrix.dtype.type(maximum))
