"""GGUF files, through the package `gguf` and its dequantisers (extra `models`).

The types hold codes of many kinds, with scales of scales; here they become numbers, not codes. The
package maps the file into memory, so one tensor at a time is what is read.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput

UNQUANTIZED = ("F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64")


class GgufReader:
    """The tensors of a GGUF file by name. Raises BadInput."""

    format = "gguf"

    def __init__(self, path: Path) -> None:
        try:
            gguf = importlib.import_module("gguf")
        except ImportError:
            raise BadInput(
                f"{path}: needs the package gguf: pip install 'waterlevel[models]'"
            ) from None
        self.path = path
        self._dequantize = gguf.quants.dequantize
        size = path.stat().st_size
        try:
            reader = gguf.GGUFReader(path)
        except (
            ValueError,
            IndexError,
            KeyError,
            OverflowError,
            TypeError,
            UnicodeDecodeError,
        ) as error:
            raise BadInput(f"{path}: not a whole GGUF file of {size} bytes ({error})") from None
        self.tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}
        for name in self.tensors:
            if not name.isprintable():
                raise BadInput(f"{path}: tensor name {name!r} cannot be printed")

    def names(self) -> list[str]:
        """The tensors that are quantised."""
        return [
            name
            for name, tensor in self.tensors.items()
            if tensor.tensor_type.name not in UNQUANTIZED
        ]

    def bits_stored(self, name: str) -> int:
        """What a tensor takes in the file."""
        return 8 * int(self._tensor(name).n_bytes)

    def type_of(self, name: str) -> str:
        """As Q4_K."""
        return self._tensor(name).tensor_type.name

    def dequantized(self, name: str) -> NDArray[np.float32]:
        """Ŵ, a×n, as the package computes it in float32."""
        tensor = self._tensor(name)
        try:
            numbers = self._dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise BadInput(
                f"{self.path}: tensor {name} has type {tensor.tensor_type.name}, which the "
                "installed gguf cannot dequantise"
            ) from None
        except ValueError as error:
            raise BadInput(f"{self.path}: tensor {name} cannot be dequantised ({error})") from None
        return np.asarray(numbers, np.float32)

    def _tensor(self, name: str) -> Any:
        if name not in self.tensors:
            raise BadInput(f"{self.path}: tensor {name} is missing")
        return self.tensors[name]
