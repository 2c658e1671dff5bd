"""Every method on one model at equal rates: which of them keeps its predictions?

    rtn, gptq             columns in the order in which they stand
    gptq-actorder         columns by descending energy of their input
    gptq-rotated          natural order after a randomised Hadamard rotation
    watersic              as it is
    watersic-damped       with GPTQ's damping, 0.01 of the mean diagonal in place of 0.0001
    watersic-drift        with the moments of both streams, and of the residual stream

All entropy coded, the spacing of every layer searched so that the model's `rate` is met: what a
file costs, side information counted. Models are made one after the other, in memory, by the
pipeline that `model quantize` writes files with.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.decoder import Decoder
from ...reference.operations import Operations
from .output import mean_rates
from .pipeline import Plan, quantize_model

SEED = 0
METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "rtn": ("rtn", {}, {}),
    "gptq": ("gptq", {}, {}),
    "gptq-actorder": ("gptq", {"actorder": True}, {}),
    "gptq-rotated": ("gptq", {}, {"seed": SEED}),
    "watersic": ("watersic", {}, {}),
    "watersic-damped": ("watersic", {"damping": 0.01}, {}),
    "watersic-drift": ("watersic", {}, {"drift": True, "residual": True}),
}
"""Name: the method, its options, and those of the plan."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One model of the table.

    Attributes:
        method: a key of METHODS. target: the rate aimed at.
        rates: reached, means over all weights of the linear layers, in bits per weight.
        sha256: of all quantised weights, float32, in the order of the layers.
    """

    method: str
    target: float
    decoder: Decoder
    rates: dict[str, float | None]
    sha256: str


def plan_of(method: str, rate: float) -> Plan:
    """What the pipeline is asked for."""
    name, options, others = METHODS[method]
    return Plan(name, options, rate, **others)


def subjects(
    decoder: Decoder,
    sequences: NDArray[np.int64],
    methods: Sequence[str],
    rates: Sequence[float],
    backend: Operations,
    *,
    batch: int = 1,
    told: Callable[[str], None] = lambda text: None,
) -> Iterator[Subject]:
    """Every method at the first rate, then at the next.

    Args:
        sequences: count × length tokens, for the moments. batch: sequences computed together.

    Raises:
        WaterlevelError: what a method refuses, with the name of the layer.

    Exactness: bits, as `quantize_model`.
    """
    for rate in rates:
        for method in methods:
            weights, layers, digest = {}, [], hashlib.sha256()

            def tell(layer: str, place: str = f"{method} at {rate:g}") -> None:
                told(f"{place}: {layer}")

            found = quantize_model(
                decoder, sequences, plan_of(method, rate), backend, batch=batch, told=tell
            )
            for _, quantized in found:
                for layer in quantized:
                    rows, columns = layer.weight.shape
                    weights[layer.name] = layer.weight
                    described = asdict(layer.result.rates)
                    layers.append({"rows": rows, "columns": columns, "rates": described})
                    digest.update(layer.weight.astype("<f4", copy=False).tobytes())
            tensors = ChainMap(weights, decoder.tensors)  # pyright: ignore[reportArgumentType]
            made = Decoder(decoder.configuration, tensors, decoder.passes)
            yield Subject(method, rate, made, mean_rates(layers), digest.hexdigest())
