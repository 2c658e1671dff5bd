"""How good is WaterSIC at 1 bit, and why does the basis matter there?

At high rate only det Σ counts. At low rate the errors of the columns that are already decided leak
into those still open, and are rounded with them: a column has more to say than its own weights. Its
whole rate-distortion curve follows from Σ, σ² and c by a recursion over the columns.

Before column j is decided, its target is (`sic`)

    Y_j = W_j·L_jj + Σ_{m>j} (W - Ŵ)_m·L_mj

and the errors in the whitened domain so far are ε = (W - Ŵ)_{>j} L_{>j,>j}, a row vector. So the
sum is ε·b with b = L_{>j,>j}⁻¹ L_{>j,j}. W_j is independent of ε; let C be the covariance of ε.
For j = n-1 … 0:

    V_j = σ²L_jj² + bᵀ C b                             the variance of Y_j
    H_j = H(c/√V_j)                                    its rate, as if Y_j were Gaussian
    C_jj = V_j·D_LMMSE(c/√V_j)                         its error
    C_{j,>j} = (C_jj/V_j)·(C b)ᵀ                       how the error goes with earlier ones

    R = mean H_j          D = mean C_jj

H and D_LMMSE are those of one Gaussian number (`theory.scalar`). The last line of the recursion:
among Gaussian variables ε_j depends on the earlier errors through Y_j alone, so
Cov(ε_j, ε) = Cov(ε_j, Y_j)/V_j·Cov(Y_j, ε). With the gain, ε_j is uncorrelated with what it is
subtracted from, Cov(ε_j, Y_j) = Var ε_j = C_jj, and Cov(Y_j, ε) = (C b)ᵀ.

Only one thing is not exact here: that Y_j is Gaussian. It is the sum of a Gaussian W_j·L_jj and of
many small errors.

**High rate.** With C ≈ (c²/12)·I and |b|² = L_jj²(Σ⁻¹)_jj - 1 (column j of L⁻¹ is -b/L_jj below its
diagonal 1/L_jj, and (Σ⁻¹)_jj is the square of its length),

    V_j ≈ σ²L_jj² + (c²/12)·(L_jj²(Σ⁻¹)_jj - 1)

The second term depends on the basis: it vanishes in that of the eigenvectors and nowhere else. So
*basis independence is a property of high rate*.

Worked example: Σ = (1 ½; ½ 1) has L_00 = 1, L_10 = ½ and L_11² = ¾, so b = ½/√¾ and b² = ⅓.
Column 1 has V = ¾; with c = √¾ it is rounded at Δ = 1: C_11 = ¾·0.07692 = 0.0577. Column 0 hears a
third of it: V = 1 + 0.0577/3.

>>> covariance = np.array([[1.0, 0.5], [0.5, 1.0]])
>>> prediction = predict_watersic(covariance, weight_mean_square=1.0, spacing=0.75**0.5)
>>> [round(float(v), 4) for v in prediction.variances]
[1.0192, 0.75]
>>> round(prediction.rate, 4), round(prediction.distortion, 4)
(2.2081, 0.0583)

Exercise: which c gives this Σ one bit per weight, and what would its eigenbasis gain? (Check: the
eigenvalues are ½ and 3/2. The gap to the limit shrinks from 0.272 to 0.223 bit.)

>>> for basis in (covariance, np.diag([0.5, 1.5])):
...     prediction = watersic_at_rate(basis, 1.0, rate=1.0)
...     print(round(prediction.spacing, 3), round(prediction.gap, 3))
2.303 0.272
2.215 0.223

Outside the exact path: LAPACK. Against simulation R and the gap agree within about 0.003 bit from 1
to 4 bits, where the whole difference is the assumption that Y_j is Gaussian. Neighbours that are
much alike strain it most: AR(1) with ρ = 0.99 at 1 bit, 0.006 bit (`waterlevel claims --full`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..errors import BadInput
from ..limits.gaussian_limit import rate_limit
from .high_rate import cholesky_factor, geometric_mean
from .scalar import find_root, uniform_quantizer


@dataclass(frozen=True, eq=False)
class Prediction:
    """What WaterSIC with LMMSE gains will do, without damping and rescalers.

    Attributes:
        spacing: c.
        rates: H_j, bits per weight of each column. variances: V_j of the targets.
        distortions: C_jj, what each column adds to n·D. gains: γ_j.
        eigenvalues: λ of Σ. weight_mean_square: σ².
    """

    spacing: float
    rates: NDArray[np.float64]
    variances: NDArray[np.float64]
    distortions: NDArray[np.float64]
    gains: NDArray[np.float64]
    eigenvalues: NDArray[np.float64] = field(repr=False)
    weight_mean_square: float

    @property
    def rate(self) -> float:
        """R, to be compared with `rate_column`."""
        return float(np.mean(self.rates))

    @property
    def distortion(self) -> float:
        """D."""
        return float(np.mean(self.distortions))

    @cached_property
    def gap(self) -> float:
        """R minus the limit for Gaussian weights at D."""
        limit = rate_limit(self.eigenvalues, self.weight_mean_square, self.distortion)
        return self.rate - limit


def predict_watersic(covariance: NDArray, weight_mean_square: float, spacing: float) -> Prediction:
    """The recursion for one c.

    Args:
        covariance: Σ, n×n, positive definite, in the basis in which the layer is quantised.
        weight_mean_square: σ² > 0. spacing: c > 0.

    Raises:
        BadInput, NotPositiveDefinite.

    Cost: n³ operations.
    """
    return _Recursion(covariance, weight_mean_square).run(spacing)


def watersic_at_rate(covariance: NDArray, weight_mean_square: float, rate: float) -> Prediction:
    """The prediction at the c whose R is `rate`, found to 10⁻⁹ in ln c.

    Args:
        rate: bits per weight, from 0.001 to 100. Others as for `predict_watersic`.

    Raises:
        BadInput, NotPositiveDefinite.
    """
    return watersic_curve(covariance, weight_mean_square, [rate])[0]


def watersic_curve(
    covariance: NDArray, weight_mean_square: float, rates: list[float]
) -> list[Prediction]:
    """`watersic_at_rate` for several rates; the factor is computed once."""
    recursion = _Recursion(covariance, weight_mean_square)
    return [recursion.run(recursion.spacing_for(rate)) for rate in rates]


def first_order_variances(
    covariance: NDArray, weight_mean_square: float, spacing: float
) -> NDArray[np.float64]:
    """V_j ≈ σ²L_jj² + (c²/12)·(L_jj²(Σ⁻¹)_jj - 1), the recursion's beginning for small c."""
    recursion = _Recursion(covariance, weight_mean_square)
    leakage = np.sum(recursion.inverse**2, axis=0) * recursion.squares - 1
    return weight_mean_square * recursion.squares + spacing * spacing / 12 * leakage


