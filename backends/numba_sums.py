"""Inner products of rows and of columns, and the error of a grid, by `tree_sum`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..reference.sums import CHUNK
from .numba_compiler import Array, parallel, prange, serial
from .numba_trees import fold, fold_partials

WIDTH = 32  # sums formed side by side: some cache lines of each row
PLACES = 256  # buffers, and shares of the work: a few for each thread
ROWS = 16  # that share a buffer


@serial
def _inner(
    left: Array,
    right: Array,
    origin: int,
    width: int,
    lane: int,
    length: int,
    step: int,
    buffer: Array,
    partials: Array,
) -> None:
    """Sum w of `length` products, number i of which is at origin + w·lane + i·step."""
    chunks = (length + CHUNK - 1) // CHUNK
    for chunk in range(chunks):
        first = origin + chunk * CHUNK * step
        count = min(CHUNK, length - chunk * CHUNK)
        for i in range(count):
            at = first + i * step
            if lane == 1:  # a loop over neighbours, which the compiler turns into vectors
                for w in range(width):
                    buffer[i * width + w] = left[at + w] * right[at + w]
            else:
                for w in range(width):
                    buffer[i * width + w] = left[at + w * lane] * right[at + w * lane]
        fold(buffer, 0, count, width)
        for w in range(width):
            partials[chunk * width + w] = buffer[w]
    fold_partials(partials, chunks, width)


@parallel
def inner(
    left: Array,
    right: Array,
    sums: Array,
    lane: int,
    length: int,
    step: int,
    buffers: Array,
    partials: Array,
) -> None:
    """Writes the sums of `length` products each; see `_inner`. A buffer serves many of them."""
    flat_left, flat_right = left.reshape(-1), right.reshape(-1)
    for place in prange(len(buffers)):
        for first in range(place * WIDTH, len(sums), len(buffers) * WIDTH):
            width = min(WIDTH, len(sums) - first)
            buffer, partial = buffers[place], partials[place]
            _inner(flat_left, flat_right, first * lane, width, lane, length, step, buffer, partial)
            for w in range(width):
                sums[first + w] = partial[w]


def _inner_products(
    left: NDArray, right: NDArray, count: int, lane: int, length: int, step: int
) -> NDArray:
    sums = np.empty(count, left.dtype)
    places = min(PLACES, -(-count // WIDTH))
    buffers = np.empty((places, CHUNK * WIDTH), left.dtype)
    partials = np.zeros((places, (length // CHUNK + 1) * WIDTH), left.dtype)
    inner(left, right, sums, lane, length, step, buffers, partials)
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
