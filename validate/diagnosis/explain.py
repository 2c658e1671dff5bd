"""The bits differ. Where did it begin, and which deviation would explain it?

An operation is computed again under every deviation of `deviations`. One that gives all of the
foreign bits is named. If several do, the input does not tell them apart and all are named; if none
does, the one that comes closest is, with the share of elements that it explains.

An algorithm is first followed operation by operation, if the foreign backend is at hand
(`first_divergence`): the first operation that differs is explained as above. If there are only
foreign outputs (a file written by another program), whole algorithms are tried: every deviation,
then every deviation in one operation alone. What the outputs themselves tell is the first column
that differs in the order of processing.

All this takes the time of many runs, so it has a limit; deviations that were not tried for lack of
time are counted in the message.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.operations import Operations
from ...reference.operations.numpy_operations import NUMPY
from ..golden.case import Case
from ..golden.execute import execute, kind_of
from ..golden.execute_order_free import ORDER_FREE
from ..support.comparison import Difference, share_equal
from .deviations import (
    Deviation,
    algorithm_deviations,
    clamp_seen_in,
    combined_deviations,
    operation_deviations,
)
from .first_divergence import (
    Outcome,
    Run,
    differences,
    find_first_divergence,
    first_column,
    operations_called,
    outcome,
)

SECONDS = 60.0
CHAINED = ("matmul", "cholesky", "solve", "solve_reversed", "sic")


@dataclass(frozen=True)
class Match:
    """How much of the foreign output a deviation explains.

    Attributes:
        name, description: of the deviation. share: of elements that are equal, 1.0 for all.
    """

    name: str
    description: str
    share: float


@dataclass(frozen=True)
class Explanation:
    """What the deviations say about one operation, or about a whole algorithm.

    Attributes:
        reproduced_by: the deviations that give every bit.
        closest: the best of the others, if it is nearer than the oracle and none gives every bit.
        share: of elements that the oracle itself has in common with the foreign output.
        untried: how many deviations there was no time for.
    """

    reproduced_by: tuple[Match, ...]
    closest: Match | None
    share: float
    untried: int

    def lines(self) -> list[str]:
        """For somebody who reads it."""
        equal = f"{self.share:.2%} equal"
        if self.reproduced_by:
            heading = "every bit is reproduced by"
            text = [f"{heading} {match.name}: {match.description}" for match in self.reproduced_by]
        elif self.closest is not None:
            some = "deviation that was tried" if self.untried else "known deviation"
            text = [
                f"no {some} reproduces every bit; the closest is {self.closest.name}: "
                f"{self.closest.description} ({self.closest.share:.2%} of the elements equal, "
                f"the oracle has {self.share:.2%})"
            ]
        elif self.untried:
            text = [f"no deviation that was tried comes closer than the oracle ({equal})"]
        else:
            text = [f"no known deviation comes closer than the oracle ({equal})"]
        if self.untried:
            text.append(f"{self.untried} deviations were not tried for lack of time")
        return text


@dataclass(frozen=True)
class Diagnosis:
    """Where a difference begins and what explains it.

    Attributes:
        stage: of an algorithm, as far as it is known; None for an operation.
        operation: the operation that differs, if it is known.
        call: which of its calls in the algorithm, from 1; None for an operation alone.
        differences: one line for each output that differs: those of the operation, if it is known.
        explanation: None where there is nothing to be said (nothing differs, a host function).
    """

    stage: str | None = None
    operation: str | None = None
    call: int | None = None
    differences: tuple[str, ...] = ()
    explanation: Explanation | None = None

    def lines(self) -> list[str]:
        """For somebody who reads it, most telling first."""
        text = []
        if self.stage is not None:
            where = f" ({self.operation}, call {self.call})" if self.operation else ""
            text.append(f"first difference: {self.stage}{where}")
        text += self.differences
        return text if self.explanation is None else text + self.explanation.lines()

    def message(self) -> str:
        """All lines."""
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def diagnose(
    case: Case,
    inputs: Mapping[str, NDArray],
    actual: Outcome,
    foreign: Operations | None = None,
    seconds: float = SECONDS,
) -> Diagnosis:
    """Explain why a case came out differently.

    Args:
        inputs: of the case. actual: the outputs, or the error that came in their place.
        foreign: the backend, if it is at hand; an algorithm is then followed step by step.
        seconds: after which no further deviation is tried.
    """

    def run(backend: Operations) -> Mapping[str, NDArray]:
        return execute(case, inputs, backend)

    kind = kind_of(case.function)
    if kind == "scalar" or case.function in ORDER_FREE:
        return Diagnosis(differences=_lines(case.id, outcome(lambda: run(NUMPY)), actual))
    if kind == "operation":
        return diagnose_operation(case.id, case.function, run, actual, seconds)
    order = None
    if "weight" in inputs and np.ndim(inputs["weight"]) == 2:
        order = processing_order(case.function, case.parameters, inputs)
    return diagnose_algorithm(case.id, run, actual, foreign, order, seconds)


def diagnose_operation(
    title: str, operation: str, run: Run, actual: Outcome, seconds: float = SECONDS
) -> Diagnosis:
    """Explain one operation; `run` computes its outputs on a backend."""
    expected = outcome(lambda: run(NUMPY))
    lines = _lines(title, expected, actual)
    if not lines:
        return Diagnosis()
    found = explain(run, expected, actual, _of_one_operation(actual), time.monotonic() + seconds)
    return Diagnosis(operation=operation, differences=lines, explanation=found)


def diagnose_algorithm(
    title: str,
    run: Run,
    actual: Outcome,
    foreign: Operations | None = None,
    order: NDArray[np.int64] | None = None,
    seconds: float = SECONDS,
) -> Diagnosis:
    """Explain an algorithm; `run` computes its outputs on a backend.

    Args:
        order: the columns of `codes` in the order of processing.
    """
    deadline = time.monotonic() + seconds
    if foreign is not None and (divergence := find_first_divergence(run, foreign)):
        rounds = _of_one_operation(divergence.actual)
        return Diagnosis(
            divergence.stage,
            divergence.operation,
            divergence.call,
            _named_lines(f"{title}: {divergence.operation}", divergence.differences),
            explain(divergence.run, divergence.expected, divergence.actual, rounds, deadline),
        )
    expected = outcome(lambda: run(NUMPY))
    lines = _lines(title, expected, actual)
    if not lines:
        return Diagnosis()
    called = operations_called(run)
    alone = [
        deviation.only_in(name)
        for name in CHAINED
        if name in called
        for deviation in operation_deviations()
        if deviation.concerns(name)
    ]
    rounds = ((*operation_deviations(), *algorithm_deviations()), alone, combined_deviations())
    found = explain(run, expected, actual, rounds, deadline)
    return Diagnosis(_first_stage(expected, actual, order), None, None, lines, found)


def _of_one_operation(actual: Outcome) -> tuple[tuple[Deviation, ...], ...]:
    clamps: tuple[Deviation, ...] = ()
    if isinstance(actual, dict) and "gains" in actual:
        clamps = clamp_seen_in(actual["gains"])
    return ((*operation_deviations(), *clamps), combined_deviations())


def explain(
    run: Run,
    expected: Outcome,
    actual: Outcome,
    rounds: Iterable[Iterable[Deviation]],
    deadline: float,
) -> Explanation:
    """Try deviations, one round after the other until one of a round gives every bit."""
    exact: list[Match] = []
    closest, untried = None, 0
    plain = share(expected, actual)
    for deviations in rounds:
        for deviation in deviations:
            if time.monotonic() > deadline:
                untried += 1
                continue
            with deviation.applied() as backend:
                replayed = outcome(lambda backend=backend: run(backend))
            equal = share(replayed, actual)
            match = Match(deviation.name, deviation.description, equal)
            if equal == 1.0:
                exact.append(match)
            elif equal > plain and (closest is None or equal > closest.share):
                closest = match
        if exact:
            break
    return Explanation(tuple(exact), None if exact else closest, plain, untried)


def share(expected: Outcome, actual: Outcome) -> float:
    """The share of equal elements; two errors are equal or not."""
    if isinstance(expected, Exception) or isinstance(actual, Exception):
        return 0.0 if differences(expected, actual) else 1.0
    return share_equal(actual, expected)


def processing_order(
    method: str, parameters: Mapping[str, Any], inputs: Mapping[str, NDArray]
) -> NDArray[np.int64]:
    """The columns in the order in which a method decides them.

    Activation order goes by the diagonal of Σ in its original basis, so it is not known after a
    rotation; then the natural order is returned.
    """
    columns = np.arange(inputs["weight"].shape[1])
    if method not in ("gptq", "rtn"):
        return columns[::-1]
    rotation = parameters.get("rotation") or parameters.get("hadamard_seed") is not None
    if not parameters.get("actorder") or rotation or "covariance" not in inputs:
        return columns
    diagonal = inputs["covariance"].diagonal()
    return np.argsort(-np.where(diagonal == 0, 1, diagonal), kind="stable")


def _first_stage(expected: Outcome, actual: Outcome, order: NDArray[np.int64] | None) -> str | None:
    if isinstance(expected, Exception) or isinstance(actual, Exception):
        return None
    codes = expected.get("codes"), actual.get("codes")
    if order is None or codes[0] is None or codes[1] is None or codes[0].shape != codes[1].shape:
        return None
    found = first_column(codes[0], codes[1], order)
    if found is None:
        others = ", ".join(sorted(differences(expected, actual)))
        return f"the codes are equal; after them, in {others}"
    column, position = found
    return f"codes, column {column}, place {position} in the order of processing"


def _lines(title: str, expected: Outcome, actual: Outcome) -> tuple[str, ...]:
    return _named_lines(title, differences(expected, actual))


def _named_lines(title: str, found: Mapping[str, Difference]) -> tuple[str, ...]:
    return tuple(difference.message(title, name) for name, difference in found.items())
