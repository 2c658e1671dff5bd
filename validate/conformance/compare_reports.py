"""Two reports of `waterlevel validate`: did two machines find the same bits?

A report holds a SHA-256 for each output of each case. Two machines agree if all of those do, for
every backend that both have; cases that one of them did not run are named and do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...reference.errors import BadInput

Results = dict[str, Mapping[str, Any]]

KIND = "waterlevel validate"


@dataclass(frozen=True)
class ReportComparison:
    """How two reports differ.

    Attributes:
        compared: how many cases both ran. different: a line for each that differs.
        unmatched: what only one of them ran, a line each. notes: other circumstances.
    """

    compared: int
    different: tuple[str, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether everything that both ran is the same."""
        return not self.different


def compare_reports(one: Any, other: Any, names: tuple[str, str]) -> ReportComparison:
    """Compare two reports as read from JSON; `names` is what they are called.

    Each backend is compared with that of the same name. Reports with one backend each are compared
    whatever the names are: a kernel on one machine with the oracle on another.

    Raises:
        BadInput: no report, reports without a common backend, or without a common case.
    """
    left, right = _subjects(one, names[0]), _subjects(other, names[1])
    pairs = [(name, name) for name in left if name in right]
    if not pairs and len(left) == len(right) == 1:
        pairs = [(next(iter(left)), next(iter(right)))]
    if not pairs:
        raise BadInput(
            f"no backend is in both reports: {', '.join(left)} in {names[0]}, "
            f"{', '.join(right)} in {names[1]}"
        )
    compared = 0
    different: list[str] = []
    unmatched: list[str] = []
    for first, second in pairs:
        title = first if first == second else f"{first} against {second}"
        found, missing, count = _compare(left[first], right[second], title, names)
        different += found
        unmatched += missing
        compared += count
    if not compared:
        raise BadInput(f"no case was run in both {names[0]} and {names[1]}")
    for file, subjects, used in (
        (names[0], left, {a for a, _ in pairs}),
        (names[1], right, {b for _, b in pairs}),
    ):
        unmatched += [f"{name}: only in {file}" for name in subjects if name not in used]
    return ReportComparison(compared, tuple(different), tuple(unmatched), _notes(one, other))


def _subjects(report: Any, name: str) -> dict[str, Results]:
    """The results of each backend, by its name and theirs."""
    try:
        if report["kind"] != KIND:
            raise BadInput(f"{name}: a report of {report['kind']!r}, expected one of {KIND!r}")
        return {
            backend["name"]: {entry["case"]: entry for entry in backend["results"]}
            for backend in report["backends"]
        }
    except (KeyError, TypeError, IndexError):
        raise BadInput(f"{name}: not a report of `waterlevel validate --json`") from None


def _compare(
    one: Results, other: Results, title: str, names: tuple[str, str]
) -> tuple[list[str], list[str], int]:
    different: list[str] = []
    unmatched: list[str] = []
    compared = 0
    for case in dict.fromkeys((*one, *other)):
        ran = [case in results and _ran(results[case]) for results in (one, other)]
        if not all(ran):
            if any(ran):
                unmatched.append(f"{title}: {case} was run only in {names[ran.index(True)]}")
            continue
        compared += 1
        line = _difference(one[case], other[case])
        if line is not None:
            different.append(f"{title}: {case}: {line}")
    return different, unmatched, compared


def _ran(entry: Mapping[str, Any]) -> bool:
    return entry.get("status") != "skipped"


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    if one.get("error") != other.get("error"):
        return f"{one.get('error') or 'outputs'} against {other.get('error') or 'outputs'}"
    left, right = one.get("outputs") or {}, other.get("outputs") or {}
    differ = [n for n in dict.fromkeys((*left, *right)) if left.get(n) != right.get(n)]
    return f"{', '.join(differ)} differ" if differ else None


def _notes(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    lines = []
    for name in ("contract", "version", "cases"):
        if one.get(name) != other.get(name):
            lines.append(f"{name}: {one.get(name)} against {other.get(name)}")
    left, right = one.get("environment") or {}, other.get("environment") or {}
    for name in dict.fromkeys((*left, *right)):
        if left.get(name) != right.get(name) and name != "features":
            lines.append(f"{name}: {left.get(name)} against {right.get(name)}")
    return tuple(lines)
