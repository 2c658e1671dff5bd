"""What a user waits for: a whole method, from arrays to Ŵ, rates and distortion.

A core is factor, target and codes once. The rest of a method also checks, searches, finds scales
and measures, and should not cost a multiple. Each is timed in turn with the core that it contains,
and the ratio of the two is what can be compared between machines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from ...reference import Quantized, gptq, rtn, waterfilling, watersic
from ...reference.limits.gaussian_limit import eigenbasis
from ...reference.operations import Operations
from ...reference.operations.layer import prepare
from .rows import ROWS, Inputs, Placed

RATE = 3.0


@dataclass(frozen=True)
class Whole:
    """A method, and the row of `rows.ROWS` that is its core."""

    core: str
    run: Callable[[Inputs, Operations], object]


def _gptq(static: bool) -> Callable[[Inputs, Operations], Quantized]:
    def run(inputs: Inputs, backend: Operations) -> Quantized:
        return gptq(
            inputs.weight, inputs.covariance, bits=4, group_size=128, static_groups=static,
            dtype=inputs.dtype, backend=backend,
        )  # fmt: skip

    return run


def _watersic(inputs: Inputs, backend: Operations) -> Quantized:
    return watersic(
        inputs.weight, inputs.covariance, rate=RATE, dtype=inputs.dtype, backend=backend
    )


def _study(inputs: Inputs, backend: Operations) -> float:
    """The methods of `waterlevel study` at one rate, with the limit."""
    layer = prepare(inputs.weight, inputs.covariance, dtype=inputs.dtype, backend=backend)
    eigenvalues, eigenvectors = eigenbasis(inputs.covariance)
    results = (
        rtn(layer, rate=RATE, eigenvalues=eigenvalues),
        gptq(layer, rate=RATE, eigenvalues=eigenvalues),
        gptq(layer, rate=RATE, eigenvalues=eigenvalues, actorder=True),
        waterfilling(layer, rate=RATE, eigenvalues=eigenvalues, eigenvectors=eigenvectors),
        watersic(layer, rate=RATE, eigenvalues=eigenvalues),
    )
    return sum(result.gap for result in results)


WHOLE = {
    "whole WaterSIC at rate 3": Whole("WaterSIC core", _watersic),
    "whole GPTQ, 4 bits, groups of 128": Whole("GPTQ core", _gptq(static=False)),
    "whole GPTQ, 4 bits, static groups of 128": Whole("GPTQ core", _gptq(static=True)),
    "study of one layer at rate 3": Whole("WaterSIC core", _study),
}


def measure_whole(
    whole: Whole,
    inputs: Inputs,
    backend: Operations,
    placed: Placed,
    clock: Callable[[Callable[[], object]], float],
    repetitions: int,
) -> dict[str, Any]:
    """Seconds of the whole and of its core, medians; and how many times the core it takes."""
    core = ROWS[whole.core].ours
    wholes, cores = [], []
    for _ in range(repetitions):
        cores.append(clock(lambda: core(backend, placed)))
        wholes.append(clock(lambda: whole.run(inputs, backend)))
    return {
        "seconds": median(wholes),
        "core_seconds": median(cores),
        "times_core": median(b / a for a, b in zip(cores, wholes, strict=True)),
        "all_seconds": {"whole": wholes, "core": cores},
    }
