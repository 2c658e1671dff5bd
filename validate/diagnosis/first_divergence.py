"""Which is the first operation of an algorithm that a backend computes differently?

An algorithm hands matrices from one operation to the next, so one wrong bit early changes all that
follows, and the outputs alone do not tell where it began. `Followed` stands between the algorithm
and the backend under test. Each operation is computed twice, by the backend on its own matrices and
by the oracle on host copies of the very same ones; the first whose results differ is where they
diverge, because its inputs were still the same. There the algorithm is stopped. What is left to
explain is one call of one operation, and not an algorithm.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from ...reference.operations import Operations
from ...reference.operations.numpy_operations import NUMPY
from ..support.comparison import Difference, compare_bits, compare_outputs

Outputs = dict[str, NDArray]
Outcome = Outputs | Exception
Run = Callable[[Operations], Mapping[str, NDArray]]

SIGNATURES = {
    name: inspect.signature(member)
    for name, member in vars(Operations).items()
    if not name.startswith("_") and inspect.isfunction(member)
}
MATRIX = ("Matrix", "Matrix | None")
RESULTS = {"sic": "gains"}  # how a lone result is called, if not `out`
OVERWRITTEN = {"accumulate": ("total",), "sic": ("target", "codes")}

# The stage that a function of `reference` belongs to; the innermost one that is listed counts.
STAGES = {
    "prepare": "preparation",
    "zero_dead_features": "preparation",
    "_without_dead_features": "preparation",
    "column_mean_squares": "spacing",
    "rotated": "rotation",
    "unrotate_columns": "rotation",
    "check_orthogonal": "rotation",
    "factorize": "factor",
    "_target_and_factor": "target",
    "find_grid": "grids",
    "find_grids": "grids",
    "_in_order_of_processing": "grids",
    "quantize_on_lattice": "loop",
    "_rescale_problem": "rescaler",
    "rescale": "rescaler",
    "distortion": "measurement",
    "mean_square": "measurement",
    "finish": "measurement",
    "gptq": "target",
    "waterfilling": "target",
}


class Stopped(Exception):
    """The algorithm need not go on: the divergence is found."""


@dataclass(frozen=True, eq=False)
class Divergence:
    """The first call whose results differ although its inputs agree in every bit.

    Attributes:
        stage: of the algorithm, in words: "factor", "target", "loop, column 17: gain", …
        operation: its name. call: it is the call-th one of this operation, from 1.
        arguments: by name, matrices as host arrays. expected, actual: results, or errors.
        differences: by output.
    """

    stage: str
    operation: str
    call: int
    arguments: Mapping[str, Any]
    expected: Outcome
    actual: Outcome
    differences: Mapping[str, Difference]

    def run(self, backend: Operations) -> Outputs:
        """The call once more, on a backend whose matrices are host arrays."""
        return _call(backend, self.operation, self.arguments)


def find_first_divergence(run: Run, foreign: Operations) -> Divergence | None:
    """The first operation that differs when `run` runs on this backend; None if none does."""
    lockstep = Followed(foreign)
    with suppress(Stopped, WaterlevelError):
        run(cast(Operations, lockstep))
    return lockstep.divergence


def operations_called(run: Run) -> set[str]:
    """The names of the operations that `run` uses on the oracle."""
    called: set[str] = set()

    class Listening:
        name = NUMPY.name

        def __getattr__(self, operation: str) -> Any:
            called.add(operation)
            return getattr(NUMPY, operation)

    outcome(lambda: run(cast(Operations, Listening())))
    return called


class Followed:
    """The backend under test, checked by the oracle at every step."""

    def __init__(self, foreign: Operations) -> None:
        self.name = foreign.name
        self.foreign = foreign
        self.divergence: Divergence | None = None
        self.calls: dict[str, int] = {}
        self.turn = 0

    def __getattr__(self, name: str) -> Any:
        if name not in SIGNATURES:
            raise AttributeError(name)

        def checked(*positional: Any, **named: Any) -> Any:
            return self._checked(name, *positional, **named)

        return checked

    def _checked(self, name: str, *positional: Any, **named: Any) -> Any:
        if self.divergence is not None:
            raise Stopped
        parameters = SIGNATURES[name].parameters
        given = SIGNATURES[name].bind(None, *positional, **named).arguments
        del given["self"]
        on_host = {
            parameter: self._to_host(value, parameters[parameter].annotation)
            for parameter, value in given.items()
        }
        self.calls[name] = self.calls.get(name, 0) + 1
        stage = self._stage(name)
        expected = outcome(lambda: _call(NUMPY, name, on_host))
        failure, result = None, None
        try:
            result = getattr(self.foreign, name)(*positional, **named)
        except Exception as error:  # whatever it is, it is the backend's answer
            failure = error
        actual: Outcome = failure or _flattened(
            name, self._to_host(result, SIGNATURES[name].return_annotation)
        )
        if isinstance(actual, dict):
            for parameter in OVERWRITTEN.get(name, ()):
                actual[parameter] = self.foreign.to_host(given[parameter])
        found = differences(expected, actual, nan_payloads=False)
        if found:
            place = _column(given, expected, actual, found) if name == "sic" else ""
            self.divergence = Divergence(
                f"loop, {place}" if place else stage,
                name,
                self.calls[name],
                on_host,
                expected,
                actual,
                found,
            )
            raise Stopped
        if failure is not None:
            raise failure
        return result

    def _to_host(self, value: Any, annotation: str) -> Any:
        if annotation not in MATRIX or value is None:
            return value
        return self.foreign.to_host(value)

    def _stage(self, operation: str) -> str:
        stage = _stage_of_caller()
        if stage == "grids" and operation == "solve_reversed":
            return "grids, updated weights"
        if stage != "rescaler":
            return stage
        self.turn += operation == "matmul_transposed"  # the Gram matrix of the gain step
        return f"rescaler turn {self.turn}" if self.turn else "rescaler, before its first turn"


def outcome(call: Callable[[], Mapping[str, NDArray]]) -> Outcome:
    """The outputs, or the error that the package's own types name."""
    try:
        return dict(call())
    except WaterlevelError as error:
        return error