class _Recursion:
    """What does not depend on c."""

    def __init__(self, covariance: NDArray, weight_mean_square: float) -> None:
        if not 0 < weight_mean_square < math.inf:
            raise BadInput(f"the mean square must be positive, got {weight_mean_square}")
        L = cholesky_factor(covariance)
        self.weight_mean_square = weight_mean_square
        self.squares = np.diagonal(L) ** 2
        self.inverse = scipy.linalg.solve_triangular(L, np.eye(len(L)), lower=True)
        self.eigenvalues = np.maximum(scipy.linalg.eigvalsh(covariance), 0.0)

    def run(self, spacing: float) -> Prediction:
        if not 0 < spacing < math.inf:
            raise BadInput(f"the spacing c must be positive and finite, got {spacing}")
        n = len(self.squares)
        rates, variances, gains = np.empty(n), np.empty(n), np.empty(n)
        C = np.zeros((n, n))
        for j in reversed(range(n)):
            # b, since L⁻¹ has -b/L_jj below its diagonal
            b = -self.inverse[j + 1 :, j] * math.sqrt(self.squares[j])
            leaked = C[j + 1 :, j + 1 :] @ b
            variances[j] = self.weight_mean_square * self.squares[j] + b @ leaked
            quantizer = uniform_quantizer(spacing / math.sqrt(variances[j]))
            rates[j], gains[j] = quantizer.entropy, quantizer.gain
            C[j, j] = variances[j] * quantizer.lmmse_distortion
            C[j, j + 1 :] = C[j + 1 :, j] = quantizer.lmmse_distortion * leaked
        return Prediction(
            spacing,
            rates,
            variances,
            np.diagonal(C).copy(),
            gains,
            self.eigenvalues,
            self.weight_mean_square,
        )

    def spacing_for(self, rate: float) -> float:
        if not 1e-3 <= rate <= 100:
            raise BadInput(f"the rate must be from 0.001 to 100 bits, got {rate}")
        # WaterSIC's spacing at high rate; from there to both sides, R → ∞ for c → 0, 0 for c → ∞.
        scale = self.weight_mean_square * geometric_mean(self.squares)
        low = high = math.sqrt(2 * math.pi * math.e * scale) * 2.0**-rate
        while self.run(low).rate < rate:
            low /= 2
        while self.run(high).rate >= rate:
            high *= 2
        log_spacing = find_root(
            lambda u: self.run(math.exp(u)).rate - rate, math.log(low), math.log(high), 1e-9
        )
        return math.exp(log_spacing)
