"""The Hadamard transform of rows, compiled: the butterflies of `hadamard` on one row at a time."""

from __future__ import annotations

from .numba_compiler import Array, parallel, prange, serial


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


@parallel
def hadamard(
    matrix: Array,
    base: Array,
) -> Array:
    """A·(H_m ⊗ H_(2^p)): `hadamard.hadamard`."""
    result = matrix.copy()
    length = matrix.shape[1] // len(base)
    for i in prange(len(matrix)):
        _butterflies(result[i], length)
        if len(base) > 1:
            _mix_runs(result[i].copy(), length, base, result[i])
    return result
