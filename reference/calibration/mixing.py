"""How far should a layer trust moments that were measured on a damaged model?

The drift moments Σ̂ = E[x̂ x̂ᵀ] and Σ_x = E[x x̂ᵀ] let a layer make up for the errors of the layers
before it. They also let it fit those errors, of a calibration text that is not the text to come.
Moments weighted by attention are exposed to the same risk: few tokens carry most of the weight. A
cure for both is to mix each with its plainer sibling, by two numbers from 0 to 1:

    drift against none:              Σ̂  ← (1-ε_qr)·Σ̂  + ε_qr·Σ,     Σ_x ← (1-ε_qr)·Σ_x + ε_qr·Σ
    weighted against unweighted:     Σ ← (1-ε_aw)·Σ(weighted) + ε_aw·Σ(unweighted), Σ̂ and Σ_x alike

in this order, the first line for the weighted and for the unweighted moments. ε = 0 believes what
was measured, ε_qr = 1 ignores the drift (x̂ = x gives Σ̂ = Σ_x = Σ), ε_aw = 1 ignores the weights.
Means of moments are moments: what comes out belongs to a mixed population of tokens, as positive
semidefinite as its parts.

**Choosing ε.** Only the model can tell what is best: the objective is the caller's, such as the
loss on a held-out text after this layer is quantised. One value may take minutes, and there is no
derivative. Golden-section search finds the minimum of a function that falls and then rises, with
one value for each step. An interval with two inner points, l < r, loses the part beyond the worse
one; the golden ratio g = (√5-1)/2 places the points so that the better one is at the right place
for the next, smaller interval, because g² = 1 - g. After 15 steps the interval has shrunk to
g¹⁵ = 0.0007. The two ε are chosen one after the other: ε_qr with ε_aw = 0, then ε_aw with the ε_qr
that was found.

Worked example: f(ε) = |ε - ¼| has the first points 0.382 and 0.618; the left one is better, so the
part beyond 0.618 goes, and the next point is 0.236.

>>> points = []
>>> def f(share):
...     points.append(share)
...     return abs(share - 0.25)
>>> best, value = golden_section(f)
>>> [float(f"{point:.3f}") for point in points[:4]], len(points)
([0.382, 0.618, 0.236, 0.146], 17)
>>> value < 0.0007
True

Exercise: what does it find for a function with two valleys? (Check: some valley, not always the
deeper one; f(ε) = 0 in a narrow one near 0.9 is not seen.)

>>> golden_section(lambda share: 0.0 if abs(share - 0.9) < 0.01 else 1 + share * share)[1] >= 1
True

Source of the search: J. Kiefer, "Sequential minimax search for a maximum", 1953.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BadInput
from ..operations import Matrix, Operations

GOLDEN = 0.6180339887498949  # (√5 - 1)/2, rounded to float64


@dataclass(frozen=True)
class Moments:
    """The moments of one layer's inputs, on a backend; the last two are None without drift.

    Attributes:
        covariance: Σ = E[x xᵀ], n×n.
        covariance_quantized: Σ̂ = E[x̂ x̂ᵀ], n×n.
        cross_covariance: Σ_x = E[x x̂ᵀ], n×n, not symmetric.
    """

    covariance: Matrix
    covariance_quantized: Matrix | None = None
    cross_covariance: Matrix | None = None

    def __post_init__(self) -> None:
        if (self.covariance_quantized is None) != (self.cross_covariance is None):
            raise BadInput(
                "covariance_quantized and cross_covariance come together: give both or neither"
            )


@dataclass(frozen=True)
class Mixing:
    """The shares ε_qr and ε_aw, and the value of the objective there."""

    drift_share: float
    weighting_share: float
    value: float


def mix(backend: Operations, first: Matrix, second: Matrix, share: float) -> Matrix:
    """(1-ε)·A + ε·B, with 1-ε rounded in float64; bits. `BadInput` unless 0 ≤ ε ≤ 1."""
    if not 0 <= share <= 1:
        raise BadInput(f"a share must be from 0 to 1, got {share}")
    return backend.combine(1.0 - share, first, share, second)


def mix_drift(backend: Operations, moments: Moments, share: float) -> Moments:
    """Σ̂ and Σ_x mixed with Σ, ε_qr = `share`; moments without drift stay as they are."""
    plain = moments.covariance
    if moments.covariance_quantized is None:
        return moments
    return Moments(
        plain,
        mix(backend, moments.covariance_quantized, plain, share),
        mix(backend, moments.cross_covariance, plain, share),
    )


def mix_weighting(
    backend: Operations, weighted: Moments, unweighted: Moments, share: float
) -> Moments:
    """Each weighted moment mixed with the unweighted one, ε_aw = `share`.

    Raises:
        BadInput: one of the two has drift moments and the other has not.
    """
    if (weighted.covariance_quantized is None) != (unweighted.covariance_quantized is None):
        raise BadInput("weighted and unweighted moments must both have drift moments, or neither")
    covariance = mix(backend, weighted.covariance, unweighted.covariance, share)
    if weighted.covariance_quantized is None:
        return Moments(covariance)
    return Moments(
        covariance,
        mix(backend, weighted.covariance_quantized, unweighted.covariance_quantized, share),
        mix(backend, weighted.cross_covariance, unweighted.cross_covariance, share),
    )


def mix_moments(
    backend: Operations,
    weighted: Moments,
    unweighted: Moments,
    drift_share: float,
    weighting_share: float,
) -> Moments:
    """Both mixings: first the drift in both sets of moments, then weighted against unweighted."""
    return mix_weighting(
        backend,
        mix_drift(backend, weighted, drift_share),
        mix_drift(backend, unweighted, drift_share),
        weighting_share,
    )


def golden_section(objective: Callable[[float], float], steps: int = 15) -> tuple[float, float]:
    """The best of the points that a golden-section search of [0, 1] visits.

        a, b = 0, 1;  l = b - g·(b-a),  r = a + g·(b-a)                  # two values
        steps times, one value each:
            f(l) ≤ f(r):  b = r,  r = l,  l = b - g·(b-a)
            otherwise:    a = l,  l = r,  r = a + g·(b-a)

    Args:
        objective: any numbers but NaN; infinity for a point that cannot be used.
        steps: how often the interval is narrowed, by the factor g = 0.618 each time.

    Returns:
        (point, value), the first visited among equals. The ends 0 and 1 are not visited.

    Raises:
        BadInput: the objective is NaN.

    Exactness: bits of the points, given the values; each product and sum is rounded in float64.

    >>> golden_section(lambda share: share, steps=0)  # the left one of the first two
    (0.3819660112501051, 0.3819660112501051)
    """
    visited: list[tuple[float, float]] = []

    def visit(point: float) -> float:
        value = float(objective(point))
        if value != value:
            raise BadInput(f"the objective of the search is nan at {point}")
        visited.append((point, value))
        return value

    a, b = 0.0, 1.0
    left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    at_left, at_right = visit(left), visit(right)
    for _ in range(steps):
        if at_left <= at_right:
            b, right, at_right = right, left, at_left
            left = b - GOLDEN * (b - a)
            at_left = visit(left)
        else:
            a, left, at_left = left, right, at_right
            right = a + GOLDEN * (b - a)
            at_right = visit(right)
    return min(visited, key=lambda pair: pair[1])


def choose_mixing(objective: Callable[[float, float], float], steps: int = 15) -> Mixing:
    """ε_qr by golden section with ε_aw = 0, then ε_aw by golden section with that ε_qr.

    Args:
        objective: of (ε_qr, ε_aw); smaller is better.
        steps: of each search.

    >>> mixing = choose_mixing(lambda qr, aw: abs(qr - 0.3) + abs(aw - 0.8))
    >>> abs(mixing.drift_share - 0.3) < 0.001, abs(mixing.weighting_share - 0.8) < 0.001
    (True, True)
    """
    drift_share, _ = golden_section(lambda share: objective(share, 0.0), steps)
    weighting_share, value = golden_section(lambda share: objective(drift_share, share), steps)
    return Mixing(drift_share, weighting_share, value)
