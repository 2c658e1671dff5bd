"""What is a golden case, and how is it read?

A case is one call of one function: its inputs, its parameters, and for every output what must come
out. `index.json` lists the cases; each mirrors `Case`, field by field, and a key that is not known
is refused. Tensors lie in safetensors files beside the index.

An output is expected in one of four ways:

| kind | what is committed | what must hold |
|---|---|---|
| `bits` | the tensor | dtype, shape and every bit |
| `digest` | SHA-256, dtype, shape, and the first rows as a tensor | the digest |
| `tolerance` | a float64 | no further from it than the bound; only what is outside the exact path |
| `error` | the type of the error and its attributes | no output at all, but this error |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ...data import GOLDEN
from ...reference.errors import BadInput, WaterlevelError
from .recipes import make

TIERS = ("order-free", "order", "rounding", "semantics", "real", "invalid")
SIZES = ("small", "medium", "large")
KINDS = ("operation", "algorithm", "scalar")
DTYPES = ("float64", "float32")

Record = TypeVar("Record")


@dataclass(frozen=True)
class Source:
    """Where an input comes from: a tensor of the case's file, or a recipe with its parameters."""

    tensor: str | None = None
    recipe: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """How one output is expected, as the index says it.

    Attributes:
        kind: "bits", "digest" or "tolerance".
        tensor: of the case's file: the output, for a digest its first rows (the whole of a vector
            is cut in the same way), for a tolerance the middle.
        dtype, shape, sha256: of a digest. bound, reason: of a tolerance.
    """

    kind: str
    tensor: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    sha256: str | None = None
    bound: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ExpectedError:
    """The error that a case must end in.

    Attributes:
        type: the name of a class of `waterlevel.reference.errors`.
        fields: its attributes; floats as C writes them in hexadecimal ("-0x1.8p+1", "nan", "inf").
    """

    type: str
    fields: Mapping[str, int | str] = field(default_factory=dict)


def expected_error(error: WaterlevelError) -> ExpectedError:
    """The type of an error and those of its attributes that are numbers."""
    found: dict[str, int | str] = {}
    for name, value in sorted(vars(error).items()):
        if isinstance(value, float):
            found[name] = hexadecimal(value)
        elif isinstance(value, int):
            found[name] = value
    return ExpectedError(type(error).__name__, found)


def hexadecimal(value: float) -> str:
    """As C's %a, with "nan" for every NaN.

    >>> hexadecimal(-3.0), hexadecimal(float("inf"))
    ('-0x1.8000000000000p+1', 'inf')
    """
    return value.hex()


@dataclass(frozen=True, eq=False)
class Bits:
    """Dtype, shape and every bit of `array`."""

    array: NDArray


@dataclass(frozen=True, eq=False)
class Digest:
    """A tensor of this dtype and shape with this SHA-256; `head` is its first rows."""

    dtype: np.dtype
    shape: tuple[int, ...]
    sha256: str
    head: NDArray


@dataclass(frozen=True)
class Tolerance:
    """A number no further than `bound` from `value`; `reason` derives the bound."""

    value: float
    bound: float
    reason: str


Expected = Bits | Digest | Tolerance | ExpectedError


class TensorStore:
    """The tensors of the golden files in one directory; a file is read once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, dict[str, NDArray]] = {}

    def get(self, file: str, name: str) -> NDArray:
        """The tensor of this name. Raises `BadInput` if the file or the tensor is not there."""
        if file not in self._files:
            try:
                self._files[file] = load_file(self.directory / file)
            except (OSError, SafetensorError) as error:
                raise BadInput(f"golden file {file} cannot be read: {error}") from None
        if name not in self._files[file]:
            raise BadInput(f"golden file {file} has no tensor {name}")
        return self._files[file][name].copy()

    def names(self, file: str) -> set[str]:
        """The names of all tensors of a file."""
        if file not in self._files:
            self._files[file] = load_file(self.directory / file)
        return set(self._files[file])


@dataclass(frozen=True, eq=False)
class Case:
    """One call and what must come of it; an entry of the index.

    Attributes:
        id: `<function>/<tier>/<what>-<dtype>`.
        kind: "operation" (of the Protocol), "algorithm" (on operations), or "scalar" (numbers on
            the host, which no backend touches).
        function: what is called, see `execute`. tier, size: see TIERS and SIZES.
        dtype: the working dtype. comment: what the case is about. flags: keys of the index's flags.
        parameters: arguments that are no tensors. inputs: tensors by the name of the argument.
        outputs: by name; empty where an error is expected.
        error: the error that is expected, or None.
        file: the safetensors file of its tensors, or None if it has none.
        confirmed_by: the implementations that agreed on the outputs, keys of the index.
    """

    id: str
    kind: str
    function: str
    tier: str
    size: str
    dtype: str
    comment: str
    flags: tuple[str, ...]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Source]
    outputs: Mapping[str, Output]
    error: ExpectedError | None
    file: str | None
    confirmed_by: tuple[str, ...]
    store: TensorStore = field(repr=False)

    def tensor(self, name: str) -> NDArray:
        """A tensor of the case's file."""
        if self.file is None:
            raise BadInput(f"case {self.id} has no file to hold tensor {name}")
        return self.store.get(self.file, name)

    def load_inputs(self) -> dict[str, NDArray]:
        """The tensors that the call takes, by the name of the argument; new arrays every time."""
        return {name: self._load(source) for name, source in self.inputs.items()}

    def expected(self) -> dict[str, Expected]:
        """What must come out, by name; {"error": …} where an error must."""
        if self.error is not None:
            return {"error": self.error}
        return {name: self._expected(output) for name, output in self.outputs.items()}

    def _load(self, source: Source) -> NDArray:
        if source.recipe is not None:
            return make(source.recipe, source.parameters)
        assert source.tensor is not None
        return self.tensor(source.tensor)

    def _expected(self, output: Output) -> Expected:
        stored = self.tensor(output.tensor)
        if output.kind == "bits":
            return Bits(stored)
        if output.kind == "digest":
            assert output.shape is not None
            assert output.sha256 is not None
            return Digest(np.dtype(output.dtype), output.shape, output.sha256, stored)
        assert output.bound is not None
        assert output.reason is not None
        return Tolerance(float(stored), output.bound, output.reason)


