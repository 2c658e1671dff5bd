"""SmolLM2-135M-Instruct from its installed package, with the names of a Hugging Face checkpoint.

The GGUF file has the rows of queries and keys in pairs that turn together side by side; here, as in
Hugging Face checkpoints, the partners are half a head apart. Its linear weights lie on a 4-bit grid
(Q4_1): say so beside every number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.decoder import Configuration, Decoder, Rotary
from ...reference.decoder.decoder import PARTS
from ..real_layers.smollm import (
    EPSILON,
    HEAD_WIDTH,
    HEADS,
    KEY_VALUE_HEADS,
    ROTARY_BASE,
    SmolLM2,
    dequantize,
)
from .loading import passes_of

GGUF = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
CONFIGURATION = Configuration(
    vocabulary=49152,
    width=576,
    blocks=SmolLM2.blocks,
    heads=HEADS,
    key_heads=KEY_VALUE_HEADS,
    head_width=HEAD_WIDTH,
    feed_forward=1536,
    epsilon=EPSILON,
    rotary=Rotary(ROTARY_BASE),
    tied=True,
)


def tensors_of(model: SmolLM2) -> dict[str, NDArray[np.float32]]:
    """The tensors under the names of a Hugging Face checkpoint."""
    found = {
        "model.embed_tokens.weight": model.embedding,
        "model.norm.weight": dequantize(model.stored["output_norm.weight"]),
    }
    for i in range(model.blocks):
        ours, theirs = f"model.layers.{i}.", f"blk.{i}."
        for name, stored in GGUF.items():
            weight = dequantize(model.stored[f"{theirs}{stored}.weight"])
            if name in ("q_proj", "k_proj"):
                pairs = weight.reshape(-1, HEAD_WIDTH // 2, 2, weight.shape[1])
                weight = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)
            found[f"{ours}{PARTS[name]}.{name}.weight"] = weight
        for name, stored in (("input_layernorm", "attn"), ("post_attention_layernorm", "ffn")):
            found[f"{ours}{name}.weight"] = dequantize(
                model.stored[f"{theirs}{stored}_norm.weight"]
            )
    return found


def smollm_decoder(model: SmolLM2, library: Any = "numpy") -> Decoder:
    """The decoder over integers. Raises MissingPackage or BadInput."""
    return Decoder(CONFIGURATION, tensors_of(model), passes_of(library))
