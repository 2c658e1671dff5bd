"""Cholesky factorisation and triangular solves, a panel of columns after the other.

Each panel is finished on its own (`panels`), then its products are subtracted from all
columns that are still open, in one update shared among the threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import NotPositiveDefinite
from .packing import flat, pack_columns, pack_rows, packed_buffer, tiles_for
from .panels import DEPTH, PANEL, coupling_block, factor_panel, solve_panel
from .tiles import ROWS, tile_lanes
from .updates import update, whole_extents


def _lower_triangle(matrix: NDArray) -> NDArray:
    lower = np.zeros_like(matrix)
    for i in range(len(matrix)):
        lower[i, : i + 1] = matrix[i, : i + 1]
    return lower


def cholesky(matrix: NDArray) -> NDArray:
    """The lower factor: `triangular.cholesky`. Raises NotPositiveDefinite."""
    n, dtype = len(matrix), matrix.dtype
    L = _lower_triangle(matrix)
    panel = packed_buffer(n, DEPTH, dtype)
    for first in range(0, n, PANEL):
        stop = min(first + PANEL, n)
        steps, tiles = stop - first, tiles_for(n - stop, dtype)
        coupling = coupling_block(L[first:stop, first:stop].T)
        pivot = factor_panel(flat(coupling), steps)
        if pivot < steps:
            raise NotPositiveDefinite(first + pivot, float(coupling[pivot, pivot]), "matrix")
        L[first:stop, first:stop] = coupling[:steps, :steps].T
        if stop < n:
            solve_panel(L, stop, range(first, stop), coupling, panel)
            extents = whole_extents(tiles, steps)
            update(
                *(L, range(stop, n), range(stop, n)),
                *(panel, extents, panel, extents, DEPTH),
                lower=True,
            )
    reach = tile_lanes(dtype) + ROWS  # of a tile of the update across the diagonal
    for i in range(n):
        L[i, i + 1 : i + reach] = 0
    return L


def solve(target: NDArray, factor: NDArray) -> NDArray:
    """X with X Lᵀ = T: `triangular.solve`."""
    X, dtype = target.copy(), target.dtype
    rows, n = X.shape
    tiles = tiles_for(rows, dtype)
    panel, packed = packed_buffer(rows, DEPTH, dtype), packed_buffer(n, DEPTH, dtype)
    for first in range(0, n if rows else 0, PANEL):
        stop = min(first + PANEL, n)
        steps = stop - first
        coupling = coupling_block(factor[first:stop, first:stop].T)
        solve_panel(X, 0, range(first, stop), coupling, panel)
        if stop < n:
            pack_rows(factor, range(first, stop), range(stop, n), packed, DEPTH)
            update(
                *(X, range(rows), range(stop, n), panel, whole_extents(tiles, steps)),
                *(packed, whole_extents(tiles_for(n - stop, dtype), steps), DEPTH),
            )
    return X


def solve_reversed(target: NDArray, factor: NDArray, start: int, stop: int) -> NDArray:
    """X with X L = T on the columns start … stop-1: `triangular.solve_reversed`."""
    X = np.array(target[:, start:stop], order="C")
    L = np.ascontiguousarray(factor[start:stop, start:stop])
    dtype, (rows, n) = X.dtype, X.shape
    tiles = tiles_for(rows, dtype)
    panel, packed = packed_buffer(rows, DEPTH, dtype), packed_buffer(n, DEPTH, dtype)
    for end in range(n if rows else 0, 0, -PANEL):
        first = max(end - PANEL, 0)
        steps = end - first
        descending = range(end - 1, first - 1, -1)
        coupling = coupling_block(L[first:end, first:end][::-1, ::-1])
        solve_panel(X, 0, descending, coupling, panel)
        if first > 0:
            pack_columns(L, descending, range(first), packed, DEPTH)
            update(
                *(X, range(rows), range(first), panel, whole_extents(tiles, steps)),
                *(packed, whole_extents(tiles_for(first, dtype), steps), DEPTH),
            )
    return X
