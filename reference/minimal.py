"""What does a quantiser do, on one page?

Weights W (a×n) meet inputs of second moment Σ = L Lᵀ. What counts is the error of the output,

    D = tr((Ŵ-W) Σ (Ŵ-W)ᵀ) / (a·n) = |(Ŵ-W) L|² / (a·n)

RTN rounds W itself: Z = rint(W/α). The other three round a target Y, column by column:

    GPTQ          Y = W L, columns reversed,  z_k = rint(Y_k / L_kk / α),  Ŵ_k = α·z_k
    WaterSIC      Y = W L,                    z_k = rint(Y_k / c),         Ŵ_k = γ_k·(c/L_kk)·z_k
    waterfilling  Y = W V √λ,                 z_k = rint(Y_k / c),         Ŵ = (γ_k·(c/√λ_k)·z_k) Vᵀ

The first two compensate each decision in the columns still open, Y_j -= Ŵ_k·L_kj for j < k. The
third has Σ = V diag(λ) Vᵀ, needs no compensation, and zeroes what the water covers, σ²λ_k ≤ c²/12
with σ² = mean(W²). γ_k = Σ z·y / (c·Σ z²) is the best multiple of a column's codes.

The gap is the entropy of the codes less the limit: the rate that Gaussian weights with this σ² need
for this D, ½·mean(log2(max(σ²λ_k/θ, 1))) at the water level θ where mean(min(θ, σ²λ_k)) = D.

This page sums by BLAS, which keeps no stated order. A code can differ from that of the full methods
where Y/c lies within rounding of a half, and from there on in its own row (with gains, in every
row). Σ must be positive definite, or be made so by the damping, and no input may be 0 throughout.
The entropy is the full `rate_column`, which is held against theory and comes into the gap; what a
file costs, `rate`, comes with side information and shared tables (`coding.rates`).

Worked example: Σ = (1 0.8; 0.8 1), W = (0.4 0.4). GPTQ rounds column 0 to 0, and compensates.

>>> W, covariance = np.array([[0.4, 0.4]]), np.array([[1.0, 0.8], [0.8, 1.0]])
>>> rtn(W, 1.0), gptq(W, covariance, 1.0, damping=0.0)
(array([[0., 0.]]), array([[0., 1.]]))

Exercise: what do the two cost? (Check: 0.576 and 0.136, over two weights.)

>>> [round(distortion(W, covariance, Z), 12) for Z in (np.zeros((1, 2)), np.array([[0.0, 1.0]]))]
[0.288, 0.068]
"""

import numpy as np
from numpy.typing import NDArray


def rtn(W: NDArray, spacing: float) -> NDArray:
    """Codes Z, a×n; Ŵ = α·Z."""
    return np.rint(W / spacing)


def factor(covariance: NDArray, damping: float) -> NDArray:
    """L, n×n lower triangular, L Lᵀ = Σ + δ·mean(diag Σ)·I."""
    n = len(covariance)
    return np.linalg.cholesky(covariance + damping * np.trace(covariance) / n * np.eye(n))


def gptq(
    W: NDArray, covariance: NDArray, spacing: float, actorder: bool = False, damping: float = 0.01
) -> NDArray:
    """Codes Z, a×n, columns in their original order; Ŵ = α·Z."""
    order = np.arange(W.shape[1])
    if actorder:  # the inputs with the most energy first
        order = np.argsort(-covariance.diagonal(), kind="stable")
    order = order[::-1]  # the loop runs from the last column to the first
    L = factor(covariance[np.ix_(order, order)], damping)
    Y = W[:, order] @ L
    Z = np.zeros(W.shape)
    for k in reversed(range(len(L))):
        Z[:, order[k]] = np.rint(Y[:, k] / L[k, k] / spacing)
        Y[:, :k] -= np.outer(Z[:, order[k]] * spacing, L[k, :k])
    return Z


def best_multiple(z: NDArray, y: NDArray, spacing: float) -> float:
    """γ, for which γ·c·z is as near to y as it gets."""
    return float(z @ y / (z @ z) / spacing) if z.any() else 0.0


def watersic(
    W: NDArray, covariance: NDArray, spacing: float, damping: float = 1e-4
) -> tuple[NDArray, NDArray]:
    """(Z, Ŵ), both a×n, with the gains γ and no rescaling; `spacing` is c."""
    energy = covariance.diagonal()
    live = np.flatnonzero(energy >= 1e-3 * np.median(energy))  # dead inputs get zeros
    L = factor(covariance[np.ix_(live, live)], damping)
    Y = W[:, live] @ L
    Z, quantized = np.zeros(W.shape), np.zeros(W.shape)
    for k in reversed(range(len(L))):
        Z[:, live[k]] = z = np.rint(Y[:, k] / spacing)
        quantized[:, live[k]] = z * (best_multiple(z, Y[:, k], spacing) * (spacing / L[k, k]))
        Y[:, :k] -= np.outer(quantized[:, live[k]], L[k, :k])
    return Z, quantized


def waterfilling(
    W: NDArray, eigenvalues: NDArray, V: NDArray, spacing: float
) -> tuple[NDArray, NDArray]:
    """(Z, Ŵ), both a×n, Z in the eigenbasis V of Σ (`np.linalg.eigh`); `spacing` is c."""
    Z, quantized = np.zeros(W.shape), np.zeros(W.shape)
    for k in np.flatnonzero(np.mean(W * W) * eigenvalues > spacing * spacing / 12):
        y = W @ V[:, k] * np.sqrt(eigenvalues[k])
        Z[:, k] = z = np.rint(y / spacing)
        quantized[:, k] = z * (best_multiple(z, y, spacing) * (spacing / np.sqrt(eigenvalues[k])))
    return Z, quantized @ V.T


def distortion(W: NDArray, covariance: NDArray, quantized: NDArray) -> float:
    """D per weight."""
    error = quantized - W
    return float(np.sum((error @ covariance) * error) / W.size)


def entropy(Z: NDArray) -> float:
    """Bits per weight: the mean over columns of each one's own, with Miller and Madow's term."""
    bits = 0.0
    for column in Z.T:
        p = np.unique(column, return_counts=True)[1] / len(Z)
        bits += (len(p) - 1) / (2 * len(Z) * np.log(2)) - p @ np.log2(p)
    return float(bits / Z.shape[1])


def limit(variances: NDArray, D: float) -> float:
    """The least rate of Gaussian components with these variances at D > 0, bits per weight."""
    low, high = 0.0, float(np.max(variances))
    for _ in range(200):  # the water level θ, by bisection
        level = (low + high) / 2
        low, high = (level, high) if np.mean(np.minimum(level, variances)) < D else (low, level)
    return float(np.mean(np.log2(np.maximum(variances / high, 1.0))) / 2)


def gap(W: NDArray, covariance: NDArray, Z: NDArray, quantized: NDArray) -> float:
    """What the codes cost above the limit, bits per weight."""
    variances = np.mean(W * W) * np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    return entropy(Z) - limit(variances, distortion(W, covariance, quantized))
