"""What every other method pays above WaterSIC, layer by layer, with the layers' own weights."""

from __future__ import annotations

from typing import Any

from ..claims.families import NATURAL, ORDERED, ROTATED, advantages_by_layer
from ..claims.laboratory import Laboratory
from ..claims.measure import RTN
from .style import BLUE, GREEN, ORANGE, VERMILION, Look, new_figure

SERIES = {
    RTN: ("RTN", Look(ORANGE, "^", "")),
    NATURAL: ("GPTQ, natural order", Look(VERMILION, "s", "")),
    ROTATED: ("GPTQ after Haar", Look(BLUE, "o", "")),
    ORDERED: ("GPTQ, activation order", Look(GREEN, "D", "")),
}


def advantages(laboratory: Laboratory) -> tuple[Any, str] | None:
    """One line for each type of layer, one panel for the lowest rate."""
    plan = laboratory.plan
    if not plan.layers:
        return None
    rate = min(plan.own_rates)
    by_layer = advantages_by_layer(laboratory, rate)
    labels = sorted({layer.label for layer, _ in by_layer})
    figure, axes = new_figure(6.4, 1.3 + 0.34 * len(labels))
    for name, (words, look) in SERIES.items():
        points = [(found[name], labels.index(layer.label)) for layer, found in by_layer]
        axes.plot(
            [x for x, _ in points], [y for _, y in points], label=words, **look.options(alpha=0.9)
        )
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(f"bits per weight above WaterSIC, at {rate:g} bits (rate_column)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.18), ncols=4, fontsize=7.5)
    return figure, (
        f"What other methods pay above WaterSIC at {rate:g} bits, by type of layer, with the "
        "layers' own weights (rate_column, no side information). Left of 0 a method is "
        "better than WaterSIC. The weights of SmolLM2 already lie on a 4-bit grid."
    )
