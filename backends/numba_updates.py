"""The update: products of two packed operands are subtracted from a part of a matrix.

    matrix[i, j] ← matrix[i, j] - left[i, k]·right[j, k]      for k = 0, 1, 2, …

All of matrix products, and all of Cholesky factorisation, triangular solves and interference
cancellation outside of the panel at hand. Blocks of rows and columns are shared among the threads;
no element is touched by two of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .numba_compiler import Array, parallel, prange, serial
from .numba_tiles import ROWS, lanes, subtract_tile, subtract_weighted_tile, tile_lanes

ROW_BLOCK = 64  # a multiple of every tile; the packed rows of a block stay in a core's own cache
COLUMN_BLOCK = 512


def whole_extents(tiles: int, steps: int) -> NDArray[np.int64]:
    """Extents that leave no step out."""
    extents = np.zeros((tiles, 2), np.int64)
    extents[:, 1] = steps
    return extents


@serial
def _copy_tile(
    source: Array,
    source_offset: int,
    source_stride: int,
    target: Array,
    offset: int,
    stride: int,
    rows: int,
    columns: int,
) -> None:
    for r in range(rows):
        for l in range(columns):
            target[offset + r * stride + l] = source[source_offset + r * source_stride + l]


@serial
def _update_tile(
    flat: Array,
    place: int,
    stride: int,
    rows: int,
    columns: int,
    left: Array,
    left_at: int,
    right: Array,
    right_at: int,
    steps: int,
    weights: Array | None,
    edge: Array,
) -> None:
    """One tile: in place if it is whole, else by way of the buffer `edge`."""
    width = lanes(left)
    whole = rows == ROWS and columns == width
    start = np.int64(0)
    target, at, row = (flat, place, stride) if whole else (edge, start, width)
    if not whole:
        _copy_tile(flat, place, stride, edge, start, width, rows, columns)
    if weights is None:
        subtract_tile(target, at, row, right, right_at, width, left, left_at, width, steps, weights)
    else:
        subtract_weighted_tile(
            target, at, row, right, right_at, width, left, left_at, width, steps, weights
        )
    if not whole:
        _copy_tile(edge, start, width, flat, place, stride, rows, columns)


@serial
def _update_block(
    matrix: Array,
    row: int,
    row_stop: int,
    column: int,
    column_stop: int,
    rows: tuple[int, int],
    columns: tuple[int, int],
    left: Array,
    left_extents: Array,
    right: Array,
    right_extents: Array,
    depth: int,
    weights: Array | None,
    lower: bool,
    edge: Array,
) -> None:
    """The rows `rows` and columns `columns` (ranges from the first packed row and column)."""
    width = lanes(left)
    stride = matrix.shape[1]
    flat = matrix.reshape(-1)
    for c in range(columns[0], min(columns[1], column_stop - column), width):
        right_tile = c // width
        for r in range(rows[0], min(rows[1], row_stop - row), ROWS):
            if lower and c > r + ROWS - 1:
                continue
            left_tile = r // width
            first = max(left_extents[left_tile, 0], right_extents[right_tile, 0])
            steps = min(left_extents[left_tile, 1], right_extents[right_tile, 1]) - first
            if steps > 0:
                _update_tile(
                    flat,
                    (row + r) * stride + column + c,
                    stride,
                    min(ROWS, row_stop - row - r),
                    min(width, column_stop - column - c),
                    left,
                    (left_tile * depth + first) * width + r % width,
                    right,
                    (right_tile * depth + first) * width,
                    steps,
                    weights,
                    edge,
                )


@parallel
def _update(
    matrix: Array,
    row: int,
    row_stop: int,
    column: int,
    column_stop: int,
    left: Array,
    left_extents: Array,
    right: Array,
    right_extents: Array,
    depth: int,
    weights: Array | None,
    lower: bool,
    row_blocks: int,
    column_blocks: int,
    edges: Array,
) -> None:
    for block in prange(row_blocks * column_blocks):
        # Signed: Numba divides an unsigned loop index as a float.
        place, c = divmod(np.int64(block), column_blocks)
        # First, last, second, last but one: of a triangle, every thread gets short and long rows.
        r = place // 2 if place % 2 == 0 else row_blocks - 1 - place // 2
        _update_block(
            matrix,
            row,
            row_stop,
            column,
            column_stop,
            (r * ROW_BLOCK, (r + 1) * ROW_BLOCK),
            (c * COLUMN_BLOCK, (c + 1) * COLUMN_BLOCK),
            left,
            left_extents,
            right,
            right_extents,
            depth,
            weights,
            lower,
            edges[block],
        )


def update(
    matrix: NDArray,
    rows: range,
    columns: range,
    left: NDArray,
    left_extents: NDArray[np.int64],
    right: NDArray,
    right_extents: NDArray[np.int64],
    depth: int,
    weights: NDArray | None = None,
    lower: bool = False,
) -> None:
    """Subtracts the products from these rows and columns of a matrix, in place.

    Args:
        left, right: packed rows and columns, tile 0 first; depth: steps between their tiles.
        left_extents, right_extents: for each tile the first step and the one after the last.
        weights: a number that multiplies each product of its step, or None.
        lower: whether tiles above the diagonal, j > i, are left out.
    """
    row_blocks, column_blocks = -(-len(rows) // ROW_BLOCK), -(-len(columns) // COLUMN_BLOCK)
    edges = np.empty((row_blocks * column_blocks, ROWS * tile_lanes(matrix.dtype)), matrix.dtype)
    _update(
        *(matrix, rows.start, rows.stop, columns.start, columns.stop),
        *(left, left_extents, right, right_extents, depth, weights, lower),
        *(row_blocks, column_blocks, edges),
    )
