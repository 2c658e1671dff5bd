"""A model, quantised block by block: which activations does a layer see, and what is kept?

    for each block, for each group of layers that share an input (`reference.decoder.GROUPS`):
        moments of the input over all sequences, exact within one, added by the rule of `tree_sum`
        the weights of the group are decided
        the stream goes on through them

Without drift one stream is enough: x̂, through the weights already decided, and every layer is
applied once. With drift there are two, x through the original weights beside it, and WaterSIC gets
Σ = E[x xᵀ], Σ̂ = E[x̂ x̂ᵀ], Σ_x = E[x x̂ᵀ] and, for the layers that write to the residual stream r,
Δ = E[(r - r̂) x̂ᵀ].

What goes on is Ŵ rounded to float32, for that is what the file has. Neither the library, nor its
threads, nor the size of a batch changes a bit: moments are those of a sequence (`sequence_moment`),
and the quantisers keep the arithmetic contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import Quantized
from ...reference.bases.rotation import HadamardRotation
from ...reference.calibration.budget import RateBudget
from ...reference.decoder import GROUPS, Block, Decoder, SequenceSum, Stream, sequence_moment
from ...reference.errors import BadInput, NotPositiveDefinite, WaterlevelError
from ...reference.operations import Operations
from ..layers.quantize_layer import METHODS

Moments = Mapping[str, NDArray[np.float64]]
Weights = Mapping[str, NDArray[np.float32]]
WRITE_TO_RESIDUAL = ("attention_output", "feed_forward_out")


@dataclass(frozen=True)
class Plan:
    """How every layer is quantised.

    Attributes:
        method: a key of METHODS. options: of that function, but for tensors, rate and backend.
        rate: of the model, in `rate_measure` bits per weight; None for a finite grid or a spacing.
        seed: of a randomised Hadamard rotation, or None for no rotation.
        drift, residual: which moments WaterSIC gets.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None
    seed: int | None = None
    drift: bool = False
    residual: bool = False

    def __post_init__(self) -> None:
        if (self.drift or self.residual) and self.method != "watersic":
            raise BadInput(f"drift and residual moments belong to watersic, not to {self.method}")
        if self.residual and not self.drift:
            raise BadInput("the residual stream drifts only where there is drift: give both")

    @property
    def measure(self) -> str:
        return self.options.get("rate_measure", "rate")


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One layer: its tensor's name, what the method returned, and the weight as it is stored."""

    name: str
    result: Quantized
    weight: NDArray[np.float32]


def quantize_model(
    decoder: Decoder,
    sequences: NDArray[np.int64],
    plan: Plan,
    backend: Operations,
    *,
    batch: int = 1,
    told: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[int, list[QuantizedLayer]]]:
    """The layers of one block after the other.

    Args:
        sequences: count × length tokens. batch: sequences computed together.
        told: is called with the name of each layer before it is quantised.

    Raises:
        WaterlevelError: what the method refuses, with the name of the layer.

    Exactness: bits, whatever the library of the decoder, the batch and the threads.
    """
    budget = _Budget(decoder, plan)
    walk = _Walk(decoder, sequences, batch, plan)
    for index in range(decoder.configuration.blocks):
        block, layers = decoder.block(index), []
        walk.enter(block)
        for group, names in GROUPS.items():
            moments, weights = walk.moments(group), {}
            for name in names:
                told(block.tensor_name(name))
                layer = _quantize(block, name, moments, plan, budget, backend)
                layers.append(layer)
                weights[name] = layer.weight
            walk.step(block, group, weights)
        walk.leave()
        yield index, layers


class _Budget:
    """The rate that the next layer aims at, so that the model's is met."""

    def __init__(self, decoder: Decoder, plan: Plan) -> None:
        self.budget = None
        if plan.rate is not None:
            sizes = {}
            for index in range(decoder.configuration.blocks):
                block = decoder.block(index)
                for name, (rows, columns) in decoder.configuration.shapes().items():
                    sizes[block.tensor_name(name)] = rows * columns
            self.budget = RateBudget(sizes, plan.rate)

    def options(self) -> dict[str, float]:
        return {} if self.budget is None else {"rate": self.budget.next_rate()}

    def spend(self, name: str, rate: float) -> None:
        if self.budget is not None:
            self.budget.spend(name, rate)


