"""How do tokens become predictions, one group of linear layers at a time?

    h = E[token];  for each block:  h ← h + W_o·attention(R(W_q x), R(W_k x), W_v x),   x = RMS₁(h)
                                    h ← h + W_down·SwiGLU(W_gate y, W_up y),            y = RMS₂(h)
    logits = W_out·RMS(h)

Four times in a block linear layers share an input: q, k, v; o; gate, up; down. A *group* is such an
input with its layers, and a forward pass is a walk from group to group. `Stream` is where it
stands: the residual stream h, and what the next group sees. Whoever quantises the model walks
along: takes `stream.inputs` for the moments, decides the weights, and lets the walk go on through
them:

    hidden = decoder.embed(tokens)
    for index in range(decoder.configuration.blocks):
        block = decoder.block(index)
        stream = block.enter(hidden)
        for group, names in GROUPS.items():
            ...  stream.inputs, block.weight(name) ...
            layers = {name: block.prepare(name, quantised[name]) for name in names}
            stream = block.step(group, stream, layers)
        hidden = stream.hidden

Worked example: a model of zeros but for the embedding predicts, after each token, that token, for
the output layer is the embedding and nothing else changes h.

>>> from .configuration import Rotary
>>> tiny = Configuration(
...     vocabulary=3, width=4, blocks=1, heads=1, key_heads=1, head_width=4, feed_forward=4,
...     epsilon=0.0, rotary=Rotary(10000.0), tied=True,
... )
>>> tensors = {name: np.zeros(shape) for name, shape in tensor_shapes(tiny).items()}
>>> tensors["model.norm.weight"] = np.ones(4)
>>> tensors["model.embed_tokens.weight"] = np.eye(3, 4)
>>> Decoder(tiny, tensors).logits([2, 0]).tolist()
[[0.0, 0.0, 2.0], [2.0, 0.0, 0.0]]

Exercise: why 2? (Check: the norm makes the mean square of (0, 0, 1, 0) one: times √4.)

>>> np.sqrt(4.0).item()
2.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BadInput
from . import integers
from .attention import attention
from .configuration import Configuration
from .integers import Linear
from .library import Array
from .likelihood import log_likelihood
from .passes import Passes
from .rotary import tables

GROUPS: dict[str, tuple[str, ...]] = {
    "attention_input": ("q_proj", "k_proj", "v_proj"),
    "attention_output": ("o_proj",),
    "feed_forward_in": ("gate_proj", "up_proj"),
    "feed_forward_out": ("down_proj",),
}
"""Linear layers by the input they share, in the order of a forward pass."""

PARTS: dict[str, str] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), "self_attn"),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp"),
}
EMBEDDING, NORM, OUTPUT = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
TOKENS_AT_ONCE = 256
"""Tokens whose logits are in memory together while a likelihood is found; no bit depends on it."""


def tensor_shapes(configuration: Configuration) -> dict[str, tuple[int, ...]]:
    """Name, as in published checkpoints, and shape of every tensor of the model."""
    c = configuration
    found: dict[str, tuple[int, ...]] = {EMBEDDING: (c.vocabulary, c.width), NORM: (c.width,)}
    if not c.tied:
        found[OUTPUT] = (c.vocabulary, c.width)
    for i in range(c.blocks):
        prefix = f"model.layers.{i}."
        for name, shape in c.shapes().items():
            found[f"{prefix}{PARTS[name]}.{name}.weight"] = shape
            if name in c.biases:
                found[f"{prefix}{PARTS[name]}.{name}.bias"] = shape[:1]
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}{name}.weight"] = (c.width,)
        if c.query_key_norm:
            for name in ("q_norm", "k_norm"):
                found[f"{prefix}self_attn.{name}.weight"] = (c.head_width,)
    return found


@dataclass(frozen=True)
class Stream:
    """Where a forward pass stands in a block.

    Attributes:
        hidden: the residual stream, batch × length × width.
        inputs: what the layers of the next group see, batch × length × n; after the last group
            None.
    """

    hidden: Array
    inputs: Array | None


class Block:
    """Block `index`: its norms ready, its linear layers when they are asked for."""

    def __init__(self, decoder: Decoder, index: int) -> None:
        self.decoder, self.index = decoder, index
        self.prefix = f"model.layers.{index}."

    def tensor_name(self, name: str) -> str:
        """The full name of a linear layer's weight, such as model.layers.3.mlp.up_proj.weight."""
        return f"{self.prefix}{PARTS[name]}.{name}.weight"

    def weight(self, name: str) -> NDArray:
        """W of a linear layer as the model has it, outputs × inputs, on the host."""
        return self.decoder.tensors[self.tensor_name(name)]

    def bias(self, name: str) -> NDArray | None:
        """b of a linear layer, or None."""
        if name not in self.decoder.configuration.biases:
            return None
        return self.decoder.tensors[self.tensor_name(name).removesuffix("weight") + "bias"]

    def gain(self, name: str) -> NDArray:
        """g of a norm: input_layernorm, post_attention_layernorm, self_attn.q_norm or .k_norm."""
        return self.decoder.tensors[f"{self.prefix}{name}.weight"]

    def prepare(self, name: str, weight: NDArray) -> Linear:
        """A linear layer of this block, with this weight and the model's bias, for `step`.

        Raises:
            BadInput: a shape that does not fit, a weight that is not finite.
        """
        expected = self.decoder.configuration.shapes()[name]
        if weight.shape != expected:
            raise BadInput(
                f"{self.tensor_name(name)} has shape {weight.shape}, expected {expected}"
            )
        if not np.isfinite(weight).all():
            raise BadInput(f"{self.tensor_name(name)} has elements that are not finite")
        gain = self.gain("input_layernorm") if name == "v_proj" else None
        return integers.prepare(self.decoder.passes, weight, self.bias(name), gain)

    @cached_property
    def layers(self) -> dict[str, Linear]:
        """All linear layers with the model's own weights."""
        return {name: self.prepare(name, self.weight(name)) for name in PARTS}

    def enter(self, hidden: Array) -> Stream:
        """The start of the block."""
        return Stream(hidden, self._norm("input_layernorm", hidden))

    def step(self, group: str, stream: Stream, layers: Mapping[str, Linear]) -> Stream:
        """Through the linear layers of one group, and on to the next.

        Args:
            group: one of GROUPS, in their order.
            layers: those of the group at least, from `prepare` or `layers`.

        Exactness: bits.
        """
        passes, (first, *others) = self.decoder.passes, GROUPS[group]
        assert stream.inputs is not None, "the block has been left"
        gridded = passes.gridded(stream.inputs, layers[first])
        if group in ("attention_output", "feed_forward_out"):
            hidden = passes.linear(gridded, layers[first], stream.hidden)
            last = group == "feed_forward_out"
            return Stream(hidden, None if last else self._norm("post_attention_layernorm", hidden))
        outputs = [passes.linear(gridded, layers[name]) for name in (first, *others)]
        if group == "feed_forward_in":
            gate, up = outputs
            return Stream(stream.hidden, passes.swiglu(gate, up))
        q, k, v = outputs
        return Stream(stream.hidden, self._attend(q, k, v, layers["v_proj"]))

    def __call__(self, hidden: Array) -> Array:
        """The block with its own weights."""
        stream = self.enter(hidden)
        for group in GROUPS:
            stream = self.step(group, stream, self.layers)
        return stream.hidden

    def _norm(self, name: str, x: Array) -> Array:
        passes = self.decoder.passes
        return passes.rms_norm(x, self._gains(name), self.decoder.configuration.epsilon)

    def _gains(self, name: str) -> Array:
        return self.decoder.passes.put(self.gain(name))

    def _attend(self, q: Array, k: Array, v: Array, layer: Linear) -> Array:
        c, passes = self.decoder.configuration, self.decoder.passes
        batch, length = q.shape[:2]

        def split(y: Array) -> Array:
            heads = passes.xp.reshape(y, (batch, length, -1, c.head_width))
            return passes.xp.permute_dims(heads, (0, 2, 1, 3))

        q, k, v = split(q), split(k), split(v)
        if c.query_key_norm:
            q, k = self._norm("self_attn.q_norm", q), self._norm("self_attn.k_norm", k)
        turn = self.decoder.turns(length)
        q, k = passes.rotate(q, *turn), passes.rotate(k, *turn)
        assert layer.limit is not None, "a layer of values is prepared by Block.prepare"
        limit = layer.limit.reshape(c.key_heads, c.head_width)
        mixed = attention(passes, q, k, v, limit, c.window_of(self.index))
        return passes.xp.reshape(passes.xp.permute_dims(mixed, (0, 2, 1, 3)), (batch, length, -1))


