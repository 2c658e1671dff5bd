"""One block of a model is in memory at a time, whoever walks through it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from waterlevel.reference.decoder import Decoder
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.models import pipeline
from waterlevel.validate.models.evaluation import evaluate
from waterlevel.validate.models.pipeline import Plan, quantize_model
from waterlevel.validate.models.token_files import Tokens

from ...helpers.decoders import random_tensors, tiny, tokens

WIDE = {"width": 64, "heads": 4, "head_width": 16, "feed_forward": 256}
FEW, MANY = 2, 8
PREPARED = 8 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 256)
"""Bytes of the integers of a block's linear layers, two heads of keys."""


def quantize(decoder: Decoder) -> None:
    sequences = tokens(decoder.configuration, 3, 8)
    for _ in quantize_model(decoder, sequences, Plan("rtn", {"bits": 4}), NUMPY):
        pass


def measure(decoder: Decoder) -> None:
    windows = tokens(decoder.configuration, 3, 9)
    for _ in evaluate([decoder, decoder], windows, Tokens(windows[0], None, "test")):
        pass


def peak(blocks: int, work: Callable[[Decoder], None]) -> int:
    """Bytes that the work allocates at most, besides the model that it is given."""
    configuration = tiny(blocks=blocks, **WIDE)
    decoder = Decoder(configuration, random_tensors(configuration))
    tracemalloc.start()
    try:
        work(decoder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def more_for_more_blocks(work: Callable[[Decoder], None]) -> int:
    peak(FEW, work)  # what is imported or cached at the first time
    return peak(MANY, work) - peak(FEW, work)


@pytest.mark.parametrize("work", [pytest.param(quantize, marks=pytest.mark.slow), measure])
def test_memory_does_not_grow_with_the_number_of_blocks(work: Callable[[Decoder], None]):
    """Six more blocks cost less than one: a few names each."""
    assert more_for_more_blocks(work) < PREPARED / 2


@pytest.mark.slow
def test_blocks_that_are_kept_are_seen(monkeypatch: pytest.MonkeyPatch):
    kept = []
    step = pipeline._Walk.step

    def planted(walk: pipeline._Walk, block: object, group: str, weights: dict) -> None:
        kept.append({name: np.asarray(weight, np.float64) for name, weight in weights.items()})
        step(walk, block, group, weights)  # pyright: ignore

    monkeypatch.setattr(pipeline._Walk, "step", planted)
    assert more_for_more_blocks(quantize) > 5 * PREPARED
