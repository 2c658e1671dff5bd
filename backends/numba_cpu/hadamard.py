"""The Hadamard transform of rows, compiled: the butterflies of `hadamard` on one row at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiler import Array, serial, task
from .threads import ROWS_OF_TASK, share


@serial
def _butterflies(
    row: Array,
    length: int,
) -> None:
    """Inside of each run of `length` neighbours, with distance 1, 2, 4, …"""
    distance = 1
    while distance < length:
        for first in range(0, len(row), 2 * distance):
            for i in range(first, first + distance):
                x, y = row[i], row[i + distance]
                row[i] = x + y
                row[i + distance] = x - y
        distance *= 2


@serial
def _mix_runs(
    row: Array,
    length: int,
    base: Array,
    mixed: Array,
) -> None:
    """Plus or minus one run of `length` neighbours after the other, from +0.0 on."""
    mixed[:] = 0
    for j in range(len(base)):
        for k in range(len(base)):
            positive = base[k, j] > 0
            for i in range(length):
                x = row[k * length + i]
                mixed[j * length + i] += x if positive else -x


@task
def mix_rows(
    block: int,
    matrix: Array,
    length: int,
    base: Array,
    buffers: Array,
) -> None:
    """Some rows, which share a buffer, in place."""
    for i in range(block * ROWS_OF_TASK, min(len(matrix), (block + 1) * ROWS_OF_TASK)):
        row = matrix[i]
        _butterflies(row, length)
        if len(base) > 1:
            unmixed = buffers[block]
            unmixed[:] = row
            _mix_runs(unmixed, length, base, row)


def hadamard(matrix: NDArray, base: NDArray[np.int8]) -> NDArray:
    """A·(H_m ⊗ H_(2^p)): `hadamard.hadamard`."""
    mixed, (rows, n) = matrix.copy(), matrix.shape
    blocks = -(-rows // ROWS_OF_TASK)
    share(mix_rows, blocks, mixed, n // len(base), base, np.empty((blocks, n), matrix.dtype))
    return mixed
