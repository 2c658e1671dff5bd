"""How are the golden files made?

`waterlevel golden write` computes every definition, looks whether it serves its purpose, and writes
`index.json` and one safetensors file for each function. The same definitions give the same bytes.

Medium and large cases are committed only when two independent implementations agree on every bit.
Large ones take minutes; without `--size` they are kept as they stand in the index, if neither their
definition nor the contract has changed since, and are computed again where they have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ...backends import get
from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import BadInput, WaterlevelError
from ...reference.operations import Operations
from ..diagnosis import deviations
from ..golden.case import (
    GOLDEN,
    SIZES,
    Case,
    ExpectedError,
    Index,
    Output,
    TensorStore,
    check_index,
    expected_error,
    load_index,
    sha256,
)
from ..golden.cases import DEFINITIONS
from ..golden.definition import Definition, differs
from ..golden.execute import execute
from ..golden.execute_order_free import ORDER_FREE
from ..golden.flags import FLAGS, TIERS
from ..golden.recipes import RECIPES
from ..golden.schema import schema
from ..golden.tolerance import limit_within
from ..support.whole_files import write_whole

ABOUT = (
    "Golden cases of the Waterlevel arithmetic contract: for each input, the outputs that every "
    "implementation must give, bit for bit. README.md says how to use them without Python."
)
HEAD_ELEMENTS = 1024  # of the first rows that stand beside a digest

IMPLEMENTATIONS = {
    "numpy": "the oracle: waterlevel.reference.operations.numpy_operations, plain NumPy",
    "numba": "waterlevel.backends, compiled by Numba, tiled, on all cores",
    "c": "validate/golden/independent.c: products, factors, solves and cancellation as scalar "
    "loops in C, one element after the other, compiled with -ffp-contract=off; for functions "
    "called order_free_… order_free.c, in 64-bit integers",
}
PLACES = {
    "numpy": "numpy",
    "numba": "waterlevel.backends.numba_cpu.operations:NumbaOperations",
    "c": "waterlevel.validate.golden.independent:IndependentOperations",
}
NOT_IN_C = {"format", "mse", "static_groups"}  # of order_free.c
CONFIRMED_BY = {
    "small": ("numpy",),
    "medium": ("numpy", "numba"),
    "large": ("numba", "c"),
}


class MissesItsPurpose(WaterlevelError):
    """A definition that does not do what it says it does."""


def write_golden(directory: Path = GOLDEN, sizes: Sequence[str] = SIZES[:2]) -> list[Case]:
    """Compute and write all cases; those of other sizes are kept where they can be.

    Returns:
        The cases that were computed.

    Raises:
        WaterlevelError: two implementations differ, a purpose is missed, one cannot run here.
        OSError: the files cannot be written; what was there before still is.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BadInput(f"{directory} cannot be written to; give another --directory")
    store = TensorStore(directory)
    kept = _kept(directory)
    cases: list[Case] = []
    tensors: dict[str, dict[str, NDArray]] = {}
    computed = []
    for definition in DEFINITIONS:
        before = kept.get(definition.id)
        if definition.size not in sizes and before and _same(definition, before, store):
            case, arrays = before, _tensors_of(before)
        else:
            case, arrays = compute(definition, store)
            computed.append(case)
        cases.append(case)
        if case.file is not None:
            tensors.setdefault(case.file, {}).update(arrays)
    index = Index(
        about=ABOUT,
        contract=CONTRACT_VERSION,
        tiers=TIERS,
        flags=FLAGS,
        recipes={name: recipe.described() for name, recipe in RECIPES.items()},
        implementations=IMPLEMENTATIONS,
        cases=tuple(cases),
    )
    check_index(index)
    texts = {
        "index.json": index_text(index),
        "schema.json": json.dumps(schema(cases, RECIPES), indent=1, ensure_ascii=False) + "\n",
    }
    _write_files(directory, texts, tensors)
    return computed


def compute(definition: Definition, store: TensorStore) -> tuple[Case, dict[str, NDArray]]:
    """A case with its outputs or its error, and the tensors that belong into its file."""
    case = definition.case(store)
    names = confirming(definition)
    outcomes = [_outcome(case, definition.arrays(), implementation(name)) for name in names]
    outputs = outcomes[0]
    for name, other in zip(names[1:], outcomes[1:], strict=True):
        _agree(definition, names[0], outputs, name, other)
    if (definition.tier == "invalid") != isinstance(outputs, ExpectedError):
        raise MissesItsPurpose(f"case {definition.id} ends in {outputs}")
    tensors = {
        f"{definition.id}/inputs/{name}": given
        for name, given in definition.inputs.items()
        if isinstance(given, np.ndarray)
    }
    case = replace(case, confirmed_by=names)
    if isinstance(outputs, ExpectedError):
        case = replace(case, error=outputs)
    else:
        _serves(definition, case, outputs)
        expected = {}
        for name, array in outputs.items():
            expected[name], tensor = _expected(definition, name, array, outputs)
            tensors[expected[name].tensor] = tensor
        case = replace(case, outputs=expected)
    return replace(case, file=f"{definition.function}.safetensors" if tensors else None), tensors


def confirming(definition: Definition) -> tuple[str, ...]:
    """The implementations that have to agree on a case."""
    if definition.function not in ORDER_FREE:
        return CONFIRMED_BY[definition.size]
    only_ours = definition.tier == "invalid" or NOT_IN_C & set(definition.parameters)
    return ("numpy",) if only_ours else ("numpy", "c")


@cache
def implementation(name: str) -> Operations:
    """One of IMPLEMENTATIONS. Raises `Unusable` if it cannot run here."""
    return get(PLACES[name])


