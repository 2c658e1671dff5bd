"""Did a case come out as expected, whatever came out?

A backend returns outputs, refuses with an error of this package, or fails with anything else.
`judge` says what is wrong in lines that need no knowledge of the case, or nothing if all is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from ...reference.operations import Operations
from ..golden.case import Case, ExpectedError, expected_error, sha256
from ..golden.check import differences
from ..golden.execute import execute
from ..support.console import one_line


@dataclass(frozen=True, eq=False)
class Failure:
    """Something that is no refusal of the package: a mistake of a backend, in words."""

    text: str


Outcome = Mapping[str, NDArray] | WaterlevelError | Failure


def run_case(case: Case, inputs: Mapping[str, NDArray], backend: Operations) -> Outcome:
    """The outputs of a case on a backend, or what came in their place; raises nothing."""
    try:
        return execute(case, inputs, backend)
    except WaterlevelError as error:
        return error
    except Exception as error:  # a foreign backend may raise anything
        return Failure(f"{type(error).__name__}: {one_line(error)}")


def judge(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong, one line each, or nothing."""
    if isinstance(outcome, Failure):
        return [f"{case.id}: failed with {outcome.text}"]
    if isinstance(outcome, WaterlevelError):
        found = expected_error(outcome)
        if found == case.error:
            return []
        wanted = "outputs" if case.error is None else _describe(case.error)
        return [f"{case.id}: refused with {_describe(found)}, expected {wanted}: {outcome}"]
    if case.error is not None:
        return [f"{case.id}: was accepted, expected {_describe(case.error)}"]
    return differences(case, {name: np.asarray(array) for name, array in outcome.items()})


def digests(case: Case, outcome: Outcome) -> dict[str, str]:
    """SHA-256 of every output that is exact: not of those that are expected within a tolerance."""
    if not isinstance(outcome, Mapping):
        return {}
    inexact = {name for name, output in case.outputs.items() if output.kind == "tolerance"}
    exact = {name: array for name, array in outcome.items() if name not in inexact}
    return {name: sha256(np.asarray(array)) for name, array in exact.items()}


def describe_outcome(outcome: Outcome) -> str | None:
    """The error in one line; None where there are outputs."""
    if isinstance(outcome, Failure):
        return outcome.text
    return _describe(expected_error(outcome)) if isinstance(outcome, WaterlevelError) else None


def _describe(error: ExpectedError) -> str:
    fields = ", ".join(f"{name}={value}" for name, value in sorted(error.fields.items()))
    return f"{error.type}({fields})"
