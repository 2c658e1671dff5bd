"""A replay decides as this package does, follows a program, and names what it meant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from waterlevel.reference import gptq, rtn
from waterlevel.validate.diagnosis.semantic_deviations import semantic_deviations
from waterlevel.validate.diagnosis.semantic_grids import GridRule
from waterlevel.validate.diagnosis.semantic_search import Observed, fit, search
from waterlevel.validate.diagnosis.semantics import Lead, Semantics, replay

from ...helpers.published_gptq import published_gptq

ROWS, COLUMNS = 12, 96
BY_NAME = {deviation.name: deviation for deviation in semantic_deviations()}


def layer(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights with all signs, and features that have much to do with each other."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((COLUMNS, COLUMNS)) / 12 + np.eye(COLUMNS)
    features = generator.standard_normal((400, COLUMNS)) @ mixing
    features *= np.exp(generator.standard_normal(COLUMNS) / 2)
    return generator.standard_normal((ROWS, COLUMNS)), features.T @ features / 400


SETTINGS = [
    {"bits": 4},
    {"bits": 3, "group_size": 32},
    {"bits": 4, "asymmetric": True, "group_size": 20},
    {"bits": 2, "asymmetric": True},
    {"bits": 4, "actorder": True},
    {"bits": 4, "actorder": True, "group_size": 16, "block_size": 24},
    {"bits": 4, "actorder": True, "group_size": 16, "static_groups": True},
    {"bits": 3, "mse": True, "group_size": 48},
    {"format": "fp4-e2m1", "group_size": 32},
]


def semantics_of(parameters: dict) -> Semantics:
    others = dict(parameters)
    names = ("bits", "format", "asymmetric", "mse")
    grid = GridRule(**{name: others.pop(name) for name in names if name in others})
    order = "activation" if others.pop("actorder", False) else "natural"
    return Semantics(grid, order=order, **others)


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_it_decides_as_gptq_does(parameters: dict):
    weight, covariance = layer()
    result = gptq(weight, covariance, **parameters)
    found = replay(weight, covariance, semantics_of(parameters))
    np.testing.assert_allclose(found.values, result.dequantized, rtol=1e-9, atol=1e-12)
    spread = result.scales.scale[:, result.scales.group]
    np.testing.assert_allclose(found.scale[:, found.group], spread, rtol=1e-9)


@pytest.mark.parametrize("parameters", [{"bits": 4}, {"bits": 3, "group_size": 32}], ids=str)
def test_it_decides_as_rtn_does(parameters: dict):
    weight, covariance = layer()
    semantics = replace(semantics_of(parameters), feedback="none", static_groups=True)
    semantics = semantics if semantics.group_size else replace(semantics, static_groups=False)
    found = replay(weight, covariance, semantics)
    expected = rtn(weight, covariance, **parameters).dequantized
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)


def test_one_flipped_weight_is_one_question():
    """Led by the program, what follows from a flipped weight is no difference."""
    weight, covariance = layer()
    semantics = semantics_of({"bits": 4})
    plain = replay(weight, covariance, semantics)
    flipped = plain.levels.copy()
    flipped[3, 0] += 1 if flipped[3, 0] < 7 else -1
    led = replay(weight, covariance, semantics, Lead(flipped * plain.scale))
    own = led.levels[3]  # what the rest of the row should be after this
    assert (led.levels[:3] == plain.levels[:3]).all()
    assert (own[1:] != plain.levels[3, 1:]).any()
    flipped[3, 1:] = own[1:]
    for j in range(1, COLUMNS):  # as the program would have gone on
        again = replay(weight, covariance, semantics, Lead(flipped * plain.scale))
        flipped[3, j] = again.levels[3, j]
    final = replay(weight, covariance, semantics, Lead(flipped * plain.scale))
    assert np.argwhere(np.abs(final.levels - flipped) > 0.5).tolist() == [[3, 0]]


def test_a_published_loop_in_float32_is_explained():
    weight, covariance = (x.astype(np.float32) for x in layer())
    scale, codes = published_gptq(weight, covariance, 4, 32)
    values = np.repeat(scale, 32, axis=1) * (codes - 8).astype(np.float32)
    seen = Observed("x", weight, covariance, semantics_of({"bits": 4, "group_size": 32}), values,
                    codes, unit=2.0**-24)  # fmt: skip
    assert fit(seen, seen.semantics).explained
    for name in ("damping × 0.5", "no groups", "scale in bfloat16", "narrow grid"):
        assert not fit(seen, BY_NAME[name].change(seen.semantics)).explained, name


def observed(parameters: dict, asked: dict | None = None, name: str = "x") -> Observed:
    weight, covariance = layer()
    made = gptq(weight, covariance, **parameters).dequantized
    return Observed(name, weight, covariance, semantics_of(parameters | (asked or {})), made)


def test_one_cause_for_all_cases():
    cases = [observed({**p, "damping": 0.05}, {"damping": 0.01}, str(p)) for p in SETTINGS[:3]]
    found = search(cases)
    assert [cause.names for cause in found.causes] == [("damping × 5",)]
    assert found.causes[0].cases == tuple(case.name for case in cases)
    assert not found.unexplained


def test_two_together():
    found = search([observed({"bits": 4, "damping": 0.1}, {"actorder": True, "damping": 0.01})])
    assert [set(cause.names) for cause in found.causes] == [{"natural order", "damping × 10"}]


def test_what_it_does_not_know_it_does_not_name():
    """Another Σ: nothing in the table, and nothing is said but how near the nearest comes."""
    weight, covariance = layer()
    made = gptq(weight, layer(1)[1], bits=4).dequantized
    found = search([Observed("x", weight, covariance, semantics_of({"bits": 4}), made)])
    assert not found.causes
    assert [case for case, *_ in found.unexplained] == ["x"]


def test_what_was_not_tried_is_said():
    found = search([observed({"bits": 4, "damping": 0.05}, {"damping": 0.01})], seconds=0.0)
    assert not found.causes
    assert found.untried > 50
    assert "not made for lack of time" in found.lines()[0]


def test_a_case_that_is_right_refutes():
    """A program that ignores activation order, and that there are no groups, where both were asked
    for: what is right without activation order says that damping is not the cause."""
    wrong = observed({"bits": 4}, {"actorder": True}, "ordered")
    right = observed({"bits": 4, "group_size": 32}, name="grouped")
    found = search([wrong], [right])
    assert found.causes[0].names == ("natural order",)


def test_names_are_unique():
    names = [deviation.name for deviation in semantic_deviations()]
    assert len(names) == len(set(names))
