"""Mistakes of meaning planted in two quantisers: is each named, and nothing else in its place?

One subject is this package's own GPTQ, patched; the other a GPTQ in PyTorch and float32 that shares
nothing with it. Each mistake runs through every setting on 16 rows of a bundled layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from waterlevel.reference import NUMPY, gptq, rtn
from waterlevel.reference.methods import grid_fitting, one_scale
from waterlevel.validate.diagnosis.deviations import named
from waterlevel.validate.diagnosis.semantic_grids import rounded_to
from waterlevel.validate.golden.case import load_index
from waterlevel.validate.quantizers.cases import (
    Question,
    questions_in_golden_cases,
    questions_on_layers,
)
from waterlevel.validate.quantizers.outcome import BITS, CODES, NEAR_TIES
from waterlevel.validate.quantizers.run import QuantizerReport, validate_quantizer
from waterlevel.validate.quantizers.subject import as_quantizer
from waterlevel.validate.support.backend_choice import choose_backend

ROWS = 16

# In the PyTorch one: the mistake, and the name that it must be given.
IN_TORCH = {
    "damping tenfold": "damping × 10",
    "no damping": "no damping",
    "damping of the largest": "damping by largest",
    "damping as it stands": "damping by nothing",
    "forgets the order": "natural order",
    "sorts upwards": "ascending order",
    "stale factor": "stale factor",
    "g_idx by original place": "groups by original place",
    "static groups": "scales of original weights",
    "scales when reached": "scales when a group begins",
    "first group's scale": "first group's scale",
    "one scale for all": "one scale for all rows",
    "scale anew in each block": "scale anew in each block",
    "M/7": "narrow grid",
    "M/8": "half grid",
    "signed, over -8": "signed grid",
    "2^b intervals": "2ᵇ intervals",
    "zero truncated": "zero point truncated",
    "zero not rounded": "zero point exact",
    "zero one more": "zero point +1",
    "clamps before zero": "clamped before the zero point",
    "no search": "no search",
    "squares in the search": "search with exponent 2",
    "scales in half": "chosen scale in float16",
    "scales stored in half": "stored scale in float16",
    "zeros one less": "stored zero point -1",
    "another grid for the weight": "Ŵ from another grid",
    "undivided": "feedback undivided",
    "wrong sign": "feedback added",
    "lost within blocks": "feedback beyond blocks",
    "lost beyond blocks": "feedback within blocks",
    "factor of the first block": "feedback first block",
    "factor of H": "feedback unfactored",
    "inverse without a factor": "feedback inverse",
    "error before the clamp": "feedback unclamped",
    "H reversed": "Σ reversed",
    "H in bfloat16": "Σ bfloat16",
    "truncates": "levels truncated",
}
FAST = ("damping tenfold", "forgets the order", "M/7")

Subject = Callable[..., Any]


def changed(**changes: Any) -> Subject:
    """Other parameters than those that were asked for."""

    def run(weight: NDArray, covariance: NDArray, **parameters: Any) -> Any:
        found = {k: v(parameters) if callable(v) else v for k, v in changes.items()}
        return gptq(weight, covariance, **parameters | found)

    return run


def deviating(name: str) -> Subject:
    def run(weight: NDArray, covariance: NDArray, **parameters: Any) -> Any:
        with named(name).applied() as backend:
            return gptq(weight, covariance, **parameters, backend=backend)

    return run


def with_scales(alter: Callable[[NDArray], NDArray]) -> Subject:
    """Every scale is altered once it has been chosen, before codes are decided with it."""

    def run(weight: NDArray, covariance: NDArray, **parameters: Any) -> Any:
        right = grid_fitting.find_grid

        def find_grid(*arguments: Any) -> Any:
            scale, zero = right(*arguments)
            return alter(scale).astype(scale.dtype), zero

        with (
            patch.object(grid_fitting, "find_grid", find_grid),
            patch.object(one_scale, "find_grid", find_grid),
        ):
            return gptq(weight, covariance, **parameters)

    return run


def reversed_order(weight: NDArray, covariance: NDArray, **parameters: Any) -> NDArray:
    turned = parameters | {"actorder": False}
    return gptq(weight[:, ::-1], covariance[::-1, ::-1], **turned).dequantized[:, ::-1]


def own_damping(weight: NDArray, covariance: NDArray, damping: float, **rest: Any) -> Any:
    H = covariance + np.diag(damping * np.diagonal(covariance))
    return gptq(weight, H.astype(covariance.dtype), damping=0.0, **rest)


def rounding(weight: NDArray, covariance: NDArray, **parameters: Any) -> Any:
    taken = ("bits", "format", "asymmetric", "mse", "group_size")
    return rtn(weight, covariance, **{name: parameters[name] for name in taken})


def half_scales_stored(weight: NDArray, covariance: NDArray, **parameters: Any) -> dict:
    result = gptq(weight, covariance, **parameters)
    if parameters["format"] != "int":
        raise NotImplementedError("float formats")
    scale = result.scales.scale.astype(np.float16).astype(np.float64)
    return {"codes": result.codes, "scale": scale, "zero": result.scales.zero,
            "group": result.scales.group}  # fmt: skip


IN_OWN: dict[str, tuple[Subject, set[str]]] = {
    "five times the damping": (changed(damping=lambda p: 5 * p["damping"]), {"damping × 5"}),
    "a tenth of the damping": (changed(damping=lambda p: p["damping"] / 10), {"damping × 0.1"}),
    "damping of each element": (own_damping, {"damping by own"}),
    "no activation order": (changed(actorder=False), {"natural order"}),
    "from the last column": (reversed_order, {"reversed order"}),
    "stale scales": (deviating("stale-group-scales"), {"scales of original weights"}),
    "fresh scales": (deviating("fresh-group-scales"), {"scales when a group begins"}),
    "no groups": (changed(group_size=None, static_groups=False), {"no groups"}),
    "no search": (changed(mse=False), {"no search"}),
    "asymmetric": (
        changed(asymmetric=lambda p: p["format"] == "int"), {"asymmetric grid"},
    ),
    "bfloat16 scales": (
        with_scales(lambda s: rounded_to(s.astype(np.float64), "bfloat16")),
        {"chosen scale in bfloat16"},
    ),
    "a tenth cut off": (with_scales(lambda s: s * 0.9), {"range × 0.9"}),
    "rounding to nearest": (rounding, {"rounding to nearest"}),
    "float16 scales at the end": (half_scales_stored, {"stored scale in float16"}),
    "two at once": (
        changed(damping=lambda p: 10 * p["damping"], actorder=False),
        {"damping × 10", "natural order"},
    ),
}  # fmt: skip

IN_ARITHMETIC = ("fused-multiply-add", "reversed-chain", "reciprocal-division", "numpy-chain",
                 "pairwise-chain")  # fmt: skip


@cache
def questions() -> tuple[Question, ...]:
    return tuple(questions_on_layers([], "gptq", ROWS, choose_backend(None).backend))


def report_of(name: str, subject: Subject) -> QuantizerReport:
    backend = choose_backend(None).backend
    return validate_quantizer(as_quantizer(name, subject), questions(), backend, seconds=300)


def named_causes(report: QuantizerReport) -> set[str]:
    return {name for cause in report.search.causes for name in cause.names}


def torch_subject(*mistakes: str) -> Subject:
    pytest.importorskip("torch")
    from ...helpers.torch_gptq import torch_gptq

    return partial(torch_gptq, mistakes=mistakes)


def test_without_a_mistake_there_is_no_cause():
    report = report_of("right", torch_subject())
    assert not report.search.causes
    assert not report.search.unexplained
    assert {found.level for found in report.judgements} <= {BITS, CODES, NEAR_TIES}


@pytest.mark.parametrize(
    "mistake",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in IN_TORCH],
)
def test_in_torch(mistake: str):
    report = report_of(mistake, torch_subject(mistake))
    assert named_causes(report) == {IN_TORCH[mistake]}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", IN_OWN)
def test_in_our_own(mistake: str):
    subject, expected = IN_OWN[mistake]
    assert named_causes(report_of(mistake, subject)) == expected


@pytest.mark.slow
def test_two_in_torch():
    report = report_of("two", torch_subject("M/7", "damping tenfold"))
    assert named_causes(report) == {"narrow grid", "damping × 10"}


@pytest.mark.slow
@pytest.mark.parametrize("deviation", IN_ARITHMETIC)
def test_in_the_arithmetic(deviation: str):
    golden = list(questions_in_golden_cases(load_index().cases, "gptq"))
    subject = as_quantizer(deviation, deviating(deviation))
    report = validate_quantizer(subject, golden, NUMPY)
    assert not report.search.causes
    said = [line for line in report.arithmetic if "such cases is reproduced by" in line]
    assert len(said) == 1
    assert f"reproduced by {deviation}:" in said[0]
