"""What `waterlevel claims` prints, no wider than 100 columns, and the JSON beside it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..support.console import UNDEFINED, number
from .finding import EQUAL, Finding, Row, labels, of_label
from .measure import Measurement
from .measurements import Measurements
from .moments import Layer, Moment

WIDTH, NAME, CELL = 100, 26, 9
INTRODUCTION = """\
Each claim of theory against measurements. A cell is the mean over repetitions and, in brackets, its
standard error in units of the last digit, rounded up: .255(1) is 0.255 ± 0.001. “x” marks what is
outside its tolerance, “—” what decides nothing. The tolerance is 99% of Student's t, and a quarter
of the expected error of counting entropies from few rows, which is itself taken off. Gaps are to
the limit for Gaussian weights."""


def text(
    findings: Sequence[Finding], layers: Sequence[Layer], left_out: Sequence[str], wide: int
) -> str:
    """All findings, the layers, and a table of verdicts."""
    parts = [INTRODUCTION, *(_finding(finding) for finding in findings)]
    if layers:
        parts.append("\n".join(["Layers", *_layers(layers)]))
    if left_out:
        parts.append(
            _wrapped(
                "",
                f"Left out, with more than {wide} inputs (--full takes them in): "
                f"{', '.join(left_out)}.",
            )
        )
    return "\n\n".join([*parts, verdicts(findings)])


def verdicts(findings: Sequence[Finding]) -> str:
    """A line or two for each claim."""
    lines = ["Verdicts"]
    for finding in findings:
        lines.append(_wrapped(f"{finding.name:<13}{finding.verdict:<13}", finding.result))
    return "\n".join(lines)


def _layers(layers: Sequence[Layer]) -> list[str]:
    """One type of layer after the other: which, how large, and what must be said of them."""
    lines = []
    for label in dict.fromkeys(layer.label for layer in layers):
        found = [layer for layer in layers if layer.label == label]
        different = len({layer.moments for layer in found})
        names = found[0].name if len(found) == 1 else f"{len(found)} layers with {different} Σ"
        shapes = dict.fromkeys("×".join(map(str, layer.shape)) for layer in found)
        remarks = dict.fromkeys(remark for layer in found for remark in layer.remarks)
        words = f"{label}: {names}, {' and '.join(shapes)}. {' '.join(remarks)}"
        lines.append(_wrapped("  ", words.strip()))
    return lines


def _finding(finding: Finding) -> str:
    lines = [_wrapped(f"{finding.name.capitalize()}. ", finding.claim)]
    lines += [_wrapped("  inputs   ", line) for line in finding.inputs[:1]]
    lines += [_wrapped("           ", line) for line in finding.inputs[1:]]
    lines.append(_wrapped("  rule     ", finding.rule))
    lines.append(_wrapped("  claimed  ", finding.claimed))
    lines.append(_wrapped("  measured ", finding.quantity))
    lines += _table(finding.rows)
    lines.append(_wrapped("  verdict  ", f"{finding.verdict.upper()}. {finding.result}"))
    lines += [_wrapped("  note     ", note) for note in finding.notes]
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    rates = sorted({row.rate for row in rows}, key=lambda rate: -1.0 if rate is None else rate)
    heads = ["Σ alone" if rate is None else f"{rate:g}" for rate in rates]
    lines = [_line("    bits", [f"{head}  " for head in heads])] if rows else []
    common = {row.claimed for row in rows if row.relation == EQUAL}
    for label in labels(rows):
        found = {row.rate: row for row in of_label(rows, label)}
        cells = [_cell(found.get(rate)) for rate in rates]
        lines += _labelled(f"    {label}", cells)
        claims = [
            found[rate].claimed if rate in found and found[rate].relation == EQUAL else None
            for rate in rates
        ]
        if len(common) > 1 and any(claim is not None for claim in claims):
            lines += _labelled("      claimed", [_claim(claim) for claim in claims])
    return lines


def _labelled(label: str, cells: Sequence[str]) -> list[str]:
    if len(label) > NAME:
        return [label, _line("", cells)]
    return [_line(label, cells)]


def _line(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{NAME}}{''.join(f'{cell:>{CELL}}' for cell in cells)}".rstrip()


def _cell(row: Row | None) -> str:
    """A number as .255(1)x.

    >>> from .estimate import Estimate
    >>> _cell(Row("Σ", 2.0, Estimate(0.2551, 0.0003, 4, 0.0), holds=True))
    '.255(1) '
    >>> _cell(Row("Σ", 2.0, Estimate(-1.25, 0.0121, 4, 0.0), holds=False))
    '-1.250(13)x'
    """
    if row is None:
        return " "
    mark = {True: " ", False: "x", None: UNDEFINED if row.claimed is not None else " "}[row.holds]
    error = row.measured.error
    bracket = "" if math.isnan(error) else f"({max(1, math.ceil(error * 1000))})"
    return f"{_short(row.measured.mean)}{bracket}{mark}"


def _claim(claimed: float | None) -> str:
    return " " if claimed is None else f"{_short(claimed)} "


def _short(value: float) -> str:
    text = number(value, 3)
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _wrapped(mark: str, words: str) -> str:
    return textwrap.fill(
        words, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark),
        break_on_hyphens=False,
    )  # fmt: skip


def to_dict(findings: Sequence[Finding], measurements: Measurements) -> dict[str, Any]:
    """Findings and measurements, ready for JSON."""
    return {
        "findings": [
            {**asdict(finding), "rows": [_row(row) for row in finding.rows]} for finding in findings
        ],
        "measurements": [_measurement(m) for m in measurements.by_case.values()],
    }


def _row(row: Row) -> dict[str, Any]:
    return {**asdict(row), "measured": asdict(row.measured)}


def describe(moment: Moment) -> dict[str, Any]:
    """A Σ, ready for JSON."""
    if isinstance(moment, Layer):
        return {"layer": moment.name, "family": moment.family, "type": moment.type, "n": moment.n}
    return {"family": moment.family, "parameter": moment.parameter, "n": moment.n}


def _measurement(measured: Measurement) -> dict[str, Any]:
    case: Mapping[str, Any] = vars(measured.case)
    numbers = {k: v for k, v in vars(measured).items() if k not in ("case", "column_rates")}
    return {**case, "moment": describe(measured.case.moment), **numbers}
