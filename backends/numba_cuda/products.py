"""Products: each thread owns one element and walks its chain, a tile of both factors at a time.

A block of threads fetches a tile of each factor into shared memory, every thread takes the steps of
that tile in their order, and so on to the end of the chain. Steps that a ragged tile does not have
are left out and not filled with zeros, so that no -0.0 and no infinity is touched by them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cuda.device import tiles_of
from .arithmetic import arithmetic, cuda, device_function
from .launch import FLOATS, TILE, Kernel, integer, kernel, kernels_for, new, types_of, upload
from .moves import zeros

APART = (TILE, TILE + 1)  # else the numbers of a column would share a bank of the memory


def _chain(
    dtype: Any,
    *,
    subtract: bool = False,
    left_transposed: bool = False,
    right_transposed: bool = False,
    descending: bool = False,
    lower: bool = False,
    nonzero: bool = False,
) -> Kernel:
    """open_ij ← open_ij ± a_ik·b_kj for k = begin … end-1, or descending; lower: i ≥ j alone."""
    number, _, matrix = types_of(dtype)
    places = types_of(np.int64).vector
    add, sub, mul, _, _, _ = arithmetic(dtype)
    step = sub if subtract else add
    zero = dtype(0)

    @device_function
    def at(count: int, begin: int, end: int) -> int:
        return end - 1 - count if descending else begin + count

    def walk(
        open_: Any,
        left: Any,
        right: Any,
        first_row: int,
        end_row: int,
        first_column: int,
        end_column: int,
        begin: int,
        end: int,
    ) -> None:
        left_tile = cuda.shared.array(APART, number)
        right_tile = cuda.shared.array(APART, number)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        across = (end_column - first_column + TILE - 1) // TILE
        top = first_row + cuda.blockIdx.x // across * TILE
        edge = first_column + cuda.blockIdx.x % across * TILE
        i, j = top + y, edge + x
        if lower and top + TILE <= edge:
            return
        inside = i < end_row and j < end_column and (i >= j or not lower)
        value = open_[i, j] if inside else zero
        for done in range(0, end - begin, TILE):
            steps = min(TILE, end - begin - done)
            # Neighbouring threads (x) fetch what is neighbouring in memory.
            if left_transposed:
                if y < steps and top + x < end_row:
                    left_tile[x, y] = left[at(done + y, begin, end), top + x]
            elif x < steps and i < end_row:
                left_tile[y, x] = left[i, at(done + x, begin, end)]
            if right_transposed:
                if x < steps and edge + y < end_column:
                    right_tile[x, y] = right[edge + y, at(done + x, begin, end)]
            elif y < steps and j < end_column:
                right_tile[y, x] = right[at(done + y, begin, end), j]
            cuda.syncthreads()
            if inside:
                for k in range(steps):
                    value = step(value, mul(left_tile[y, k], right_tile[k, x]))
            cuda.syncthreads()
        if inside:
            open_[i, j] = value

    if not nonzero:
        return kernel(matrix, matrix, matrix, *[integer] * 6)(walk)
    walk_steps = device_function(walk)

    @kernel(matrix, matrix, matrix, *[integer] * 6, places, places, places)
    def walk_nonzero(
        open_: Any,
        left: Any,
        right: Any,
        first_row: int,
        end_row: int,
        first_column: int,
        end_column: int,
        begin: int,
        end: int,
        first_step: Any,
        end_step: Any,
        finite: Any,
    ) -> None:
        """Without the steps at which all columns of the tile are zeros; `left` must be finite."""
        across = (end_column - first_column + TILE - 1) // TILE
        edge = first_column + cuda.blockIdx.x % across * TILE
        if finite[0]:
            least, most = end, begin
            for j in range(edge, min(edge + TILE, end_column)):
                least, most = min(least, first_step[j]), max(most, end_step[j])
            begin, end = least, most
        walk_steps(open_, left, right, first_row, end_row, first_column, end_column, begin, end)

    return walk_nonzero


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    _, vector, matrix = types_of(dtype)
    add, _, mul, _, _, _ = arithmetic(dtype)
    places, zero, infinity = types_of(np.int64).vector, dtype(0), dtype(np.inf)

    @kernel(matrix, matrix, matrix, vector)
    def accumulate_weighted(total: Any, left: Any, right: Any, weights: Any) -> None:
        across = (total.shape[1] + TILE - 1) // TILE
        j = cuda.blockIdx.x % across * TILE + cuda.threadIdx.x
        i = cuda.blockIdx.x // across * TILE + cuda.threadIdx.y
        if i < total.shape[0] and j < total.shape[1]:
            value = total[i, j]
            for t in range(left.shape[0]):
                value = add(value, mul(weights[t], mul(left[t, i], right[t, j])))
            total[i, j] = value

    @kernel(places, places, matrix)
    def nonzero_steps(first_step: Any, end_step: Any, matrix: Any) -> None:
        """In each column, the first row that is not zero and the one after the last."""
        j = cuda.grid(1)
        if j < matrix.shape[1]:
            first, end = 0, matrix.shape[0]
            while first < end and matrix[first, j] == zero:
                first += 1
            while end > first and matrix[end - 1, j] == zero:
                end -= 1
            first_step[j], end_step[j] = first, end

    @kernel(places, matrix)
    def all_finite(finite: Any, matrix: Any) -> None:
        """finite[0] becomes 0 if an element is a NaN or an infinity."""
        index = cuda.grid(1)
        if index < matrix.size:
            i, j = index // matrix.shape[1], index % matrix.shape[1]
            if not abs(matrix[i, j]) < infinity:
                cuda.atomic.min(finite, 0, 0)

    return SimpleNamespace(
        accumulate_weighted=accumulate_weighted,
        nonzero_steps=nonzero_steps,
        all_finite=all_finite,
        add_nonzero=_chain(dtype, nonzero=True),
        add_transposed=_chain(dtype, left_transposed=True),
        subtract_lower=_chain(dtype, subtract=True, right_transposed=True, lower=True),
        subtract_transposed=_chain(dtype, subtract=True, right_transposed=True),
        subtract_descending=_chain(dtype, subtract=True, descending=True),
    )


def update(
    kind: str, open_: Any, left: Any, right: Any, rows: range, columns: range, steps: range
) -> None:
    """Walks the chains of these rows and columns, in place.

    Args:
        kind: "add_transposed" (left is k×i), "subtract_transposed" (right is j×k),
            "subtract_lower" (the same, for i ≥ j alone) or "subtract_descending" (k descending).
    """
    if len(steps) > 0:
        chain = vars(_kernels(open_.dtype))[kind]
        grid = tiles_of(len(rows), len(columns), TILE)
        bounds = (rows.start, rows.stop, columns.start, columns.stop, steps.start, steps.stop)
        chain(grid, (TILE, TILE), open_, left, right, *bounds)


def matmul(left: Any, right: Any) -> Any:
    """A B; of a triangular B the zero half is left out, where A is finite.

    Such steps add zeros to chains that begin at +0.0, which changes no bit.
    """
    (rows, depth), columns = left.shape, right.shape[1]
    product, kernels = zeros(rows, columns, left.dtype), _kernels(left.dtype)
    first_step, end_step = new(columns, np.int64), new(columns, np.int64)
    finite = upload(np.ones(1, np.int64))
    kernels.nonzero_steps.over(columns, first_step, end_step, right)
    kernels.all_finite.over(left.size, finite, left)
    kernels.add_nonzero(
        *(tiles_of(rows, columns, TILE), (TILE, TILE), product, left, right),
        *(0, rows, 0, columns, 0, depth, first_step, end_step, finite),
    )
    return product


def matmul_transposed(left: Any, right: Any) -> Any:
    """Aᵀ B."""
    product = zeros(left.shape[1], right.shape[1], left.dtype)
    accumulate(product, left, right, None)
    return product


def accumulate(total: Any, left: Any, right: Any, weights: NDArray | None) -> None:
    """total_ij ← total_ij + w_t·(x_ti·y_tj), in place."""
    rows, columns = total.shape
    if weights is None:
        extents = (range(rows), range(columns), range(left.shape[0]))
        update("add_transposed", total, left, right, *extents)
    elif left.shape[0] > 0:
        grid = tiles_of(rows, columns, TILE)
        _kernels(total.dtype).accumulate_weighted(
            grid, (TILE, TILE), total, left, right, upload(np.asarray(weights, total.dtype))
        )
