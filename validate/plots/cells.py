"""The cells of RTN, GPTQ and WaterSIC in two dimensions.

In the whitened plane, Y = W L, the error that counts is the plain distance. There the codes of RTN
are parallelograms, an axis-parallel square seen through L; those of the sequential methods are
rectangles with the sides α_k·L_kk, standing at lattice points. GPTQ has one α, so its rectangle is
as oblong as the diagonal of L; WaterSIC has α_k = c/L_kk, a square. All three have the same area
here, which at high rate is the same rate. Of all rectangles of one area the square has the least
second moment: this is the whole idea.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..claims.measurements import Measurements
from .style import BLUE, ORANGE, VERMILION, new_figure

FACTOR = np.array([[1.0, 0.0], [0.75, 0.45]])
"""L of Σ = L Lᵀ."""
AREA = FACTOR[0, 0] * FACTOR[1, 1]
SPACINGS = {
    "RTN": np.array([1.0, 1.0]),
    "GPTQ": np.array([1.0, 1.0]),
    "WaterSIC": np.sqrt(AREA) / np.diagonal(FACTOR),
}
"""α of both columns; α_0·α_1 is the same for all."""
HALF_WIDTH = 1.6
UNIT_SQUARE = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
FILLS = {"RTN": ORANGE, "GPTQ": VERMILION, "WaterSIC": BLUE}


def shape(method: str) -> NDArray[np.float64]:
    """Corners of a cell around 0 in the whitened plane, 4×2."""
    if method == "RTN":
        return (UNIT_SQUARE * SPACINGS[method]) @ FACTOR
    return UNIT_SQUARE * (SPACINGS[method] * np.diagonal(FACTOR))


def centres(method: str, reach: int) -> NDArray[np.float64]:
    """Lattice points (Z·α) L for the codes from -reach to reach, m×2."""
    codes = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    return (codes * SPACINGS[method]) @ FACTOR


def second_moment(method: str) -> float:
    """E|error|² for a uniform error in the cell: Σ of the squared edges over 12."""
    corners = shape(method)
    edges = np.diff(corners[:3], axis=0)
    return float(np.sum(edges**2)) / 12


def in_two_dimensions(measurements: Measurements) -> tuple[Any, str]:
    """Three panels, one method each; it needs no measurement."""
    from matplotlib.collections import PolyCollection

    figure, axes = new_figure(7.2, 2.9, 3, sharex=True, sharey=True)
    for place, method in zip(axes, SPACINGS, strict=True):
        points = centres(method, reach=6)
        near = points[np.max(np.abs(points), axis=1) < HALF_WIDTH + 1]
        polygons = near[:, None, :] + shape(method)[None]
        place.add_collection(
            PolyCollection(list(polygons), facecolors="none", edgecolors="#555555", linewidths=0.7)
        )
        place.add_collection(
            PolyCollection([shape(method)], facecolors=FILLS[method], alpha=0.45, hatch="//")
        )
        place.plot(near[:, 0], near[:, 1], ".", color="black", markersize=3)
        place.set_title(f"{method}: E|error|² = {second_moment(method):.3f}")
        place.set_aspect("equal")
        place.set_xlim(-HALF_WIDTH, HALF_WIDTH)
        place.set_ylim(-HALF_WIDTH, HALF_WIDTH)
        place.grid(False)
        place.set_xlabel("Y₀")
    axes[0].set_ylabel("Y₁")
    return figure, (
        "Cells of three quantisers in the whitened plane Y = W L, where the error that counts is "
        "the plain distance, for L = (1 0; 0.75 0.45). All cells have the same area and so, at "
        "high rate, the same rate; WaterSIC's are squares, which makes the mean squared error "
        "least. Dots: reproduction points."
    )
