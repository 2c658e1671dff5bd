"""The command `waterlevel` in this process, and files for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from waterlevel.validate.cli.main import main

from . import layers

ROWS, COLUMNS = 48, 16


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """Call it with the arguments; what it wrote comes back with the exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self.capsys, self.directory = capsys, directory
        self.output = directory / "out.safetensors"

    def __call__(self, *arguments: str | Path) -> Done:
        self.capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *self.capsys.readouterr())

    def quantize(self, layer: Path, *options: str | Path) -> Done:
        return self("quantize", layer, *options, "--backend", "numpy", "-o", self.output)

    def result(self) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Tensors and metadata of the output file."""
        return load(self.output)


def load(path: Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["waterlevel"])
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def tensors(**change: NDArray | None) -> dict[str, NDArray]:
    """A small layer with one dead input; a tensor that is None is left out."""
    whole: dict[str, NDArray | None] = {
        "weight": layers.weight(1, ROWS, COLUMNS),
        "covariance": layers.covariance(3, COLUMNS, dead=(5,)),
    }
    return {name: tensor for name, tensor in {**whole, **change}.items() if tensor is not None}


def write(path: Path, **change: NDArray | None) -> Path:
    contiguous = {name: np.ascontiguousarray(t) for name, t in tensors(**change).items()}
    save_file(contiguous, path)
    return path
