"""Objection 3: does the result hold on more than one family of models?

On each layer, with its own weights, the best of GPTQ in natural order, in activation order and
after a Haar rotation is held against WaterSIC at the same rate_column. A layer has its weights only
once: where a type has one layer, its number stands for itself, and the spread over a family's
layers is shown beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .estimate import Estimate
from .finding import ABOVE, OPEN, Finding, Row, bits, decided, labels, listed, of_label, verdict
from .measure import ACTORDER, GPTQ, OWN, RTN, WATERSIC, true_gap
from .measurements import Measurements
from .moments import Layer, Moment
from .subjects import CONDITIONS, families, flat, own_input, real, remarks

NATURAL, ORDERED, ROTATED, BEST = "natural", "actorder", "Haar", "best GPTQ"
GPTQS = {NATURAL: (False, GPTQ), ORDERED: (False, ACTORDER), ROTATED: (True, GPTQ)}
COMPARED = {**GPTQS, "RTN": (False, RTN)}


def find(measurements: Measurements) -> Finding:
    """The verdict on objection 3."""
    plan = measurements.plan
    rows: list[Row] = []
    for label, moments in real(measurements).items():
        for rate in plan.own_rates:
            each = [_advantages(measurements, moment, rate) for moment in moments]
            best = [min((found[name] for name in GPTQS), key=lambda e: e.mean) for found in each]
            rows.append(decided(f"{label}: {BEST}", rate, 0.0, _together(best), ABOVE))
    for family in families(plan):
        layers = [layer for layer in plan.layers if layer.family == family]
        for name in COMPARED:
            for rate in plan.own_rates:
                each = [_advantages(measurements, layer, rate)[name] for layer in layers]
                rows.append(Row(f"all {family}: {name}", rate, _together(each)))
    outcome = verdict(rows)
    return Finding(
        name="objection 3",
        claim="Does WaterSIC's advantage hold on more than one family of models?",
        claimed="more than 0 on every layer type of every family",
        quantity="gap of another method minus gap of WaterSIC, bits per weight",
        inputs=(own_input(plan), CONDITIONS),
        rule="for every type of layer and rate the best of three GPTQs (natural, activation order, "
        "Haar) is behind WaterSIC by more than the tolerance; means over a family are shown",
        rows=tuple(row for label in labels(rows) for row in of_label(rows, label)),
        verdict=outcome,
        result=_sentence(rows) if outcome != OPEN else "No layers were given.",
        notes=remarks(flat(real(measurements))),
    )


def _sentence(rows: list[Row]) -> str:
    deciding = [row for row in rows if row.holds is not None]
    behind = [f"{row.label} at {bits(row.rate)}" for row in deciding if not row.holds]
    best = [row.measured.mean for row in rows if row.label.endswith(BEST)]
    text = (
        f"WaterSIC is ahead of the best GPTQ in {len(deciding) - len(behind)} of {len(deciding)} "
        f"cases, by {min(best):.3f} to {max(best):.3f} bit"
    )
    return f"{text}; not in {listed(behind)}." if behind else f"{text}."


def advantages_by_layer(
    measurements: Measurements, rate: float
) -> list[tuple[Layer, dict[str, Estimate]]]:
    """Of every layer: by how many bits each other method is behind WaterSIC; for figures."""
    return [(layer, _advantages(measurements, layer, rate)) for layer in measurements.plan.layers]


def _advantages(measurements: Measurements, layer: Moment, rate: float) -> dict[str, Estimate]:
    found = {}
    for name, other in COMPARED.items():
        behind = measurements.difference([layer], other, (False, WATERSIC), rate, true_gap, OWN)
        assert behind is not None
        found[name] = behind
    return found


def _together(layers: Sequence[Estimate]) -> Estimate:
    """The mean over layers; what is in doubt about the counts of each stays in doubt."""
    if len(layers) == 1:
        return layers[0]
    return Estimate.of([e.mean for e in layers], float(np.mean([e.bias for e in layers])))
