"""What is looked for in a matrix: one thread walks along each row, the host looks at the n results.

As in NumPy a NaN is the least and the largest of all numbers, and of equals the first counts.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arithmetic import arithmetic, cuda
from .launch import FLOATS, integer, kernel, kernels_for, new, types_of


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    _, vector, matrix = types_of(dtype)
    _, sub, _, _, _, _ = arithmetic(dtype)
    places = types_of(np.int64).vector
    infinity = dtype(np.inf)

    @kernel(places, matrix)
    def nonfinite(found: Any, matrix: Any) -> None:
        i = cuda.grid(1)
        if i < matrix.shape[0]:
            found[i] = -1
            for j in range(matrix.shape[1]):
                if not abs(matrix[i, j]) < infinity:
                    found[i] = j
                    break

    @kernel(vector, places, matrix)
    def asymmetry(greatest: Any, place: Any, matrix: Any) -> None:
        i = cuda.grid(1)
        if i < matrix.shape[0]:
            best, where = abs(sub(matrix[i, 0], matrix[0, i])), 0
            for j in range(1, matrix.shape[1]):
                difference = abs(sub(matrix[i, j], matrix[j, i]))
                if best == best and not difference <= best:
                    best, where = difference, j
            greatest[i], place[i] = best, where

    @kernel(vector, matrix)
    def magnitude(greatest: Any, matrix: Any) -> None:
        i = cuda.grid(1)
        if i < matrix.shape[0]:
            best = abs(matrix[i, 0])
            for j in range(1, matrix.shape[1]):
                if best == best and not abs(matrix[i, j]) <= best:
                    best = abs(matrix[i, j])
            greatest[i] = best

    @kernel(vector, vector, matrix, integer, integer)
    def extrema(least: Any, greatest: Any, matrix: Any, start: int, stop: int) -> None:
        i = cuda.grid(1)
        if i < matrix.shape[0]:
            low = high = matrix[i, start]
            for j in range(start + 1, stop):
                value = matrix[i, j]
                if low == low and not value >= low:
                    low = value
                if high == high and not value <= high:
                    high = value
            least[i], greatest[i] = low, high

    return SimpleNamespace(
        nonfinite=nonfinite, asymmetry=asymmetry, magnitude=magnitude, extrema=extrema
    )


def find_nonfinite(matrix: Any) -> tuple[int, int, float] | None:
    """The first NaN or infinity in row-major order."""
    found = new(matrix.shape[0], np.int64)
    _kernels(matrix.dtype).nonfinite.over(found.size, found, matrix)
    columns = found.copy_to_host()
    rows = np.flatnonzero(columns >= 0)
    if len(rows) == 0:
        return None
    row, column = int(rows[0]), int(columns[rows[0]])
    return row, column, float(matrix[row, column])


def find_asymmetry(matrix: Any) -> tuple[int, int, float]:
    """Where |h_ij - h_ji| is largest."""
    rows = matrix.shape[0]
    greatest, place = new(rows, matrix.dtype), new(rows, np.int64)
    _kernels(matrix.dtype).asymmetry.over(rows, greatest, place, matrix)
    values = greatest.copy_to_host()
    row = int(np.argmax(values))
    return row, int(place.copy_to_host()[row]), float(values[row])


def largest_magnitude(matrix: Any) -> float:
    """max |a_ij|."""
    greatest = new(matrix.shape[0], matrix.dtype)
    _kernels(matrix.dtype).magnitude.over(greatest.size, greatest, matrix)
    return float(np.max(greatest.copy_to_host()))


def row_extrema(matrix: Any, start: int, stop: int) -> tuple[NDArray, NDArray]:
    """Least and largest value of each row; a zero is +0.0."""
    rows, zero = matrix.shape[0], np.dtype(matrix.dtype).type(0)
    least, greatest = new(rows, matrix.dtype), new(rows, matrix.dtype)
    _kernels(matrix.dtype).extrema.over(rows, least, greatest, matrix, start, stop)
    return least.copy_to_host() + zero, greatest.copy_to_host() + zero
