"""The rates of single columns against reverse waterfilling."""

from __future__ import annotations

from typing import Any

from ..claims.finding import bits
from ..claims.measure import WATERFILLING, WATERSIC
from ..claims.measurements import Measurements
from ..claims.scalar_waterfilling import component_rates
from .curves import widest
from .style import BLACK, BLUE, GREEN, VERMILION, Look, new_figure

SHOWN = (1.0, 2.0, 4.0)
LOOKS = (Look(VERMILION, "s", ""), Look(GREEN, "D", ""), Look(BLUE, "o", ""))


def against_waterfilling(measurements: Measurements) -> tuple[Any, str]:
    """Dots: bits that a component got; lines: what waterfilling gives it at the same D."""
    moment = widest(measurements)
    rates = [rate for rate in measurements.rates([moment], WATERSIC) if rate in SHOWN]
    figure, axes = new_figure(6.6, 3.2, 2, sharey=True)
    for place, method in zip(axes, (WATERSIC, WATERFILLING), strict=True):
        for rate, look in zip(rates, LOOKS, strict=False):
            counted, allocated = component_rates(measurements, moment, method, rate)
            eigenvalues = measurements.eigenvalues[moment]
            place.semilogx(eigenvalues, counted, label=bits(rate), **look.options(markersize=3))
            place.semilogx(eigenvalues, allocated, color=BLACK, linewidth=1)
        place.plot([], [], color=BLACK, linewidth=1, label="waterfilling's bits")
        place.set_title("quantised by " + method)
        place.set_xlabel("eigenvalue λ of the component")
    axes[0].set_ylabel("bits per weight")
    axes[0].legend(fontsize=7.5, title="mean rate", title_fontsize=7.5)
    return figure, (
        f"Bits of each component in the eigenbasis of {moment.label} (dots) against reverse "
        "waterfilling at the same distortion (lines, ½ log2(σ²λ/θ) or nothing below the water). At "
        "4 bits every component pays 0.2546 above the line; WaterSIC, which knows no water level, "
        "also spends a little on components that should be silent."
    )
