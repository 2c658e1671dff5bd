"""Does a backend keep the contract? Probes first, then every golden case, and why one fails.

A case is passed, failed or skipped; a skip has a reason and is named in table and report. The first
failing case of each function is diagnosed, because each further one nearly always has the same
cause and a diagnosis takes the time of many runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from ...reference.operations import Operations
from ...reference.operations.numpy_operations import NumpyOperations
from ..diagnosis.explain import diagnose
from ..golden.case import SIZES, Case
from ..golden.execute_order_free import ORDER_FREE
from ..probes.questions import Finding, probe
from ..support.console import one_line
from .levels import ALGORITHMS, Reached, reached_levels
from .outcomes import Failure, Outcome, describe_outcome, digests, judge, run_case
from .random_layers import RandomLayers
from .selection import Selection

DIAGNOSIS_SECONDS = 20.0

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Result:
    """What became of one case.

    Attributes:
        status: PASSED, FAILED or SKIPPED. differences: one line each. diagnosis: lines, or ().
        digests: SHA-256 of each exact output. error: what came in place of outputs, in one line.
        seconds: how long it ran. reason: of a skip.
    """

    case: Case
    status: str
    differences: tuple[str, ...] = ()
    diagnosis: tuple[str, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON; times are left out, so that equal results are equal texts."""
        return {
            "case": self.case.id,
            "status": self.status,
            "outputs": self.digests,
            "error": self.error,
            "differences": self.differences,
            "diagnosis": self.diagnosis,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class SubjectReport:
    """All that was found about one backend, or one directory of outputs.

    Attributes:
        layers: None where none were asked for. device: what the backend tells of it, if it has one.
    """

    name: str
    findings: tuple[Finding, ...]
    results: tuple[Result, ...]
    levels: tuple[Reached, ...]
    seconds: float
    layers: RandomLayers | None = None
    device: dict[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """Whether no probe and no case failed, and no random layer differs."""
        layers_differ = self.layers is not None and bool(self.layers.differing)
        cases_fail = bool(self.of_status(FAILED))
        return all(f.passed for f in self.findings) and not cases_fail and not layers_differ

    def of_status(self, status: str) -> list[Result]:
        """The results with this status."""
        return [result for result in self.results if result.status == status]


@dataclass(frozen=True)
class Subject:
    """What is validated: a backend, or outputs that were made elsewhere.

    Attributes:
        name: what it is called here. run: the outcome of a case with these inputs, or in words why
            there is none. backend: None where there are only outputs.
    """

    name: str
    run: Callable[[Case, Mapping[str, NDArray]], Outcome | str]
    backend: Operations | None = None


def backend_subject(name: str, backend: Operations) -> Subject:
    """A backend under this name; order-free functions only where it has them, or is the oracle."""

    def run(case: Case, inputs: Mapping[str, NDArray]) -> Outcome | str:
        own = hasattr(backend, case.function) or type(backend) is NumpyOperations
        if case.function in ORDER_FREE and not own:
            return "no order-free functions of its own"
        return run_case(case, inputs, backend)

    return Subject(name, run, backend)


def validate(
    subject: Subject,
    cases: Sequence[Case],
    selection: Selection,
    announce: Callable[[str], None] = lambda what: None,
) -> SubjectReport:
    """Probe a backend, and run the cases in their order.

    Args:
        announce: is told what is going on.
    """
    start = time.perf_counter()
    announce("probes")
    findings = () if subject.backend is None else tuple(probe(subject.backend))
    outcomes: dict[str, Outcome] = {}
    results = []
    for result, outcome in _run(subject, cases, selection, announce):
        results.append(result)
        if result.case.function in (*ALGORITHMS, *ORDER_FREE) and outcome is not None:
            outcomes[result.case.id] = outcome
    announce("levels")
    levels = reached_levels(
        [
            (r.case, outcomes[r.case.id], r.status == PASSED)
            for r in results
            if r.case.id in outcomes
        ]
    )
    seconds = time.perf_counter() - start
    return SubjectReport(subject.name, findings, tuple(results), tuple(levels), seconds)


def _run(
    subject: Subject,
    cases: Sequence[Case],
    selection: Selection,
    announce: Callable[[str], None],
) -> Iterator[tuple[Result, Outcome | None]]:
    diagnosed: set[str] = set()
    for case in selection.of(cases):
        if reason := selection.reason_to_skip(case, subject.name):
            yield Result(case, SKIPPED, reason=reason), None
            continue
        announce(case.id)
        begin = time.perf_counter()
        outcome = subject.run(case, case.load_inputs())
        seconds = time.perf_counter() - begin
        if isinstance(outcome, str):
            yield Result(case, SKIPPED, reason=outcome), None
            continue
        lines = judge(case, outcome)
        diagnosis: list[str] = []
        if lines and case.function not in diagnosed and not isinstance(outcome, Failure):
            announce(f"diagnosis of {case.id}")
            diagnosed.add(case.function)
            diagnosis = _diagnose(case, outcome, subject.backend)
        result = Result(
            case,
            FAILED if lines else PASSED,
            tuple(lines),
            tuple(diagnosis),
            digests(case, outcome),
            describe_outcome(outcome),
            seconds,
        )
        yield result, outcome


def _diagnose(
    case: Case, outcome: Mapping[str, NDArray] | WaterlevelError, backend: Operations | None
) -> list[str]:
    if case.size == SIZES[-1]:
        return ["no diagnosis: the case is too large to run under every deviation"]
    actual = outcome if isinstance(outcome, WaterlevelError) else dict(outcome)
    try:
        found = diagnose(case, case.load_inputs(), actual, backend, DIAGNOSIS_SECONDS)
    except Exception as error:  # the backend runs inside, and may do anything
        return [f"no diagnosis: {type(error).__name__}: {one_line(error)}"]
    known = set(judge(case, outcome))
    return [line for line in found.lines() if line not in known]
