"""The panel at hand: a few columns that are finished one after the other, for a tile of rows.

A panel stands packed, a row of the matrix in each lane and a column in each step (`packing`),
in the order in which columns are finished. `coupling` is the block of the factor that belongs to
it, coupling[k, j] = what step k contributes to the later step j:

    open[:, j] ← open[:, j] - finished[:, k]·coupling[k, j]     for k = 0, 1, …, j-1

A finished column takes the place of the open one, so the panel is at once the packed operand of
all updates that follow from it. Products are subtracted from 16 columns at a time when their turn
comes, and inside of the 16 just before a column is finished.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compiler import Array, entry, serial, task
from .lanes import divide_step
from .packing import flat, pack_tile, tiles_for, unpack_tile
from .threads import share
from .tiles import ROWS, lanes, subtract_row, subtract_tile

PANEL = 256  # columns finished before the ones outside are touched: a multiple of BLOCK
BLOCK = 16
DEPTH = PANEL + 1  # steps between tiles: else columns of all tiles share a place in the cache


def coupling_block(block: NDArray) -> NDArray:
    """The coupling of a panel, padded to PANEL×PANEL with zeros."""
    coupling = np.zeros((PANEL, PANEL), block.dtype)
    coupling[: len(block), : len(block)] = block
    return coupling


@serial
def subtract_before(
    panel: Array,
    base: int,
    first: int,
    stop: int,
    coupling: Array,
) -> None:
    """Subtracts all steps before `first` from the steps first … stop-1 of the tile at `base`.

    Up to 7 steps behind them, which are not part of the panel, may change.
    """
    width = lanes(panel)
    for j in range(first, stop, ROWS):
        subtract_tile(
            panel,
            base + j * width,
            width,
            panel,
            base,
            width,
            coupling,
            j,
            PANEL,
            first,
            None,
        )


@serial
def subtract_within(
    panel: Array,
    base: int,
    first: int,
    k: int,
    coupling: Array,
) -> None:
    """Subtracts the steps first … k-1 from step k of the tile at `base`."""
    width = lanes(panel)
    subtract_row(
        panel,
        base + k * width,
        width,
        panel,
        base + first * width,
        width,
        coupling,
        first * PANEL + k,
        PANEL,
        k - first,
        None,
    )


@serial
def _solve_packed(panel: Array, base: int, coupling: Array, steps: int) -> None:
    width = lanes(panel)
    for first in range(0, steps, BLOCK):
        stop = min(first + BLOCK, steps)
        subtract_before(panel, base, first, stop, coupling)
        for k in range(first, stop):
            subtract_within(panel, base, first, k, coupling)
            divide_step(panel, base + k * width, coupling[k * PANEL + k])


@task
def solve_tile(
    t: int,
    numbers: Array,
    origin: int,
    lane: int,
    count: int,
    step: int,
    steps: int,
    coupling: Array,
    panel: Array,
    depth: int,
) -> None:
    """Finishes all steps of tile t, in the matrix and packed."""
    width = lanes(panel)
    first = t * width
    base, present = first * depth, min(width, count - first)
    at = origin + first * lane
    pack_tile(numbers, at, lane, present, step, steps, panel.dtype.type(1), panel, base)
    _solve_packed(panel, base, coupling, steps)
    unpack_tile(panel, base, numbers, at, lane, present, step, steps)


def solve_panel(
    matrix: NDArray,
    row: int,
    columns: range,
    coupling: NDArray,
    panel: NDArray,
) -> None:
    """Finishes columns by a division by the diagonal of the coupling, in the matrix and in `panel`.

    The rows are those from `row` on.
    """
    stride, count = matrix.shape[1], len(matrix) - row
    origin = row * stride + columns.start
    lines = flat(matrix), origin, stride, count, columns.step, len(columns)
    share(solve_tile, tiles_for(count, matrix.dtype), *lines, flat(coupling), panel, DEPTH)


@entry
def factor_panel(
    coupling: Array,
    steps: int,
) -> int:
    """Overwrites the upper triangle of a symmetric block H by Lᵀ, in the flat coupling.

    Returns the first pivot that is not positive and finite, left in its place; else `steps`.
    """
    width = lanes(coupling)
    for first in range(0, steps, BLOCK):
        stop = min(first + BLOCK, steps)
        for k in range(first, stop):
            row = k * PANEL
            pivot = coupling[row + k]
            if not (pivot > 0 and pivot < np.inf):
                return k
            coupling[row + k] = math.sqrt(pivot)
            for j in range(k + 1, steps):
                coupling[row + j] /= coupling[row + k]
            for i in range(k + 1, stop):
                for j in range(i, steps):
                    coupling[i * PANEL + j] -= coupling[row + j] * coupling[row + i]
        for i in range(stop, steps, ROWS):
            for j in range(i // width * width, steps, width):
                subtract_tile(
                    coupling,
                    i * PANEL + j,
                    PANEL,
                    coupling,
                    first * PANEL + j,
                    PANEL,
                    coupling,
                    first * PANEL + i,
                    PANEL,
                    stop - first,
                    None,
                )
    return steps
