"""What must be known of a decoder besides its weights?

A few numbers. The architectures of the Llama family differ in them alone:

| | bias of q, k, v | norm of q and k | window |
|---|---|---|---|
| Llama 2 and 3, SmolLM2 | - | - | - |
| Mistral | - | - | some |
| Qwen2 | yes | - | - or some blocks |
| Qwen3 | - | yes | - or some blocks |

Worked example: four heads of queries share two of keys; 8 features each.

>>> tiny = Configuration(
...     vocabulary=32, width=32, blocks=2, heads=4, key_heads=2, head_width=8, feed_forward=48,
...     epsilon=1e-5, rotary=Rotary(10000.0), tied=True,
... )
>>> tiny.shapes()["v_proj"], tiny.window_of(1)
((16, 32), None)

Exercise: how many weights do the linear layers of a block have? (Check: 32·32 for queries and for
the output, 2·16·32 for keys and values, 3·48·32.)

>>> sum(a * n for a, n in tiny.shapes().values()) == 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32
True
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadInput
from .rotary import Rotary

__all__ = ["Configuration", "Rotary"]


@dataclass(frozen=True)
class Configuration:
    """The numbers of a decoder.

    Attributes:
        vocabulary, width, blocks: how many tokens, features of the residual stream, blocks.
        heads, key_heads, head_width: of queries; of keys and values; features of each.
        feed_forward: features between up and down.
        epsilon: of the norms.
        rotary: positions.
        tied: the output layer is the embedding.
        biases: the linear layers that have one.
        query_key_norm: q and k are normed head by head, before they are turned.
        windows: for each block how many tokens a query sees, or None; () for None in all.

    Raises:
        BadInput: numbers that do not fit together.
    """

    vocabulary: int
    width: int
    blocks: int
    heads: int
    key_heads: int
    head_width: int
    feed_forward: int
    epsilon: float
    rotary: Rotary
    tied: bool
    biases: frozenset[str] = frozenset()
    query_key_norm: bool = False
    windows: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            *("vocabulary", "width", "blocks", "heads", "key_heads", "head_width"),
            "feed_forward",
        ):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.heads % self.key_heads:
            raise BadInput(f"{self.heads} heads cannot share {self.key_heads} heads of keys evenly")
        if self.head_width % 2:
            raise BadInput(f"head_width is {self.head_width}; features are turned in pairs")
        if self.windows and len(self.windows) != self.blocks:
            raise BadInput(f"{len(self.windows)} windows for {self.blocks} blocks")

    def window_of(self, block: int) -> int | None:
        """How many tokens a query of this block sees, itself included; None for all."""
        return self.windows[block] if self.windows else None

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Outputs × inputs of the linear layers of a block."""
        mixed, shared = self.heads * self.head_width, self.key_heads * self.head_width
        return {
            "q_proj": (mixed, self.width),
            "k_proj": (shared, self.width),
            "v_proj": (shared, self.width),
            "o_proj": (self.width, mixed),
            "gate_proj": (self.feed_forward, self.width),
            "up_proj": (self.feed_forward, self.width),
            "down_proj": (self.width, self.feed_forward),
        }
