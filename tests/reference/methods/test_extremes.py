"""Inputs at the edge of the number range: a result or one clear line, never a warning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from waterlevel.reference import (
    BadInput,
    NotPositiveDefinite,
    Quantized,
    WaterlevelError,
    gptq,
    rtn,
    watersic,
)

from ...helpers import layers

W, S = layers.weight(3, 6, 4), layers.covariance(4, 4)
I = np.eye(4)

REFUSED: dict[str, tuple[Callable[[], Quantized], type[WaterlevelError], str]] = {
    "spacing beyond float32": (
        lambda: watersic(W, S, spacing=1e60, dtype="float32"),
        BadInput,
        "spacing 1e.60 overflows float32",
    ),
    "absurd rate": (lambda: rtn(W, S, rate=1e300), BadInput, "rate is 1e.300"),
    "rate as text": (lambda: rtn(W, S, rate="3"), BadInput, "rate is '3'; it must be a number"),  # type: ignore[arg-type]
    "half a bit": (lambda: rtn(W, S, bits=3.5), BadInput, "bits is 3.5"),  # type: ignore[arg-type]
    "half a column": (
        lambda: gptq(W, S, bits=3, group_size=2.5),  # type: ignore[arg-type]
        BadInput,
        "group_size is 2.5",
    ),
    "no covariance": (lambda: rtn(W, None, bits=3), BadInput, "covariance is missing"),  # type: ignore[arg-type]
    "squares overflow": (
        lambda: rtn(W * 2.0**600, S, rate=20.0),
        BadInput,
        "mean square of weight column 0 overflows",
    ),
    "squares underflow": (
        lambda: rtn(W * 2.0**-700, S, rate=20.0),
        BadInput,
        "squares of the weight underflow float64; scale the weight up",
    ),
    "sum with the transpose overflows": (
        lambda: gptq(W, 1.2e308 * I, spacing=1.0),
        BadInput,
        "covariance and its transpose overflows",
    ),
    "distortion overflows": (lambda: rtn(W * 1e200, S * 1e200, bits=3), BadInput, "overflows"),
    "no energy where the codes are": (
        lambda: watersic(
            np.array([[0.3, 0.01], [0.1, 0.02]]),
            np.eye(2),
            covariance_quantized=np.diag([0.0, 1.0]),
            cross_covariance=np.eye(2),
            spacing=0.5,
        ),
        NotPositiveDefinite,
        "no column with a code has energy in the covariance",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_cause(name: str):
    attempt, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        attempt()
    assert "\n" not in str(caught.value)


def test_a_target_of_zero_leaves_zero_scales():
    """C = 0: nothing correlates with the weight, so no multiple of the codes is worth keeping."""
    result = watersic(W, S, covariance_quantized=S, cross_covariance=0 * S, spacing=1e-6)
    assert not result.dequantized.any()
    assert np.isfinite(result.scales.row_scale).all()


def test_the_pivot_of_the_rescalers_is_in_the_numbering_of_the_user():
    """Feature 0 is dead, so the indefinite one is column 1 of what is left and 2 of the layer."""
    indefinite = np.array([[1.0, 4.0], [4.0, 1.0]])
    quantized = np.zeros((3, 3))
    quantized[1:, 1:] = indefinite
    with pytest.raises(NotPositiveDefinite) as caught:
        watersic(
            np.array([[1.0, 5.0, 6.0], [1.0, -4.0, 2.0]]),
            np.diag([0.0, 1.0, 1.0]),
            covariance_quantized=quantized,
            cross_covariance=np.diag([0.0, 1.0, 1.0]),
            spacing=0.5,
            damping=8.0,
        )
    assert "rescalers" in str(caught.value)
    assert caught.value.pivot == 2


def test_nothing_lost_ends_the_rescalers_at_once():
    """D = 0 from the start: a second turn could change nothing."""
    result = watersic(np.ones((1, 1)), np.ones((1, 1)), spacing=1.0, damping=0.0)
    assert result.distortion == 0.0
    assert result.limit == np.inf


def test_a_huge_covariance_still_has_a_limit():
    result = rtn(W, 1e306 * I, spacing=1.0)
    scaled = rtn(W, I, spacing=1.0)
    assert result.limit == pytest.approx(scaled.limit, rel=1e-12)
