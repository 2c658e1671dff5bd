"""A safetensors file, whoever wrote it: its tensors, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ...reference.errors import BadInput
from .layer_files import check_kind, parse_description

# What NumPy has no type for is read as the integers of the same bits.
RAW = {"BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1"}


@dataclass(frozen=True, eq=False)
class TensorFile:
    """The tensors of a safetensors file, and what it says of itself ({} if nothing)."""

    path: Path
    tensors: Mapping[str, NDArray]
    description: Mapping[str, Any]


def read_tensors(path: Path) -> TensorFile:
    """Any safetensors file.

    Raises:
        BadInput: not a whole safetensors file, or one with an element type that is not known.
        OSError: it cannot be read.
    """
    check_kind(path)
    with path.open("rb") as file:
        try:
            with safe_open(path, framework="numpy") as opened:
                metadata = opened.metadata() or {}
                types = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
                tensors = {
                    name: _raw(file, name, RAW[kind]) if kind in RAW else opened.get_tensor(name)
                    for name, kind in types.items()
                }
        except SafetensorError as error:
            reason = str(error).rpartition(": ")[2]
            raise BadInput(f"{path}: not a whole safetensors file ({reason})") from None
        except (TypeError, KeyError, AttributeError) as error:
            raise BadInput(f"{path}: an element type that is not known: {error}") from None
    return TensorFile(path, tensors, parse_description(path, metadata))


def _raw(file: Any, name: str, dtype: str) -> NDArray:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    entry = json.loads(file.read(length))[name]
    first, end = entry["data_offsets"]
    file.seek(8 + length + first)
    return np.frombuffer(file.read(end - first), dtype).reshape(entry["shape"])
