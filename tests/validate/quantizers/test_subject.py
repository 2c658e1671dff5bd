"""Whatever a function returns: an answer, or one line that says what is wrong with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from waterlevel.reference.errors import BadInput
from waterlevel.validate.quantizers.subject import (
    NoAnswer,
    NotTaken,
    answer_of,
    as_quantizer,
    load_quantizer,
)

SHAPE = (2, 4)
CODES = np.array([[0, 5, 8, 15], [8, 8, 7, 9]])
SCALE = np.array([[0.5, 0.25], [1.0, 2.0]])
VALUES = np.repeat(SCALE, 2, axis=1) * (CODES - 8)


@pytest.mark.parametrize(
    "returned",
    [
        VALUES,
        VALUES.tolist(),
        {"dequantized": VALUES},
        {"codes": CODES, "scale": SCALE},
        {"codes": CODES - 8, "scale": SCALE},
        {"codes": CODES - 8, "scale": SCALE, "zero": np.zeros((2, 2), int)},
        {"codes": CODES, "scale": SCALE, "zero": np.full((2, 1), 8)},
        {"codes": CODES, "scale": SCALE, "zero": 8, "group": np.array([0, 0, 1, 1])},
        {"codes": CODES, "scale": np.repeat(SCALE, 2, axis=1), "more": "is left alone"},
        SimpleNamespace(dequantized=VALUES, codes=CODES),
        SimpleNamespace(codes=CODES, scales=SimpleNamespace(scale=SCALE, zero=None)),
    ],
    ids=range(11),
)
def test_answers(returned: Any):
    answer = answer_of(returned, SHAPE, 4)
    assert (answer.dequantized == VALUES).all()
    assert answer.codes is None or (answer.codes == CODES).all()
    assert answer.zero is None or (answer.zero == 8).all()


def test_tensors():
    torch = pytest.importorskip("torch")
    answer = answer_of({"dequantized": torch.tensor(VALUES).bfloat16().requires_grad_()}, SHAPE, 4)
    assert answer.dtype == "bfloat16"
    assert (answer.dequantized == VALUES).all()


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "returned None"),
        ((VALUES, SCALE), "2 things without names"),
        ({}, "nothing"),
        ({"weights": VALUES}, "returned weights, which has none of"),
        (object(), "a object"),
        (VALUES.T, "shape 4×2, expected 2×4"),
        ({"codes": CODES[:1], "scale": SCALE}, "codes has shape 1×4"),
        ({"codes": CODES + 0.5, "scale": SCALE}, "not whole numbers"),
        ({"codes": CODES}, "cannot be had from codes"),
        ({"dequantized": VALUES, "scale": SCALE.T[:, :1, None]}, "scale has shape 2×1×1"),
        ({"dequantized": VALUES, "scale": SCALE, "group": np.arange(3)}, "group has shape 3"),
        ({"dequantized": VALUES, "scale": SCALE, "group": np.arange(4)}, "group goes from 0 to 3"),
        (np.where(VALUES > 1, np.nan, VALUES), "is nan"),
        (VALUES.astype(str), "dtype <U"),
        ({"dequantized": [[1, 2], [3]]}, "no array"),
    ],
)
def test_what_is_no_answer(returned: Any, says: str):
    with pytest.raises(NoAnswer, match=None) as caught:
        answer_of(returned, SHAPE, 4)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_function_takes_and_what_it_raises():
    def some(weight, covariance, bits, damping=0.01):
        if bits == 3:
            raise NotImplementedError("3 bits")
        raise ValueError("two\nlines")

    quantizer = as_quantizer("some", some)
    assert quantizer.takes("damping")
    assert not quantizer.takes("actorder")
    with pytest.raises(NotTaken, match="3 bits"):
        quantizer(VALUES, np.eye(4), {"bits": 3, "actorder": False}, 3)
    with pytest.raises(NoAnswer, match="failed with ValueError: two lines"):
        quantizer(VALUES, np.eye(4), {"bits": 4}, 4)
    assert as_quantizer("any", lambda weight, covariance, **rest: weight).takes("anything")


def test_a_function_cannot_change_its_inputs():
    def spoil(weight, covariance):
        weight[:] = 0
        covariance[:] = 0
        return weight

    weight, covariance = VALUES.copy(), np.eye(4)
    as_quantizer("spoil", spoil)(weight, covariance, {}, 4)
    assert (weight == VALUES).all()
    assert (covariance == np.eye(4)).all()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine", "module:function"),
        ("nowhere_at_all:f", "No module named"),
        ("math:nothing", "no attribute"),
        ("math:pi", "is a float, expected a function"),
        ("./missing.py:f", "there is no file"),
        ("builtins:vars", "must take (weight, covariance"),
    ],
)
def test_what_cannot_be_loaded(name: str, says: str):
    with pytest.raises(BadInput) as caught:
        load_quantizer(name)
    assert says in str(caught.value)
