"""Tiny random decoders of every architecture, and their digests."""

from __future__ import annotations

import hashlib

import numpy as np

from waterlevel.reference.decoder import GROUPS, Configuration, Decoder, Rotary, sequence_moment
from waterlevel.reference.decoder.decoder import tensor_shapes

ATTENTION = frozenset(("q_proj", "k_proj", "v_proj"))
LLAMA3 = Rotary(10000.0, "llama3", 8.0, 1.0, 4.0, 64)
ARCHITECTURES = {
    "llama2": {},
    "llama3": {"rotary": LLAMA3, "tied": False},
    "linear": {"rotary": Rotary(10000.0, "linear", 2.0)},
    "mistral": {"windows": (7, 7)},
    "qwen2": {"biases": ATTENTION, "windows": (None, 9)},
    "qwen3": {"query_key_norm": True, "head_width": 12},
}


def tiny(name: str = "llama2", **changes: object) -> Configuration:
    numbers = {
        "vocabulary": 53,
        "width": 24,
        "blocks": 2,
        "heads": 4,
        "key_heads": 2,
        "head_width": 6,
        "feed_forward": 40,
        "epsilon": 1e-5,
        "rotary": Rotary(10000.0),
        "tied": True,
        **ARCHITECTURES[name],
        **changes,
    }
    return Configuration(**numbers)  # pyright: ignore


def random_tensors(configuration: Configuration, seed: int = 0) -> dict[str, np.ndarray]:
    generator, found = np.random.Generator(np.random.Philox(seed)), {}
    for name, shape in tensor_shapes(configuration).items():
        scale = 0.3 if len(shape) == 2 else 0.2
        values = scale * generator.standard_normal(shape) + (name.endswith("norm.weight"))
        found[name] = values.astype(np.float32).astype(np.float64)
    return found


def tokens(configuration: Configuration, *shape: int, seed: int = 1) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).integers(0, configuration.vocabulary, shape)


def digest(decoder: Decoder, numbers: np.ndarray) -> str:
    """Of all logits, likelihoods and moments."""
    passes, found = decoder.passes, hashlib.sha256()
    hidden = decoder.embed(numbers)
    for index in range(decoder.configuration.blocks):
        block = decoder.block(index)
        stream = block.enter(hidden)
        for group in GROUPS:
            for sequence in range(len(numbers)):
                x = stream.inputs[sequence, ...]
                found.update(sequence_moment(passes, x, x).tobytes())
            stream = block.step(group, stream, block.layers)
        hidden = stream.hidden
    found.update(np.ascontiguousarray(passes.host(decoder.predict(hidden))).tobytes())
    found.update(decoder.log_likelihood(numbers).tobytes())
    return found.hexdigest()
