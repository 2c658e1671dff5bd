"""Objection 1: how large is WaterSIC's gap really at 1–4 bits?

Published figures quote the 0.2546 bit of high rate. Held against it is the gap at each low rate, on
synthetic Σ in both bases, on real Σ, and with the layers' own weights. The limit is that of
Gaussian weights; own weights are not Gaussian and can be nearer to it, even below 0.2546.
"""

from __future__ import annotations

from ...reference.theory.scalar import SCALAR_GAP
from .finding import AT_MOST, Finding, Row, bits, decided, listed, verdict
from .measure import GAUSSIAN, OWN, WATERSIC, true_gap
from .measurements import Measurements
from .moments import Moment
from .subjects import (
    BASES,
    CONDITIONS,
    EXACT_NUMBER,
    flat,
    layer_input,
    own_input,
    real,
    remarks,
    synthetic,
    synthetic_input,
)

HIGHEST = 4.0


def find(measurements: Measurements) -> Finding:
    """The verdict on objection 1."""
    rows: list[Row] = []
    for label, moments in {**synthetic(measurements), **real(measurements)}.items():
        for weights in (GAUSSIAN, OWN):
            for rotated in (False, True):
                name = f"{label}, {BASES[rotated] if weights == GAUSSIAN else 'own W'}"
                rows += _curve(measurements, name, moments, rotated, weights)
    rates = sorted({row.rate for row in rows if row.rate is not None})
    spans = []
    for rate in rates:
        gaps = [row.measured.mean for row in rows if row.rate == rate]
        spans.append(f"{min(gaps):.3f}–{max(gaps):.3f} at {bits(rate)}")
    return Finding(
        name="objection 1",
        claim="How large is WaterSIC's gap at 1–4 bits?",
        claimed="0.2546 bit at most (the number that is quoted)",
        quantity="gap of WaterSIC, bits per weight",
        inputs=(
            synthetic_input(measurements.plan),
            layer_input(measurements.plan),
            own_input(measurements.plan),
            CONDITIONS,
        ),
        rule="at most 0.2546 within tolerance, for every Σ and rate",
        rows=tuple(rows),
        verdict=verdict(rows),
        result=f"{listed(spans)}.",
        notes=remarks(flat(real(measurements))),
    )


def _curve(
    measurements: Measurements, name: str, moments: list[Moment], rotated: bool, weights: str
) -> list[Row]:
    rows = []
    for rate in measurements.rates(moments, WATERSIC, weights):
        measured = measurements.estimate(moments, rotated, WATERSIC, rate, true_gap, weights)
        if measured is not None and rate <= HIGHEST:
            rows.append(decided(name, rate, SCALAR_GAP, measured, AT_MOST, EXACT_NUMBER))
    return rows
