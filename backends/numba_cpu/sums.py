"""Inner products of rows and of columns, and the error of a grid, by `tree_sum`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.arithmetic.sums import CHUNK
from .compiler import Array, entry, serial, task
from .packing import flat
from .threads import ROWS_OF_TASK, share
from .trees import fold, fold_partials

WIDTH = 32  # sums formed side by side: some cache lines of each row


@entry
def inner(
    left: Array,
    right: Array,
    sums: Array,
    lane: int,
    length: int,
    step: int,
    side_by_side: int,
    buffer: Array,
    partials: Array,
) -> None:
    """Writes sums of `length` products; number i of sum w is at w·lane + i·step.

    `side_by_side` sums, neighbours if it is more than one, are formed together in the buffer.
    """
    chunks, start = (length + CHUNK - 1) // CHUNK, np.int64(0)
    for number in range(0, len(sums), side_by_side):
        width = min(side_by_side, len(sums) - number)
        for chunk in range(chunks):
            first = number * lane + chunk * CHUNK * step
            count = min(CHUNK, length - chunk * CHUNK)
            runs, run = (1, count) if step == 1 else (count, width)  # of neighbours in memory
            for i in range(runs):
                at, to = first + i * step, i * side_by_side
                for w in range(run):
                    buffer[to + w] = left[at + w] * right[at + w]
            fold(buffer, start, side_by_side, count)
            for w in range(width):
                partials[chunk * side_by_side + w] = buffer[w]
        fold_partials(partials, side_by_side, chunks)
        for w in range(width):
            sums[number + w] = partials[w]


def _inner_products(
    left: NDArray, right: NDArray, count: int, lane: int, length: int, step: int
) -> NDArray:
    sums = np.empty(count, left.dtype)
    width = 1 if step == 1 else WIDTH
    buffer = np.zeros(CHUNK * width, left.dtype)
    partials = np.zeros((length // CHUNK + 1) * width, left.dtype)
    inner(flat(left), flat(right), sums, lane, length, step, width, buffer, partials)
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
            buffer[j] = d * d * np.sqrt(d)
        fold(buffer, 0, 1, count)
        partials[chunk] = buffer[0]
    fold_partials(partials, 1, chunks)
    return partials[0]


@task
def grid_errors(
    block: int,
    matrix: Array,
    scale: Array,
    zero: Array,
    maximum: float,
    errors: Array,
    buffers: Array,
    partials: Array,
) -> None:
    """Those of some rows, which share a buffer."""
    for row in range(block * ROWS_OF_TASK, min(len(matrix), (block + 1) * ROWS_OF_TASK)):
        errors[row] = _grid_error(
            matrix, row, scale[row], zero[row], maximum, buffers[block], partials[block]
        )


def grid_error(matrix: NDArray, scale: NDArray, zero: NDArray[np.int32], maximum: int) -> NDArray:
    """Σ_j d·d·√d, d = |s·(q - zero) - x|, of each row."""
    (rows, n), dtype = matrix.shape, matrix.dtype
    blocks, errors = -(-rows // ROWS_OF_TASK), np.empty(rows, dtype)
    buffers, partials = np.empty((blocks, CHUNK), dtype), np.zeros((blocks, n // CHUNK + 1), dtype)
    grid = scale, zero, dtype.type(maximum)
    share(grid_errors, blocks, matrix, *grid, errors, buffers, partials)
    return errors