class Decoder:
    """A decoder of the Llama family over integers.

    Args:
        configuration: its numbers.
        tensors: name → array of any float dtype, on the host; read when needed.
        passes: which library computes; NumPy if None.

    Raises:
        BadInput: a tensor that is missing or has another shape than `tensor_shapes` says.
    """

    def __init__(
        self,
        configuration: Configuration,
        tensors: Mapping[str, NDArray],
        passes: Passes | None = None,
    ) -> None:
        self.configuration, self.tensors = configuration, tensors
        self.passes = Passes(np) if passes is None else passes
        self._turns: tuple[int, Array, Array] | None = None

    def block(self, index: int) -> Block:
        """Block `index`, anew: what it prepares is freed with it."""
        return Block(self, index)

    @cached_property
    def _blocks(self) -> list[Block]:
        return [self.block(index) for index in range(self.configuration.blocks)]

    @cached_property
    def _output(self) -> Linear:
        name = EMBEDDING if self.configuration.tied else OUTPUT
        return integers.prepare(self.passes, self.tensors[name])

    def turns(self, length: int) -> tuple[Array, Array]:
        """Cosines and sines of the first `length` positions."""
        if self._turns is None or self._turns[0] < length:
            made = tables(self.configuration.rotary, self.configuration.head_width, length)
            self._turns = (length, *map(self.passes.put, made))
        _, cosine, sine = self._turns
        return cosine[:length, :], sine[:length, :]

    def embed(self, tokens: ArrayLike) -> Array:
        """The residual stream before the first block, batch × length × width.

        Args:
            tokens: batch × length (or length alone, a batch of one) integers.

        Raises:
            BadInput: not integers, no token, or a number that is not in the vocabulary.
        """
        numbers = np.asarray(tokens)
        numbers = numbers[None] if numbers.ndim == 1 else numbers
        if numbers.ndim != 2 or numbers.dtype.kind not in "iu" or not numbers.size:
            raise BadInput(
                f"tokens must be length or batch × length integers, got shape {numbers.shape} in "
                f"{numbers.dtype}"
            )
        wrong = (numbers < 0) | (numbers >= self.configuration.vocabulary)
        if wrong.any():
            raise BadInput(
                f"token {numbers[wrong][0]} is not in the vocabulary of "
                f"{self.configuration.vocabulary}"
            )
        return self.passes.put(self.tensors[EMBEDDING][numbers])

    def hidden(self, tokens: ArrayLike) -> Array:
        """The residual stream after the last block; prepared weights stay in memory."""
        hidden = self.embed(tokens)
        for block in self._blocks:
            hidden = block(hidden)
        return hidden

    def predict(self, hidden: Array) -> Array:
        """Logits of what the last block gave, … × vocabulary."""
        gain = self.passes.put(self.tensors[NORM])
        normed = self.passes.rms_norm(hidden, gain, self.configuration.epsilon)
        return self.passes.linear(self.passes.gridded(normed, self._output), self._output)

    def logits(self, tokens: ArrayLike) -> Array:
        """Logits, shaped as the tokens × vocabulary, float64, an array of the library.

        Exactness: bits. Those of a token depend on it and on the tokens before it alone.
        """
        found = self.predict(self.hidden(tokens))
        return found[0, ...] if np.asarray(tokens).ndim == 1 else found

    def log_likelihood(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """ln P(token t+1 | tokens 0 … t), in nats: one fewer than tokens in each sequence.

        Exactness: bits (`likelihood`).
        """
        numbers = np.asarray(tokens)
        rows = numbers[None] if numbers.ndim == 1 else numbers
        if rows.shape[-1] < 2:
            raise BadInput("a likelihood needs at least two tokens in a sequence")
        found = list(self.log_likelihood_of(self.hidden(rows[:, :-1]), rows[:, 1:]))
        together = np.array(found).reshape(rows.shape[0], -1)
        return together[0] if numbers.ndim == 1 else together

    def log_likelihood_of(self, hidden: Array, targets: NDArray) -> Iterator[float]:
        """The same from what the last block gave, and the tokens that came; row by row."""
        batch, length, width = hidden.shape
        flat = self.passes.xp.reshape(hidden, (batch * length, width))
        wanted = np.asarray(targets).reshape(-1)
        for first in range(0, batch * length, TOKENS_AT_ONCE):
            logits = self.predict(flat[first : first + TOKENS_AT_ONCE, :])
            yield from log_likelihood(self.passes, logits, wanted[first : first + TOKENS_AT_ONCE])
