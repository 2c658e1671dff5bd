"""A quantiser is asked everything that it can be asked, judged, and explained.

What differs in its meaning is looked for first (`diagnosis.semantic_search`); only where the
meaning is right and the bits are not, other arithmetic is tried on a small case
(`diagnosis.explain`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import GridScales
from ...reference.operations import Operations
from ..diagnosis.explain import Diagnosis, diagnose_algorithm
from ..diagnosis.semantic_search import Observed, Search, search
from ..support.console import one_line
from .cases import Question
from .outcome import BITS, FAILED, LEVELS, NONE, RATE_DISTORTION, SIGNS, Judgement, judge, observed
from .subject import Answer, NoAnswer, NotTaken, Quantizer

SECONDS = 60.0
SMALL = 512  # weights: of a case on which deviations of the arithmetic are tried
WITNESSES = 3  # such cases
ARITHMETIC_SECONDS = 15.0


@dataclass(frozen=True)
class QuantizerReport:
    """All that was found about a quantiser.

    Attributes:
        judgements: one for each case. skipped: (case, parameters that it does not take).
        search: for the meaning. arithmetic: lines about what else differs, or ().
    """

    name: str
    judgements: tuple[Judgement, ...]
    skipped: tuple[tuple[str, tuple[str, ...]], ...]
    search: Search
    arithmetic: tuple[str, ...]
    seconds: float

    def reaches(self, level: str) -> bool:
        """Whether every case that was run comes at least to this level."""
        least = LEVELS.index(level)
        return all(LEVELS.index(found.level) <= least for found in self.judgements)

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON; without times."""
        return {
            "name": self.name,
            "cases": [found.to_json() for found in self.judgements],
            "skipped": [{"case": case, "parameters": names} for case, names in self.skipped],
            "causes": [vars(cause) for cause in self.search.causes],
            "unexplained": [
                {"case": case, "closest": names, "share": share, "share_as_asked": plain}
                for case, names, share, plain in self.search.unexplained
            ],
            "untried": self.search.untried,
            "arithmetic": self.arithmetic,
        }


def validate_quantizer(
    quantizer: Quantizer,
    questions: Sequence[Question],
    backend: Operations,
    seconds: float = SECONDS,
    announce: Callable[[str], None] = lambda what: None,
) -> QuantizerReport:
    """Ask, judge, explain.

    Args:
        backend: on which the oracle runs. seconds: for finding causes.
    """
    begin = time.monotonic()
    judgements, skipped, wrong, right, inexact = [], [], [], [], []
    for question in questions:
        lacking = tuple(name for name in question.parameters if not quantizer.takes(name))
        if lacking:
            skipped.append((question.name, lacking))
            continue
        announce(question.name)
        try:
            answer = quantizer(
                question.weight,
                question.covariance,
                question.all_parameters,
                question.all_parameters["bits"],
            )
        except NotTaken as reason:
            skipped.append((question.name, (str(reason),)))
            continue
        except NoAnswer as reason:
            judgements.append(Judgement(question.name, FAILED, why=str(reason)))
            continue
        found = judge(question, answer, backend)
        judgements.append(found)
        seen: Observed = observed(question, answer)
        (wrong if found.level in (RATE_DISTORTION, NONE) else right).append(seen)
        if found.level not in (BITS, SIGNS, RATE_DISTORTION, NONE):
            inexact.append((question, answer))
    causes = search(wrong, right, seconds, announce)
    arithmetic: tuple[str, ...] = ()
    small = [pair for pair in inexact if pair[0].weight.size <= SMALL][:WITNESSES]
    if small and not wrong:
        announce("arithmetic")
        arithmetic = _arithmetic(small)
    return QuantizerReport(
        quantizer.name, tuple(judgements), tuple(skipped), causes, arithmetic,
        time.monotonic() - begin,
    )  # fmt: skip


def _arithmetic(pairs: Sequence[tuple[Question, Answer]]) -> tuple[str, ...]:
    """What other arithmetic gives these bits: that which gives them in every one of some cases."""
    found: list[Diagnosis] = []
    for question, answer in pairs:
        try:
            found.append(_arithmetic_of(question, answer))
        except Exception as error:  # deviations of the arithmetic may fail in any way
            return (f"no diagnosis of the arithmetic: {type(error).__name__}: {one_line(error)}",)
    known = [{m.name: m for m in d.explanation.reproduced_by} for d in found if d.explanation]
    common = set.intersection(*(set(names) for names in known)) if known else set()
    if not common:
        return tuple(found[0].lines())
    lines = [line for line in found[0].lines() if not line.startswith("every bit is reproduced")]
    return (*lines, *(
        f"every bit of {len(pairs)} such cases is reproduced by {name}: {match.description}"
        for name, match in known[0].items() if name in common
    ))  # fmt: skip


def _arithmetic_of(question: Question, answer: Answer) -> Diagnosis:
    dtype = "float64" if answer.dtype == "float64" else "float32"
    actual = {
        name: array
        for name in ("codes", "dequantized", "scale")
        if (array := getattr(answer, name)) is not None
    }
    if "codes" in actual:
        actual["codes"] = actual["codes"].astype(np.int32)

    def run(backend: Operations) -> dict[str, NDArray]:
        result = question.oracle(backend, dtype)
        assert isinstance(result.scales, GridScales)
        spread = result.scales.scale[:, result.scales.group]
        outputs = {"codes": result.codes, "dequantized": result.dequantized, "scale": spread}
        return {name: outputs[name] for name in actual}

    return diagnose_algorithm(question.name, run, actual, seconds=ARITHMETIC_SECONDS)
