"""Do the committed golden cases still say what this program computes?

Every case of the chosen sizes is computed from its inputs and compared bit by bit with what is
committed; digests are computed again. What was left out is counted, and named on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from ...reference.operations import Operations
from ..support.comparison import compare_bits, describe_shape
from .case import Bits, Case, Digest, Expected, ExpectedError, Tolerance, expected_error, sha256
from .execute import Outputs, execute


@dataclass(frozen=True)
class Checked:
    """What came of checking cases.

    Attributes:
        cases: that were computed. differences: one line each.
        digests: ids and outputs whose digest was computed and compared.
        left_out: ids and outputs whose digest was not, because of the size of the case.
    """

    cases: int
    differences: tuple[str, ...]
    digests: tuple[str, ...]
    left_out: tuple[str, ...]


def check_cases(
    cases: Iterable[Case],
    sizes: Iterable[str],
    backend: Callable[[Case], Operations],
    report: Callable[[Case], None] = lambda case: None,
) -> Checked:
    """Compute the cases of these sizes and compare them.

    Args:
        backend: what to compute a case on. report: is told of each case before it is computed.
    """
    sizes = set(sizes)
    differences: list[str] = []
    digests: list[str] = []
    left_out: list[str] = []
    computed = 0
    for case in cases:
        named = [
            f"{case.id} {name}" for name, output in case.outputs.items() if output.kind == "digest"
        ]
        if case.size not in sizes:
            left_out += named
            continue
        report(case)
        computed += 1
        digests += named
        differences += check_case(case, backend(case))
    return Checked(computed, tuple(differences), tuple(digests), tuple(left_out))


def check_case(case: Case, backend: Operations) -> list[str]:
    """One line for each output of a case that is not as expected."""
    try:
        outputs: Outputs | ExpectedError = execute(case, case.load_inputs(), backend)
    except WaterlevelError as error:
        outputs = expected_error(error)
    return differences(case, outputs)


def differences(case: Case, outputs: Outputs | ExpectedError) -> list[str]:
    """One line for each output that is not as expected."""
    expected = case.expected()
    if isinstance(outputs, ExpectedError) or case.error is not None:
        wanted = case.error or "outputs"
        return [] if outputs == case.error else [f"{case.id}: {outputs} instead of {wanted}"]
    found = []
    for name in sorted(set(outputs) | set(expected)):
        if name not in outputs or name not in expected:
            there = "missing" if name in expected else "not expected"
            found.append(f"{case.id}: output {name} is {there}")
        else:
            found += _differs(case, name, expected[name], outputs[name])
    return found


def _differs(case: Case, name: str, expected: Expected, actual: NDArray) -> list[str]:
    if isinstance(expected, Bits):
        difference = compare_bits(expected.array, actual)
        return [] if difference is None else [difference.message(case.id, name)]
    if isinstance(expected, Tolerance):
        if actual.shape != ():
            shape = describe_shape(actual.shape)
            return [f"{case.id}: {name} has shape {shape}, expected a number, shape ()"]
        if abs(float(actual) - expected.value) <= expected.bound:
            return []
        return [
            f"{case.id}: output {name} is {float(actual)!r}, further than {expected.bound:g} "
            f"from {expected.value!r}"
        ]
    assert isinstance(expected, Digest)
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        return [
            f"{case.id}: output {name} is {actual.dtype} of shape {actual.shape}, should be "
            f"{expected.dtype} of shape {expected.shape}"
        ]
    head = compare_bits(expected.head, np.ascontiguousarray(actual[: len(expected.head)]))
    if head is not None:
        return [head.message(case.id, name)]
    if sha256(actual) != expected.sha256:
        return [
            f"{case.id}: output {name} has another SHA-256, although its first "
            f"{len(expected.head)} rows are right"
        ]
    return []
