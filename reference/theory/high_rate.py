"""Which scheme needs how many bits more than the limit, when bits are plenty?

At high rate every scheme that rounds and entropy-codes has the same law, with one number K that
depends on Σ and on the scheme. For rows of W that are N(0, σ²I), H = Σ and R the `rate_column`:

    limit       D = σ²·GM(λ)·2^(-2R)                gap = 0
    a scheme    D = (2πe/12)·σ²·K·2^(-2R)           gap = ½ log2(2πe/12) + ½ log2(K/GM(λ))

| scheme | K |
|---|---|
| WaterSIC | GM(L_kk²) = det(Σ)^(1/n) = GM(λ): no more than any scalar quantiser pays, 0.2546 bit |
| GPTQ, entropy-coded | AM(L_kk²) |
| RTN, entropy-coded | AM(Σ_kk) |

λ are the eigenvalues of Σ = L Lᵀ, AM and GM the arithmetic and the geometric mean.

**Derivation.** In the whitened domain the error of column k is its own rounding error times L_kk
(`sic`), so spacing α_k contributes α_k²L_kk²/12 to D. The codes of that column cost
½ log2(2πe σ²) - log2 α_k bits. GPTQ has one α: the mean of L_kk² appears. WaterSIC has
α_k = c/L_kk: D = c²/12, and the mean rate contains mean log2 L_kk = ½ log2 GM(L_kk²). RTN makes
nothing good, so the error of column k counts with Σ_kk. By AM ≥ GM, and since
L_kk² ≤ Σ_kk, the gaps stand in this order: WaterSIC ≤ GPTQ ≤ RTN.

The limit holds while all components are active, D ≤ σ²λ_min. The laws of WaterSIC and GPTQ also
need errors of earlier columns that are small against the weights, (D/σ²)(Σ⁻¹)_jj ≪ 1. Outside,
`theory.low_rate` says what happens.

**Damping.** H = Σ + δ·mean(diag Σ)·I gives the L of the loop, and Σ measures the result. With
M = L⁻¹ Σ L⁻ᵀ the errors in the whitened domain count with M_kk in place of 1:

    WaterSIC    K = det(H)^(1/n)·tr(H⁻¹Σ)/n         GPTQ    K = mean L_kk²·M_kk

At high rate damping costs, always. At low rate it can be a gain, because the errors of decided
columns, which are no longer small against the weights, are fed back with less force: the last
example, and GPTQ in activation order on a bundled layer (`minilm-02-feed-forward-in`) at 2 bits,
whose gap falls from 0.95 to 0.40 between δ = 10⁻⁴ and 10⁻², WaterSIC's from 0.31 to 0.24.

**Pooling.** One table for all codes costs I(column; code) more. At high rate the code of WaterSIC's
column k is N(0, σ²L_kk²/c²), so this is the entropy of a mixture of Gaussians minus the mean of
theirs. No density of that variance has more entropy than the Gaussian, hence

    I(column; code) ≤ ½ log2(AM(L_kk²)/GM(L_kk²))

which is exactly WaterSIC's advantage over a GPTQ that decides the columns in the same order; for a
small spread of L_kk both are about ¼·Var(ln L_kk²) nats. GPTQ's own order is the reverse one, and
AM(L_kk²) is another number there: see the second example. GPTQ and RTN, whose codes all have the
variance σ²/α², lose nothing.

Worked example: Σ = diag(1, 1/16). GM = ¼, AM = 17/32: GPTQ pays ½ log2(17/8) = 0.544 more.

>>> covariance = np.diag([1.0, 1 / 16])
>>> watersic_coefficient(covariance), gptq_coefficient(covariance), rtn_coefficient(covariance)
(0.25, 0.53125, 0.53125)
>>> round(gap(gptq_coefficient(covariance), limit_coefficient(covariance)) - SCALAR_GAP, 4)
0.5437

The order matters: for Σ = (4 2; 2 5) L_kk² is 3.2 and 5 if column 0 is decided first, 4 and 4 if
column 1 is. WaterSIC, which begins with column 1, loses nothing by one table for all codes; GPTQ,
which begins with column 0, is 0.018 bit behind it all the same.

>>> covariance = np.array([[4.0, 2.0], [2.0, 5.0]])
>>> watersic, backwards = watersic_coefficient(covariance), np.array([1, 0])
>>> for order in (None, backwards):
...     saved = rate_advantage(watersic, gptq_coefficient(covariance, order))
...     bound = pooling_bound(cholesky_squares(covariance, order))
...     print(round(saved, 4), round(bound, 4))
0.0178 0.0178
0.0 0.0

At 1 bit, where none of these laws holds, more damping is a gain for both, though WaterSIC's law
says that it costs 0.18 bit (eigenvalues from 1 to 2⁻¹⁴ in a random basis):

>>> from ..bases.haar import haar
>>> from ..methods.gptq import gptq
>>> from ..methods.watersic import watersic as quantize
>>> eigenvalues, V = 2.0 ** -np.linspace(0, 14, 48), haar(48, seed=1).matrix
>>> layer = np.random.default_rng(0).standard_normal((64, 48)), (V * eigenvalues) @ V.T
>>> for method in (gptq, quantize):
...     options = {"rate": 1.0, "rate_measure": "rate_column"}
...     little, more = (method(*layer, damping=d, **options).gap for d in (1e-4, 1e-2))
...     print(0.04 < little - more < 0.16)  # 0.79 - 0.68 and 0.37 - 0.30
True
True
>>> round(damping_penalty(eigenvalues, 1e-2), 2)
0.18

Exercise: by how many bits is GPTQ better than RTN at high rate for Σ = (1 ρ; ρ 1), ρ² = ¾? (Check:
L_kk² is 1 and 1 - ρ² = ¼ with the mean ⅝: ½ log2(8/5) = 0.339.)

>>> covariance = np.array([[1.0, 0.75**0.5], [0.75**0.5, 1.0]])
>>> round(rate_advantage(gptq_coefficient(covariance), rtn_coefficient(covariance)), 3)
0.339

Sources: Ordentlich & Polyanskiy, "High-Rate Quantized Matrix Multiplication II", arXiv 2605.13768,
2026 (WaterSIC, GPTQ and the limit when Σ is known; a random rotation for GPTQ), which continues
"High-Rate Quantized Matrix Multiplication", arXiv 2601.17187, 2026.

Outside the exact path: LAPACK's Cholesky factor. Relative error of K about n·2⁻⁵³ times the
condition number of Σ at worst.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..errors import BadInput, NotPositiveDefinite
from .scalar import SCALAR_GAP

LATTICE_FACTOR = 2 * math.pi * math.e / 12


def geometric_mean(values: NDArray) -> float:
    """GM of positive numbers, by the mean of their logarithms."""
    if np.size(values) == 0 or not np.all((values > 0) & np.isfinite(values)):
        raise BadInput("a geometric mean needs positive, finite numbers (eigenvalues of 0: damp Σ)")
    return math.exp(float(np.mean(np.log(values))))


def cholesky_factor(covariance: NDArray) -> NDArray[np.float64]:
    """L of Σ = L Lᵀ in float64, by LAPACK.

    Raises:
        BadInput: an element that is not finite.
        NotPositiveDefinite: with the pivot and what stood there.
    """
    matrix = np.asarray(covariance, np.float64)
    if not np.isfinite(matrix).all():
        raise BadInput("covariance holds NaN or infinity; every element must be finite")
    (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (matrix,))
    factor, info = potrf(matrix, lower=1, clean=1)
    if info:
        remedy = "the formulas of high rate need a positive definite covariance; damp it"
        raise NotPositiveDefinite(info - 1, float(factor[info - 1, info - 1]), remedy=remedy)
    return factor


def cholesky_squares(
    covariance: NDArray, order: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """L_kk², n numbers by column: what the columns decided *after* k leave unexplained of x_k.

    Args:
        covariance: Σ, n×n, positive definite.
        order: in which order the columns are decided: 0 … n-1 (None: GPTQ), n-1 … 0 for the loop
            of `sic` as WaterSIC runs it, descending diagonal for GPTQ's activation order.

    >>> cholesky_squares(np.array([[4.0, 2.0], [2.0, 5.0]]))
    array([3.2, 5. ])
    >>> cholesky_squares(np.array([[4.0, 2.0], [2.0, 5.0]]), np.array([1, 0]))
    array([4., 4.])
    """
    natural = np.arange(len(covariance))
    permutation = (natural if order is None else np.asarray(order))[::-1]
    squares = np.empty(len(covariance))
    factor = cholesky_factor(covariance[np.ix_(permutation, permutation)])
    squares[permutation] = np.diagonal(factor) ** 2
    return squares


def limit_coefficient(covariance: NDArray) -> float:
    """GM(λ) = det(Σ)^(1/n)."""
    return geometric_mean(cholesky_squares(covariance))


def watersic_coefficient(covariance: NDArray, damping: float = 0.0) -> float:
    """K = det(H)^(1/n)·tr(H⁻¹Σ)/n, which is det(Σ)^(1/n) for δ = 0. In every order the same."""
    L = cholesky_factor(_damped(covariance, damping))
    return geometric_mean(np.diagonal(L) ** 2) * float(np.mean(_remaining(L, covariance, damping)))


def gptq_coefficient(
    covariance: NDArray, order: NDArray[np.int64] | None = None, damping: float = 0.0
) -> float:
    """K = mean L_kk²·(L⁻¹ΣL⁻ᵀ)_kk, which is AM(L_kk²) for δ = 0.

    Args:
        order: in which order the columns are decided; None is GPTQ's own, 0 … n-1.
    """
    permutation = np.arange(len(covariance)) if order is None else np.asarray(order)
    moment = covariance[np.ix_(permutation[::-1], permutation[::-1])]
    L = cholesky_factor(_damped(moment, damping))
    return float(np.mean(np.diagonal(L) ** 2 * _remaining(L, moment, damping)))


def rtn_coefficient(covariance: NDArray) -> float:
    """K = AM(Σ_kk)."""
    return float(np.mean(np.diagonal(covariance)))


def limit_distortion(coefficient: float, weight_mean_square: float, rate: float) -> float:
    """σ²·GM(λ)·2^(-2R): the least D at R bits, all components active."""
    return weight_mean_square * coefficient * 2.0 ** (-2 * rate)


def quantizer_distortion(coefficient: float, weight_mean_square: float, rate: float) -> float:
    """(2πe/12)·σ²·K·2^(-2R): what a scheme with the coefficient K reaches with R bits."""
    return LATTICE_FACTOR * limit_distortion(coefficient, weight_mean_square, rate)


def gap(coefficient: float, limit: float) -> float:
    """0.2546 + ½ log2(K/GM(λ)): bits above the limit.

    Args:
        coefficient: K. limit: GM(λ), from `limit_coefficient`.
    """
    return SCALAR_GAP + 0.5 * math.log2(coefficient / limit)


def rate_advantage(coefficient: float, other: float) -> float:
    """½ log2(K_other/K): the bits that a scheme saves against another one at the same D."""
    return 0.5 * math.log2(other / coefficient)


def high_rate_conditions(
    covariance: NDArray, weight_mean_square: float, distortion: float
) -> tuple[float, float]:
    """How well the conditions hold: D/(σ²λ_min), at most 1, and max (D/σ²)(Σ⁻¹)_jj, far below 1.

    >>> high_rate_conditions(np.diag([1.0, 0.25]), 1.0, 0.0625)
    (0.25, 0.25)
    """
    relative = distortion / weight_mean_square
    inverse = _inverse_factor(cholesky_factor(covariance))
    largest = float(np.max(np.sum(inverse**2, axis=0)))
    return relative / float(scipy.linalg.eigvalsh(covariance)[0]), relative * largest


def damping_penalty(eigenvalues: NDArray, damping: float) -> float:
    """What damping costs WaterSIC: ½ log2[(det H/det Σ)^(1/n)·tr(H⁻¹Σ)/n], in bits.

    It depends on the ratios η_k = λ_k + δ·mean λ to λ_k alone: ½ log2 of the arithmetic over the
    geometric mean of λ_k/η_k, so it is never negative. A law of high rate: at 1 or 2 bits damping
    can be a gain, see the text of this module.

    >>> round(damping_penalty(np.array([1.0, 3.0]), damping=0.5), 6)    # η = 2, 4: ½ and ¾
    0.014723
    """
    kept = eigenvalues / (eigenvalues + damping * np.mean(eigenvalues))
    return 0.5 * math.log2(float(np.mean(kept)) / geometric_mean(kept))


def pooling_bound(squares: NDArray) -> float:
    """½ log2(AM/GM) of L_kk²: what one table for all of WaterSIC's codes costs at most, in bits."""
    return 0.5 * math.log2(float(np.mean(squares)) / geometric_mean(squares))