def _outcome(
    case: Case, inputs: Mapping[str, NDArray], backend: Operations
) -> dict[str, NDArray] | ExpectedError:
    try:
        return execute(case, inputs, backend)
    except WaterlevelError as error:
        return expected_error(error)


def _agree(
    definition: Definition,
    one: str,
    outputs: dict[str, NDArray] | ExpectedError,
    other: str,
    others: dict[str, NDArray] | ExpectedError,
) -> None:
    if isinstance(outputs, ExpectedError) or isinstance(others, ExpectedError):
        if outputs != others:
            raise WaterlevelError(f"case {definition.id}: {one} {outputs}, {other} {others}")
        return
    for name in sorted(set(outputs) | set(others)):
        if name not in outputs or name not in others or differs(outputs[name], others[name]):
            raise WaterlevelError(
                f"case {definition.id}: {one} and {other} differ in output {name}; nothing is "
                "committed that they do not agree on"
            )


def _serves(definition: Definition, case: Case, outputs: Mapping[str, NDArray]) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and np.isnan(array).any() and case.function != "find_nonfinite":
            raise MissesItsPurpose(f"case {definition.id}: output {name} holds a NaN, without bits")
    for name in (*definition.changed_by, *definition.unchanged_by):
        with deviations.named(name).applied() as backend:
            foreign = _outcome(case, definition.arrays(), backend)
        if _changed(foreign, outputs) != (name in definition.changed_by):
            wanted = "other bits" if name in definition.changed_by else "the same bits"
            raise MissesItsPurpose(
                f"case {definition.id} misses its purpose: deviation {name} must give {wanted}"
            )
    for purpose in definition.purposes:
        if not purpose.holds(definition.arrays(), outputs):
            raise MissesItsPurpose(f"case {definition.id} misses its purpose: {purpose.says}")


def _changed(foreign: dict[str, NDArray] | ExpectedError, outputs: Mapping[str, NDArray]) -> bool:
    if isinstance(foreign, ExpectedError):
        return True
    return any(differs(foreign[name], outputs[name]) for name in outputs)


def _expected(
    definition: Definition, name: str, array: NDArray, outputs: Mapping[str, NDArray]
) -> tuple[Output, NDArray]:
    tensor = f"{definition.id}/outputs/{name}"
    if name in definition.extra:
        inputs = definition.arrays()
        return limit_within(tensor, float(array), inputs["covariance"], outputs)
    if definition.size == "small" or array.size <= HEAD_ELEMENTS:
        return Output("bits", tensor), array
    rows = max(1, HEAD_ELEMENTS // max(1, array.size // len(array)))
    head = array[:rows].copy()
    return Output("digest", tensor, array.dtype.name, array.shape, sha256(array)), head


# The files ---------------------------------------------------------------------------------------


def entry_of(case: Case) -> dict[str, Any]:
    """The case as the index has it."""
    return {
        "id": case.id,
        "kind": case.kind,
        "function": case.function,
        "tier": case.tier,
        "size": case.size,
        "dtype": case.dtype,
        "comment": case.comment,
        "flags": list(case.flags),
        "parameters": dict(case.parameters),
        "inputs": {
            name: {"tensor": source.tensor}
            if source.recipe is None
            else {"recipe": source.recipe, "parameters": dict(source.parameters)}
            for name, source in case.inputs.items()
        },
        "outputs": {
            name: {key: value for key, value in asdict(output).items() if value is not None}
            for name, output in case.outputs.items()
        },
        "error": None if case.error is None else asdict(case.error),
        "file": case.file,
        "confirmed_by": list(case.confirmed_by),
    }


def _kept(directory: Path) -> Mapping[str, Case]:
    if not (directory / "index.json").exists():
        return {}
    try:
        index = load_index(directory)
    except BadInput:
        return {}  # written by another version
    return index.by_id if index.contract == CONTRACT_VERSION else {}


def _same(definition: Definition, case: Case, store: TensorStore) -> bool:
    """Whether a committed case is of this very definition."""
    now, then = entry_of(definition.case(store)), entry_of(case)
    for entry in (now, then):
        for computed in ("outputs", "error", "file", "confirmed_by"):
            del entry[computed]
    if json.dumps(now, sort_keys=True) != json.dumps(then, sort_keys=True):
        return False
    return not any(
        differs(given, case.tensor(f"{case.id}/inputs/{name}"))
        for name, given in definition.inputs.items()
        if isinstance(given, np.ndarray)
    )


def _tensors_of(case: Case) -> dict[str, NDArray]:
    names = [source.tensor for source in case.inputs.values() if source.tensor is not None]
    names += [output.tensor for output in case.outputs.values()]
    return {name: case.tensor(name) for name in names}


def index_text(index: Index) -> str:
    """The index as JSON: one line for each case, so that a change is a change of lines."""
    head = {f.name: getattr(index, f.name) for f in fields(index) if f.name != "cases"}
    opening = json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = (
        json.dumps(entry_of(case), ensure_ascii=False, allow_nan=False) for case in index.cases
    )
    return opening + ',\n "cases": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _write_files(
    directory: Path, texts: Mapping[str, str], tensors: Mapping[str, Mapping[str, NDArray]]
) -> None:
    for name, arrays in tensors.items():
        contiguous = {key: np.array(array, order="C") for key, array in sorted(arrays.items())}
        write_whole(directory / name, save(contiguous))
    for name, text in texts.items():
        write_whole(directory / name, text.encode("utf-8"))
    for path in _stale(directory, tensors):
        path.unlink()


def _stale(directory: Path, tensors: Iterable[str]) -> list[Path]:
    present = set(tensors)
    return [path for path in directory.glob("*.safetensors") if path.name not in present]
