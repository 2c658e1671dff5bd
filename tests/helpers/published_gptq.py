"""GPTQ as it is published: the loop in float32 with an inverse factor and lazy blocks.

Written from the description of the algorithm (Frantar et al., 2023): T is the upper factor of H⁻¹;
within a block of columns each one is rounded and its error err = (w - ŵ)/T_jj taken from the later
ones by w ← w - err·T_j; beyond the block the weights are updated when it ends. A group's symmetric
grid comes from the weights as they stand when its first column's turn comes *outside* the block.
LAPACK and BLAS in float32; nothing is shared with the package.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[np.float32]


def symmetric_scale(x: Array, bits: int) -> Array:
    """One for each row: (xmax - xmin)/(2ᵇ - 1), symmetric where the range has both signs."""
    low, high = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    high = np.maximum(-low, high)
    low = np.where(low < 0, -high, low)
    empty = (low == 0) & (high == 0)
    low, high = np.where(empty, -1, low), np.where(empty, 1, high)
    return ((high - low) / np.float32(2**bits - 1)).astype(np.float32)


def published_gptq(
    weight: NDArray,
    covariance: NDArray,
    bits: int,
    group_size: int,
    block_size: int = 128,
    damping: float = 0.01,
) -> tuple[Array, NDArray[np.int32]]:
    """(scales, a×groups; codes, a×n) for Σ without dead features; n is a multiple of the group."""
    W = weight.astype(np.float32)
    n = W.shape[1]
    H = covariance.astype(np.float32)
    H[np.diag_indices(n)] += np.float32(damping) * np.diag(H).mean()
    L = scipy.linalg.cholesky(H, lower=True)
    inverse = scipy.linalg.cho_solve((L, True), np.eye(n, dtype=np.float32))
    T = scipy.linalg.cholesky(inverse, lower=False)
    scales = np.empty((len(W), n // group_size), np.float32)
    codes = np.empty(W.shape, np.int32)
    half = 2 ** (bits - 1)
    for start in range(0, n, block_size):
        stop = min(start + block_size, n)
        inner = W[:, start:stop].copy()
        errors = np.zeros_like(inner)
        for j in range(start, stop):
            group = j // group_size
            if j % group_size == 0:
                scales[:, group] = symmetric_scale(W[:, j : j + group_size], bits)
            w, s = inner[:, j - start], scales[:, group]
            codes[:, j] = np.clip(np.rint(w / s) + half, 0, 2 * half - 1)
            errors[:, j - start] = (w - s * (codes[:, j] - half)) / T[j, j]
            inner[:, j - start :] -= errors[:, j - start, None] * T[j, j:stop]
        W[:, stop:] -= errors @ T[start:stop, stop:]
    return scales, codes
