"""WaterSIC once more, from its equations alone, by LAPACK and BLAS.

Nothing here is shared with the package: sums run in another order, the factor is LAPACK's, the
target is one matrix product. What must agree are the decisions; what is real, up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    codes: Array
    dequantized: Array
    row_scale: Array
    column_scale: Array
    spacing: float  # c
    distortion: float
    margin: float  # the least distance of a decision from a tie, in steps


def live_features(diagonal: Array, threshold: float) -> NDArray[np.bool_]:
    median = np.sort(diagonal)[(len(diagonal) - 1) // 2]
    return (diagonal != 0) & ~(diagonal < threshold * median)


def open_loop(W: Array, L: Array, rate: float) -> float:
    """log2 c = ½·mean log2(12·s_k·L_kk²) - R over the columns that are not all zero."""
    power = (W**2).mean(axis=0)
    logs = [math.log2(12 * s * l * l) for s, l in zip(power, np.diag(L), strict=True) if s]
    return 2 ** (sum(logs) / len(logs) / 2 - rate)


def loop(Y: Array, L: Array, c: float, lmmse: bool) -> tuple[Array, Array, float]:
    """Codes, gains, and the least distance from a tie."""
    Y = Y.copy()
    n = len(L)
    Z, gains, margin = np.zeros_like(Y), np.ones(n), np.inf
    for k in reversed(range(n)):
        v = Y[:, k] / c
        z = np.rint(v)
        margin = min(margin, (0.5 - np.abs(v - z)).min())
        if lmmse:
            gains[k] = (z @ Y[:, k]) / (z @ z) / c if z.any() else 0.0
        Z[:, k] = z
        Y[:, :k] -= np.outer(z * gains[k] * c / L[k, k], L[k, :k])
    return Z, gains, margin


def watersic(
    weight: Array,
    covariance: Array,
    *,
    spacing: float | None = None,
    rate: float | None = None,
    damping: float = 1e-4,
    threshold: float = 1e-3,
    lmmse: bool = True,
    rescale: bool = True,
    covariance_quantized: Array | None = None,
    cross_covariance: Array | None = None,
    residual_covariance: Array | None = None,
) -> Found:
    a, n = weight.shape
    drift = covariance_quantized is not None
    live = live_features(np.diag(covariance), threshold)
    both = np.ix_(live, live)
    W, S = weight[:, live], covariance[both]
    S_hat = covariance_quantized[both] if drift else S
    S_x = cross_covariance[both] if drift else S
    Delta = np.zeros_like(W) if residual_covariance is None else residual_covariance[:, live]
    m = W.shape[1]

    ridge = damping * np.diag(S_hat).mean() * np.eye(m)
    L = np.linalg.cholesky(S_hat + ridge)
    Y = (W @ (S_x + ridge) + Delta) @ np.linalg.inv(L).T
    c = spacing if spacing is not None else open_loop(W, L, rate)
    Z, gains, margin = loop(Y, L, c, lmmse)

    P, t, g = Z * (c / np.diag(L)), np.ones(a), gains
    if rescale:
        t, g = rescalers(P, W @ S_x + Delta, S_hat, ((W @ S) * W).sum(), gains)
    column_scale = g * c / np.diag(L)

    def full(x: Array) -> Array:
        result = np.zeros((*x.shape[:-1], n))
        result[..., live] = x
        return result

    codes, dequantized = full(Z), full(t[:, None] * Z * column_scale)
    S_hat = covariance_quantized if drift else covariance
    S_x = cross_covariance if drift else covariance
    distortion = (
        ((weight @ covariance) * weight).sum()
        - 2 * ((weight @ S_x) * dequantized).sum()
        + ((dequantized @ S_hat) * dequantized).sum()
    ) / (a * n)
    return Found(codes, dequantized, t, full(column_scale), c, distortion, margin)


def rescalers(P: Array, C: Array, S_hat: Array, constant: float, gains: Array):
    """Row scales t and column gains g by turns, from (1, gains)."""
    t, g = np.ones(len(P)), gains.copy()

    def objective(t: Array, g: Array) -> float:
        V = t[:, None] * P * g
        return (constant - 2 * (C * V).sum() + ((V @ S_hat) * V).sum()) / P.size

    before = objective(t, g)
    for _ in range(1000):
        kept = t, g
        A = S_hat * (P.T @ (t[:, None] ** 2 * P))
        A = A + 1e-8 * np.abs(np.diag(A)).mean() * np.eye(len(g))
        goal = np.linalg.solve(A, (P * (t[:, None] * C)).sum(axis=0))
        if objective(t, goal) > before + 1e-6 * abs(before):
            trials = [g + s * (goal - g) for s in (1 / 2, 1 / 4, 1 / 8, 1 / 16)]
            goal = min(trials, key=lambda x: objective(t, x))
            if objective(t, goal) >= before:
                return kept
        g = np.clip(goal, -0.1, 1.5)
        clipped = (g != goal).any()
        V = P * g
        power = ((V @ S_hat) * V).sum(axis=1)
        t = (C * V).sum(axis=1) / (power + 1e-8 * power.mean())
        mean = np.abs(t).mean()
        if mean:
            t, g = t / mean, g * mean
        after = objective(t, g)
        if not clipped and after > before + 1e-6 * abs(before):
            return kept
        if abs(after - before) < 3e-4 * abs(before):
            break
        before = after
    return t, g
