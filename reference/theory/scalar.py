"""What does rounding a Gaussian number cost in bits, and what does it leave as error?

X is N(0, 1), rounded to the nearest multiple kΔ, and k is entropy coded. The error is small when Δ
is, and nearly uniform then: D ≈ Δ²/12, and H ≈ ½ log2(2πe) - log2 Δ. Together H - ½ log2(1/D) =
½ log2(2πe/12) = 0.2546 bit: what a scalar quantiser pays above the limit at high rate. At low rate
both are different, and everything that is said about 1 or 2 bits rests on the true curves. With Φ,
φ and Q = 1 - Φ of the normal distribution and x_k = (k-½)Δ the edges of the cells:

    P_k = Φ(x_{k+1}) - Φ(x_k)                          H = -Σ P_k log2 P_k
    A = E[(kΔ)²] = Δ² Σ k² P_k                         energy of the rounded number
    B = E[X·kΔ]  = Δ Σ k (φ(x_k) - φ(x_{k+1}))         its product with X (x·φ = -φ')
    D = E[(X - kΔ)²] = 1 - 2B + A

**The gain.** The rounded number may be scaled before it is used. E[(X - γkΔ)²] = 1 - 2γB + γ²A is
least at γ = B/A, and then it is D_LMMSE = 1 - B²/A. At high rate γ → 1; at low rate it pays.

**Two sums for the same thing.** Over k ≥ 1 and by parts, the differences vanish:

    A = 2Δ² Σ_{k≥1} (2k-1)·Q(x_k)                      B = 2Δ Σ_{k≥1} φ(x_k)

With a wide spacing a term or two suffice, and dividing all of them by φ(Δ/2) keeps γ alive where
A and B themselves underflow (γ → ½: what lies beyond Δ/2 lies just beyond). With a small Δ,
1 - 2B + A would lose all digits. There the error X - kΔ is read as the sawtooth that it is, a
Fourier series whose expectation is taken term by term (E cos ωX = e^(-ω²/2)):

    D = Δ²/12 + (Δ²/π²) Σ_{m≥1} (-1)^m/m² · q_m        1 - B = -2 Σ_{m≥1} (-1)^m · q_m
    q_m = exp(-2π²m²/Δ²)                               D_LMMSE = (D - (1-B)²)/A

So D = Δ²/12 is not a rough approximation: at Δ = ½ the correction is of the order 10⁻³⁵.

Worked example: Δ = 2, so that the edges are ±1, ±3, … P_0 = 0.6827, P_±1 = 0.1573, P_±2 = 0.0013.

>>> from scipy.special import ndtr
>>> [round(float(ndtr(edge + 2) - ndtr(edge)), 4) for edge in (-1, 1, 3)]
[0.6827, 0.1573, 0.0013]
>>> q = uniform_quantizer(2.0)
>>> round(q.entropy, 4), round(q.distortion, 5), round(q.lmmse_distortion, 5), round(q.gain, 4)
(1.2412, 0.33042, 0.25369, 0.7572)

Exercise: what does the gap at 1 bit become if the gain is used? (Check: 0.453 without, 0.239 with
it. Below the 0.2546 of high rate, so low rate is not where scalar quantisers are at their worst.)

>>> [round(scalar_gap(1.0, lmmse=lmmse), 3) for lmmse in (False, True)]
[0.453, 0.239]

Outside the exact path: SciPy's normal distribution. Relative errors are below 10⁻¹² for all four
numbers (10⁻¹⁰ for an entropy below 10⁻²⁰), for every Δ whose results do not underflow.

Sources: Gish & Pierce, "Asymptotically efficient quantizing", 1968; Sripad & Snyder, "A necessary
and sufficient condition for quantization errors to be uniform and white", 1977 (the series).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import erfc, erfcx

from ..errors import BadInput

SCALAR_GAP = 0.5 * math.log2(2 * math.pi * math.e / 12)
"""0.2546 bit: what a scalar quantiser with an entropy coder pays at high rate."""

# Up to here the Fourier series is used: q_7 < 10⁻⁴⁶, so six terms are all of it.
SERIES_UP_TO = 3.0
SERIES_TERMS = 6
# Below, the entropy is that of a Gaussian with the variance 1 + Δ²/12; X plus a uniform error is
# not quite Gaussian, which lowers the entropy by Δ⁸/(48·120²·ln 2) + … < 10⁻¹⁷ bits.
GAUSSIAN_UP_TO = 1 / 32
LARGEST_NORMAL = 40.0  # φ and Q underflow before


@dataclass(frozen=True)
class UniformQuantizer:
    """N(0, 1) on the multiples of Δ.

    Attributes:
        spacing: Δ. entropy: H in bits.
        distortion: D, without a gain.
        gain: γ. lmmse_distortion: D_LMMSE, the error after scaling by γ.
    """

    spacing: float
    entropy: float
    distortion: float
    gain: float
    lmmse_distortion: float


def uniform_quantizer(spacing: float) -> UniformQuantizer:
    """H, D, γ and D_LMMSE for one Δ, finite and positive.

    Raises:
        BadInput: another Δ.
    """
    if not 0 < spacing < math.inf:
        raise BadInput(f"the spacing must be positive and finite, got {spacing}")
    if spacing <= SERIES_UP_TO:
        distortion, gain, lmmse_distortion = _by_series(spacing)
    else:
        distortion, gain, lmmse_distortion = _by_cells(spacing)
    return UniformQuantizer(spacing, _entropy(spacing), distortion, gain, lmmse_distortion)


def spacing_for_entropy(rate: float) -> float:
    """Δ with H(Δ) = rate bits, relative error below 10⁻¹².

    Raises:
        BadInput: a rate below H(70), about 10⁻²⁶⁵, or above 1000 bits.
    """
    widest = 70.0
    if not _entropy(widest) <= rate <= 1000:
        raise BadInput(f"the rate must be positive and at most 1000 bits, got {rate}")
    return math.exp(
        find_root(
            lambda log_spacing: math.log(_entropy(math.exp(log_spacing))) - math.log(rate),
            -rate * math.log(2),  # Δ = 2^(-R) costs at least 2 bits too many
            math.log(widest),
        )
    )


def scalar_gap(rate: float, lmmse: bool) -> float:
    """H - ½ log2(1/D) at H = rate: bits above the limit of a Gaussian source.

    Args:
        rate: as for `spacing_for_entropy`. lmmse: whether the gain is used.
    """
    quantizer = uniform_quantizer(spacing_for_entropy(rate))
    return rate + 0.5 * math.log2(quantizer.lmmse_distortion if lmmse else quantizer.distortion)


def find_root(
    function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-14
) -> float:
    """x between low and high, where f has different signs, with f(x) = 0; by Brent's method."""
    return float(root_scalar(function, bracket=(low, high), method="brentq", xtol=tolerance).root)


