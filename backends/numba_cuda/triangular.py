"""Cholesky factorisation and triangular solves, a panel of columns after the other.

In a panel each row of X has one thread for each column. Whoever's turn it is divides and tells the
others, which subtract its product. Then the finished panel is subtracted from all columns that are
still open (`numba_cuda_products`). The host only launches: a pivot that is not positive is noted on
the device and read when everything is done.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ...reference.errors import NotPositiveDefinite
from .arithmetic import arithmetic, cuda
from .launch import (
    FLOATS,
    GROUP,
    PANEL,
    blocks_of,
    integer,
    kernel,
    kernels_for,
    new,
    types_of,
    upload,
)
from .moves import convert, take
from .products import update

APART = (PANEL, PANEL + 1)  # else the numbers of a column would share a bank of the memory


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    number, vector, matrix = types_of(dtype)
    _, sub, mul, div, sqrt, _ = arithmetic(dtype)
    places = types_of(np.int64).vector
    zero, infinity = dtype(0), dtype(np.inf)

    @kernel(matrix, matrix)
    def lower_triangle(out: Any, matrix: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = matrix[i, j] if i >= j else zero

    @kernel(matrix, integer, integer, places, vector)
    def factor_block(L: Any, first: int, end: int, pivot: Any, refused: Any) -> None:
        """The diagonal block, by one block of threads; the first pivot refused is noted."""
        block = cuda.shared.array(APART, number)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        width = end - first
        for i in range(y, width, GROUP):
            if x <= i:
                block[i, x] = L[first + i, first + x]
        for k in range(width):
            if x == k and y == 0:  # who loaded this element, and alone has changed it so far
                square = block[k, k]
                if pivot[0] < 0 and not zero < square < infinity:
                    pivot[0] = first + k
                    refused[0] = square
                block[k, k] = sqrt(square)
            cuda.syncthreads()
            if y == 0 and k < x < width:
                block[x, k] = div(block[x, k], block[k, k])
            cuda.syncthreads()
            for i in range(k + 1 + y, width, GROUP):
                if k < x <= i:
                    block[i, x] = sub(block[i, x], mul(block[i, k], block[x, k]))
        cuda.syncthreads()
        for i in range(y, width, GROUP):
            if x <= i:
                L[first + i, first + x] = block[i, x]

    @kernel(matrix, matrix, *[integer] * 3)
    def solve_panel(X: Any, L: Any, first_row: int, first: int, end: int) -> None:
        triangle = cuda.shared.array(APART, number)
        solved = cuda.shared.array((GROUP, PANEL), number)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        row = first_row + cuda.blockIdx.x * GROUP + y
        width = end - first
        for j in range(y, width, GROUP):
            if x <= j:
                triangle[x, j] = L[first + j, first + x]
        inside = row < X.shape[0] and x < width
        value = X[row, first + x] if inside else zero
        cuda.syncthreads()
        for k in range(width):
            if inside and x == k:
                value = div(value, triangle[k, k])
                solved[y, k] = value
            cuda.syncthreads()
            if inside and x > k:
                value = sub(value, mul(solved[y, k], triangle[k, x]))
        if inside:
            X[row, first + x] = value

    @kernel(matrix, matrix, integer, integer)
    def solve_panel_reversed(X: Any, L: Any, first: int, end: int) -> None:
        triangle = cuda.shared.array(APART, number)
        solved = cuda.shared.array((GROUP, PANEL), number)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        row = cuda.blockIdx.x * GROUP + y
        width = end - first
        for k in range(y, width, GROUP):
            if x <= k:
                triangle[k, x] = L[first + k, first + x]
        inside = row < X.shape[0] and x < width
        value = X[row, first + x] if inside else zero
        cuda.syncthreads()
        for k in range(width - 1, -1, -1):
            if inside and x == k:
                value = div(value, triangle[k, k])
                solved[y, k] = value
            cuda.syncthreads()
            if inside and x < k:
                value = sub(value, mul(solved[y, k], triangle[k, x]))
        if inside:
            X[row, first + x] = value

    return SimpleNamespace(
        lower_triangle=lower_triangle,
        factor_block=factor_block,
        solve_panel=solve_panel,
        solve_panel_reversed=solve_panel_reversed,
    )


def panels(start: int, stop: int) -> list[range]:
    """The columns start … stop-1 in panels, ascending."""
    return [range(first, min(first + PANEL, stop)) for first in range(start, stop, PANEL)]


def cholesky(matrix: Any) -> Any:
    """The lower factor. Raises NotPositiveDefinite."""
    n, kernels = matrix.shape[0], _kernels(matrix.dtype)
    L = new(matrix.shape, matrix.dtype)
    kernels.lower_triangle.over(L.size, L, matrix)
    pivot, refused = upload(np.array([-1])), upload(np.zeros(1, matrix.dtype))
    for panel in panels(0, n):
        first, end = panel.start, panel.stop
        kernels.factor_block(1, (PANEL, GROUP), L, first, end, pivot, refused)
        below = blocks_of(n - end, GROUP)
        kernels.solve_panel(below, (PANEL, GROUP), L, L, end, first, end)
        update("subtract_lower", L, L, L, range(end, n), range(end, n), panel)
    found = int(pivot.copy_to_host()[0])
    if found >= 0:
        raise NotPositiveDefinite(found, float(refused.copy_to_host()[0]), "matrix")
    return L


def solve(target: Any, factor: Any) -> Any:
    """X with X Lᵀ = T."""
    X = convert(target, target.dtype)
    rows, n = X.shape
    kernels, blocks = _kernels(X.dtype), blocks_of(rows, GROUP)
    for panel in panels(0, n):
        first, end = panel.start, panel.stop
        kernels.solve_panel(blocks, (PANEL, GROUP), X, factor, 0, first, end)
        update("subtract_transposed", X, X, factor, range(rows), range(end, n), panel)
    return X


def solve_reversed(target: Any, factor: Any, start: int, stop: int) -> Any:
    """X with X L = T on the columns start … stop-1 alone."""
    X = convert(target, target.dtype)
    rows = X.shape[0]
    kernels, blocks = _kernels(X.dtype), blocks_of(rows, GROUP)
    for panel in reversed(panels(start, stop)):
        first, end = panel.start, panel.stop
        kernels.solve_panel_reversed(blocks, (PANEL, GROUP), X, factor, first, end)
        update("subtract_descending", X, X, factor, range(rows), range(start, first), panel)
    return X if stop - start == X.shape[1] else take(X, None, np.arange(start, stop))
