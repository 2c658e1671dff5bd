"""A yardstick of speed on a device: the same algorithms as one would write them for arrays there.

A loop over columns on the host, each subtracted from the whole rest of the matrix by one update of
rank one; factor and products are the library's. It is written in the names that the array modules
share, `xp`: CuPy on a GPU, torch on a CPU, NumPy in the tests. Its codes differ here and there from
those of the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any  # of the module `xp`
Decide = Callable[[Array, int], tuple[Array, Array]]  # (codes, values) of a column y_k


def _copy(xp: Any, matrix: Array) -> Array:
    copy = xp.empty_like(matrix)
    copy[:] = matrix
    return copy


def solve(xp: Any, target: Array, factor: Array) -> Array:
    """X with X Lᵀ = T."""
    X = _copy(xp, target)
    for j in range(X.shape[1]):
        X[:, j] /= factor[j, j]
        X[:, j + 1 :] -= xp.outer(X[:, j], factor[j + 1 :, j])
    return X


def sic(xp: Any, target: Array, factor: Array, decide: Decide) -> Array:
    """Interference cancellation, as `reference.operations.sic` means it; the codes."""
    Y, codes = _copy(xp, target), xp.empty(target.shape, dtype=xp.int32)
    for k in range(Y.shape[1] - 1, -1, -1):
        codes[:, k], Y[:, k] = decide(Y[:, k], k)
        Y[:, :k] -= xp.outer(Y[:, k], factor[k, :k])
    return codes


def with_gains(xp: Any, step: float, spacing: Array) -> Decide:
    """WaterSIC's decision: z = rint(y/c), the value z·γ·α_k, without a look at the host."""

    def decide(y: Array, k: int) -> tuple[Array, Array]:
        z = xp.round(y / step)
        energy = z @ z
        gain = (z @ y) / (energy + (energy == 0)) / step
        return z, z * (gain * spacing[k])

    return decide


def on_grid(xp: Any, scale: Array, zero: Array, maximum: int, diagonal: Array) -> Decide:
    """GPTQ's decision: q = clamp(rint(y/l_kk/s) + zero, 0, maximum), the value s·(q - zero)."""

    def decide(y: Array, k: int) -> tuple[Array, Array]:
        q = xp.clip(xp.round(y / (diagonal[k] * scale)) + zero, 0, maximum)
        return q, scale * (q - zero)

    return decide


def watersic(xp: Any, weight: Array, covariance: Array, step: float) -> Array:
    """The core: factor, target, cancellation with gains; the codes."""
    factor = xp.linalg.cholesky(covariance)
    decide = with_gains(xp, step, step / xp.diagonal(factor))
    return sic(xp, weight @ factor, factor, decide)


def gptq(
    xp: Any, weight: Array, covariance: Array, scale: Array, zero: Array, maximum: int
) -> Array:
    """The core: factor, target, cancellation on a grid; the codes."""
    factor = xp.linalg.cholesky(covariance)
    decide = on_grid(xp, scale, zero, maximum, xp.diagonal(factor))
    return sic(xp, weight @ factor, factor, decide)