def _quantize(
    block: Block, name: str, moments: Moments, plan: Plan, budget: _Budget, backend: Operations
) -> QuantizedLayer:
    tensor, weight = block.tensor_name(name), block.weight(name)
    options = {**plan.options, **budget.options(), **moments}
    if plan.seed is not None:
        options["rotation"] = HadamardRotation(weight.shape[1], plan.seed)
    try:
        result = METHODS[plan.method](np.asarray(weight, np.float64), **options, backend=backend)
    except NotPositiveDefinite as failure:
        raise NotPositiveDefinite(
            failure.pivot, failure.value, f"{tensor}: {failure.matrix}", failure.remedy
        ) from None
    except WaterlevelError as failure:
        raise BadInput(f"{tensor}: {failure}") from None
    budget.spend(tensor, getattr(result.rates, plan.measure))
    stored = result.dequantized.astype(np.float32)
    if not np.isfinite(stored).all():
        raise BadInput(f"{tensor}: the quantised weight does not fit in float32")
    return QuantizedLayer(tensor, result, stored)


class _Walk:
    """The streams of all sequences: x̂, and beside it x where there is drift.

    Batches are in the order in which a tree of sums meets its sequences, so that few moments wait.
    """

    def __init__(
        self, decoder: Decoder, sequences: NDArray[np.int64], batch: int, plan: Plan
    ) -> None:
        if batch < 1:
            raise BadInput(f"a batch has at least one sequence, got {batch}")
        self.passes, self.plan = decoder.passes, plan
        self.count, self.length = sequences.shape
        order = SequenceSum(self.count).order()
        self.batches = [order[i : i + batch] for i in range(0, self.count, batch)]
        self.hidden = [decoder.embed(sequences[rows]) for rows in self.batches]
        self.original = list(self.hidden) if plan.drift else None
        self.streams: list[Stream] = []
        self.originals: list[Stream] = []

    def enter(self, block: Block) -> None:
        self.streams = [block.enter(h) for h in self.hidden]
        if self.original is not None:
            self.originals = [block.enter(h) for h in self.original]

    def step(self, block: Block, group: str, weights: Weights) -> None:
        layers = {name: block.prepare(name, weight) for name, weight in weights.items()}
        self.streams = [block.step(group, stream, layers) for stream in self.streams]
        if self.original is not None:
            layers = {name: block.prepare(name, block.weight(name)) for name in weights}
            self.originals = [block.step(group, stream, layers) for stream in self.originals]

    def leave(self) -> None:
        self.hidden = [stream.hidden for stream in self.streams]
        if self.original is not None:
            self.original = [stream.hidden for stream in self.originals]

    def moments(self, group: str) -> Moments:
        """The second moments of what the group sees, each divided by the number of tokens."""
        residual = self.plan.residual and group in WRITE_TO_RESIDUAL
        names = ["covariance"]
        if self.plan.drift:
            names += ["covariance_quantized", "cross_covariance"]
        names += ["residual_covariance"] if residual else []
        sums = {name: SequenceSum(self.count) for name in names}
        for place, rows in enumerate(self.batches):
            for inside, sequence in enumerate(rows):
                for name, (left, right) in self._pairs(place, inside, names).items():
                    sums[name].add(sequence, sequence_moment(self.passes, left, right))
        tokens = float(self.count * self.length)
        return {name: total.total() / tokens for name, total in sums.items()}

    def _pairs(self, place: int, inside: int, names: list[str]) -> dict[str, tuple[Any, Any]]:
        quantized = self.streams[place]
        assert quantized.inputs is not None, "the block has been left"
        seen = quantized.inputs[inside, ...]
        if self.original is None:
            return {"covariance": (seen, seen)}
        original = self.originals[place]
        assert original.inputs is not None, "the block has been left"
        x = original.inputs[inside, ...]
        found = {
            "covariance": (x, x),
            "covariance_quantized": (seen, seen),
            "cross_covariance": (x, seen),
        }
        if "residual_covariance" in names:
            found["residual_covariance"] = (
                original.hidden[inside, ...] - quantized.hidden[inside, ...],
                seen,
            )
        return found
