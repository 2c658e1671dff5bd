"""What somebody should know of a layer and of its result, a line each.

Numbers come out of nearly any Σ; these are the cases in which they do not mean what they seem to.
Of the covariance: features that calibration never saw, a rank below the number of inputs, a sum in
place of a mean, no input at all. Of the result: relative error, codes at the ends of a finite grid,
levels that no weight uses, what the side information alone costs. All of it rests on LAPACK or
BLAS, or on a rule of thumb that is named here, and none of it changes a bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import GridScales, Quantized
from ...reference.coding.rates import SideInformation, overhead
from ...reference.errors import BadInput
from ...reference.grids.float_formats import FORMATS
from ...reference.limits.gaussian_limit import covariance_eigenvalues
from ...reference.methods.grid_fitting import INTEGER

# An eigenvalue below this part of the largest is taken for 0. Moments are gathered in float32 at
# best: each element is off by up to 2⁻²⁴ of the largest, and n of them in a row by n·2⁻²⁴.
VANISHING = 2.0**-24
# Mean square of the median feature. Inputs of linear layers behind a normalisation are near 1, the
# widest of the bundled layers below 10; a sum over a few thousand tokens is above 1000.
LOOKS_LIKE_A_SUM = 1000.0
# Normalised inputs lack a direction, and some others nearly vanish: a few are nothing to speak of.
FULL_RANK = 0.9  # of the features that calibration saw
NAMED = 4  # features that are named one by one


def on_covariance(
    covariance: NDArray,
    eigenvalues: NDArray[np.float64],
    rotated: bool,
    tokens: int | None = None,
    rounded: bool = False,
) -> list[str]:
    """Lines on Σ, n×n; empty if all is well.

    Args:
        eigenvalues: of Σ. rotated: whether a rotation mixes the features before they are coded.
        tokens: of the calibration, where known. rounded: whether a feature that calibration never
            saw is rounded, and not zeroed.

    Raises:
        BadInput: every diagonal element is 0.
    """
    diagonal = np.diagonal(covariance).astype(np.float64)
    n = len(diagonal)
    unseen = np.flatnonzero(diagonal == 0)
    if len(unseen) == n:
        raise BadInput(
            "covariance is zero: calibration saw no input of this layer (an expert without tokens, "
            "a hook in the wrong place); calibrate again, or give the identity to round blindly"
        )
    lines = []
    if len(unseen):
        names = ", ".join(map(str, unseen[:NAMED])) + (", …" if len(unseen) > NAMED else "")
        zeroed = "" if rotated or rounded else "their weights become 0, and "
        lines.append(
            f"calibration never saw {len(unseen)} of {n} features (columns {names}): {zeroed}"
            "distortion, limit and gap do not cover them"
        )
    rank = _rank(covariance, eigenvalues)
    if tokens is not None and tokens < n:
        lines.append(
            f"calibration had {tokens} tokens for {n} inputs: directions that it did not see cost "
            "nothing here, and something in use; calibrate with several times as many"
        )
    elif rank < FULL_RANK * (n - len(unseen)):
        lines.append(
            f"covariance has rank {rank} of {n}: fewer tokens than inputs, or inputs that depend "
            "on each other; directions that it lacks cost nothing here, and something in use"
        )
    median = float(np.median(diagonal[diagonal > 0]))
    if median > LOOKS_LIKE_A_SUM:
        lines.append(
            f"covariance looks like a sum over tokens and not a mean (the median feature has mean "
            f"square {median:.3g}): codes are the same, the distortion is too large by the count"
        )
    return lines


def tokens_of(description: Mapping[str, Any]) -> int | None:
    """Of the calibration, where the description of a layer file says it."""
    calibration = description.get("calibration")
    tokens = calibration.get("tokens") if isinstance(calibration, dict) else None
    return tokens if isinstance(tokens, int) else None


def _rank(covariance: NDArray, eigenvalues: NDArray[np.float64]) -> int:
    """With the unseen features left out. What one massive feature hides is no missing direction,
    so where Σ itself seems to lack some, it is judged with all features brought to unit energy."""
    n = len(eigenvalues)
    if eigenvalues.min() > n * VANISHING * eigenvalues.max():
        return n
    seen = np.flatnonzero(np.diagonal(covariance) > 0)
    part = covariance[np.ix_(seen, seen)].astype(np.float64)
    scale = np.sqrt(np.diagonal(part))
    scaled = covariance_eigenvalues(part / scale / scale[:, None])
    return int(np.count_nonzero(scaled > n * VANISHING * scaled.max()))


def output_energy(weight: NDArray, covariance: NDArray) -> float:
    """tr(W Σ Wᵀ)/(a·n): what D is a part of."""
    W = weight.astype(np.float64)
    return float(np.vdot(W @ covariance.astype(np.float64), W)) / W.size


def relative_error(distortion: float, energy: float) -> float | None:
    """D over the energy of the output; None where there is none."""
    return distortion / energy if energy > 0 else None


def decibels(ratio: float | None) -> str:
    """10·log10, for a person.

    >>> decibels(0.001), decibels(0.0), decibels(None)
    ('-30.0 dB', '-∞ dB', '—')
    """
    if ratio is None or ratio < 0:
        return "—"
    return f"{10 * math.log10(ratio):.1f} dB" if ratio > 0 else "-∞ dB"


def on_grid(result: Quantized) -> dict[str, int] | None:
    """Codes at the ends of a finite grid, its levels, and those that no weight uses; else None.

    A weight at an end may lie there or beyond: with GPTQ only the loop knew. Signed zeros of float
    formats are one level.
    """
    if not isinstance(result.scales, GridScales):
        return None
    form = result.parameters.get("format", INTEGER)
    if form == INTEGER:
        levels = np.arange(2 ** result.parameters["bits"])
    else:
        magnitudes = FORMATS[form].magnitudes
        levels = np.arange(1 - len(magnitudes), len(magnitudes))
    used = np.unique(result.codes)
    ends = (result.codes == levels[0]) | (result.codes == levels[-1])
    return {
        "codes_at_ends": int(np.count_nonzero(ends)),
        "levels": len(levels),
        "unused_levels": len(np.setdiff1d(levels, used)),
    }


def side_information_rate(
    method: str, parameters: Mapping[str, Any], rows: int, columns: int, measure: str
) -> float:
    """Bits per weight that an entropy-coded result costs at least, when every code is the same.

    The class of a column is counted where no method leaves columns out (RTN, GPTQ): which features
    are dead, or inactive in waterfilling, is known to the method alone.

    >>> side_information_rate("watersic", {"rescale": True}, 64, 64, "rate")
    0.5
    >>> side_information_rate("gptq", {}, 64, 64, "rate_pooled")
    0.5
    """
    information, coded = SideInformation.one_spacing(), columns
    if method == "watersic":
        information, coded = SideInformation.watersic(bool(parameters.get("rescale", True))), 0
    if method == "waterfilling":
        information, coded = SideInformation.watersic(row_scales=False), 0
    return overhead(coded, rows, columns, information, measure)
