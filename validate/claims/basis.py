"""Claim 2: WaterSIC's distortion does not depend on the basis at 6 bits and more; at 1–4 it does.

The same weights are quantised as they stand and after a Haar rotation, and the gaps are subtracted:
what the basis costs at the same rate. Beside it stands what the recursion expects of it, from Σ
alone.

Objection 2 asks whether basis independence survives at low rates, on all Σ, real ones included.
"""

from __future__ import annotations

from collections.abc import Iterable

from .estimate import Estimate
from .finding import (
    EQUAL,
    FAILS,
    HOLDS,
    PARTLY,
    Finding,
    Row,
    bits,
    decided,
    from_rate,
    labels,
    of_label,
    verdict,
)
from .measure import WATERSIC, Measurement, true_gap
from .measurements import Measurements
from .moments import Moment
from .subjects import (
    CONDITIONS,
    UNDAMPED,
    flat,
    layer_input,
    real,
    remarks,
    synthetic,
    synthetic_input,
)

HIGH, LOW = 6.0, 4.0
QUANTITY = "gap of WaterSIC after Haar minus gap as is, bits per weight"
ROTATED, AS_IS = (True, WATERSIC), (False, WATERSIC)


def find(measurements: Measurements) -> Finding:
    """The verdict on claim 2."""
    measured = _differences(measurements, synthetic(measurements))
    high = [row for row in measured if row.rate is not None and row.rate >= HIGH]
    low = [row for row in measured if row.rate is not None and row.rate <= LOW]
    # Each Σ must show its dependence at some low rate.
    depends = [any(row.holds is False for row in of_label(low, label)) for label in labels(low)]
    outcome = verdict(high)
    if outcome == HOLDS and not all(depends):
        outcome = PARTLY if any(depends) else FAILS
    predicted = [
        Row(f"  recursion, {label}", rate, expected)
        for label, moments in synthetic(measurements).items()
        for rate in measurements.rates(moments, WATERSIC)
        if (expected := _expected(measurements, moments, rate)) is not None
    ]
    rows = [
        row for label in labels(measured) for row in [*of_label(measured, label), *(
            p for p in predicted if p.label.endswith(f", {label}")
        )]
    ]  # fmt: skip
    return Finding(
        name="claim 2",
        claim="WaterSIC does not depend on the basis at 6 bits and more; at 1–4 bits it does.",
        claimed="0 at 6 bits and more; at 1–4 bits what the recursion says",
        quantity=QUANTITY,
        inputs=(synthetic_input(measurements.plan), UNDAMPED),
        rule="0 within tolerance at every rate from 6 bits on, and outside it at one of 1–4 bits "
        "at least, for every Σ",
        rows=tuple(rows),
        verdict=outcome,
        result=_sentence(measured),
    )


def find_at_low_rate(measurements: Measurements) -> Finding:
    """The verdict on objection 2."""
    rows = [
        row
        for row in _differences(measurements, {**synthetic(measurements), **real(measurements)})
        if row.rate is not None and row.rate <= LOW
    ]
    return Finding(
        name="objection 2",
        claim="Does basis independence survive at 1–4 bits?",
        claimed="0 at every rate",
        quantity=QUANTITY,
        inputs=(synthetic_input(measurements.plan), layer_input(measurements.plan), CONDITIONS),
        rule="basis independence holds where the difference is 0 within tolerance",
        rows=tuple(rows),
        verdict=verdict(rows),
        result=_sentence(rows),
        notes=remarks(flat(real(measurements))),
    )


def _differences(measurements: Measurements, groups: dict[str, list[Moment]]) -> list[Row]:
    rows = []
    for label, moments in groups.items():
        for rate in measurements.rates(moments, WATERSIC):
            measured = measurements.difference(moments, ROTATED, AS_IS, rate, true_gap)
            if measured is not None:
                rows.append(decided(label, rate, 0.0, measured, EQUAL))
    return rows


def _expected(measurements: Measurements, moments: list[Moment], rate: float) -> Estimate | None:
    found = [
        m for s in moments for r in (False, True) for m in measurements.find(s, r, WATERSIC, rate)
    ]
    if not found or any(m.predicted_gap is None for m in found):
        return None
    return measurements.difference(moments, ROTATED, AS_IS, rate, _predicted_gap)


def _predicted_gap(measured: Measurement) -> float:
    assert measured.predicted_gap is not None
    return measured.predicted_gap


def _sentence(rows: Iterable[Row]) -> str:
    rows = list(rows)
    if not rows:
        return "Nothing was measured."
    largest = max(rows, key=lambda row: abs(row.measured.mean))
    since = {label: from_rate(of_label(rows, label)) for label in labels(rows)}
    arrived = [rate for rate in since.values() if rate is not None]
    text = (
        f"The basis costs up to {largest.measured.mean:+.3f} bit ({largest.label} at "
        f"{bits(largest.rate)})"
    )
    if not arrived:
        return f"{text}; it is nothing, within tolerance, for no Σ at its highest rate."
    few = "" if len(arrived) == len(since) else f" (on {len(arrived)} of {len(since)} Σ)"
    return f"{text}; from {max(arrived):g} bits on it is nothing, within tolerance{few}."
