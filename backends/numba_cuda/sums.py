"""Sums over data by `sums.tree_sum`: a block of threads folds chunks of 512, a lane for each sum.

The terms of a chunk are computed into shared memory and folded there. The chunk sums, a vector for
each lane, are folded by the same rule until one is left. Chunks are filled up to a power of two
with +0.0, and +0.0 is added at the end, on the host.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.arithmetic.sums import CHUNK, next_power_of_two
from .arithmetic import arithmetic, cuda, device_function
from .launch import (
    FLOATS,
    FOLDERS,
    LANES,
    Kernel,
    blocks_of,
    integer,
    kernel,
    kernels_for,
    new,
    types_of,
    upload,
)


def folding(dtype: Any) -> Any:
    """fold(buffer, lane, worker, workers, width): all threads together; the sum is buffer[0]."""
    add = arithmetic(dtype).add

    @device_function
    def fold(buffer: Any, lane: int, worker: int, workers: int, width: int) -> None:
        cuda.syncthreads()
        half = width // 2
        while half > 0:
            for i in range(worker, half, workers):
                buffer[i, lane] = add(buffer[i, lane], buffer[i + half, lane])
            cuda.syncthreads()
            half //= 2

    return fold


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    number, vector, matrix = types_of(dtype)
    codes = types_of(np.int32).vector
    add, sub, mul, div, sqrt, rint = arithmetic(dtype)
    fold = folding(dtype)
    zero, infinity = dtype(0), dtype(np.inf)

    def sums_of(term: Any, *types: Any) -> Kernel:
        """sums[chunk, lane] = Σ term(left, right, element of the chunk, lane)."""
        term = device_function(term)

        @kernel(matrix, *types, integer, integer)
        def sums_of_chunks(sums: Any, left: Any, right: Any, length: int, width: int) -> None:
            buffer = cuda.shared.array((CHUNK, LANES), number)
            x, y = cuda.threadIdx.x, cuda.threadIdx.y
            lane = cuda.blockIdx.x * LANES + x
            start = cuda.blockIdx.y * CHUNK
            for i in range(y, width, FOLDERS):
                inside = lane < sums.shape[1] and start + i < length
                buffer[i, x] = term(left, right, start + i, lane) if inside else zero
            fold(buffer, x, y, FOLDERS, width)
            if y == 0 and lane < sums.shape[1]:
                sums[cuda.blockIdx.y, lane] = buffer[0, x]

        return sums_of_chunks

    def in_columns(left: Any, right: Any, i: int, lane: int) -> Any:
        return mul(left[i, lane], right[i, lane])

    def in_rows(left: Any, right: Any, i: int, lane: int) -> Any:
        return mul(left[lane, i], right[lane, i])

    def alone(left: Any, right: Any, i: int, lane: int) -> Any:
        return left[i, lane]

    @kernel(matrix, matrix, vector, codes, number)
    def grid_terms(out: Any, matrix: Any, scale: Any, zeros: Any, maximum: Any) -> None:
        """d·d·√d with d = |s·(q - zero) - x|."""
        index = cuda.grid(1)
        if index < out.size:
            row, column = index // out.shape[1], index % out.shape[1]
            s, offset, x = scale[row], dtype(zeros[row]), matrix[row, column]
            level = add(rint(div(x, s)), offset)
            if abs(level) < infinity:
                if level < zero:
                    level = zero
                if level > maximum:
                    level = maximum
            d = abs(sub(mul(s, sub(level, offset)), x))
            out[row, column] = mul(mul(d, d), sqrt(d))

    def along_rows(left: Any, right: Any, i: int, lane: int) -> Any:
        return left[lane, i]

    return SimpleNamespace(
        in_columns=sums_of(in_columns, matrix, matrix),
        in_rows=sums_of(in_rows, matrix, matrix),
        alone=sums_of(alone, matrix, matrix),
        along_rows=sums_of(along_rows, matrix, matrix),
        grid_terms=grid_terms,
    )


def width_of(length: int) -> int:
    """How far the chunks of so many numbers, at least one, are filled up."""
    return min(CHUNK, next_power_of_two(length))


def fold_chunks(kind: str, left: Any, right: Any, length: int, sums: Any) -> None:
    """One level of the tree, into `sums` (chunks × lanes)."""
    chunks, lanes = sums.shape
    grid = (blocks_of(lanes, LANES), chunks)
    launch = vars(_kernels(sums.dtype))[kind]
    launch(grid, (LANES, FOLDERS), sums, left, right, length, width_of(length))


def _sums(kind: str, left: Any, right: Any, length: int, lanes: int) -> NDArray:
    zero = np.dtype(left.dtype).type(0)
    if length == 0 or lanes == 0:
        return np.zeros(lanes, left.dtype)
    sums = new((blocks_of(length, CHUNK), lanes), left.dtype)
    fold_chunks(kind, left, right, length, sums)
    while sums.shape[0] > 1:
        chunks, length = sums, sums.shape[0]
        sums = new((blocks_of(length, CHUNK), lanes), left.dtype)
        fold_chunks("alone", chunks, chunks, length, sums)
    return sums.copy_to_host()[0] + zero


def row_inner(left: Any, right: Any) -> NDArray:
    """Σ_j a_ij·b_ij for each row."""
    rows, columns = left.shape
    return _sums("in_rows", left, right, columns, rows)


def column_inner(left: Any, right: Any) -> NDArray:
    """Σ_i a_ij·b_ij for each column."""
    rows, columns = left.shape
    return _sums("in_columns", left, right, rows, columns)


def grid_error(matrix: Any, scale: NDArray, zero: NDArray[np.int32], maximum: int) -> NDArray:
    """Σ_j d·d·√d of each row on its own grid."""
    rows, columns = matrix.shape
    terms, number = new(matrix.shape, matrix.dtype), np.dtype(matrix.dtype).type
    _kernels(matrix.dtype).grid_terms.over(
        *(terms.size, terms, matrix, upload(scale)),
        *(upload(np.asarray(zero, np.int32)), number(maximum)),
    )
    return _sums("along_rows", terms, terms, columns, rows)
