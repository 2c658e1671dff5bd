"""What is a model worth on a text, and how far is it from the original?

Each token but the first of the text is predicted once: windows of `length` inputs lie side by side,
and the last token of a window's targets is the first input of the next. The likelihood of every
token has the same bits everywhere (`reference.decoder.likelihood`). What is made of them here,
means, standard errors and divergences, is float64 by NumPy, the same to some twelve digits.

The standard error takes windows as independent. Two models on one text have it in common: compare
their differences, which have a standard error of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.decoder import Decoder
from ...reference.decoder.decoder import TOKENS_AT_ONCE
from ...reference.decoder.likelihood import log_likelihood
from ...reference.errors import BadInput
from .token_files import Tokens

LN_2 = math.log(2.0)


@dataclass(frozen=True)
class Estimate:
    """A mean over windows and its standard error; the error of a single window is NaN."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: NDArray) -> Estimate:
        count = len(values)
        error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
        return cls(float(values.mean()), error)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model on a text.

    Attributes:
        bits: of the tokens of each window, mean per token.
        tokens_per_byte: of the text, or None if it came as tokens.
        divergence: KL(original ‖ model) in bits, mean per token of each window; None without one.
        divergence_99: what KL of 99 % of all tokens stays below, or None.
        same_top: share of tokens for which both have the same likeliest next token, or None.
    """

    bits: NDArray[np.float64]
    tokens_per_byte: float | None
    divergence: NDArray[np.float64] | None = None
    divergence_99: float | None = None
    same_top: float | None = None

    @property
    def perplexity(self) -> float:
        return 2.0 ** float(self.bits.mean())

    @property
    def bits_per_byte(self) -> Estimate | None:
        """Bits per token times tokens per byte of the text."""
        if self.tokens_per_byte is None:
            return None
        return Estimate.of(self.bits * self.tokens_per_byte)

    def figures(self, other: Evaluation | None) -> dict[str, Any]:
        """All of it, ready for JSON; compared with another model on the same windows, if given."""
        cost, found = self.bits_per_byte, {"perplexity": self.perplexity}
        found |= {"bits_per_token": asdict(Estimate.of(self.bits))}
        found |= {"bits_per_byte": None if cost is None else asdict(cost)}
        if other is None or self.divergence is None:
            return found
        return {
            **found,
            "more_bits_per_token": asdict(self.above(other)),
            "divergence": asdict(Estimate.of(self.divergence)),
            "divergence_99": self.divergence_99,
            "same_top": self.same_top,
        }

    def above(self, other: Evaluation) -> Estimate:
        """How many more bits a token than the other model on the same windows."""
        if self.bits.shape != other.bits.shape:
            raise BadInput("two evaluations can be compared on the same windows only")
        return Estimate.of(self.bits - other.bits)


def evaluation_windows(tokens: Tokens, length: int, count: int | None) -> NDArray[np.int64]:
    """Windows of length + 1 tokens that share their ends, the first `count` of the text or all.

    Raises BadInput if the text is too short.
    """
    shorter = Tokens(tokens.numbers[:-1], tokens.bytes, tokens.source)
    first = shorter.windows(length, count, None)
    ends = tokens.numbers[length : length * len(first) + 1 : length]
    return np.concatenate([first, ends[:, None]], axis=1)


def evaluate(
    decoders: Iterable[Decoder],
    windows: NDArray[np.int64],
    tokens: Tokens,
    batch: int = 1,
    told: Callable[[str], None] = lambda text: None,
) -> Iterator[Evaluation]:
    """Evaluate the original, which is the first, and compare the others with it.

    One model and one of its blocks is in memory at a time, with the residual streams of all windows
    after the last block: the original's stay.

    Args:
        decoders: taken one after the other. windows: of `evaluation_windows`.
        batch: windows computed together; no bit depends on it.

    Yields:
        One for each decoder, in their order; the first has no divergence.

    Raises:
        BadInput: models of different vocabularies.
    """
    per_byte = None if tokens.bytes is None else len(tokens.numbers) / tokens.bytes
    original: tuple[Decoder, list[NDArray]] | None = None
    for decoder in decoders:
        if original is not None and vocabulary(decoder) != vocabulary(original[0]):
            raise BadInput(
                f"a model of {vocabulary(decoder)} tokens cannot be compared with one of "
                f"{vocabulary(original[0])}: the vocabularies differ"
            )
        streams = _streams(decoder, windows[:, :-1], batch, told)
        bits = np.zeros(len(windows))
        divergence, same = np.zeros(windows[:, 1:].shape), np.zeros(windows[:, 1:].shape, bool)
        for w, row in enumerate(windows[:, 1:]):
            likelihoods = []
            for first in range(0, len(row), TOKENS_AT_ONCE):
                part = slice(first, first + TOKENS_AT_ONCE)
                logits = decoder.predict(streams[w][part, ...])
                likelihoods += log_likelihood(decoder.passes, logits, row[part])
                if original is not None:
                    reference, kept = original
                    p = log_softmax(reference.passes.host(reference.predict(kept[w][part, ...])))
                    q = log_softmax(decoder.passes.host(logits))
                    divergence[w, part] = (np.exp(p) * (p - q)).sum(-1) / LN_2
                    same[w, part] = q.argmax(-1) == p.argmax(-1)
            bits[w] = -float(np.mean(likelihoods)) / LN_2
        if original is None:
            original = decoder, streams
            yield Evaluation(bits, per_byte)
        else:
            last = float(np.quantile(divergence, 0.99))
            yield Evaluation(bits, per_byte, divergence.mean(-1), last, float(same.mean()))


def vocabulary(decoder: Decoder) -> int:
    """How many tokens it knows."""
    return decoder.configuration.vocabulary


def _streams(
    decoder: Decoder, inputs: NDArray[np.int64], batch: int, told: Callable[[str], None]
) -> list[NDArray]:
    """The residual stream of each window after the last block, length × width."""
    hidden = [decoder.embed(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
    for index in range(decoder.configuration.blocks):
        told(f"block {index + 1} of {decoder.configuration.blocks}")
        block = decoder.block(index)
        hidden = [block(h) for h in hidden]
    return [h[i, ...] for h in hidden for i in range(h.shape[0])]


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln of the softmax over the last axis, in float64."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
