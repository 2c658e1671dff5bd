"""The update: products of two packed operands are subtracted from a part of a matrix.

    matrix[i, j] ← matrix[i, j] - left[i, k]·right[j, k]      for k = 0, 1, 2, …

All of matrix products, and all of Cholesky factorisation, triangular solves and interference
cancellation outside of the panel at hand. Blocks of rows and columns are shared among the threads;
no element is touched by two of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiler import Array, serial, task
from .packing import flat
from .threads import share
from .tiles import ROWS, lanes, subtract_tile, subtract_weighted_tile, tile_lanes

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
    numbers: Array,
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
    edges: Array,
    edge: int,
) -> None:
    """One tile: in place if it is whole, else by way of the buffer `edges` from `edge` on."""
    width = lanes(left)
    whole = rows == ROWS and columns == width
    target, at, row = (numbers, place, stride) if whole else (edges, edge, width)
    if not whole:
        _copy_tile(numbers, place, stride, edges, edge, width, rows, columns)
    if weights is None:
        subtract_tile(target, at, row, right, right_at, width, left, left_at, width, steps, weights)
    else:
        subtract_weighted_tile(
            target, at, row, right, right_at, width, left, left_at, width, steps, weights
        )
    if not whole:
        _copy_tile(edges, edge, width, numbers, place, stride, rows, columns)


@task
def update_block(
    block: int,
    numbers: Array,
    origin: int,
    stride: int,
    row_count: int,
    column_count: int,
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
    """One block of rows and columns, counted from the first packed ones."""
    width = lanes(left)
    place, c = divmod(block, column_blocks)
    # First, last, second, last but one: of a triangle, every thread gets short and long rows.
    r = place // 2 if place % 2 == 0 else row_blocks - 1 - place // 2
    first_row, first_column = r * ROW_BLOCK, c * COLUMN_BLOCK
    for c in range(first_column, min(first_column + COLUMN_BLOCK, column_count), width):
        right_tile = c // width
        for r in range(first_row, min(first_row + ROW_BLOCK, row_count), ROWS):
            if lower and c > r + ROWS - 1:
                continue
            left_tile = r // width
            first = max(left_extents[left_tile, 0], right_extents[right_tile, 0])
            steps = min(left_extents[left_tile, 1], right_extents[right_tile, 1]) - first
            if steps > 0:
                _update_tile(
                    numbers,
                    origin + r * stride + c,
                    stride,
                    min(ROWS, row_count - r),
                    min(width, column_count - c),
                    left,
                    (left_tile * depth + first) * width + r % width,
                    right,
                    (right_tile * depth + first) * width,
                    steps,
                    weights,
                    edges,
                    block * ROWS * width,
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
    edges = np.empty(row_blocks * column_blocks * ROWS * tile_lanes(matrix.dtype), matrix.dtype)
    stride = matrix.shape[1]
    origin = rows.start * stride + columns.start
    share(
        *(update_block, row_blocks * column_blocks),
        *(flat(matrix), origin, stride, len(rows), len(columns)),
        *(left, left_extents, right, right_extents, depth, weights, lower),
        *(row_blocks, column_blocks, edges),
    )
