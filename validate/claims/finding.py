"""What does an experiment say, and who decides?

An experiment ends in rows: a measured number, what was claimed of it, and a tolerance. Whether a
row holds is decided here, by one of three relations; a row without a claim is there to be read.

    equal      |measured - claimed| ≤ tolerance
    at most    measured - claimed ≤ tolerance
    above      measured - claimed > tolerance

The tolerance is that of the measurement (`estimate`) and, where the claim is a rounded or an
approximate number, what its own words leave open. A measurement too uncertain to see 0.1 bit can
refute a claim that is far off, but it cannot confirm one by its own width; then it decides nothing.
The verdict of a claim about all rows:

    holds      every row that decides holds
    fails      none does
    partly     anything between; the rows say where

A claim about high rates is not refuted by a low one. `from_rate` finds the rate from which on it
holds at all higher ones that were measured.

>>> rows = [decided("Σ", rate, 0.25, Estimate.of([measured], 0.001), EQUAL)
...         for rate, measured in ((1.0, 0.31), (2.0, 0.2505), (4.0, 0.2507))]
>>> [row.holds for row in rows], from_rate(rows), verdict(rows)
([False, True, True], 2.0, 'partly')
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .estimate import Estimate

HOLDS, PARTLY, FAILS, OPEN = "holds", "partly", "fails", "not decided"
EQUAL, AT_MOST, ABOVE = "equal", "at most", "above"
RESOLUTION = 0.1
"""Bits that a measurement must be able to see if it is to confirm anything."""


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        label: which Σ, basis, method. rate: bits per weight, None for what depends on Σ alone.
        measured: the estimate. claimed, relation: what was claimed, None if nothing.
        tolerance: of the comparison. holds: its outcome, None where nothing was claimed or this row
            is not among those that decide.
    """

    label: str
    rate: float | None
    measured: Estimate
    claimed: float | None = None
    relation: str | None = None
    tolerance: float | None = None
    holds: bool | None = None


@dataclass(frozen=True)
class Finding:
    """What became of one claim.

    Attributes:
        name: "claim 1". claim: in words. claimed: the number, in words.
        quantity: what the rows measure, with its unit. inputs: what was measured, line by line.
        rule: how the verdict is reached. verdict: HOLDS, PARTLY, FAILS or OPEN. result: one
            sentence with the rates.
        notes: what must be said beside these numbers.
    """

    name: str
    claim: str
    claimed: str
    quantity: str
    inputs: tuple[str, ...]
    rule: str
    rows: tuple[Row, ...]
    verdict: str
    result: str
    notes: tuple[str, ...] = ()


def decided(
    label: str,
    rate: float | None,
    claimed: float,
    measured: Estimate,
    relation: str,
    allowance: float = 0.0,
) -> Row:
    """A row, and whether its claim holds.

    Args:
        allowance: what the claim's own words leave open, on top of the measurement's tolerance.
    """
    tolerance = measured.tolerance + allowance
    excess = measured.mean - claimed
    holds: bool | None = {
        EQUAL: abs(excess) <= tolerance,
        AT_MOST: excess <= tolerance,
        ABOVE: excess > tolerance,
    }[relation]
    if abs(excess) <= tolerance and measured.tolerance > RESOLUTION:
        holds = None
    return Row(label, rate, measured, claimed, relation, tolerance, holds)


def shown(row: Row) -> Row:
    """The row, to be read; it decides nothing."""
    return replace(row, holds=None)


def verdict(rows: Iterable[Row]) -> str:
    """Of the rows that decide."""
    outcomes = [row.holds for row in rows if row.holds is not None]
    if not outcomes:
        return OPEN
    return HOLDS if all(outcomes) else PARTLY if any(outcomes) else FAILS


def from_rate(rows: Sequence[Row]) -> float | None:
    """The lowest rate from which on all of these rows hold; None if the last one does not."""
    lowest = None
    for row in sorted(rows, key=lambda row: -(row.rate or 0.0)):
        if not row.holds:
            break
        lowest = row.rate
    return lowest


def of_label(rows: Iterable[Row], label: str) -> list[Row]:
    """Those of one label."""
    return [row for row in rows if row.label == label]


def labels(rows: Iterable[Row]) -> list[str]:
    """In the order of their first rows."""
    return list(dict.fromkeys(row.label for row in rows))


def listed(names: Iterable[str]) -> str:
    """Names as part of a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def bits(rate: float | None) -> str:
    """A rate in a sentence."""
    return "Σ alone" if rate is None else f"{rate:g} bits" if rate != 1 else "1 bit"
