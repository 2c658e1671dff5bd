"""Hadamard transforms: a launch for each distance of butterflies, then one for the base."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arithmetic import arithmetic, cuda
from .launch import FLOATS, integer, kernel, kernels_for, new, types_of, upload
from .moves import convert


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    _, _, matrix = types_of(dtype)
    signs = types_of(np.int8).matrix
    add, sub, _, _, _, _ = arithmetic(dtype)
    zero = dtype(0)

    @kernel(matrix, integer)
    def butterflies(mixed: Any, distance: int) -> None:
        """(x, y) → (x + y, x - y), one thread a pair."""
        index = cuda.grid(1)
        if index < mixed.size // 2:
            row, pair = index // (mixed.shape[1] // 2), index % (mixed.shape[1] // 2)
            first = pair // distance * 2 * distance + pair % distance
            x, y = mixed[row, first], mixed[row, first + distance]
            mixed[row, first], mixed[row, first + distance] = add(x, y), sub(x, y)

    @kernel(matrix, matrix, signs)
    def apply_base(out: Any, mixed: Any, base: Any) -> None:
        index = cuda.grid(1)
        if index < out.size:
            row, column = index // out.shape[1], index % out.shape[1]
            run = out.shape[1] // base.shape[0]
            j, place = column // run, column % run
            value = zero
            for k in range(base.shape[0]):
                x = mixed[row, k * run + place]
                value = add(value, x) if base[k, j] > 0 else sub(value, x)
            out[row, column] = value

    return SimpleNamespace(butterflies=butterflies, apply_base=apply_base)


def hadamard(matrix: Any, base: NDArray[np.int8]) -> Any:
    """A·(H_m ⊗ H_(2^p)), without the factor 1/√n."""
    kernels, mixed = _kernels(matrix.dtype), convert(matrix, matrix.dtype)
    run, distance = matrix.shape[1] // len(base), 1
    while distance < run:
        kernels.butterflies.over(mixed.size // 2, mixed, distance)
        distance *= 2
    if len(base) == 1:
        return mixed
    based = new(mixed.shape, mixed.dtype)
    kernels.apply_base.over(based.size, based, mixed, upload(np.asarray(base, np.int8)))
    return based
