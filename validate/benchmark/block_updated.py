"""A yardstick of speed: the same algorithms on BLAS and LAPACK, blocked as one would write them.

Factor and products are the library's. Columns are decided one at a time inside of a small block,
blocks are subtracted from the rest of a panel and panels from the rest of the matrix by matrix
products. This is what code gains that gives up the order of its sums. Its codes differ here and
there from those of the contract.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs

PANEL, BLOCK = 128, 16
Decide = Callable[[NDArray, int], tuple[NDArray, NDArray]]  # (codes, values) of a column y_k


def sic(target: NDArray, codes: NDArray[np.int32], factor: NDArray, decide: Decide) -> None:
    """Interference cancellation, in place, as `reference.operations.sic` means it."""
    for end in range(target.shape[1], 0, -PANEL):
        first = max(end - PANEL, 0)
        panel = np.asfortranarray(target[:, first:end])  # columns that are neighbours in memory
        for block_end in range(end, first, -BLOCK):
            block = max(block_end - BLOCK, first)
            for k in range(block_end - 1, block - 1, -1):
                y = panel[:, k - first]
                codes[:, k], y[:] = decide(y, k)
                panel[:, block - first : k - first] -= np.outer(y, factor[k, block:k])
            decided = panel[:, block - first : block_end - first]
            panel[:, : block - first] -= decided @ factor[block:block_end, first:block]
        target[:, first:end] = panel
        target[:, :first] -= panel @ factor[first:end, :first]


def product(weight: NDArray, factor: NDArray) -> NDArray:
    """W L, by the product that leaves out the zeros of L."""
    (trmm,) = get_blas_funcs(("trmm",), (weight, factor))
    # BLAS counts by columns, so it sees the transposes: Lᵀ, which is upper triangular, times Wᵀ.
    return np.ascontiguousarray(trmm(1.0, factor.T, weight.T, side=0, lower=0).T)


def with_gains(step: float, spacing: NDArray) -> Decide:
    """WaterSIC's decision: z = rint(y/c), the value z·γ·α_k."""

    def decide(y: NDArray, k: int) -> tuple[NDArray, NDArray]:
        z = np.rint(y / y.dtype.type(step))
        energy = z @ z
        gain = (z @ y) / energy / y.dtype.type(step) if energy > 0 else energy
        return z, z * (gain * spacing[k])

    return decide


def on_grid(scale: NDArray, zero: NDArray, maximum: int, diagonal: NDArray) -> Decide:
    """GPTQ's decision: q = clamp(rint(y/l_kk/s) + zero, 0, maximum), the value s·(q - zero)."""

    def decide(y: NDArray, k: int) -> tuple[NDArray, NDArray]:
        q = np.clip(np.rint(y / (diagonal[k] * scale)) + zero, 0, maximum)
        return q, scale * (q - zero)

    return decide


def watersic(weight: NDArray, covariance: NDArray, step: float) -> NDArray[np.int32]:
    """The core: factor, target, cancellation with gains; the codes."""
    factor = np.linalg.cholesky(covariance)
    target, codes = product(weight, factor), np.empty(weight.shape, np.int32)
    sic(target, codes, factor, with_gains(step, weight.dtype.type(step) / factor.diagonal()))
    return codes


def gptq(
    weight: NDArray, covariance: NDArray, scale: NDArray, zero: NDArray, maximum: int
) -> NDArray[np.int32]:
    """The core: factor, target, cancellation on a grid; the codes."""
    factor = np.linalg.cholesky(covariance)
    target, codes = product(weight, factor), np.empty(weight.shape, np.int32)
    sic(target, codes, factor, on_grid(scale, zero, maximum, factor.diagonal()))
    return codes
