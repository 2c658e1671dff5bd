"""How is a vector multiplied by a Hadamard matrix with additions and subtractions alone?

H_(2^p) comes from Sylvester's construction H_2n = (H_n H_n; H_n -H_n), so that x H_(2^p) needs only
p rounds of *butterflies* (x, y) → (x + y, x - y), and x (H_m ⊗ H_(2^p)) afterwards m sums of ± m
runs. Which matrices H_m there are is the subject of `bases.hadamard`.

The bits: butterflies with distance 1, 2, 4, … inside each run of 2^p neighbours; then, for m > 1,
the base: +0.0, then plus or minus one run after the other in index order.

Worked example: (1 2 3 4) H_4 by butterflies: (3 -1 7 -1), then (10 -2 -4 0).

>>> import numpy as np
>>> one = np.ones((1, 1), np.int8)
>>> hadamard(np.array([[1.0, 2.0, 3.0, 4.0]]), one)
array([[10., -2., -4.,  0.]])

Exercise: apply it twice; what comes out, and why? (Check: n·x, because H_4 is symmetric.)

>>> hadamard(hadamard(np.array([[1.0, 2.0, 3.0, 4.0]]), one), one)
array([[ 4.,  8., 12., 16.]])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def hadamard(matrix: NDArray, base: NDArray[np.int8]) -> NDArray:
    """A·(H_m ⊗ H_(2^p)) without the factor 1/√n.

    Args:
        matrix: A, a×n with n = m·2^p, float64 or float32. base: H_m, m×m entries ±1.

    Returns:
        a×n, the same dtype. Exactness: bits.
    """
    rows, n = matrix.shape
    m = len(base)
    mixed = matrix.reshape(rows, m, n // m).copy()
    distance = 1
    while distance < n // m:
        pairs = mixed.reshape(rows, -1, 2, distance)
        x, y = pairs[:, :, 0].copy(), pairs[:, :, 1].copy()
        pairs[:, :, 0], pairs[:, :, 1] = x + y, x - y
        distance *= 2
    if m == 1:
        return mixed.reshape(rows, n)
    based = np.zeros_like(mixed)
    for k in range(m):
        for j in range(m):
            based[:, j] += mixed[:, k] if base[k, j] > 0 else -mixed[:, k]
    return based.reshape(rows, n)
