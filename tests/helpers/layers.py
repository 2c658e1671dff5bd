"""Layers that tests quantise: random, with a spread of energies, deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .inputs import bell, integers


def covariance(key: int, n: int, spread: float = 0.25, dead: tuple[int, ...] = ()) -> NDArray:
    """Second moment of n neighbouring, correlated inputs, condition number in the hundreds.

    `spread` is the range of log2 of the inputs' amplitudes, above and below; inputs in `dead` are
    always 0.
    """
    X = bell(key, (2 * n + 8, n), np.float64)
    X[:, 1:] += 0.5 * X[:, :-1]
    X *= 2.0 ** (spread * bell(key + 1, (n,), np.float64))
    X[:, list(dead)] = 0
    moment = X.T @ X / len(X)
    return (moment + moment.T) / 2


def weight(key: int, a: int, n: int) -> NDArray:
    """Weights of about unit size; the rows differ in size by up to a factor of 4."""
    W = bell(key, (a, n), np.float64)
    return W * 2.0 ** (integers(key + 1, -2, 2, a) / 2.0)[:, None]


def drift(key: int, a: int, n: int) -> dict[str, Any]:
    """Σ, Σ̂, Σ_x and Δ of a model whose inputs x̂ are x and a correlated disturbance."""
    tokens = 2 * n + 8
    X = bell(key, (tokens, n), np.float64)
    X[:, 1:] += 0.5 * X[:, :-1]
    noisy = X + 0.2 * (bell(key + 1, (tokens, n), np.float64) - 0.3 * X)
    residual = 0.1 * bell(key + 2, (tokens, a), np.float64)

    def symmetric(M: NDArray) -> NDArray:
        return (M + M.T) / 2 / tokens

    return {
        "covariance": symmetric(X.T @ X),
        "covariance_quantized": symmetric(noisy.T @ noisy),
        "cross_covariance": X.T @ noisy / tokens,
        "residual_covariance": residual.T @ noisy / tokens,
    }


def dyadic(key: int, n: int, dtype: DTypeLike = np.float64) -> tuple[NDArray, NDArray]:
    """(Σ, L), Σ = L Lᵀ exactly: small dyadic numbers, powers of two on the diagonal of L."""
    L = np.tril(integers(key, -4, 4, n, n) / 4.0, -1)
    np.fill_diagonal(L, 2.0 ** integers(key + 1, -1, 1, n))
    return (L @ L.T).astype(dtype), L.astype(dtype)