def _by_series(spacing: float) -> tuple[float, float, float]:
    m = np.arange(1, SERIES_TERMS + 1)
    with np.errstate(over="ignore", under="ignore"):
        signed = (-1.0) ** m * np.exp(-2 * (math.pi * m / spacing) ** 2)
    distortion = spacing**2 * (1 / 12 + float(np.sum(signed / m**2)) / math.pi**2)
    excess = 2 * float(np.sum(signed))  # B - 1
    energy = distortion + 1 + 2 * excess  # A
    return distortion, (1 + excess) / energy, (distortion - excess**2) / energy


def _by_cells(spacing: float) -> tuple[float, float, float]:
    k = np.arange(1, max(1, math.ceil(LARGEST_NORMAL / spacing)) + 1)
    edges = (k - 0.5) * spacing
    # φ(x_k)/φ(x_1), and Q(x)/φ(x)
    relative = np.exp((edges[0] - edges) * (edges[0] + edges) / 2)
    mills = math.sqrt(math.pi / 2) * erfcx(edges / math.sqrt(2))
    gain = float(np.sum(relative) / np.sum((2 * k - 1) * (spacing * mills) * relative))
    edge = spacing / 2
    density = math.exp(-edge * edge / 2) / math.sqrt(2 * math.pi)
    product = 2 * density * spacing * float(np.sum(relative))  # B
    return 1 - 2 * product + product / gain, gain, 1 - gain * product


def _entropy(spacing: float) -> float:
    if spacing < GAUSSIAN_UP_TO:
        variance = 1 + spacing * spacing / 12
        return 0.5 * math.log2(2 * math.pi * math.e * variance) - math.log2(spacing)
    k = np.arange(max(1, math.ceil(LARGEST_NORMAL / spacing)) + 1)
    with np.errstate(over="ignore"):
        edges = (k + 0.5) * spacing
    beyond = erfc(edges / math.sqrt(2)) / 2  # Q
    outer = beyond[:-1] - beyond[1:]
    outer = outer[outer > 0]
    # The middle cell by the logarithm of its complement, which is what is left at low rate.
    nats = -(1 - 2 * beyond[0]) * math.log1p(-2 * beyond[0]) - 2 * np.sum(outer * np.log(outer))
    return float(nats) / math.log(2)
