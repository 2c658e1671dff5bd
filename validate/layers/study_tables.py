"""The tables of `waterlevel study`, no wider than 100 columns."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..support.console import number
from .remarks import decibels

WIDTH = 100
RATES_SIDE_BY_SIDE = 3
FAILED = "failed"
NAME, GROUP = 13, 29  # columns of a method's name, and of what belongs to one rate
LEGEND = """\
rate    what a file costs, bits per weight: entropy coded, side information included; searched for
column  rate_column: the mean of each column's own entropy, without side information
D       distortion: tr((Ŵ-W) Σ (Ŵ-W)ᵀ) per weight
dB      of D over the energy of the output, tr(W Σ Wᵀ) per weight
limit   limit for Gaussian weights: the least rate that reverse waterfilling allows at this D
gap     column - limit. In theory WaterSIC and waterfilling end at 0.255 for Gaussian weights; those
        of a model are not quite Gaussian, so their gap can be smaller."""
MISSED = "*"
MISSED_LEGEND = "*       the rate was not met: what stands there is the closest result"
SUMMARY_LEGEND = """\
gap     column - limit for Gaussian weights: its mean over the layers, [the least, the most]
paid    mean of rate - limit: the gap with the side information counted, which weighs more on the
        few rows of a cut layer than on all of them, most of all for WaterSIC"""
REPRODUCIBLE = (
    "Limit and gap rest on eigenvalues, waterfilling on eigenvectors, by LAPACK: their last digits "
    "may differ between machines. All other numbers are the same bits everywhere. The rates of "
    "waterfilling leave out its eigenvectors, a number for each pair of inputs."
)


def text(report: Mapping[str, Any], wide: int) -> str:
    """Everything that `waterlevel study` prints but for how it was computed."""
    layers, methods, rates = report["layers"], report["methods"], report["rates"]
    notes = list(dict.fromkeys(remark for layer in layers for remark in layer["remarks"]))
    met = all(result["rate_met"] for layer in layers for result in layer["results"])
    parts = [LEGEND if met else f"{LEGEND}\n{MISSED_LEGEND}"]
    parts += [_layer_text(layer, methods, rates, notes) for layer in layers]
    if notes:
        parts.append("\n".join(_wrapped(f"[{i}] ", note) for i, note in enumerate(notes, 1)))
    if len(layers) > 1:
        parts.append(_summary_text(report["summary"], len(layers), methods, rates))
    if report["left_out"]:
        names = ", ".join(report["left_out"])
        parts.append(
            _wrapped("", f"Left out, with more than {wide} inputs (--all takes it in): {names}.")
        )
    return "\n\n".join([*parts, _wrapped("", REPRODUCIBLE)])


def summarize(
    layers: Sequence[Mapping[str, Any]], methods: Sequence[str], rates: Sequence[float]
) -> list[dict[str, Any]]:
    """For each rate and method over its layers: mean, least, most gap; mean of rate - limit.

    `layers` counts them: one where the method failed is not among them.
    """
    summary = []
    for rate in rates:
        for method in methods:
            everywhere = (find(layer["results"], method, rate) for layer in layers)
            found = [result for result in everywhere if result is not None]
            if not found:
                continue
            gaps = [result["gap"] for result in found]
            summary.append(
                {
                    "method": method,
                    "target": rate,
                    "layers": len(found),
                    "gap_mean": statistics.fmean(gaps),
                    "gap_least": min(gaps),
                    "gap_most": max(gaps),
                    "paid_mean": statistics.fmean(r["rate"] - r["limit"] for r in found),
                }
            )
    return summary


def find(
    results: Sequence[Mapping[str, Any]], method: str, rate: float
) -> Mapping[str, Any] | None:
    """The one of this method at this rate; None if it failed."""
    return next((r for r in results if r["method"] == method and r["target"] == rate), None)


def _layer_text(
    layer: Mapping[str, Any], methods: Sequence[str], rates: Sequence[float], notes: Sequence[str]
) -> str:
    shape, whole = ("×".join(map(str, layer[key])) for key in ("shape", "whole_shape"))
    size = shape if shape == whole else f"{shape} of {whole}"
    origin = " of ".join(filter(None, (layer["type"], layer["model"])))
    marks = ",".join(str(notes.index(remark) + 1) for remark in layer["remarks"])
    title = f"{layer['name']}: {', '.join(filter(None, (origin, size)))}"

    def cell(method: str, rate: float) -> str:
        result = find(layer["results"], method, rate)
        if result is None:
            return f"{FAILED:^{GROUP - 1}}"
        column, limit, gap = (number(result[key], 3) for key in ("rate_column", "limit", "gap"))
        mark = " " if result["rate_met"] else MISSED
        return f"{column:>5} {result['distortion']:8.2e} {limit:>5} {gap:>6}{mark}"

    lines = _side_by_side(methods, rates, "column    D     limit    gap ", cell)
    heading = _wrapped("", f"{title}[{marks}]" if marks else title)
    return "\n".join([heading, lines, "", *_relative_errors(layer, methods, rates)])


def _relative_errors(
    layer: Mapping[str, Any], methods: Sequence[str], rates: Sequence[float]
) -> list[str]:
    """D in dB of the output's energy, all methods at a rate in one line."""
    lines = []
    for rate in rates:
        found = [(method, find(layer["results"], method, rate)) for method in methods]
        said = (f"{method} {decibels(r['relative_error'])}" for method, r in found if r is not None)
        lines.append(_wrapped("dB  ", f"at rate {rate:g}: {', '.join(said).replace(' dB', '')}"))
    return lines


def _summary_text(
    summary: Sequence[Mapping[str, Any]],
    layers: int,
    methods: Sequence[str],
    rates: Sequence[float],
) -> str:
    def cell(method: str, rate: float) -> str:
        line = find(summary, method, rate)
        if line is None:
            return f"{FAILED:^{GROUP - 1}}"
        mean, least, most, paid = (
            number(line[key], 3) for key in ("gap_mean", "gap_least", "gap_most", "paid_mean")
        )
        return f"{mean:>6} [{least:>6},{most:>6}] {paid:>5}"

    lines = _side_by_side(methods, rates, "gap [ least,  most]  paid", cell)
    return f"Over {layers} layers, bits per weight\n{lines}\n\n{SUMMARY_LEGEND}"


def _side_by_side(
    methods: Sequence[str],
    rates: Sequence[float],
    columns: str,
    cell: Callable[[str, float], str],
) -> str:
    """A row for each method, a group of columns for each rate, a few rates side by side."""
    lines = []
    for first in range(0, len(rates), RATES_SIDE_BY_SIDE):
        some = rates[first : first + RATES_SIDE_BY_SIDE]
        lines.append(_row("", (f"{f'rate {rate:g}':^{GROUP}}" for rate in some)))
        lines.append(_row("", (columns for _ in some)))
        lines += [_row(method, (cell(method, rate) for rate in some)) for method in methods]
    return "\n".join(lines)


def _row(method: str, groups: Iterable[str]) -> str:
    return f"{method:{NAME}}{''.join(f'{group:>{GROUP}}' for group in groups)}".rstrip()


def _wrapped(mark: str, text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_on_hyphens=False
    )
