"""The recursion: does WaterSIC's whole curve follow from Σ, σ² and the spacing alone?

Each measurement is compared with the prediction for the spacing that it used, so that nothing but
the recursion's one assumption is tested: that every target is Gaussian. Two numbers are predicted,
the rate and the gap.
"""

from __future__ import annotations

from .finding import EQUAL, Finding, Row, bits, decided, listed, verdict
from .measure import WATERSIC, Measurement, true_gap
from .measurements import Measurements
from .moments import Moment
from .subjects import (
    UNDAMPED,
    flat,
    in_basis,
    layer_input,
    real,
    remarks,
    synthetic,
    synthetic_input,
)

CLAIMED = 0.003  # bit, in 20 simulated points


def find(measurements: Measurements) -> Finding:
    """The verdict on the recursion."""
    rows: list[Row] = []
    rates_missed: list[float] = []
    groups: dict[str, list[Moment]] = {**synthetic(measurements), **real(measurements)}
    for label, moments in groups.items():
        for rotated in (False, True):
            for rate in measurements.rates(moments, WATERSIC):
                gap = measurements.estimate(
                    moments, rotated, WATERSIC, rate, _gap_missed, damping=0.0
                )
                missed = measurements.estimate(
                    moments, rotated, WATERSIC, rate, _rate_missed, damping=0.0
                )
                if gap is None or missed is None:
                    continue
                rows.append(decided(in_basis(label, rotated), rate, 0.0, gap, EQUAL, CLAIMED))
                if rows[-1].holds is not None:
                    rates_missed.append(abs(missed.mean))
    deciding = [row for row in rows if row.holds is not None]
    within = sum(bool(row.holds) for row in deciding)
    worst = max(deciding, key=lambda row: abs(row.measured.mean))
    return Finding(
        name="recursion",
        claim="WaterSIC's whole curve follows from Σ, σ² and the spacing by a recursion.",
        claimed="0, within 0.003 bit",
        quantity="gap of WaterSIC minus the predicted one, bits per weight",
        inputs=(synthetic_input(measurements.plan), layer_input(measurements.plan), UNDAMPED),
        rule="within 0.003 bit and tolerance at every point",
        rows=tuple(rows),
        verdict=verdict(rows),
        result=f"{within} of {len(deciding)} points within 0.003 and tolerance; the gap is off by "
        f"{worst.measured.mean:+.4f} at most ({worst.label} at {bits(worst.rate)}), the rate by "
        f"{max(rates_missed):.4f}.{_beyond(deciding)}",
        notes=remarks(flat(real(measurements))),
    )


def _beyond(rows: list[Row]) -> str:
    named = [
        f"{row.label} at {bits(row.rate)} ({row.measured.mean:+.4f})"
        for row in rows
        if not row.holds
    ]
    return f" Beyond: {listed(named)}." if named else ""


def _gap_missed(measured: Measurement) -> float:
    assert measured.predicted_gap is not None
    return true_gap(measured) - measured.predicted_gap


def _rate_missed(measured: Measurement) -> float:
    assert measured.predicted_rate is not None
    return measured.rate_column - measured.bias - measured.predicted_rate