def pooling_penalty(squares: NDArray) -> float:
    """I(column; code) of WaterSIC at high rate, in bits, to about 10⁻⁹.

    The entropy of the mixture of N(0, L_kk²) minus the mean of theirs. On a logarithmic axis,
    x = e^u, the integrand is smooth and dies out at both ends; the trapezoidal rule then converges
    faster than any power of its step.

    >>> round(pooling_penalty(np.array([1.0, 1.0])), 9) + 0.0
    0.0
    >>> squares = np.array([1.0, 4.0])
    >>> round(pooling_penalty(squares), 4), round(pooling_bound(squares), 4)
    (0.1338, 0.161)
    """
    if not (squares > 0).all():
        raise BadInput("squares of a Cholesky diagonal must be positive")
    scales, occurrences = np.unique(np.sqrt(squares), return_counts=True)
    low, high = math.log(scales[0]) - 30, math.log(scales[-1]) + math.log(12)
    u, step = np.linspace(low, high, 64 * math.ceil(high - low) + 1, retstep=True)
    total = 0.0
    for x in np.exp(u).tolist():
        with np.errstate(under="ignore"):
            density = np.exp(-0.5 * (x / scales) ** 2) / (scales * math.sqrt(2 * math.pi))
        mixture = float(occurrences @ density) / len(squares)
        if mixture > 0:
            total -= 2 * x * mixture * math.log(mixture)
    own = 0.5 * math.log(2 * math.pi * math.e) + 0.5 * float(np.mean(np.log(squares)))
    return (total * float(step) - own) / math.log(2)


def adversarial_gap(epsilon: float) -> float:
    """GPTQ on Σ = diag(1, ε): 0.2546 + ½ log2((1 + ε)/(2√ε)), which grows without bound.

    Nothing is correlated, so there is nothing to make good, and one spacing for both columns buys
    the second one a precision that hardly counts.

    >>> round(adversarial_gap(2.0**-16), 3)
    3.755
    """
    return SCALAR_GAP + 0.5 * math.log2((1 + epsilon) / (2 * math.sqrt(epsilon)))


def _damped(covariance: NDArray, damping: float) -> NDArray:
    return covariance + damping * np.mean(np.diagonal(covariance)) * np.eye(len(covariance))


def _remaining(L: NDArray, covariance: NDArray, damping: float) -> NDArray:
    """(L⁻¹ΣL⁻ᵀ)_kk, with Σ = H - δ·mean·I so that it is exactly 1 without damping."""
    removed = damping * float(np.mean(np.diagonal(covariance)))
    return 1 - removed * np.sum(_inverse_factor(L) ** 2, axis=1)


def _inverse_factor(L: NDArray) -> NDArray[np.float64]:
    return scipy.linalg.solve_triangular(L, np.eye(len(L)), lower=True)
