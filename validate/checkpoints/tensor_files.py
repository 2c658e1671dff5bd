"""The safetensors files of a model directory, tensor by tensor.

Nothing is read but headers until a tensor is asked for, and then that tensor alone. Files are
untrusted: the library checks each header against the length of its file, an index may name files of
its own directory only, and pickled weights are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ...reference.errors import BadInput
from .elements import ELEMENTS

INDEX = "model.safetensors.index.json"
LARGEST_JSON = 100_000_000
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# What stands in the file; BF16 and the 8-bit floats are bit patterns until they are decoded.
RAW = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
    "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1", "F4": "u1",
}  # fmt: skip
PATTERNS = {"F8_E4M3": "fp8-e4m3", "F8_E5M2": "fp8-e5m2", "F8_E8M0": "e8m0"}
NUMBERS = ("F64", "F32", "F16", "BF16", *PATTERNS)


@dataclass(frozen=True)
class Entry:
    """Where a tensor stands: dtype as safetensors names it, and the place of its bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int


class TensorFiles:
    """All tensors of a directory, by name. Raises BadInput or OSError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: dict[str, Entry] = {}
        index = _index(directory)
        for file in sorted(set(index.values())) if index else [_only_file(directory)]:
            for name, entry in read_header(directory / file).items():
                if index.get(name, file) == file:
                    self.entries[name] = entry
        for name, file in index.items():
            if name not in self.entries:
                raise BadInput(f"{directory / file}: tensor {name} is missing, which {INDEX} lists")

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def entry(self, name: str) -> Entry:
        """Raises BadInput where there is no such tensor."""
        if name not in self.entries:
            raise BadInput(f"{self.directory}: tensor {name} is missing")
        return self.entries[name]

    def expect(self, name: str, dtypes: Iterable[str], shape: tuple[int | None, ...]) -> Entry:
        """The entry, if dtype and shape (None: any length) are as they should be; else BadInput."""
        entry = self.entry(name)
        if entry.dtype not in (allowed := tuple(dtypes)):
            expected = " or ".join(allowed)
            raise self.refusal(name, f"has dtype {entry.dtype}, expected {expected}")
        fits = len(shape) == len(entry.shape) and all(
            want in (None, have) for want, have in zip(shape, entry.shape, strict=False)
        )
        if not fits:
            raise self.refusal(name, f"has shape {times(entry.shape)}, expected {times(shape)}")
        return entry

    def refusal(self, name: str, reason: str) -> BadInput:
        """The one line that names file and tensor."""
        return BadInput(f"{self.entry(name).file}: tensor {name} {reason}")

    def read(self, name: str, part: int | None = None) -> NDArray:
        """The tensor as it is stored (see RAW), or `part` of its first axis alone."""
        entry = self.entry(name)
        shape, start, length = entry.shape, entry.start, entry.length
        if part is not None:
            shape, length = shape[1:], length // shape[0]
            start += part * length
        dtype = np.dtype(RAW[entry.dtype])
        with entry.file.open("rb") as file:
            tensor = np.fromfile(file, dtype, length // dtype.itemsize, offset=start)
        if tensor.nbytes != length:
            raise self.refusal(name, "was cut off while it was read")
        if entry.dtype == "F4":  # two numbers a byte
            shape = (*shape[:-1], shape[-1] // 2)
        return tensor.reshape(shape)

    def numbers(self, name: str, part: int | None = None) -> NDArray:
        """A floating-point tensor as numbers: float64 stays so, all others become float32; exact.

        Raises:
            BadInput: another dtype, or a number that is not finite.
        """
        dtype = self.entry(name).dtype
        if dtype not in NUMBERS:
            raise self.refusal(name, f"has dtype {dtype}, expected one of {', '.join(NUMBERS)}")
        raw = self.read(name, part)
        if dtype == "BF16":
            numbers = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        elif dtype in PATTERNS:
            numbers = ELEMENTS[PATTERNS[dtype]].decode(raw)
        else:
            numbers = raw if dtype == "F64" else raw.astype(np.float32, copy=False)
        if not np.isfinite(numbers).all():
            place = np.unravel_index(np.argmin(np.isfinite(numbers)), numbers.shape)
            where = ", ".join(str(index) for index in place)
            raise self.refusal(name, f"has {numbers[place]} at [{where}]; it must be finite")
        return numbers

    def bits(self, *names: str) -> int:
        """What these tensors take in their files, in bits; those that are not there take none."""
        return sum(8 * self.entries[name].length for name in names if name in self.entries)


def stored_numbers(what: str, numbers: NDArray[np.float32], dtype: str) -> NDArray:
    """float32 numbers as F32, F16 or BF16 (its bit patterns).

    Raises:
        BadInput: a number that the type does not hold. Nothing is rounded.
    """
    if dtype == "BF16":
        patterns = numbers.view(np.uint32)
        stored, exact = (patterns >> np.uint32(16)).astype(np.uint16), (patterns & 0xFFFF) == 0
    else:
        with np.errstate(over="ignore"):
            stored = numbers.astype(RAW[dtype])
        exact = stored == numbers
    if not exact.all():
        value = numbers[~exact].flat[0]
        raise BadInput(f"{what} {value} is not a number of {dtype}; round scales before quantising")
    return stored


def times(shape: tuple[int | None, ...]) -> str:
    """A shape as people write it.

    >>> times((3, None))
    '3×any'
    """
    return "×".join("any" if size is None else str(size) for size in shape) or "()"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of reasonable size. Raises BadInput or OSError."""
    if path.stat().st_size > LARGEST_JSON:
        raise BadInput(f"{path}: {path.stat().st_size} bytes are too many for a JSON file")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not a JSON object")
    return content


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one file. The library checks that header and length of the file agree."""
    with path.open("rb") as file:  # a plain error for what is missing or forbidden
        try:
            with safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            reason = str(error).rpartition(": ")[2]
            raise BadInput(f"{path}: not a whole safetensors file ({reason})") from None
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    entries = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not name.isprintable():
            raise BadInput(f"{path}: tensor name {name!r} cannot be printed")
        if entry["dtype"] not in RAW:
            raise BadInput(f"{path}: tensor {name} has dtype {entry['dtype']}, which is not known")
        first, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        entries[name] = Entry(path, entry["dtype"], shape, 8 + length + first, end - first)
    return entries


def _index(directory: Path) -> dict[str, str]:
    path = directory / INDEX
    if not path.exists():
        return {}
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadInput(f"{path}: weight_map is missing")
    for name, file in weight_map.items():
        plain = isinstance(file, str) and file == Path(file).name and file.endswith(".safetensors")
        if not plain:
            raise BadInput(
                f"{path}: tensor {name} is in {file!r}, which is no safetensors file beside it"
            )
        if not (directory / file).is_file():
            raise BadInput(f"{path}: tensor {name} is in {file}, which is not there")
    return weight_map


def _only_file(directory: Path) -> str:
    files = sorted(path.name for path in directory.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if "model.safetensors" in files:
        return "model.safetensors"
    if files:
        raise BadInput(f"{directory}: {len(files)} safetensors files, but no {INDEX}")
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise BadInput(
            f"{directory / pickled[0]}: a pickle may run any code and is not read; load the model "
            "where you trust it and save_pretrained(…, safe_serialization=True)"
        )
    raise BadInput(f"{directory}: there is no safetensors file")
