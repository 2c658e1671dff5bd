"""Packing: parts of matrices as tiles whose numbers lie in the order in which they are used.

Tile t of a packed buffer holds for each step k its `lanes` numbers side by side (`numba_tiles`). A
step is a column of the matrix and the lanes are rows, or the other way round. Where a tile reaches
over the edge of the matrix it is filled with +0.0, and so are the steps from the last one up to
`depth`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .numba_compiler import Array, parallel, prange, serial
from .numba_tiles import lanes, tile_lanes

BLOCK = 16  # steps that are moved at a time, some cache lines of each row


def tiles_for(length: int, dtype: DTypeLike) -> int:
    """How many tiles `length` rows or columns need."""
    return -(-length // tile_lanes(dtype))


def packed_buffer(length: int, depth: int, dtype: DTypeLike) -> NDArray:
    """Room for `length` rows or columns of `depth` steps each; not initialised."""
    return np.empty(tiles_for(length, dtype) * depth * tile_lanes(dtype), dtype)


@serial
def _pack_rows(
    matrix: Array,
    step0: int,
    step: int,
    steps: int,
    first: int,
    stop: int,
    sign: float,
    packed: Array,
    depth: int,
    t: int,
) -> None:
    width = lanes(packed)
    base = t * depth * width
    rows = min(width, stop - first)
    if rows < width:
        packed[base : base + steps * width] = 0
    packed[base + steps * width : base + depth * width] = 0
    for k0 in range(0, steps, BLOCK):
        for l in range(rows):
            for k in range(k0, min(k0 + BLOCK, steps)):
                packed[base + k * width + l] = sign * matrix[first + l, step0 + step * k]


@parallel
def pack_rows(
    matrix: Array,
    step0: int,
    step: int,
    steps: int,
    first: int,
    stop: int,
    sign: float,
    packed: Array,
    depth: int,
) -> None:
    """Lanes are the rows first … stop-1, step k is column step0 + step·k, times sign = ±1."""
    width = lanes(packed)
    for t in prange((stop - first + width - 1) // width):
        _pack_rows(matrix, step0, step, steps, first + t * width, stop, sign, packed, depth, t)


@serial
def _pack_columns(
    matrix: Array,
    step0: int,
    step: int,
    steps: int,
    first: int,
    stop: int,
    sign: float,
    packed: Array,
    depth: int,
    t: int,
) -> None:
    width = lanes(packed)
    columns = min(width, stop - first)
    base = t * depth * width
    for k in range(steps):
        row, at = step0 + step * k, base + k * width
        if columns == width:
            for l in range(width):
                packed[at + l] = sign * matrix[row, first + l]
        else:
            packed[at : at + width] = 0
            for l in range(columns):
                packed[at + l] = sign * matrix[row, first + l]
    packed[base + steps * width : base + depth * width] = 0


@parallel
def pack_columns(
    matrix: Array,
    step0: int,
    step: int,
    steps: int,
    first: int,
    stop: int,
    sign: float,
    packed: Array,
    depth: int,
) -> None:
    """Lanes are the columns first … stop-1, step k is row step0 + step·k, times sign = ±1."""
    width = lanes(packed)
    for t in prange((stop - first + width - 1) // width):
        _pack_columns(matrix, step0, step, steps, first + t * width, stop, sign, packed, depth, t)


@serial
def _unpack_rows(
    packed: Array,
    depth: int,
    matrix: Array,
    step0: int,
    step: int,
    steps: int,
    first: int,
    stop: int,
    t: int,
) -> None:
    width = lanes(packed)
    base = t * depth * width
    for k0 in range(0, steps, BLOCK):
        for l in range(min(width, stop - first)):
            for k in range(k0, min(k0 + BLOCK, steps)):
                matrix[first + l, step0 + step * k] = packed[base + k * width + l]


@parallel
def unpack_rows(
    packed: Array,
    depth: int,
    matrix: Array,
    step0: int,
    step: int,
    steps: int,
    first: int,
    stop: int,
) -> None:
    """Writes rows first … stop-1 back to the columns from which `pack_rows` took them."""
    width = lanes(packed)
    for t in prange((stop - first + width - 1) // width):
        _unpack_rows(packed, depth, matrix, step0, step, steps, first + t * width, stop, t)
