"""What is said about a quantiser on a terminal."""

from __future__ import annotations

from collections import Counter

from ..support.console import one_line, table
from .outcome import FAILED, LEVELS, NAMED_TIES, NEAR_TIES, Judgement
from .run import QuantizerReport

LINES = 12  # of cases below one heading


def to_text(report: QuantizerReport, golden: set[str], verbose: bool = False) -> str:
    """A table of the layers, a line for the golden cases, what differs, and why.

    Args:
        golden: the names of golden cases. verbose: name everything.
    """
    on_layers = [found for found in report.judgements if found.case not in golden]
    in_golden = [found for found in report.judgements if found.case in golden]
    parts = []
    if on_layers:
        rows = [(f.case, f.level, _bits(f), _detail(f)) for f in on_layers]
        parts.append(table(rows, ("layer and setting", "level", "bits lost", "")))
    if in_golden:
        counts = Counter(found.level for found in in_golden)
        said = ", ".join(f"{counts[level]} {level}" for level in LEVELS if counts[level])
        parts.append(f"golden cases: {said}")
    ties = [found for found in report.judgements if found.level == NEAR_TIES and found.ties]
    lines = [
        f"{found.case}: {tie.line()}"
        for found in ties
        for tie in (found.ties if verbose else found.ties[:NAMED_TIES])
    ]
    parts.append(_section("near-ties", lines, verbose))
    failed = [f"{f.case}: {one_line(f.why)}" for f in report.judgements if f.level == FAILED]
    parts.append(_section("no answer", failed, verbose))
    parts.append(_section("causes, of the meaning", report.search.lines(), verbose))
    parts.append(_section("arithmetic", list(report.arithmetic), verbose))
    lacking = Counter(name for _, names in report.skipped for name in names)
    if lacking:
        said = ", ".join(f"{name} ({count})" for name, count in lacking.most_common())
        parts.append(f"{len(report.skipped)} cases skipped, for what is not taken: {said}")
    parts.append(_verdict(report))
    return "\n\n".join(part for part in parts if part)


def _section(title: str, lines: list[str], verbose: bool) -> str:
    if not lines:
        return ""
    shown = lines if verbose else lines[:LINES]
    rest = [f"… and {len(lines) - len(shown)} more (--verbose)"] if len(lines) > len(shown) else []
    return "\n".join([f"{title}:", *(f"  {line}" for line in [*shown, *rest])])


def _bits(found: Judgement) -> str:
    return "" if found.bits_lost is None else f"{found.bits_lost:+.3f}"


def _detail(found: Judgement) -> str:
    return one_line(found.why)[:70]


def _verdict(report: QuantizerReport) -> str:
    counts = Counter(found.level for found in report.judgements)
    said = ", ".join(f"{counts[level]} {level}" for level in LEVELS if counts[level])
    return f"{report.name}: {said or 'no case could be run'}, {report.seconds:.0f} s"