def differences(
    expected: Outcome, actual: Outcome, nan_payloads: bool = True
) -> dict[str, Difference]:
    """By output; an error in place of outputs, or another error, counts as the output `error`.

    Args:
        nan_payloads: whether two NaNs of different bits differ.
    """
    if isinstance(expected, Exception) or isinstance(actual, Exception):
        if _described(expected) == _described(actual):
            return {}
        layout = f"is {_described(actual)}, expected {_described(expected)}"
        return {"error": Difference(layout=layout)}
    if nan_payloads:
        return compare_outputs(expected, actual)
    return compare_outputs(_one_nan(expected), _one_nan(actual))


def first_column(
    expected: NDArray, actual: NDArray, order: NDArray[np.int64]
) -> tuple[int, int] | None:
    """(column, place) of the first column in the order of processing that differs, or None.

    >>> first_column(np.zeros((2, 3)), np.array([[1, 0, 0], [0, 0, 5]]), np.array([2, 1, 0]))
    (2, 0)
    """
    for position, column in enumerate(order):
        if expected[:, column].tobytes() != actual[:, column].tobytes():
            return int(column), position
    return None


def _described(found: Outcome) -> str:
    if not isinstance(found, Exception):
        return "an output"
    attributes = {k: v for k, v in vars(found).items() if isinstance(v, int | float)}
    inside = ", ".join(f"{name}={value!r}" for name, value in attributes.items())
    return f"{type(found).__name__}({inside})"


def _one_nan(outputs: Outputs) -> Outputs:
    """Every NaN is the same one: the contract does not say which bits a NaN has."""
    replaced = {}
    for name, output in outputs.items():
        array = np.asarray(output)
        replaced[name] = (
            np.where(np.isnan(array), array.dtype.type(np.nan), array)
            if array.dtype.kind == "f"
            else array
        )
    return replaced


def _call(backend: Operations, name: str, arguments: Mapping[str, Any]) -> Outputs:
    """An operation of a backend on host arrays, by name; arrays are copied first."""
    copies = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    outputs = _flattened(name, getattr(backend, name)(*copies.values()))
    return outputs | {parameter: copies[parameter] for parameter in OVERWRITTEN.get(name, ())}


def _flattened(name: str, result: Any) -> Outputs:
    """What an operation returned, as arrays by name."""
    if is_dataclass(result):
        return {f.name: np.asarray(getattr(result, f.name)) for f in fields(result)}
    if isinstance(result, tuple):
        return {str(i): np.asarray(value) for i, value in enumerate(result)}
    if result is None:
        return {}
    if isinstance(result, np.dtype):
        result = result.name
    return {RESULTS.get(name, "out"): np.asarray(result)}


def _column(
    given: Mapping[str, Any], expected: Outcome, actual: Outcome, found: Mapping[str, Difference]
) -> str:
    """Which column of the loop differs first, and what of it."""
    if isinstance(expected, Exception) or isinstance(actual, Exception):
        return "an error"
    start, stop = given["start"], given["stop"]
    decided = np.arange(start, stop)[::-1]
    columns = {
        "code": (expected["codes"], actual["codes"]),
        "gain": (expected["gains"][None], actual["gains"][None]),
        "value": (expected["target"], actual["target"]),
    }
    if any(wanted.shape != other.shape for wanted, other in columns.values()):
        return "shape"
    for k in decided:
        for what, (wanted, other) in columns.items():
            j = k - start if what == "gain" else k
            if compare_bits(wanted[:, j], other[:, j]):
                return f"column {k} of Y, place {stop - 1 - k} in the order of processing: {what}"
    return "cancellation in the columns that are still open"


def _stage_of_caller() -> str:
    package = Operations.__module__.rpartition(".")[0]
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(package):
            stage = STAGES.get(frame.f_code.co_name)
            if stage is not None:
                return stage
        frame = frame.f_back
    return "operation"
