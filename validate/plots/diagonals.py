"""Cholesky diagonals of rotated Σ against the formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..claims.measurements import Measurements
from ..claims.moments import Layer
from ..claims.rotated_diagonals import diagonals
from .curves import widest
from .style import BLACK, BLUE, new_figure


def rotated(measurements: Measurements) -> tuple[Any, str]:
    """L_kk² by place: dots as drawn, a line as predicted; a synthetic Σ and two real ones."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    wanted = [widest(measurements), *_first_of_each_family(measurements)]
    found = {moment: (predicted, drawn) for moment, predicted, drawn in diagonals(measurements)}
    figure, axes = new_figure(2.4 + 2.1 * len(wanted), 3.1, len(wanted), squeeze=False)
    for place, moment in zip(axes[0], wanted, strict=True):
        predicted, drawn = found[moment]
        t = (np.arange(moment.n) + 0.5) / moment.n
        every = max(1, moment.n // 48)  # dots enough
        for squares in drawn:
            place.semilogy(
                t[::every], squares[::every], color=BLUE, marker="o", linestyle="", markersize=2.5,
                alpha=0.6, label="drawn" if squares is drawn[0] else None,
            )  # fmt: skip
        place.semilogy(t, predicted, color=BLACK, label="formula")
        place.axhline(1, color=BLACK, linewidth=0.8, linestyle=":", label="GM(λ)")
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        place.yaxis.set_minor_formatter(NullFormatter())
        place.set_title(moment.label)
        place.set_xlabel("place t = (k - ½)/n")
    axes[0][0].set_ylabel(r"$L_{kk}^2\;/\;\mathrm{GM}(\lambda)$")
    axes[0][0].legend(fontsize=7.5)
    return figure, (
        "Squares of the Cholesky diagonal of VᵀΣV for Haar rotations V, in units of the geometric "
        "mean of the eigenvalues. Dots: as drawn; line: the formula, from the spectrum alone. Were "
        "they all 1 (dotted), GPTQ would be as good as WaterSIC."
    )


def _first_of_each_family(measurements: Measurements) -> list[Layer]:
    first: dict[str, Layer] = {}
    for layer in measurements.plan.layers:
        first.setdefault(layer.family, layer)
    return list(first.values())[:2]
