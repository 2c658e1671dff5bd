"""What small cases are made of: matrices with a property, from raw integers and the operations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.arithmetic.butterflies import hadamard
from ...reference.bases.hadamard import base_matrix
from ...reference.operations.numpy_operations import NUMPY
from .recipes import bell, integers


def whole(key: int, rows: int, columns: int, dtype: str, greatest: int = 9) -> NDArray:
    """Whole numbers within ±greatest."""
    return integers(key, [rows, columns], -greatest, greatest, 0, dtype)


def whole_factor(key: int, n: int, dtype: str) -> NDArray:
    """Lower triangular: powers of two on the diagonal, 0 and ±1 next to it, 0 further away.

    What is further away is 0, so that a product of inverses does not grow.
    """
    factor = np.tril(whole(key, n, n, dtype, 1), -1)
    factor[np.tril_indices(n, -3)] = 0
    np.fill_diagonal(factor, np.ldexp(np.ones(n, dtype), integers(key + 1, [n], 0, 2).astype(int)))
    return factor


def factor(key: int, n: int, dtype: str) -> NDArray:
    """Lower triangular with full significands, a diagonal from ½ to 2, and less beside it."""
    lower = np.tril(bell(key, [n, n], -2, dtype), -1) / np.dtype(dtype).type(max(1, n // 4))
    diagonal = np.abs(bell(key + 1, [n], -1, dtype)) + np.dtype(dtype).type(0.5)
    np.fill_diagonal(lower, np.minimum(diagonal, np.dtype(dtype).type(2)))
    return lower


def positive_definite(key: int, n: int, dtype: str, samples: int | None = None) -> NDArray:
    """Gᵀ G / 8 + I/16 for a bell-shaped G, by the chain of `matmul`: exactly symmetric."""
    G = bell(key, [n + 3 if samples is None else samples, n], 0, dtype)
    number = np.dtype(dtype).type
    return NUMPY.matmul_transposed(G, G) / number(8) + np.eye(n, dtype=dtype) / number(16)


def correlated(key: int, n: int, dtype: str) -> NDArray:
    """A covariance whose features differ by up to eight times and are strongly correlated."""
    sizes = np.ldexp(np.ones(n, dtype), integers(key + 1, [n], 0, 3).astype(int) - 1)
    H = positive_definite(key, n, dtype, samples=max(4, n // 2))
    return sizes[:, None] * H * sizes


def weight(key: int, rows: int, columns: int, dtype: str) -> NDArray:
    """Bell-shaped, within ±1."""
    return bell(key, [rows, columns], -2, dtype)


def exact_eigensystem(
    n: int, variances: list[float], dtype: str
) -> tuple[NDArray, NDArray, NDArray]:
    """(Σ, λ, V) without rounding: V is a Hadamard matrix over √n, n = 4^p; λ the variances."""
    V = hadamard(np.eye(n), base_matrix(1)) / np.sqrt(np.float64(n))
    spectrum = np.array(variances)
    covariance = NUMPY.matmul(V * spectrum, np.ascontiguousarray(V.T))
    return covariance.astype(dtype), spectrum, V.astype(dtype)


def turns(n: int, dtype: str) -> NDArray:
    """Orthogonal with full significands: turns by the angle of (3, 4, 5), plane by plane."""
    V = np.eye(n)
    c, s = np.float64(3) / 5, np.float64(4) / 5
    for j in range(n - 1):
        left, right = V[:, j].copy(), V[:, j + 1].copy()
        V[:, j], V[:, j + 1] = c * left + s * right, c * right - s * left
    return V.astype(dtype)


def layer(key: int, n: int, dtype: str, rows: int = 6) -> dict[str, NDArray]:
    """A weight and a correlated covariance."""
    return {"weight": weight(key, rows, n, dtype), "covariance": correlated(key + 1, n, dtype)}


def drift(key: int, n: int, dtype: str, rows: int) -> dict[str, NDArray]:
    """A layer with Σ, Σ̂ and Σ_x of the same tokens, and Δ."""
    x = bell(key, [2 * n, n], 0, "float64")
    noisy = x + bell(key + 1, [2 * n, n], -4, "float64")
    residual = bell(key + 2, [2 * n, rows], -4, "float64")

    def moment(left: NDArray, right: NDArray) -> NDArray:
        return (NUMPY.matmul_transposed(left, right) / (2.0 * n)).astype(dtype)

    return {
        "weight": weight(key + 3, rows, n, dtype),
        "covariance": moment(x, x),
        "covariance_quantized": moment(noisy, noisy),
        "cross_covariance": moment(x, noisy),
        "residual_covariance": moment(residual, noisy),
    }
