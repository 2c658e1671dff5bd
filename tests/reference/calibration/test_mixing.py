"""Mixing of moments, and the search for the two shares."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.calibration.mixing import (
    GOLDEN,
    Moments,
    choose_mixing,
    golden_section,
    mix,
    mix_drift,
    mix_moments,
    mix_weighting,
)
from waterlevel.reference.errors import BadInput
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers.inputs import FLOATS, bell, dtypes, keys, same_bits
from ...helpers.opaque import OPAQUE

shares = st.floats(0.0, 1.0)
FIELDS = ("covariance", "covariance_quantized", "cross_covariance")


def drifting(key: int, dtype) -> Moments:
    return Moments(*(bell(key + i, (3, 3), dtype) for i in range(3)))


def by_hand(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    number = first.dtype.type
    keep = number(1.0 - share)
    return np.array(
        [
            [keep * x + number(share) * y for x, y in zip(*rows, strict=True)]
            for rows in zip(first, second, strict=True)
        ]
    )


@given(shares, keys, dtypes)
def test_mix(share, key, dtype):
    A, B = bell(key, (2, 3), dtype), bell(key + 1, (2, 3), dtype)
    same_bits(mix(NUMPY, A, B, share), by_hand(A, B, share))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_ends_are_the_moments_themselves(dtype):
    A, B = bell(1, (4, 4), dtype), bell(2, (4, 4), dtype)
    same_bits(mix(NUMPY, A, B, 0.0), A)
    same_bits(mix(NUMPY, A, B, 1.0), B)


@given(shares, shares, keys, dtypes)
def test_drift_first_then_weighting(drift_share, weighting_share, key, dtype):
    weighted, unweighted = drifting(key, dtype), drifting(key + 10, dtype)
    found = mix_moments(NUMPY, weighted, unweighted, drift_share, weighting_share)
    for field in FIELDS:
        parts = [getattr(moments, field) for moments in (weighted, unweighted)]
        if field != "covariance":
            plain = [weighted.covariance, unweighted.covariance]
            parts = [by_hand(p, q, drift_share) for p, q in zip(parts, plain, strict=True)]
        same_bits(getattr(found, field), by_hand(*parts, weighting_share))


def test_full_shares_ignore_drift_and_weights():
    weighted, unweighted = drifting(1, np.float64), drifting(9, np.float64)
    no_drift = mix_drift(NUMPY, weighted, 1.0)
    same_bits(no_drift.covariance_quantized, weighted.covariance)
    same_bits(no_drift.cross_covariance, weighted.covariance)
    no_weights = mix_moments(NUMPY, weighted, unweighted, 0.0, 1.0)
    for field in FIELDS:
        same_bits(getattr(no_weights, field), getattr(unweighted, field))


def test_moments_without_drift():
    weighted, unweighted = (Moments(bell(key, (2, 2), np.float64)) for key in (1, 2))
    assert mix_drift(NUMPY, weighted, 0.7) is weighted
    found = mix_moments(NUMPY, weighted, unweighted, 0.7, 0.25)
    same_bits(found.covariance, by_hand(weighted.covariance, unweighted.covariance, 0.25))
    assert found.covariance_quantized is None
    assert found.cross_covariance is None


def test_moments_that_do_not_go_together():
    one = np.eye(2)
    for pair in ((one, None), (None, one)):
        with pytest.raises(BadInput, match="give both or neither"):
            Moments(one, *pair)
    for pair in ((Moments(one), drifting(1, np.float64)), (drifting(1, np.float64), Moments(one))):
        with pytest.raises(BadInput, match="or neither"):
            mix_weighting(NUMPY, *pair, 0.5)


@pytest.mark.parametrize("share", [-1e-9, 1.0000001, math.nan, math.inf])
def test_shares_out_of_range(share):
    with pytest.raises(BadInput, match="a share must be from 0 to 1"):
        mix(NUMPY, np.eye(2), np.eye(2), share)


def test_only_operations_touch_moments():
    def boxed(moments: Moments) -> Moments:
        return Moments(*(OPAQUE.from_host(getattr(moments, f), np.float64) for f in FIELDS))

    pair = drifting(1, np.float64), drifting(9, np.float64)
    expected = mix_moments(NUMPY, *pair, 0.3, 0.6)
    found = mix_moments(OPAQUE, *map(boxed, pair), 0.3, 0.6)
    for field in FIELDS:
        same_bits(OPAQUE.to_host(getattr(found, field)), getattr(expected, field))


# The search ------------------------------------------------------------------------------------


class Recorder:
    def __init__(self, function) -> None:
        self.function, self.points = function, []

    def __call__(self, *point: float) -> float:
        self.points.append(point if len(point) > 1 else point[0])
        return self.function(*point)


def test_the_golden_ratio():
    with mpmath.workdps(40):
        assert float((mpmath.sqrt(5) - 1) / 2) == GOLDEN


@given(shares, st.sampled_from((abs, np.square, np.sqrt)))
def test_the_minimum_of_a_valley_is_found(place, shape):
    recorder = Recorder(lambda share: float(shape(abs(share - place))))
    best, value = golden_section(recorder)
    # the last interval, g^15 wide, holds the place and one inner point at least; 1e-12 for the
    # rounding of 17 points below 1
    assert abs(best - place) <= GOLDEN**15 + 1e-12
    assert len(recorder.points) == 17
    assert value == recorder.function(best) == min(map(recorder.function, recorder.points))
    assert all(0 < point < 1 for point in recorder.points)


def test_the_points_of_a_falling_and_of_a_rising_function():
    # towards one end every new point is g times nearer: 1 - g, (1 - g)·g, (1 - g)·g², …
    powers = [(1 - GOLDEN) * GOLDEN**k for k in range(16)]
    for function, end in ((lambda share: share, 0.0), (lambda share: -share, 1.0)):
        recorder = Recorder(function)
        golden_section(recorder)
        distances = sorted((abs(point - end) for point in recorder.points), reverse=True)
        # each point is a difference of numbers below 1, off by no more than a few 2⁻⁵³ for each of
        # the 17 before it
        assert np.abs(np.array(distances) - [GOLDEN, *powers]).max() < 1e-14


def test_the_first_points_bit_by_bit():
    recorder = Recorder(lambda share: abs(share - 0.5))
    golden_section(recorder, steps=3)
    left, right = 1.0 - GOLDEN, GOLDEN  # 0.38, 0.62; the left one is nearer by a rounding, or equal
    assert abs(left - 0.5) <= abs(right - 0.5)
    second = right - GOLDEN * right  # 0.24; 0.38 is better, so what lies before 0.24 goes
    third = second + GOLDEN * (right - second)  # 0.47; better than 0.38
    fourth = left + GOLDEN * (right - left)  # 0.53
    assert recorder.points == [left, right, second, third, fourth]


def test_equal_values_keep_the_left_side():
    recorder = Recorder(lambda share: 1.0)
    assert golden_section(recorder, steps=2) == (1.0 - GOLDEN, 1.0)
    assert recorder.points[2] < recorder.points[0]
    assert recorder.points[3] < recorder.points[2]


def test_points_that_cannot_be_used_are_infinite():
    best, value = golden_section(lambda share: share if share > 0.3 else math.inf)
    assert 0.3 < best < 0.3 + GOLDEN**15
    assert value == best


def test_an_objective_that_is_no_number():
    with pytest.raises(BadInput, match=r"nan at 0\.38196"):
        golden_section(lambda share: math.nan)


def test_the_two_shares_one_after_the_other():
    # the place of one valley depends on the other share, so the order shows
    recorder = Recorder(lambda qr, aw: (qr - 0.2 - aw / 2) ** 2 + abs(aw - 0.7 * qr - 0.4))
    mixing = choose_mixing(recorder)
    first, second = recorder.points[:17], recorder.points[17:]
    assert {aw for _, aw in first} == {0.0}
    assert {qr for qr, _ in second} == {mixing.drift_share}
    assert len(second) == 17
    assert mixing.value == recorder.function(mixing.drift_share, mixing.weighting_share)
    assert mixing.value == min(recorder.function(*point) for point in second)
