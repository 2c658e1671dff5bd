"""How well can a product of two matrices survive if both are quantised?

A and B have i.i.d. Gaussian entries of variance 1, n long in the inner dimension; each is
described with R bits per entry, without a look at the other. The distortion of the product is

    D = E‖A B - Â B̂‖²_F / (rows·columns·inner·σ_A²σ_B²)

**The limit.** With R bits an entry of A can be known up to an error D_1 = 2^(-2R), that is
A = Â + N with Â and N independent and of variances 1 - D_1 and D_1. The best guess of AB is then
ÂB̂, whose energy is (1 - D_1)² of that of AB, and the rest is lost: 1 - (1 - D_1)². Is it best to
treat all entries alike? Where this function of R is not convex, no: take a fraction p of the inner
dimension at rate R/p and give no bits to the rest. Its slope from the point (0, 1) is steepest at
the R* whose tangent passes through it, and so

    Γ(R) = 2·2^(-2R) - 2^(-4R)   for R ≥ R*         Γ(R) = 1 - (1 - Γ(R*))·R/R*   below

With q = 2^(-2R): 1 - Γ = (1-q)² and -Γ' = 4·ln 2·q·(1-q). The tangent's condition, 1 - Γ = -Γ'·R,
is 1 - q = 4·ln 2·q·R, or R = ½ log2(1 + 4R·ln 2): R* = 0.90632.

**Two quantised factors.** A scheme whose errors are uncorrelated with the entries themselves
(Â = A + N_A, as rounding at high rate or with dither) adds A·N_B, N_A·B and N_A·N_B:

    D = D_A + D_B + D_A·D_B

Worked example: R = 1. q = ¼, so Γ = ½ - 1/16 = 7/16.

>>> product_limit(1.0)
0.4375
>>> round(CRITICAL_RATE, 5), round(product_limit(CRITICAL_RATE), 4)
(0.90632, 0.4883)

Exercise: at ½ bit, how much worse than the limit are entries that are all treated alike? (Check:
2·½ - ¼ = ¾ against the line.)

>>> round(product_limit(0.5), 4)
0.7177

Outside the exact path: relative error below 10⁻¹⁴.

Source: Ordentlich & Polyanskiy, "Optimal quantization for matrix multiplication", 2024.
"""

from __future__ import annotations

import math

from ..errors import BadInput
from .scalar import find_root


def _alike(rate: float) -> float:
    """2q - q² = 1 - (1-q)²."""
    q = 2.0 ** (-2 * rate)
    return q * (2 - q)


CRITICAL_RATE = find_root(lambda rate: rate - 0.5 * math.log2(1 + 4 * rate * math.log(2)), 0.5, 2.0)
"""R*, below which it is better to leave a part of the inner dimension out."""


def product_limit(rate: float) -> float:
    """Γ(R): the least distortion of a product whose factors have R ≥ 0 bits per entry each."""
    if not 0 <= rate < math.inf:
        raise BadInput(f"the rate must be finite and not negative, got {rate} bits")
    if rate >= CRITICAL_RATE:
        return _alike(rate)
    return 1 - (1 - _alike(CRITICAL_RATE)) * rate / CRITICAL_RATE


def product_limit_rate(distortion: float) -> float:
    """The R with Γ(R) = D, in bits per entry of each factor; 0 from D = 1 on.

    >>> product_limit_rate(0.4375)
    1.0
    """
    if not 0 < distortion < math.inf:
        raise BadInput(f"the distortion must be positive and finite, got {distortion}")
    if distortion >= 1:
        return 0.0
    critical = _alike(CRITICAL_RATE)
    if distortion > critical:
        return CRITICAL_RATE * (1 - distortion) / (1 - critical)
    q = distortion / (1 + math.sqrt(1 - distortion))  # 1 - √(1 - D) without cancellation
    return -0.5 * math.log2(q)


def product_distortion(left: float, right: float) -> float:
    """D_A + D_B + D_A·D_B, for errors that are uncorrelated with the entries.

    >>> product_distortion(0.25, 0.5)
    0.875
    """
    return left + right + left * right
