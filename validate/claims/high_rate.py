"""Claim 1: WaterSIC's gap tends to 0.2546 bit as the rate grows, for every Σ tried.

The claim is about a limit, so the highest rate decides, for every Σ for which it is a high one: all
components active, D ≤ σ²·λ_min. Where that was not reached, the number is shown and decides
nothing.
"""

from __future__ import annotations

from ...reference.theory.scalar import SCALAR_GAP
from .finding import EQUAL, Finding, Row, decided, from_rate, labels, of_label, shown, verdict
from .measure import WATERSIC, true_gap
from .measurements import Measurements
from .moments import Moment
from .subjects import (
    EXACT_NUMBER,
    UNDAMPED,
    flat,
    in_basis,
    layer_input,
    real,
    remarks,
    synthetic,
    synthetic_input,
)


def find(measurements: Measurements) -> Finding:
    """The verdict on claim 1."""
    rows: list[Row] = []
    worst = [
        m for m in measurements.plan.adversaries if m.parameter == min(measurements.plan.epsilons)
    ]
    groups: dict[str, list[Moment]] = {
        **synthetic(measurements),
        **{moment.label: [moment] for moment in worst},
        **real(measurements),
    }
    for label, moments in groups.items():
        for rotated in (False, True):
            rows += _curve(measurements, in_basis(label, rotated), moments, rotated)
    decisive = [row for row in rows if row.holds is not None]
    tops = [of_label(decisive, label)[-1] for label in labels(decisive)]
    since = [rate for label in labels(decisive) if (rate := from_rate(of_label(decisive, label)))]
    reached = sum(bool(row.holds) for row in tops)
    undecided = len(labels(rows)) - len(labels(decisive))
    tolerances = [row.tolerance for row in tops if row.tolerance is not None]
    result = f"At the highest rate {reached} of {len(tops)} are at 0.2546"
    if tolerances:
        result += f" within {min(tolerances):.3f} to {max(tolerances):.3f}"
    result += f"; the last of them arrives at {max(since):g} bits." if since else "."
    if undecided:
        result += (
            f" {undecided} more (—) have inactive components at every rate measured here, and "
            "decide nothing."
        )
    return Finding(
        name="claim 1",
        claim="WaterSIC's gap tends to 0.2546 bit as the rate grows, for every Σ tried.",
        claimed="0.2546 bit",
        quantity="gap of WaterSIC, bits per weight",
        inputs=(synthetic_input(measurements.plan), layer_input(measurements.plan), UNDAMPED),
        rule="for each Σ the highest rate decides, if D ≤ σ²·λ_min there: |gap - 0.2546| within "
        "tolerance",
        rows=tuple(rows),
        verdict=verdict(tops),
        result=result,
        notes=remarks(flat(real(measurements))),
    )


def _curve(
    measurements: Measurements, label: str, moments: list[Moment], rotated: bool
) -> list[Row]:
    rows, all_active = [], False
    for rate in measurements.rates(moments, WATERSIC):
        measured = measurements.estimate(moments, rotated, WATERSIC, rate, true_gap, damping=0.0)
        if measured is None:
            continue
        rows.append(decided(label, rate, SCALAR_GAP, measured, EQUAL, EXACT_NUMBER))
        found = [
            m for s in moments for m in measurements.find(s, rotated, WATERSIC, rate, damping=0.0)
        ]
        all_active = max(m.weakest for m in found) <= 1
    return rows if all_active else [shown(row) for row in rows]
