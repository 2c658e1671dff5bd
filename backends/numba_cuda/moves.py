"""What only moves numbers, or rounds them to another dtype: one thread an element."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .arithmetic import cuda
from .launch import NUMBERS, kernel, kernels_for, new, types_of, upload


@kernels_for(*NUMBERS)
def _kernels(dtype: Any) -> SimpleNamespace:
    _, vector, matrix = types_of(dtype)
    indices = types_of(np.int64).vector
    zero = dtype(0)

    @kernel(matrix)
    def clear(out: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            out[index // out.shape[1], index % out.shape[1]] = zero

    @kernel(matrix, matrix)
    def transpose(out: Any, matrix: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = matrix[j, i]

    @kernel(matrix, matrix, indices, indices)
    def gather(out: Any, matrix: Any, rows: Any, columns: Any) -> None:
        """Column -1 stands for zeros."""
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            if columns[j] < 0:
                out[i, j] = zero
            else:
                out[i, j] = matrix[rows[i], columns[j]]

    @kernel(vector, matrix)
    def read_diagonal(out: Any, matrix: Any) -> None:
        i = cuda.grid(1)
        if i < out.size:
            out[i] = matrix[i, i]

    @kernel(matrix, vector)
    def write_diagonal(out: Any, diagonal: Any) -> None:
        i = cuda.grid(1)
        if i < diagonal.size:
            out[i, i] = diagonal[i]

    def conversion(target: Any) -> Any:
        @kernel(types_of(target).matrix, matrix)
        def convert(out: Any, matrix: Any) -> None:
            index = cuda.grid(1)
            if index < out.size:
                i, j = index // out.shape[1], index % out.shape[1]
                out[i, j] = target(matrix[i, j])

        return convert

    return SimpleNamespace(
        clear=clear,
        transpose=transpose,
        gather=gather,
        read_diagonal=read_diagonal,
        write_diagonal=write_diagonal,
        to_float64=conversion(np.float64),
        to_float32=conversion(np.float32),
        to_int32=conversion(np.int32),
    )


def zeros(rows: int, columns: int, dtype: DTypeLike) -> Any:
    """A matrix of zeros."""
    out = new((rows, columns), dtype)
    _kernels(dtype).clear.over(out.size, out)
    return out


def convert(matrix: Any, dtype: DTypeLike) -> Any:
    """A copy in another dtype, or in its own."""
    out = new(matrix.shape, dtype)
    kernels = vars(_kernels(matrix.dtype))
    kernels[f"to_{np.dtype(dtype).name}"].over(out.size, out, matrix)
    return out


def transpose(matrix: Any) -> Any:
    """Aᵀ."""
    rows, columns = matrix.shape
    out = new((columns, rows), matrix.dtype)
    _kernels(matrix.dtype).transpose.over(out.size, out, matrix)
    return out


def take(matrix: Any, rows: NDArray | None, columns: NDArray | None) -> Any:
    """These rows and columns, in this order."""
    height, width = (np.arange(count) for count in matrix.shape)
    return _gather(
        matrix,
        height if rows is None else height[rows],
        width if columns is None else width[columns],
    )


def scatter_columns(matrix: Any, columns: NDArray[np.int64], total: int) -> Any:
    """Column j at columns[j], zeros elsewhere."""
    source = np.full(total, -1)
    source[columns] = np.arange(len(columns))
    return _gather(matrix, np.arange(matrix.shape[0]), source)


def _gather(matrix: Any, rows: NDArray, columns: NDArray) -> Any:
    out = new((len(rows), len(columns)), matrix.dtype)
    indices = (upload(rows.astype(np.int64)), upload(columns.astype(np.int64)))
    _kernels(matrix.dtype).gather.over(out.size, out, matrix, *indices)
    return out


def diagonal(matrix: Any) -> NDArray:
    """The diagonal, on the host."""
    out = new(min(matrix.shape), matrix.dtype)
    _kernels(matrix.dtype).read_diagonal.over(out.size, out, matrix)
    return out.copy_to_host()


def with_diagonal(matrix: Any, diagonal: NDArray) -> Any:
    """A copy with another diagonal."""
    out = convert(matrix, matrix.dtype)
    values = upload(np.asarray(diagonal, matrix.dtype))
    _kernels(matrix.dtype).write_diagonal.over(values.size, out, values)
    return out
