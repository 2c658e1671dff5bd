"""Cholesky factorisation and triangular solves, a panel of columns after the other.

Each panel is finished on its own (`numba_panels`), then its products are subtracted from all
columns that are still open, in one update shared among the threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..reference.errors import NotPositiveDefinite
from .numba_compiler import Array, parallel, prange, serial
from .numba_packing import (
    pack_columns,
    pack_rows,
    packed_buffer,
    tiles_for,
    unpack_rows,
)
from .numba_panels import DEPTH, PANEL, coupling_block, factor_panel, solve_panel
from .numba_tiles import ROWS, tile_lanes
from .numba_updates import update, whole_extents


@parallel
def lower_triangle(
    matrix: Array,
) -> Array:
    """A copy with zeros above the diagonal."""
    lower = np.empty_like(matrix)
    for i in prange(len(matrix)):
        lower[i, : i + 1] = matrix[i, : i + 1]
        lower[i, i + 1 :] = 0
    return lower


@serial
def clear_above(
    matrix: Array,
    columns: int,
) -> None:
    """Zeros in the first `columns` columns right of the diagonal."""
    for i in range(len(matrix)):
        matrix[i, i + 1 : i + 1 + columns] = 0


def cholesky(matrix: NDArray) -> NDArray:
    """The lower factor: `triangular.cholesky`. Raises NotPositiveDefinite."""
    n, dtype = len(matrix), matrix.dtype
    L = lower_triangle(matrix)
    one = dtype.type(1)
    panel = packed_buffer(n, DEPTH, dtype)
    for first in range(0, n, PANEL):
        stop = min(first + PANEL, n)
        steps, tiles = stop - first, tiles_for(n - stop, dtype)
        coupling = coupling_block(L[first:stop, first:stop].T)
        pivot = factor_panel(coupling, steps)
        if pivot < steps:
            raise NotPositiveDefinite(first + pivot, float(coupling[pivot, pivot]), "matrix")
        L[first:stop, first:stop] = coupling[:steps, :steps].T
        if stop < n:
            pack_rows(L, first, 1, steps, stop, n, one, panel, DEPTH)
            solve_panel(panel, coupling, steps, tiles)
            unpack_rows(panel, DEPTH, L, first, 1, steps, stop, n)
            extents = whole_extents(tiles, steps)
            update(
                *(L, stop, n, stop, n),
                *(panel, extents, panel, extents, DEPTH, None, True),
            )
    clear_above(L, tile_lanes(dtype) + ROWS)  # where tiles of the update reached over
    return L


def solve(target: NDArray, factor: NDArray) -> NDArray:
    """X with X Lᵀ = T: `triangular.solve`."""
    X, dtype = target.copy(), target.dtype
    rows, n = X.shape
    one = dtype.type(1)
    tiles = tiles_for(rows, dtype)
    panel, packed = packed_buffer(rows, DEPTH, dtype), packed_buffer(n, DEPTH, dtype)
    for first in range(0, n if rows else 0, PANEL):
        stop = min(first + PANEL, n)
        steps = stop - first
        pack_rows(X, first, 1, steps, 0, rows, one, panel, DEPTH)
        solve_panel(panel, coupling_block(factor[first:stop, first:stop].T), steps, tiles)
        unpack_rows(panel, DEPTH, X, first, 1, steps, 0, rows)
        if stop < n:
            pack_rows(factor, first, 1, steps, stop, n, one, packed, DEPTH)
            update(
                *(X, 0, rows, stop, n, panel, whole_extents(tiles, steps)),
                *(packed, whole_extents(tiles_for(n - stop, dtype), steps), DEPTH, None, False),
            )
    return X


def solve_reversed(target: NDArray, factor: NDArray, start: int, stop: int) -> NDArray:
    """X with X L = T on the columns start … stop-1: `triangular.solve_reversed`."""
    X = np.array(target[:, start:stop], order="C")
    dtype, (rows, n) = X.dtype, X.shape
    one = dtype.type(1)
    tiles = tiles_for(rows, dtype)
    panel, packed = packed_buffer(rows, DEPTH, dtype), packed_buffer(n, DEPTH, dtype)
    for end in range(n if rows else 0, 0, -PANEL):
        first = max(end - PANEL, 0)
        steps = end - first
        block = factor[start + first : start + end, start + first : start + end]
        pack_rows(X, end - 1, -1, steps, 0, rows, one, panel, DEPTH)
        solve_panel(panel, coupling_block(block[::-1, ::-1]), steps, tiles)
        unpack_rows(panel, DEPTH, X, end - 1, -1, steps, 0, rows)
        if first > 0:
            pack_columns(
                factor, start + end - 1, -1, steps, start, start + first, one, packed, DEPTH
            )
            update(
                *(X, 0, rows, 0, first, panel, whole_extents(tiles, steps)),
                *(packed, whole_extents(tiles_for(first, dtype), steps), DEPTH, None, False),
            )
    return X
