"""Errors travel between processes whole: a worker's refusal reads the same in its parent."""

from __future__ import annotations

import pickle

import pytest

from waterlevel.reference import BadInput, CodeOverflow, NotPositiveDefinite, WaterlevelError


@pytest.mark.parametrize(
    "error",
    [
        BadInput("weight[0, 1] is nan; every element must be finite"),
        CodeOverflow(1, 2, 3e9),
        NotPositiveDefinite(4, -0.5, "covariance with damping 0", "damping 0.01 would do"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: WaterlevelError):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert "\n" not in str(again)
    assert vars(again) == vars(error)
