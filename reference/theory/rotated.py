"""What does a random rotation make of the Cholesky diagonal, and so of GPTQ?

GPTQ's loss is the spread of L_kk² (`theory.high_rate`), which depends on the basis. In the basis of
a Haar-distributed V (`haar`) the diagonal of the Cholesky factor of VᵀΣV hardly depends on V any
more when n is large: it is a function of the eigenvalues λ of Σ. At the place k = 1 … n, with
t = (k - ½)/n,

    L_kk² ≈ u(t)    where u solves    (1/n) Σ_j λ_j/(t·λ_j + (1-t)·u) = 1

(With s = u·(1-t)/t this is: mean of λ_j/(λ_j + s) = t, and u = s·t/(1-t).)

**Where it comes from.** L_kk² is the ratio of two determinants: of the k×k corner of VᵀΣV and of
the (k-1)×(k-1) corner. The corner is a compression of Σ to a random subspace of dimension tn; in
the limit its spectrum is the free compression of the spectrum of Σ, and its log-determinant is
n·∫₀ᵗ ln u. The same from the other side: random projection onto k dimensions explains of each
component λ_j the share λ_j/(λ_j + s), a ridge regression whose penalty s is the one that uses up
exactly k degrees of freedom, Σ_j λ_j/(λ_j + s) = k; what is left for the k-th direction is u.

**Three things it must satisfy.** u(0) = AM(λ): the first place sees the plain diagonal of VᵀΣV,
whose mean is the trace. u(1) is the harmonic mean: the last one is 1/(Σ⁻¹)_kk. And
∫₀¹ ln u(t) dt = mean ln λ, since the product of all L_kk² is det Σ in every basis. So the spread of
L_kk² after rotation lies between the harmonic and the arithmetic mean of λ. It does not vanish,
and GPTQ stays behind WaterSIC.

Worked example: λ = 1 and 4, each for half of the components. The first place has nearly 2.5, the
last nearly 1.6; the middle one solves ½·1/(½ + ½u) + ½·4/(2 + ½u) = 1, u² = 4.

>>> squares = rotated_cholesky_squares(np.repeat([1.0, 4.0], 500))
>>> [round(float(u), 3) for u in (squares[0], squares[-1])]
[2.5, 1.6]
>>> round(float(squares[499] + squares[500]) / 2, 5)
2.0

Exercise: half of the eigenvalues are 1 and half are ε → 0. Find u. (Check: for t < ½ it is
(½ - t)/(1 - t), whose integral is (1 - ln 2)/2, and beyond it is of the order ε. Since
GM(λ) = √ε, a rotation does not bound GPTQ's gap.)

>>> predicted = rotated_gptq_gap(np.repeat([1.0, 2.0**-20], 500))
>>> round(predicted, 3), round(half_and_half_gap(2.0**-20), 3)
(3.902, 3.902)

**Where it fails.** V must be Haar-like for this Σ: a Hadamard matrix with random signs is not, if Σ
is diagonal, for the signs commute with Σ. And a few dominating eigenvalues are no limit of large n:
L_kk² at the first places then fluctuates as much as its mean.

Outside the exact path: roots by Brent's method, relative error below 10⁻¹². The formula itself is
a limit, and it errs on the low side. With the n quantiles of N(0, d²) for ln λ, the mean gap over
many V lies above it by 0.006 bit for d = 2 and 0.02 for d = 3 at n = 512, and by 0.03 and 0.09 at
n = 64. A single V scatters about that mean, more so the fewer eigenvalues hold the trace: at n = 64
with d = 2 some lie 0.17 bit above the formula if λ itself is drawn at random.

Sources: Nica & Speicher, "On the multiplication of free N-tuples of noncommutative random
variables", 1996 (free compression); the use for Cholesky diagonals is this project's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .high_rate import gap, geometric_mean
from .scalar import SCALAR_GAP, find_root


def rotated_cholesky_squares(eigenvalues: NDArray) -> NDArray[np.float64]:
    """The L_kk² of VᵀΣV that are to be expected for a Haar V, from the spectrum alone.

    Args:
        eigenvalues: λ, n positive numbers in any order.

    Returns:
        n numbers, descending, index k - 1 for the place k; the loop of `sic` decides the last
        one first.

    Raises:
        BadInput: an eigenvalue that is not positive.
    """
    centre = geometric_mean(eigenvalues)
    spectrum = np.asarray(eigenvalues, np.float64) / centre
    n = len(spectrum)
    # Between min λ and max λ: there every term is on one side of 1. A margin keeps the signs.
    low, high = math.log(spectrum.min()) - 1, math.log(spectrum.max()) + 1

    def log_square(t: float) -> float:
        def excess(v: float) -> float:
            return float(np.mean(spectrum / (t * spectrum + (1 - t) * math.exp(v)))) - 1

        return find_root(excess, low, high)

    return centre * np.exp([log_square((k - 0.5) / n) for k in range(1, n + 1)])


def rotated_gptq_gap(eigenvalues: NDArray) -> float:
    """GPTQ's gap at high rate after a Haar rotation: 0.2546 + ½ log2(AM(u)/GM(λ)) bits."""
    squares = rotated_cholesky_squares(eigenvalues)
    return gap(float(np.mean(squares)), geometric_mean(eigenvalues))


def half_and_half_gap(epsilon: float) -> float:
    """The same for eigenvalues 1 and ε in equal parts, n → ∞ and ε → 0, in closed form.

    0.2546 + ½ log2(((1 - ln 2)/2)/√ε). The relative error of the argument is O(ε·ln(1/ε)).
    """
    return SCALAR_GAP + 0.5 * math.log2((1 - math.log(2)) / 2 / math.sqrt(epsilon))