@dataclass(frozen=True, eq=False)
class Index:
    """All cases, and what is said once for all of them.

    Attributes:
        contract: the version of the arithmetic contract that the outputs belong to.
        flags: for each flag its `bug` and `effect`. recipes: for each its `result`, `parameters`
            and `steps`. implementations: who is meant by `confirmed_by`. tiers: what each is for.
    """

    about: str
    contract: str
    tiers: Mapping[str, str]
    flags: Mapping[str, Mapping[str, str]]
    recipes: Mapping[str, Mapping[str, Any]]
    implementations: Mapping[str, str]
    cases: tuple[Case, ...]

    @cached_property
    def by_id(self) -> dict[str, Case]:
        """The cases by their id."""
        return {case.id: case for case in self.cases}


def load_index(directory: Path = GOLDEN) -> Index:
    """Read `index.json` of this directory, strictly.

    Raises:
        BadInput: it is not there, not JSON, or not of this structure.
    """
    path = Path(directory) / "index.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"golden index {path} cannot be read: {error}") from None
    store = TensorStore(path.parent)
    content = _record(dict, content, "the index", names={f.name for f in fields(Index)})
    cases = tuple(read_case(entry, store) for entry in content["cases"])
    index = Index(**{**content, "cases": cases})
    check_index(index)
    return index


def read_case(entry: Mapping[str, Any], store: TensorStore) -> Case:
    """A case from its entry in the index. Raises `BadInput` for a structure that is not `Case`."""
    where = f"case {entry.get('id', '?')}"
    names = {f.name for f in fields(Case)} - {"store"}
    entry = _record(dict, entry, where, names=names)
    error = entry["error"]
    return Case(
        **{
            **entry,
            "flags": tuple(entry["flags"]),
            "confirmed_by": tuple(entry["confirmed_by"]),
            "inputs": {
                name: _record(Source, source, f"{where}, input {name}")
                for name, source in entry["inputs"].items()
            },
            "outputs": {
                name: _output(output, f"{where}, output {name}")
                for name, output in entry["outputs"].items()
            },
            "error": None if error is None else _record(ExpectedError, error, f"{where}, error"),
            "store": store,
        }
    )


def sha256(array: NDArray) -> str:
    """SHA-256 of the elements as little-endian bytes in C order, in hexadecimal."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


NEEDED = {
    "bits": {"kind", "tensor"},
    "digest": {"kind", "tensor", "dtype", "shape", "sha256"},
    "tolerance": {"kind", "tensor", "bound", "reason"},
}


def _output(entry: Mapping[str, Any], where: str) -> Output:
    if not isinstance(entry, dict) or entry.get("kind") not in NEEDED:
        raise BadInput(f"golden index: {where} has no kind among {', '.join(NEEDED)}")
    entry = _record(dict, entry, where, names=NEEDED[entry["kind"]])
    if "shape" in entry:
        entry["shape"] = tuple(entry["shape"])
    return Output(**entry)


def _record(record: type[Record], entry: Any, where: str, names: set[str] | None = None) -> Record:
    """The entry as this dataclass (or as a plain dict of exactly these names)."""
    if not isinstance(entry, dict):
        raise BadInput(f"golden index: {where} is not an object")
    needed = known = names or set()
    if names is None:
        known = {f.name for f in fields(record)}  # pyright: ignore[reportArgumentType]
        needed = {
            f.name
            for f in fields(record)  # pyright: ignore[reportArgumentType]
            if f.default is MISSING and f.default_factory is MISSING
        }
    unknown, missing = sorted(set(entry) - known), sorted(needed - set(entry))
    if unknown:
        raise BadInput(f"golden index: {where} has the unknown key {unknown[0]!r}")
    if missing:
        raise BadInput(f"golden index: {where} lacks the key {missing[0]!r}")
    return record(**entry)


def check_index(index: Index) -> None:
    """What a structure alone does not tell: references, values of a list, ids.

    Raises:
        BadInput: one of them is wrong.
    """
    for case in index.cases:
        for name, allowed in (
            ("tier", TIERS),
            ("size", SIZES),
            ("kind", KINDS),
            ("dtype", DTYPES),
        ):
            value = getattr(case, name)
            if value not in allowed:
                raise BadInput(f"golden index: case {case.id} has the unknown {name} {value!r}")
        for flag in case.flags:
            if flag not in index.flags:
                raise BadInput(f"golden index: case {case.id} has the unexplained flag {flag!r}")
        for source in case.inputs.values():
            if (source.tensor is None) == (source.recipe is None):
                raise BadInput(f"golden index: case {case.id} has an input from nowhere")
            if source.recipe is not None and source.recipe not in index.recipes:
                raise BadInput(f"golden index: case {case.id} has an unexplained recipe")
        for implementation in case.confirmed_by:
            if implementation not in index.implementations:
                raise BadInput(f"golden index: case {case.id} is confirmed by an unknown one")
        if (case.error is None) != bool(case.outputs):
            raise BadInput(f"golden index: case {case.id} needs outputs or an error, one of them")
    if len(index.by_id) != len(index.cases):
        raise BadInput("golden index: two cases have the same id")
