"""Claim 7: with one table for all codes WaterSIC loses its advantage; 16 classes recover it.

The advantage is GPTQ's gap minus WaterSIC's at the same rate_column. What a coarser table costs is
its entropy minus rate_column, no side information. The theory: one table costs at most
½ log2(AM/GM) of L_kk², which is the advantage at high rate.

**What sorting hides.** Columns go into classes by the mean square of the very codes that are then
counted. Of each column one number is known beforehand, and knowing a fitted number saves
1/(2a·ln 2) bits on the a codes that it was fitted to, and costs as much on any others: the classes
look cheaper than they are by 1/(a·ln 2) bits at most. Where that is more than a tenth of the claim,
the number is shown and decides nothing.

>>> [round(hidden_by_sorting(rows), 4) for rows in (128, 1024)]
[0.0113, 0.0014]
"""

from __future__ import annotations

import math

from .estimate import Estimate
from .finding import ABOVE, AT_MOST, Finding, Row, decided, labels, listed, shown, verdict
from .measure import GPTQ, WATERSIC, Measurement, true_gap
from .measurements import Measurements
from .subjects import CONDITIONS, flat, layer_input, real, remarks, synthetic, synthetic_input

CLAIMED, ABOUT = 0.015, 0.0005
VISIBLE = CLAIMED / 10
ADVANTAGE, ONE, SIXTEEN = ": advantage", ": one table", ": 16 classes"


def find(measurements: Measurements) -> Finding:
    """The verdict on claim 7."""
    rows: list[Row] = []
    shares = []
    for label, moments in {**synthetic(measurements), **real(measurements)}.items():
        for name, value in ((ADVANTAGE, None), (ONE, _one_table), (SIXTEEN, _sixteen)):
            for rate in measurements.rates(moments, WATERSIC):
                measured = (
                    measurements.difference(
                        moments, (False, GPTQ), (False, WATERSIC), rate, true_gap
                    )
                    if value is None
                    else measurements.estimate(moments, False, WATERSIC, rate, value)
                )
                if measured is None:
                    continue
                full = f"{label}{name}"
                if value is None:
                    rows.append(Row(full, rate, measured))
                elif value is _one_table:
                    rows.append(decided(full, rate, 0.0, measured, ABOVE))
                    shares.append((_find(rows, label, rate), measured, rate))
                else:
                    row = decided(full, rate, CLAIMED, measured, AT_MOST, ABOUT)
                    counted = min(
                        m.case.rows
                        for moment in moments
                        for m in measurements.find(moment, False, WATERSIC, rate)
                    )
                    rows.append(row if hidden_by_sorting(counted) <= VISIBLE else shown(row))
    lost = [one.mean / advantage.mean for advantage, one, _ in shares if advantage.mean > 0]
    return Finding(
        name="claim 7",
        claim="With one table for all codes WaterSIC loses part or all of its advantage over GPTQ; "
        "16 classes of columns recover it to within about 0.015 bit.",
        claimed="one table: more than 0; 16 classes: 0.015 bit at most",
        quantity="advantage over GPTQ, and what a table costs over a table per column, bits per "
        "weight",
        inputs=(synthetic_input(measurements.plan), layer_input(measurements.plan), CONDITIONS),
        rule=f"for every Σ and rate one table costs more than the tolerance, and 16 classes cost "
        f"at most {CLAIMED:g} within tolerance; what classes cost decides nothing (—) where "
        "fewer than 1000 rows were counted",
        rows=tuple(rows),
        verdict=verdict(rows),
        result=f"{_taken(lost)} {_classes(rows)}",
        notes=remarks(flat(real(measurements))),
    )


def _taken(shares: list[float]) -> str:
    if not shares:
        return "There is no advantage to lose;"
    return f"One table takes {100 * min(shares):.0f} to {100 * max(shares):.0f}% of the advantage;"


def _classes(rows: list[Row]) -> str:
    deciding = [row for row in rows if row.label.endswith(SIXTEEN) and row.holds is not None]
    if not deciding:
        return "too few rows to tell what 16 classes cost."
    costs = [row.measured.mean for row in deciding]
    text = f"16 classes cost {min(costs):.3f} to {max(costs):.3f} bit"
    over = labels(row for row in deciding if not row.holds)
    names = listed(label.removesuffix(SIXTEEN) for label in over) if over else ""
    return f"{text}, more than {CLAIMED:g} for {names}." if over else f"{text}."


def hidden_by_sorting(rows: int) -> float:
    """1/(a·ln 2) bits: by how much classes may look cheaper than they are."""
    return 1 / (rows * math.log(2))


def _find(rows: list[Row], label: str, rate: float) -> Estimate:
    name = f"{label}{ADVANTAGE}"
    return next(row.measured for row in rows if row.label == name and row.rate == rate)


def _one_table(measured: Measurement) -> float:
    return measured.rate_pooled - _per_column(measured)


def _sixteen(measured: Measurement) -> float:
    return measured.rate_classes - _per_column(measured)


def _per_column(measured: Measurement) -> float:
    """rate_column without the error of counting.

    A class joins the counts of at least four columns, which leaves it a quarter of that error or
    less: what the tolerance allows for.
    """
    return measured.rate_column - measured.bias
