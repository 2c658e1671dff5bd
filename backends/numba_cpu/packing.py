"""Packing: parts of matrices as tiles whose numbers lie in the order in which they are used.

Tile t of a packed buffer holds for each step k its `lanes` numbers side by side (`tiles`). A
step is a column of the matrix and the lanes are rows, or the other way round. Where a tile reaches
over the edge of the matrix it is filled with +0.0.

Kernels get a matrix as the flat array of its numbers: lane l of step k is at origin + l·lane +
k·step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .compiler import Array, serial, task
from .lanes import copy_step
from .threads import share
from .tiles import lanes, tile_lanes
from .transposes import side, turn


def tiles_for(length: int, dtype: DTypeLike) -> int:
    """How many tiles `length` rows or columns need."""
    return -(-length // tile_lanes(dtype))


def packed_buffer(length: int, depth: int, dtype: DTypeLike) -> NDArray:
    """Room for `length` rows or columns of `depth` steps each; not initialised."""
    return np.empty(tiles_for(length, dtype) * depth * tile_lanes(dtype), dtype)


def flat(matrix: NDArray) -> NDArray:
    """The numbers of a matrix, row by row: the matrix itself, so writing to them writes to it."""
    assert matrix.flags.c_contiguous
    return matrix.reshape(-1)


@serial
def pack_tile(
    numbers: Array,
    origin: int,
    lane: int,
    present: int,
    step: int,
    steps: int,
    sign: float,
    packed: Array,
    base: int,
) -> None:
    """Packs one tile, of which `present` lanes are there, at `base`.

    The lanes are neighbours (lane = 1), or the steps are (step = ±1).
    """
    width, block = lanes(packed), side(packed)
    done = 0
    if present < width:
        for i in range(base, base + steps * width):
            packed[i] = 0
    elif lane == 1:
        for k in range(steps):
            copy_step(packed, base + k * width, numbers, origin + k * step, sign)
        done = steps
    else:
        done = steps - steps % block
        for k in range(0, done, block):
            least = k if step > 0 else k + block - 1  # the step that lies first in the matrix
            for l in range(0, width, block):
                turn(
                    numbers,
                    origin + l * lane + least * step,
                    lane,
                    packed,
                    base + least * width + l,
                    step * width,
                    sign,
                )
    for k in range(done, steps):
        for l in range(present):
            packed[base + k * width + l] = sign * numbers[origin + l * lane + k * step]


@task
def pack(
    t: int,
    numbers: Array,
    origin: int,
    lane: int,
    count: int,
    step: int,
    steps: int,
    sign: float,
    packed: Array,
    depth: int,
) -> None:
    """Packs tile t of sign·matrix, sign = ±1: `count` lanes of `steps` steps."""
    width = lanes(packed)
    first = t * width
    present = min(width, count - first)
    at, base = origin + first * lane, first * depth
    pack_tile(numbers, at, lane, present, step, steps, sign, packed, base)


def pack_rows(
    matrix: NDArray,
    columns: range,
    rows: range,
    packed: NDArray,
    depth: int,
    sign: int = 1,
) -> None:
    """Lanes are rows (neighbours), steps are columns (one after the other, either way)."""
    stride, numbers = matrix.shape[1], flat(matrix)
    origin = rows.start * stride + columns.start
    lines = numbers, origin, stride, len(rows), columns.step, len(columns)
    tiles = tiles_for(len(rows), packed.dtype)
    share(pack, tiles, *lines, packed.dtype.type(sign), packed, depth)


def pack_columns(
    matrix: NDArray,
    rows: range,
    columns: range,
    packed: NDArray,
    depth: int,
    sign: int = 1,
) -> None:
    """Lanes are columns (neighbours), steps are rows (evenly spaced)."""
    stride, numbers = matrix.shape[1], flat(matrix)
    origin = rows.start * stride + columns.start
    lines = numbers, origin, 1, len(columns), rows.step * stride, len(rows)
    tiles = tiles_for(len(columns), packed.dtype)
    share(pack, tiles, *lines, packed.dtype.type(sign), packed, depth)


@serial
def unpack_tile(
    packed: Array,
    base: int,
    numbers: Array,
    origin: int,
    lane: int,
    present: int,
    step: int,
    steps: int,
) -> None:
    """Writes rows back: the inverse of `pack_tile` for step = ±1."""
    width, block = lanes(packed), side(packed)
    done = steps - steps % block if present == width else 0
    for k in range(0, done, block):
        least = k if step > 0 else k + block - 1
        for l in range(0, width, block):
            turn(
                packed,
                base + least * width + l,
                step * width,
                numbers,
                origin + l * lane + least * step,
                lane,
                packed.dtype.type(1),
            )
    for k in range(done, steps):
        for l in range(present):
            numbers[origin + l * lane + k * step] = packed[base + k * width + l]
