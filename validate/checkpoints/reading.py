"""Which format does a checkpoint have, and what are its weights?

Configuration decides, by `quantization_config` (or `quantization`, as MLX calls it) in config.json.
Code that a configuration points to (`auto_map`) is never run; a remark says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from .awq import AwqReader
from .compressed_tensors import CompressedTensorsReader
from .description import QuantizedWeight
from .fp8_blocks import Fp8BlockReader
from .gguf_file import GgufReader
from .gpt_oss import GptOssReader
from .gptq import GptqReader
from .mlx import MlxReader
from .tensor_files import TensorFiles, read_json

METHODS = {
    "gptq": GptqReader,
    "awq": AwqReader,
    "compressed-tensors": CompressedTensorsReader,
    "fp8": Fp8BlockReader,
    "mxfp4": GptOssReader,
}


class Reader(Protocol):
    """What a format brings."""

    format: str

    def names(self) -> list[str]:
        """The weights that are quantised, as they were called before."""
        ...

    def read(self, name: str) -> QuantizedWeight:
        """One of them."""
        ...


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model directory (or GGUF file).

    Attributes:
        path: of the directory.
        configuration: config.json, or {} for a GGUF file.
        reader: of the quantised weights; None where nothing is quantised.
        files: all tensors; None for a GGUF file.
        remarks: lines that a user should see.
    """

    path: Path
    configuration: dict[str, Any]
    reader: Reader | GgufReader | None
    files: TensorFiles | None
    remarks: list[str] = field(default_factory=list)

    @property
    def format(self) -> str:
        """Of the quantised weights, or "none"."""
        return "none" if self.reader is None else self.reader.format

    def quantized(self) -> list[str]:
        """The names of the quantised weights."""
        return [] if self.reader is None else self.reader.names()

    def weight(self, name: str) -> QuantizedWeight:
        """A quantised weight. Raises BadInput."""
        if self.reader is None or isinstance(self.reader, GgufReader):
            raise BadInput(f"{self.path}: {name} has no codes that could be read")
        return self.reader.read(name)

    def dequantized(self, name: str) -> NDArray[np.float32]:
        """Ŵ, a×n. Raises BadInput."""
        if isinstance(self.reader, GgufReader):
            return self.reader.dequantized(name)
        return self.weight(name).dequantize()


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a model directory, or a GGUF file; headers only.

    Raises:
        BadInput: no model, weights that are pickled, a quantisation that is not known.
        OSError: a file cannot be read.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        return Checkpoint(path, {}, GgufReader(path), None)
    if not path.is_dir():
        raise BadInput(f"{path}: neither a model directory nor a .gguf file")
    if not (path / "config.json").is_file():
        raise BadInput(f"{path}: config.json is missing")
    configuration = read_json(path / "config.json")
    files = TensorFiles(path)
    remarks = []
    if "auto_map" in configuration:
        remarks.append("auto_map in config.json names code of the model; it is not run")
    reader = _reader(path, configuration, files)
    return Checkpoint(path, configuration, reader, files, remarks)


def _reader(path: Path, configuration: dict[str, Any], files: TensorFiles) -> Reader | None:
    settings = configuration.get("quantization_config")
    if settings is None or (isinstance(settings, dict) and "quant_method" not in settings):
        mlx = configuration.get("quantization", settings)
        if mlx is None:
            return None
        if isinstance(mlx, dict) and {"bits", "group_size"} <= set(mlx):
            return MlxReader(files, mlx)
        raise BadInput(f"{path / 'config.json'}: quantization without quant_method is not known")
    if not isinstance(settings, dict):
        raise BadInput(f"{path / 'config.json'}: quantization_config is not a JSON object")
    method = settings["quant_method"]
    if method not in METHODS:
        raise BadInput(
            f"{path / 'config.json'}: quant_method {method!r} is not known; expected one of "
            f"{', '.join(METHODS)}"
        )
    return METHODS[method](files, settings)
