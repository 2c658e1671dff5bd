"""Packing: parts of matrices as tiles whose numbers lie in the order in which they are used.

Tile t of a packed buffer holds for each step k its `lanes` numbers side by side (`numba_tiles`). A
step is a column of the matrix and the lanes are rows, or the other way round. Where a tile reaches
over the edge of the matrix it is filled with +0.0.
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
def pack_tile(
    flat: Array,
    origin: int,
    lane: int,
    present: int,
    step: int,
    steps: int,
    sign: float,
    packed: Array,
    base: int,
) -> None:
    """Packs one tile of `pack`, of which `present` lanes are there, at `base`."""
    width = lanes(packed)
    if present < width:
        for i in range(base, base + steps * width):
            packed[i] = 0
    for k0 in range(0, steps, BLOCK):
        for l in range(present):
            for k in range(k0, min(k0 + BLOCK, steps)):
                packed[base + k * width + l] = sign * flat[origin + l * lane + k * step]


@parallel
def pack(
    matrix: Array,
    origin: int,
    lane: int,
    count: int,
    step: int,
    steps: int,
    sign: float,
    packed: Array,
    depth: int,
) -> None:
    """Packs sign·matrix, sign = ±1: `count` lanes of `steps` steps.

    Lane l of step k is the element at origin + l·lane + k·step of the matrix, read row by row.
    """
    width = lanes(packed)
    flat = matrix.reshape(-1)
    for t in prange((count + width - 1) // width):
        first = np.int64(t) * width
        pack_tile(
            flat,
            origin + first * lane,
            lane,
            min(width, count - first),
            step,
            steps,
            sign,
            packed,
            first * depth,
        )


def pack_rows(
    matrix: NDArray,
    columns: range,
    rows: range,
    packed: NDArray,
    depth: int,
    sign: int = 1,
) -> None:
    """Lanes are rows (neighbours), steps are columns (evenly spaced)."""
    stride = matrix.shape[1]
    origin = rows.start * stride + columns.start
    factor = packed.dtype.type(sign)
    pack(*(matrix, origin, stride, len(rows), columns.step, len(columns), factor, packed, depth))


def pack_columns(
    matrix: NDArray,
    rows: range,
    columns: range,
    packed: NDArray,
    depth: int,
    sign: int = 1,
) -> None:
    """Lanes are columns (neighbours), steps are rows (evenly spaced)."""
    stride = matrix.shape[1]
    origin = rows.start * stride + columns.start
    factor, step = packed.dtype.type(sign), rows.step * stride
    pack(*(matrix, origin, 1, len(columns), step, len(rows), factor, packed, depth))


@serial
def unpack_tile(
    packed: Array,
    base: int,
    flat: Array,
    origin: int,
    lane: int,
    present: int,
    step: int,
    steps: int,
) -> None:
    """Writes rows back: the inverse of `pack_tile`."""
    width = lanes(packed)
    for k0 in range(0, steps, BLOCK):
        for l in range(present):
            for k in range(k0, min(k0 + BLOCK, steps)):
                flat[origin + l * lane + k * step] = packed[base + k * width + l]
