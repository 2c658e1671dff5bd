"""How far may a limit be from the one that is committed?

The limit R solves reverse waterfilling for the eigenvalues λ of Σ, and these come from LAPACK.
A backward stable eigensolver is off by at most p(n)·2⁻⁵²·λ_max in each of them, with a modest p;
10·n is generous. The variances v = σ²λ are then off by e = 10·n·2⁻⁵²·λ_max·σ². At a given D with m
of n components above the level θ,

    dR = Σ_active dv_k/(2n·ln 2·v_k) - m·dθ/(2n·ln 2·θ)       m·dθ = -Σ_inactive dv_k

so |dR| ≤ [m·e/θ + (n-m)·e/θ]/(2n·ln 2) = e/(2·ln 2·θ). The value is committed with 9 decimals,
which makes 10⁻⁹ more than enough for its own rounding, and the bound is rounded up to one digit.
The gap is a number without error minus the limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...reference.limits.gaussian_limit import covariance_eigenvalues
from ...reference.limits.waterfilling import allocate_distortion
from .case import Output

DECIMALS = 9
REASON = (
    "eigenvalues by LAPACK, each within e/σ² = 10·n·2⁻⁵²·λ_max: |dR| ≤ e/(2·ln 2·θ), and 10⁻⁹ for "
    "the rounding of the committed value; validate/golden/tolerance.py derives it"
)


def limit_within(
    tensor: str, value: float, covariance: NDArray, outputs: Mapping[str, NDArray]
) -> tuple[Output, NDArray]:
    """The expectation for a limit or a gap of this value, and the tensor that holds its middle."""
    eigenvalues = covariance_eigenvalues(covariance)
    square = float(outputs["weight_mean_square"])
    allocation = allocate_distortion(eigenvalues * square, float(outputs["distortion"]))
    error = 10 * len(eigenvalues) * 2.0**-52 * float(eigenvalues.max()) * square
    bound = error / (2 * math.log(2) * allocation.water_level) + 10.0**-DECIMALS
    middle = np.array(round(value, DECIMALS))
    return Output("tolerance", tensor, bound=_rounded_up(bound), reason=REASON), middle


def _rounded_up(bound: float) -> float:
    """To one digit.

    >>> _rounded_up(1.03e-9)
    2e-09
    """
    power = math.floor(math.log10(bound))
    return float(f"{math.floor(bound / 10.0**power) + 1}e{power}")
