"""How far does a quantiser come with one question, and what keeps it from coming further?

| level | what holds |
|---|---|
| `bits` | every bit of everything that was returned |
| `bits but for signs of zeros` | the same numbers; some 0 is -0 |
| `codes` | the same codes and zero points; scales and Ŵ but for rounding |
| `codes but for near-ties` | every code is the one that its own earlier codes lead to, but for \
weights next to a tie; in their rows what follows may differ |
| `rate-distortion` | D within the margin of `conformance.levels`, whatever the codes |
| `none` | |

What "but for rounding" and "next to a tie" mean is measured on the very layer
(`diagnosis.semantic_search`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import GridScales, Quantized
from ...reference.operations import Operations
from ..conformance.levels import LEAST_WEIGHTS, margin
from ..diagnosis.semantic_search import Observed, fit
from ..diagnosis.semantics import Replayed
from .cases import Question
from .subject import UNITS, Answer

BITS, SIGNS, CODES, NEAR_TIES = "bits", "bits but for signs of zeros", "codes", (
    "codes but for near-ties"
)  # fmt: skip
RATE_DISTORTION, NONE, FAILED = "rate-distortion", "none", "failed"
LEVELS = (BITS, SIGNS, CODES, NEAR_TIES, RATE_DISTORTION, NONE, FAILED)
NAMED_TIES = 3


@dataclass(frozen=True)
class NearTie:
    """Where a row parts from the oracle's: next to a tie, which went the other way.

    Attributes:
        row, column: where. distance: from the tie, in spacings. followed: how many later weights of
            the row differ from the oracle's.
    """

    row: int
    column: int
    distance: float
    followed: int

    def line(self) -> str:
        """For somebody who reads it."""
        after = f", and {self.followed} weights of the row after it" if self.followed else ""
        return f"[{self.row}, {self.column}] {self.distance:.1e} spacings from the tie{after}"


@dataclass(frozen=True)
class Judgement:
    """What became of one question.

    Attributes:
        case: its name. level: of LEVELS. bits_lost: ½·log2(D/D₀), None where D₀ is 0.
        share: of the weights that were decided as asked for, given the earlier ones.
        ties: one for each row that parts there. why: what keeps it from the next level, in one
            line, or "".
    """

    case: str
    level: str
    bits_lost: float | None = None
    share: float = 0.0
    ties: tuple[NearTie, ...] = ()
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**vars(self), "ties": [vars(tie) for tie in self.ties]}


def observed(question: Question, answer: Answer) -> Observed:
    """The question with its answer, as a diagnosis takes it."""
    return Observed(
        question.name, question.weight, question.covariance, question.semantics,
        answer.dequantized, answer.codes, answer.scale,
        answer.zero if question.all_parameters["asymmetric"] else None,
        UNITS.get(answer.dtype, 2.0**-24),
    )  # fmt: skip


def judge(question: Question, answer: Answer, backend: Operations) -> Judgement:
    """Hold an answer against the oracle's."""
    dtype = "float64" if answer.dtype == "float64" else "float32"
    oracle = question.oracle(backend, dtype)
    lost = _bits_lost(question, answer, oracle)
    pairs = _pairs(answer, oracle)
    if all(_same_bits(one, other) for one, other in pairs.values()):
        return Judgement(question.name, BITS, lost, 1.0)
    unequal = [name for name, (one, other) in pairs.items() if not np.array_equal(one, other)]
    if not unequal and answer.dtype == dtype:
        return Judgement(question.name, SIGNS, lost, 1.0, (), "some zeros have another sign")
    found = fit(observed(question, answer), question.semantics)
    if found.explained:
        assert found.replayed is not None
        ties = _partings(found.replayed, _differing(answer, oracle))
        if not ties:
            return Judgement(question.name, CODES, lost, 1.0, (), _last_bits(pairs, unequal))
        why = f"{len(ties)} of {len(question.weight)} rows part at a near-tie"
        return Judgement(question.name, NEAR_TIES, lost, found.share, ties, why)
    why = f"{1 - found.share:.2%} of the weights are not as asked for"
    size = question.weight.size
    near = lost is not None and size >= LEAST_WEIGHTS and abs(lost) <= margin(size)
    return Judgement(question.name, RATE_DISTORTION if near else NONE, lost, found.share, (), why)


def _pairs(answer: Answer, oracle: Quantized) -> dict[str, tuple[NDArray, NDArray]]:
    scales = oracle.scales
    assert isinstance(scales, GridScales)
    expected = {
        "dequantized": oracle.dequantized,
        "codes": oracle.codes,
        "scale": scales.scale[:, scales.group],
        "zero": scales.zero[:, scales.group],
    }
    return {
        name: (given, expected[name])
        for name in expected
        if (given := getattr(answer, name)) is not None
    }


def _same_bits(one: NDArray, other: NDArray) -> bool:
    if other.dtype.kind == "f":
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return np.array_equal(one, other)


def _last_bits(pairs: dict[str, tuple[NDArray, NDArray]], unequal: list[str]) -> str:
    parts = []
    for name in unequal or list(pairs):
        one, other = (x.astype(np.float64) for x in pairs[name])
        with np.errstate(all="ignore"):
            relative = np.nan_to_num(np.abs(one - other) / np.abs(other), posinf=0.0)
        count = np.count_nonzero(one != other)
        parts.append(f"{name}: {count / one.size:.1%} differ, by {relative.max():.1e} at most")
    return "; ".join(parts)


def _differing(answer: Answer, oracle: Quantized) -> NDArray[np.bool_]:
    """Where the level is not the oracle's."""
    scales = oracle.scales
    assert isinstance(scales, GridScales)
    if answer.codes is not None and answer.codes.shape == oracle.codes.shape:
        return answer.codes != oracle.codes
    spacing = scales.scale[:, scales.group].astype(np.float64)
    apart = np.abs(answer.dequantized.astype(np.float64) - oracle.dequantized)
    return apart > 2.0**-6 * spacing


def _partings(replayed: Replayed, differing: NDArray[np.bool_]) -> tuple[NearTie, ...]:
    """Where each row that differs differs first, in the order of processing."""
    in_order = differing[:, replayed.order]
    rows = np.flatnonzero(in_order.any(axis=1))
    columns = replayed.order[in_order[rows].argmax(axis=1)]
    return tuple(
        NearTie(int(i), int(j), float(replayed.from_tie[i, j]), int(differing[i].sum()) - 1)
        for i, j in zip(rows, columns, strict=True)
    )


def _bits_lost(question: Question, answer: Answer, oracle: Quantized) -> float | None:
    W, S = question.weight.astype(np.float64), question.covariance.astype(np.float64)

    def energy(values: NDArray) -> float:
        error = values.astype(np.float64) - W
        return float(np.sum((error @ S) * error))

    D, D0 = energy(answer.dequantized), energy(oracle.dequantized)
    return 0.5 * math.log2(D / D0) if D > 0 and D0 > 0 else (0.0 if D == D0 else None)
