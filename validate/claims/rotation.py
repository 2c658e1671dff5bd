"""Claim 4: on real activations GPTQ after a random rotation is within about 0.1 bit of WaterSIC.

A statement about real spectra, so the weights are Gaussian and only Σ is real. Both methods run on
the same weights; WaterSIC in the basis in which the layer stands. "About 0.1" leaves 0.05 open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from .estimate import Estimate
from .finding import AT_MOST, OPEN, Finding, Row, bits, decided, labels, listed, of_label, verdict
from .measure import GPTQ, WATERSIC, true_gap
from .measurements import Measurements
from .moments import Moment
from .subjects import CONDITIONS, flat, layer_input, real, remarks

CLAIMED, ABOUT = 0.1, 0.05


def find(measurements: Measurements) -> Finding:
    """The verdict on claim 4."""
    rows, beside = [], []
    groups = real(measurements)
    for label, moments in groups.items():
        for rate in measurements.rates(moments, GPTQ):
            measured = _behind(measurements, moments, True, rate)
            if measured is None:
                continue
            rows.append(decided(label, rate, CLAIMED, measured, AT_MOST, ABOUT))
            each = [_behind(measurements, [moment], True, rate) for moment in moments]
            several = [found for found in each if found is not None]
            if len(several) > 1:
                furthest = max(several, key=lambda found: found.mean)
                beside.append(Row(f"  the furthest Σ, {label}", rate, furthest))
            unrotated = _behind(measurements, moments, False, rate)
            if unrotated is not None:
                beside.append(Row(f"  no rotation, {label}", rate, unrotated))
    together = [
        row
        for label in labels(rows)
        for row in [*of_label(rows, label), *(r for r in beside if r.label.endswith(f", {label}"))]
    ]
    return Finding(
        name="claim 4",
        claim="On real activations GPTQ after a random rotation is within about 0.1 bit of "
        "WaterSIC, layer type by layer type.",
        claimed="0.1 bit at most",
        quantity="gap of GPTQ after Haar minus gap of WaterSIC as is, bits per weight",
        inputs=(layer_input(measurements.plan), CONDITIONS),
        rule=f"for each type and rate: at most {CLAIMED:g}, and {ABOUT:g} for “about”, within "
        "tolerance",
        rows=tuple(together),
        verdict=verdict(rows),
        result=_sentence(rows) if verdict(rows) != OPEN else "No layers were given.",
        notes=remarks(flat(groups)),
    )


def _behind(
    measurements: Measurements, moments: Sequence[Moment], rotated: bool, rate: float
) -> Estimate | None:
    pair = (rotated, GPTQ), (False, WATERSIC)
    return measurements.difference(moments, *pair, rate, true_gap)


def _sentence(rows: list[Row]) -> str:
    """At how many of the types it holds, rate by rate up to where all of them do."""
    least, most = (f(row.measured.mean for row in rows) for f in (min, max))
    outcomes: dict[float, list[bool]] = defaultdict(list)
    for row in rows:
        if row.rate is not None and row.holds is not None:
            outcomes[row.rate].append(row.holds)
    told = []
    for rate in sorted(outcomes):
        if all(all(held) for higher, held in outcomes.items() if higher >= rate):
            told.append(f"all from {bits(rate)} on")
            break
        told.append(f"{sum(outcomes[rate])} of {len(outcomes[rate])} at {bits(rate)}")
    return f"{least:.3f} to {most:.3f} bit; types for which it holds: {listed(told)}."
