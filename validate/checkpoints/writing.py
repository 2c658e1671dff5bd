"""A whole model directory in a published format: weights, configuration, everything else as it was.

The directory appears whole or not at all. Each file of weights is written tensor by tensor: the
header of a safetensors file comes first and may end in spaces, so room for it is kept, the tensors
follow, and the header is filled in last. Memory is that of the largest layer.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from .compressed_tensors_writer import WRITERS, configuration
from .description import QuantizedWeight
from .gptq import gptq_arguments, gptq_configuration, gptq_tensors
from .tensor_files import INDEX, RAW, Entry, TensorFiles, read_json, times

FORMATS = ("gptq", *WRITERS)
COPIED = (".json", ".txt", ".model", ".jinja", ".md", ".tiktoken")
COPIED_NAMES = ("LICENSE", "NOTICE")
HEADER_ROOM = 256
TENSORS_PER_WEIGHT = 8
CHUNK = 1 << 24

Weights = Mapping[str, Callable[[], QuantizedWeight]]


def write_checkpoint(source: Path, output: Path, form: str, weights: Weights) -> list[str]:
    """Write a model directory in one of FORMATS.

    Args:
        source: the model before quantisation, a Hugging Face directory. output: must not exist.
        weights: by the name of the tensor in `source`, a function that gives the quantised weight;
            each is called once, when its turn comes.

    Returns:
        Remarks for the user: what was left out.

    Raises:
        BadInput: a weight that is not in the model or does not fit the format; nothing is written.
        OSError: a file cannot be read or written; nothing is left behind.
    """
    if form not in FORMATS:
        raise BadInput(f"format {form!r} is not written; use one of {', '.join(FORMATS)}")
    if not weights:
        raise BadInput(f"{source}: no weight to quantise")
    config = read_json(source / "config.json")
    if "quantization_config" in config or "quantization" in config:
        raise BadInput(f"{source / 'config.json'}: the model is quantised already")
    files = TensorFiles(source)
    for name in weights:
        files.expect(name, RAW, (None, None))
        if not name.endswith(".weight"):
            raise BadInput(f"{source}: tensor {name} is no .weight of a linear layer")
    remarks = ["auto_map of config.json is left out"] if config.pop("auto_map", None) else []
    with _whole_directory(output) as beside:
        arguments, index = _write_tensors(files, beside, form, weights)
        build = gptq_configuration if form == "gptq" else lambda found: configuration(form, found)
        config["quantization_config"] = build(arguments)
        _write_json(beside / "config.json", config)
        if (source / INDEX).exists():
            size = sum(path.stat().st_size for path in beside.glob("*.safetensors"))
            _write_json(beside / INDEX, {"metadata": {"total_size": size}, "weight_map": index})
        remarks += _copy_others(source, beside)
    return remarks


def _write_tensors(
    files: TensorFiles, output: Path, form: str, weights: Weights
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Arguments by module, and the file of each tensor."""
    arguments: dict[str, dict[str, Any]] = {}
    index: dict[str, str] = {}
    by_file: dict[Path, dict[str, Entry]] = {}
    for name, entry in files.entries.items():
        by_file.setdefault(entry.file, {})[name] = entry
    for file, entries in by_file.items():
        room = sum(TENSORS_PER_WEIGHT * (len(name) + HEADER_ROOM) for name in entries)
        with TensorWriter(output / file.name, room) as writer:
            for name, entry in entries.items():
                if name not in weights:
                    writer.copy(name, entry)
                    continue
                weight = weights[name]()
                _check(weight, name, entry)
                tensors, described = _stored(weight, form)
                arguments[name.removesuffix(".weight")] = described
                for tensor, (dtype, content) in tensors.items():
                    writer.add(tensor, dtype, content)
            index |= dict.fromkeys(writer.header, file.name)
    return arguments, index


def _stored(
    weight: QuantizedWeight, form: str
) -> tuple[dict[str, tuple[str, NDArray]], dict[str, Any]]:
    if form == "gptq":
        return gptq_tensors(weight), gptq_arguments(weight)
    return WRITERS[form](weight)


def _check(weight: QuantizedWeight, name: str, entry: Entry) -> None:
    if weight.name != name or weight.shape != entry.shape:
        raise BadInput(
            f"{entry.file}: tensor {name} is {times(entry.shape)}, but the quantised weight "
            f"{weight.name} is {times(weight.shape)}"
        )


class TensorWriter:
    """A safetensors file written tensor by tensor; `room` is what the header may take."""

    def __init__(self, path: Path, room: int) -> None:
        self.path = path
        self.start = 8 + -(-room // 8) * 8
        self.header: dict[str, dict[str, Any]] = {}
        self.length = 0

    def __enter__(self) -> TensorWriter:
        self.file: BinaryIO = self.path.open("xb")
        self.file.seek(self.start)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self.file.close()

    def add(self, name: str, dtype: str, content: NDArray) -> None:
        """A tensor as it is stored: see `tensor_files.RAW`."""
        shape = content.shape
        content = np.ascontiguousarray(content)
        if dtype != "F4" and content.dtype.itemsize != np.dtype(RAW[dtype]).itemsize:
            raise ValueError(f"{name}: {content.dtype} is not {dtype}")
        little = content.astype(content.dtype.newbyteorder("<"), copy=False)
        self.file.write(little.data if little.size else b"")
        self._enter(name, dtype, shape, little.nbytes)

    def copy(self, name: str, entry: Entry) -> None:
        """A tensor of another file, byte by byte."""
        with entry.file.open("rb") as source:
            source.seek(entry.start)
            left = entry.length
            while left:
                part = source.read(min(left, CHUNK))
                if not part:
                    raise BadInput(f"{entry.file}: tensor {name} was cut off while it was read")
                self.file.write(part)
                left -= len(part)
        self._enter(name, entry.dtype, entry.shape, entry.length)

    def _enter(self, name: str, dtype: str, shape: tuple[int, ...], length: int) -> None:
        end = self.length + length
        self.header[name] = {
            "dtype": dtype, "shape": list(shape), "data_offsets": [self.length, end]
        }  # fmt: skip
        self.length = end

    def _finish(self) -> None:
        header = json.dumps({"__metadata__": {"format": "pt"}, **self.header}).encode()
        room = self.start - 8
        if len(header) > room:
            raise ValueError(f"{self.path}: a header of {len(header)} bytes in a room of {room}")
        self.file.seek(0)
        self.file.write(room.to_bytes(8, "little") + header.ljust(room))
        self.file.flush()
        os.fsync(self.file.fileno())


@contextmanager
def _whole_directory(output: Path) -> Iterator[Path]:
    if output.exists():
        raise BadInput(f"output {output} exists; give the name of a new directory")
    if not output.parent.is_dir():
        raise BadInput(f"output {output}: there is no directory {output.parent}")
    beside = output.parent / f".waterlevel-{secrets.token_hex(8)}"
    beside.mkdir()
    try:
        yield beside
        beside.rename(output)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _copy_others(source: Path, output: Path) -> list[str]:
    left_out = []
    for path in sorted(source.iterdir()):
        if path.name in ("config.json", INDEX) or path.suffix == ".safetensors":
            continue
        wanted = path.suffix in COPIED or path.name.startswith(COPIED_NAMES)
        if path.is_file() and wanted:
            shutil.copyfile(path, output / path.name)
        elif not path.name.startswith("."):
            left_out.append(path.name)
    return [f"not copied: {', '.join(left_out)}"] if left_out else []


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
