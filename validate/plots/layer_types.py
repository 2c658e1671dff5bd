"""What every other method pays above WaterSIC, layer by layer, with the layers' own weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..claims.families import NATURAL, ORDERED, ROTATED, advantages_by_layer
from ..claims.finding import bits, listed
from ..claims.measure import RTN
from ..claims.measurements import Measurements
from .style import BLUE, GREEN, ORANGE, VERMILION, Look, legend_below, new_figure

SERIES = {
    RTN: ("RTN", Look(ORANGE, "^", "")),
    NATURAL: ("GPTQ, natural order", Look(VERMILION, "s", "")),
    ROTATED: ("GPTQ after Haar", Look(BLUE, "o", "")),
    ORDERED: ("GPTQ, activation order", Look(GREEN, "D", "")),
}
SHOWN = (2.0, 4.0)
APART = np.linspace(-0.27, 0.27, len(SERIES))
"""Each method has a line of its own within the type, so that no mark hides another's."""


def advantages(measurements: Measurements) -> tuple[Any, str] | None:
    """One panel for each rate, in it a line for each type of layer and a mark for each layer."""
    plan = measurements.plan
    rates = [rate for rate in SHOWN if rate in plan.own_rates]
    if not plan.layers or not rates:
        return None
    labels = sorted({layer.label for layer in plan.layers})
    figure, axes = new_figure(
        3.4 + 2.3 * len(rates), 1.3 + 0.36 * len(labels), len(rates), sharey=True, squeeze=False
    )
    for place, rate in zip(axes[0], rates, strict=True):
        by_layer = advantages_by_layer(measurements, rate)
        at = [labels.index(layer.label) for layer, _ in by_layer]
        for (name, (words, look)), apart in zip(SERIES.items(), APART, strict=True):
            behind = [found[name].mean for _, found in by_layer]
            place.plot(behind, at + apart, label=words, **look.options(markersize=4))
        place.axvline(0, color="black", linewidth=1)
        place.set_title(f"at {bits(rate)}")
        place.set_xlabel("bits per weight above WaterSIC")
    axes[0][0].set_yticks(range(len(labels)), labels)
    axes[0][0].set_ylim(len(labels) - 0.5, -0.5)
    legend_below(figure, axes[0][0], len(SERIES))
    return figure, (
        f"What other methods pay above WaterSIC at {listed(bits(rate) for rate in rates)}, by type "
        "of layer, with the layers' own weights (rate_column, no side information), all with the "
        "damping 0.0001; GPTQ's own default of 0.01 brings it nearer. Left of 0 a method is better "
        "than WaterSIC. The weights of SmolLM2 already lie on a 4-bit grid."
    )
