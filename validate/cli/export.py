"""`waterlevel export`: golden cases as plain files, for programs in any language.

Every case becomes a directory named like its id:

    DIR/cholesky/order/…-float64/case.json            what is called, parameters, tensors
    DIR/cholesky/order/…-float64/inputs.safetensors   the tensors that go in

A program reads the two and writes what comes out beside them, under the names, dtypes and shapes
that `case.json` lists under `outputs`; a number is a tensor without dimensions:

    DIR/cholesky/order/…-float64/outputs.safetensors

or, where it refuses the input, the error and its numbers, floats as C's %a writes them:

    DIR/cholesky/order/…-float64/error.json           {"type": "NotPositiveDefinite",
                                                       "fields": {"pivot": 2, "value": "-0x1p+0"}}

`waterlevel validate --outputs DIR` then compares bit by bit, explains differences and tells the
level that each algorithm reaches, as it does for a backend. A case whose directory holds neither
file is skipped, and named.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from ...reference.errors import BadInput, CodeOverflow, NotPositiveDefinite, WaterlevelError
from ..conformance.outcomes import Failure, Outcome
from ..conformance.runner import Subject
from ..conformance.selection import add_selection_arguments, selection_of
from ..golden.case import Case, Output, load_index
from ..layers.layer_files import to_json
from ..support.console import one_line
from ..support.whole_files import write_whole

ELEMENTS = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
INPUTS, OUTPUTS, DESCRIPTION, ERROR = (
    "inputs.safetensors", "outputs.safetensors", "case.json", "error.json",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="made if it is not there")
    add_selection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the cases; exit code 0."""
    selection = selection_of(arguments)
    chosen = [c for c in selection.of(load_index().cases) if c.size in selection.sizes]
    for case in chosen:
        export_case(case, arguments.directory)
    print(
        f"{len(chosen)} cases are in {arguments.directory}. For each, write {OUTPUTS} (or {ERROR}) "
        f"beside its {INPUTS}, then: waterlevel validate --outputs {arguments.directory}"
    )
    return 0


def export_case(case: Case, directory: Path) -> Path:
    """Write one case; returns its directory.

    Raises:
        OSError: it cannot be written; no file is left half written.
    """
    place = directory / case.id
    place.mkdir(parents=True, exist_ok=True)
    inputs = {name: np.asarray(array, order="C") for name, array in case.load_inputs().items()}
    write_whole(place / INPUTS, save(inputs))
    write_whole(place / DESCRIPTION, (to_json(_described(case, inputs), indent=2) + "\n").encode())
    return place


def _described(case: Case, inputs: Mapping[str, NDArray]) -> dict[str, Any]:
    return {
        "id": case.id,
        "function": case.function,
        "dtype": case.dtype,
        "comment": case.comment,
        "flags": case.flags,
        "parameters": case.parameters,
        "inputs": {
            name: {"dtype": array.dtype.name, "shape": array.shape}
            for name, array in inputs.items()
        },
        "outputs": {name: _layout(case, output) for name, output in case.outputs.items()},
    }


def _layout(case: Case, output: Output) -> dict[str, Any]:
    if output.kind == "digest":
        return {"dtype": output.dtype, "shape": output.shape}
    stored = case.tensor(output.tensor)
    return {"dtype": stored.dtype.name, "shape": stored.shape}


def outputs_subject(directory: Path) -> Subject:
    """What programs have written beside exported cases.

    Raises:
        BadInput: there is nothing of that kind.
    """
    found = [p for name in (OUTPUTS, ERROR) for p in sorted(directory.glob(f"*/*/*/{name}"))]
    if not found:
        raise BadInput(
            f"{directory} holds no {OUTPUTS} of any case; `waterlevel export {directory}` writes "
            "the inputs, and a program of yours the outputs beside them"
        )

    def run(case: Case, inputs: Mapping[str, NDArray]) -> Outcome | str:
        return read_outcome(directory / case.id)

    return Subject(str(directory), run)


def read_outcome(place: Path) -> Outcome | str:
    """What a program wrote for the case in this directory, or why there is nothing."""
    tensors, error = place / OUTPUTS, place / ERROR
    if tensors.exists() and error.exists():
        return Failure(f"both {OUTPUTS} and {ERROR}")
    if tensors.exists():
        try:
            return _load(tensors)
        except (OSError, SafetensorError, BadInput) as reason:
            return Failure(f"{OUTPUTS} cannot be read: {one_line(reason)}")
    if not error.exists():
        return f"no {OUTPUTS} was written" if place.is_dir() else "not exported"
    try:
        content = json.loads(error.read_text("utf-8"))
        return _error(str(content["type"]), content.get("fields", {}))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as reason:
        return Failure(f"{ERROR} does not describe an error of this package: {one_line(reason)}")


def _load(path: Path) -> dict[str, NDArray]:
    """The tensors, of the element types that outputs have.

    Raises:
        BadInput: another type. OSError, SafetensorError: no such file.
    """
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118
            kind = file.get_slice(name).get_dtype()
            if kind not in ELEMENTS:
                raise BadInput(
                    f"{name} has dtype {kind}; {DESCRIPTION} says which dtype each output has"
                )
    return load_file(path)


def _error(name: str, fields: Any) -> WaterlevelError:
    if not isinstance(fields, dict):
        raise TypeError("fields is not an object")
    numbers: dict[str, Any] = {}
    for key, value in fields.items():
        numbers[key] = value if isinstance(value, int) else float.fromhex(value)
        if abs(numbers[key]) >= 2**63 and isinstance(value, int):
            raise ValueError(f"{key} is not a number of 64 bits")
    if name == BadInput.__name__:
        return BadInput(f"as {ERROR} says")
    for error in (NotPositiveDefinite, CodeOverflow):
        if name == error.__name__:
            return error(**numbers)
    raise ValueError(f"there is no error {name!r}")
