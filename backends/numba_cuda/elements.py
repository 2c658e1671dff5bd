"""What is done to each element on its own: one thread an element."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arithmetic import arithmetic, cuda
from .launch import FLOATS, kernel, kernels_for, new, types_of, upload


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    number, vector, matrix = types_of(dtype)
    add, _, mul, div, _, _ = arithmetic(dtype)
    two = dtype(2)

    @kernel(matrix, matrix, matrix)
    def multiply(out: Any, left: Any, right: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = mul(left[i, j], right[i, j])

    @kernel(matrix, number, matrix, number, matrix)
    def combine(out: Any, f: Any, left: Any, g: Any, right: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = add(mul(f, left[i, j]), mul(g, right[i, j]))

    @kernel(matrix, matrix, number)
    def divide(out: Any, matrix: Any, divisor: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = div(matrix[i, j], divisor)

    @kernel(matrix, matrix, vector)
    def scale_rows(out: Any, matrix: Any, factors: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = mul(factors[i], matrix[i, j])

    @kernel(matrix, matrix, vector)
    def scale_columns(out: Any, matrix: Any, factors: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = mul(matrix[i, j], factors[j])

    @kernel(matrix, matrix)
    def symmetrize(out: Any, matrix: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            i, j = index // out.shape[1], index % out.shape[1]
            out[i, j] = div(add(matrix[i, j], matrix[j, i]), two)

    return SimpleNamespace(
        multiply=multiply,
        combine=combine,
        divide=divide,
        scale_rows=scale_rows,
        scale_columns=scale_columns,
        symmetrize=symmetrize,
    )


def _like(matrix: Any) -> Any:
    return new(matrix.shape, matrix.dtype)


def multiply(left: Any, right: Any) -> Any:
    """a_ij·b_ij."""
    out = _like(left)
    _kernels(left.dtype).multiply.over(out.size, out, left, right)
    return out


def combine(left_factor: float, left: Any, right_factor: float, right: Any) -> Any:
    """f·a_ij + g·b_ij."""
    out, number = _like(left), np.dtype(left.dtype).type
    f, g = number(left_factor), number(right_factor)
    _kernels(left.dtype).combine.over(out.size, out, f, left, g, right)
    return out


def divide(matrix: Any, divisor: float) -> Any:
    """a_ij / d."""
    out, number = _like(matrix), np.dtype(matrix.dtype).type
    _kernels(matrix.dtype).divide.over(out.size, out, matrix, number(divisor))
    return out


def scale_rows(matrix: Any, factors: NDArray) -> Any:
    """f_i·a_ij."""
    out = _like(matrix)
    _kernels(matrix.dtype).scale_rows.over(out.size, out, matrix, upload(factors))
    return out


def scale_columns(matrix: Any, factors: NDArray) -> Any:
    """a_ij·f_j."""
    out = _like(matrix)
    _kernels(matrix.dtype).scale_columns.over(out.size, out, matrix, upload(factors))
    return out


def symmetrize(matrix: Any) -> Any:
    """(h_ij + h_ji) / 2."""
    out = _like(matrix)
    _kernels(matrix.dtype).symmetrize.over(out.size, out, matrix)
    return out
