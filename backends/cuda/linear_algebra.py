"""Products, factorisation and solves on a device: which kernel runs on which part of a matrix.

All is right-looking. A panel of 32 columns is finished row by row, then one product takes what it
contributes off every column that is still open. An element loses its terms panel after panel and
inside a panel one after the other, which is the chain of the contract. The host enqueues and never
waits; that a pivot failed is found in a note of the device at the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import NotPositiveDefinite
from .device import (
    NULL,
    PANEL,
    PANEL_ROWS,
    TILE,
    DeviceArray,
    Pointer,
    Session,
    blocks,
    tiles_of,
)


def ascending(count: int) -> list[tuple[int, int]]:
    """0 … count-1 cut into panels (first, end)."""
    return [(first, min(first + PANEL, count)) for first in range(0, count, PANEL)]


def descending(start: int, stop: int, width: int = PANEL) -> list[tuple[int, int]]:
    """start … stop-1 cut into panels (first, end), the last one first."""
    return [(max(start, end - width), end) for end in range(stop, start, -width)]


def tiles(rows: int, columns: int) -> tuple[int]:
    """The grid of a product, one tile after the other."""
    return (tiles_of(rows, columns, TILE),)


def add_products(
    session: Session,
    total: DeviceArray,
    left: DeviceArray,
    right: DeviceArray,
    transposed: bool,
    weights: NDArray | None = None,
    zeros: tuple[DeviceArray | Pointer, ...] = (NULL, NULL, NULL),
) -> None:
    """total ← total + A B, or + Aᵀ diag(w) B, in place.

    Args:
        zeros: where without weights steps may be left out, from `matmul`.
    """
    rows, columns = total.shape
    depth = right.shape[0]
    row, step = (1, rows) if transposed else (depth, 1)
    operands = (total, columns, left, row, step, right, 1, columns, rows, columns, depth)
    grid = tiles(rows, columns)
    if weights is None:
        session.run("add_products", total.dtype, grid, *operands, *zeros)
    else:
        w = session.upload(weights, total.dtype)
        session.run("add_weighted_products", total.dtype, grid, *operands, w)


def matmul(session: Session, left: DeviceArray, right: DeviceArray) -> DeviceArray:
    """A B; of a triangular B the zero half is left out, where A is finite."""
    (rows, depth), columns, dtype = left.shape, right.shape[1], left.dtype
    product = session.zeros((rows, columns), dtype)
    nonfinite = session.empty((rows,), np.int64)
    begin, end = (session.empty((blocks(columns, TILE),), np.int64) for _ in range(2))
    session.run("first_nonfinite", dtype, (rows,), nonfinite, left, depth)
    session.run("nonzero_steps", dtype, begin.shape, begin, end, right, depth, columns)
    add_products(session, product, left, right, False, zeros=(begin, end, nonfinite))
    return product


def cholesky(session: Session, matrix: DeviceArray) -> DeviceArray:
    """The lower Cholesky factor; raises NotPositiveDefinite."""
    n, dtype = matrix.shape[0], matrix.dtype
    L = session.empty((n, n), dtype)
    session.run_elements("lower_triangle", dtype, n * n, L, matrix, n)
    pivot = session.upload(np.array([-1]), np.int64)
    value = session.zeros((1,), dtype)
    for first, end in ascending(n):
        width, below = end - first, n - end
        session.run("factor_block", dtype, (1,), L.at(first, first), n, width, first, pivot, value)
        session.run(
            "solve_panel", dtype, (blocks(below, PANEL_ROWS),),
            L.at(end, first), n, 1, L.at(first, first), n, 1, below, width,
        )  # fmt: skip
        done = L.at(end, first)
        session.run(
            "subtract_products", dtype, tiles(below, below),
            L.at(end, end), n, done, n, 1, done, n, 1, below, below, width, 1,
        )  # fmt: skip
    failed = int(session.download(pivot)[0])
    if failed >= 0:
        raise NotPositiveDefinite(failed, float(session.download(value)[0]), "matrix")
    return L


def solve(session: Session, target: DeviceArray, factor: DeviceArray) -> None:
    """X with X Lᵀ = T, in place of T."""
    (rows, n), dtype = target.shape, target.dtype
    for first, end in ascending(n):
        width, open_ = end - first, n - end
        session.run(
            "solve_panel", dtype, (blocks(rows, PANEL_ROWS),),
            target.at(0, first), n, 1, factor.at(first, first), n, 1, rows, width,
        )  # fmt: skip
        session.run(
            "subtract_products", dtype, tiles(rows, open_),
            target.at(0, end), n, target.at(0, first), n, 1, factor.at(end, first), n, 1,
            rows, open_, width, 0,
        )  # fmt: skip


def solve_reversed(session: Session, target: DeviceArray, factor: DeviceArray, start: int) -> None:
    """X with X L = T in place of T, whose columns are those of L from `start` on."""
    (rows, width), n, dtype = target.shape, factor.shape[1], target.dtype
    for first, end in descending(0, width):
        last = factor.at(start + end - 1, start + end - 1)
        session.run(
            "solve_panel", dtype, (blocks(rows, PANEL_ROWS),),
            target.at(0, end - 1), width, -1, last, -1, -n, rows, end - first,
        )  # fmt: skip
        cancel(session, target, first, end, factor.at(start + end - 1, start), n)


def cancel(
    session: Session,
    target: DeviceArray,
    first: int,
    end: int,
    factor_row: Pointer,
    n: int,
    low: int = 0,
) -> None:
    """Take the columns end-1 … first, in this order, off the columns `low` … first-1.

    Args:
        factor_row: where the row of L that belongs to column end-1 has column `low`. n: the length
            of a row.
    """
    rows, columns = target.shape
    session.run(
        "subtract_products", target.dtype, tiles(rows, first - low),
        target.at(0, low), columns, target.at(0, end - 1), columns, -1, factor_row, 1, -n,
        rows, first - low, end - first, 0,
    )  # fmt: skip
