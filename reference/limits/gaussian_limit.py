"""Which rate can no quantiser of Gaussian weights undercut?

Let the rows of W have independent N(0, σ²) weights. With Σ = V diag(λ) Vᵀ and V_k the columns of V
the error measure falls into a sum, tr((Ŵ-W) Σ (Ŵ-W)ᵀ) = Σ_k λ_k·‖(Ŵ-W) V_k‖², and W V has
independent N(0, σ²) entries like W itself. So W V_k, scaled by √λ_k, is a Gaussian component of
variance v_k = σ²·λ_k whose plain squared error counts: the problem of `waterfilling`. Its R at the
distortion D that a method reached is the **limit for Gaussian weights**. Real weights are not
exactly Gaussian with one variance, so a method may come closer to it than Gaussian ones let it.

The eigenvalues come from LAPACK, in floating point without fixed bits: |λ_computed - λ| is of the
order n·2⁻⁵³·λ_max, and negative ones of that size are taken for 0. This module stands outside the
exact path. A component with λ_k far below the water level has rate 0 whatever its exact value is;
the limit moves by about ½·|dλ/λ|/ln 2/n bits per active eigenvalue.

Worked example: Σ = diag(1, 4), σ² = 1, D = 1: the level is 1 and the rate (0 + ½·log2 4)/2 = ½ bit.

>>> rate_limit(np.array([1.0, 4.0]), weight_mean_square=1.0, distortion=1.0)
0.5

Exercise: what does half of this distortion cost, and half of that? (Check: ½ bit each time, as soon
as every component stands out of the water.)

>>> [rate_limit(np.array([1.0, 4.0]), 1.0, D) for D in (0.5, 0.25)]
[1.0, 1.5]
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from .waterfilling import allocate_distortion


def covariance_eigenvalues(covariance: NDArray) -> NDArray[np.float64]:
    """Eigenvalues of (Σ + Σᵀ)/2 (n×n), ascending, negative ones set to 0; tolerance."""
    wide = covariance.astype(np.float64)
    eigenvalues = scipy.linalg.eigvalsh(wide / 2 + wide.T / 2, driver="evd")
    return np.maximum(eigenvalues, 0.0)


def eigenbasis(covariance: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(λ, V) of the symmetric part of Σ: λ ascending, negative ones set to 0; tolerance."""
    wide = covariance.astype(np.float64)
    eigenvalues, eigenvectors = scipy.linalg.eigh(wide / 2 + wide.T / 2, driver="evd")
    return np.maximum(eigenvalues, 0.0), eigenvectors


def rate_limit(
    eigenvalues: NDArray[np.float64], weight_mean_square: float, distortion: float
) -> float:
    """Full reverse waterfilling at σ² and D, in bits per weight: 0 for W = 0, inf for D = 0."""
    if weight_mean_square == 0:
        return 0.0
    # In units of σ², so that nothing overflows; D ≥ 0 but for rounding.
    relative = max(distortion, 0.0) / weight_mean_square
    return allocate_distortion(np.maximum(eigenvalues, 0.0), relative).rate
