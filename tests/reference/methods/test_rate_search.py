"""The search for a spacing: on smooth curves, on hostile ones, and where no spacing can help."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference import CodeOverflow, WaterlevelError, gptq, rtn, waterfilling, watersic
from waterlevel.reference.limits.gaussian_limit import eigenbasis
from waterlevel.reference.methods.rate_search import (
    EVALUATIONS,
    TOLERANCE,
    SpacingChoice,
    Trial,
    find_spacing,
    search_spacing,
)

from ...helpers import layers


def search(curve: Callable[[float], float], rate: float, start: float) -> tuple[Trial, list]:
    """The trial found on rate = curve(log2 c), and all (log2 c, rate) that were looked at."""
    seen = []

    def evaluate(spacing: float) -> Trial:
        x = math.log2(spacing)
        seen.append((x, curve(x)))
        return Trial(spacing, seen[-1][1], len(seen))

    return search_spacing(evaluate, rate, 2.0**start), seen


def check_honest(trial: Trial, seen: list, rate: float) -> None:
    """At most 20 evaluations, none after the target is met, and the first best one returned."""
    misses = [abs(r - rate) for _, r in seen]
    assert len(seen) <= EVALUATIONS == 20
    assert all(miss >= TOLERANCE for miss in misses[:-1])
    assert trial.codes == 1 + misses.index(min(misses))
    assert len(seen) == 20 or misses[-1] < TOLERANCE == 0.005


SMOOTH = {
    "line": lambda x: 4 - x,
    "steep": lambda x: 4 - 3 * x,
    "flat": lambda x: 4 - 0.2 * x,
    "entropy": lambda x: math.log2(1 + 2.0 ** (4 - x)),
    "saturated": lambda x: 8 - math.log2(1 + 2.0 ** (4 + x)),
    "bent": lambda x: 4 - x if x < 1 else 3.5 - x / 2,
}


@pytest.mark.parametrize("name", SMOOTH)
@given(st.floats(0.3, 7.5), st.floats(-6, 6))
def test_smooth_curves_are_met(name, rate, start):
    trial, seen = search(SMOOTH[name], rate, start)
    check_honest(trial, seen, rate)
    assert abs(trial.rate - rate) < TOLERANCE
    assert len(seen) <= 12


@given(
    st.lists(st.floats(-12, 12), min_size=1, max_size=8),
    st.lists(st.floats(0, 2), min_size=9, max_size=9),
    st.floats(0.1, 8),
    st.floats(-6, 6),
)
def test_stairs_are_searched_down_to_the_step(edges, heights, rate, start):
    """A falling staircase: either a tread is met, or the bracket closes around a riser."""

    def curve(x: float) -> float:
        return sum(h for e, h in zip([*edges, 13.0], heights, strict=False) if x < e)

    trial, seen = search(curve, rate, start)
    check_honest(trial, seen, rate)
    above = [x for x, r in seen if r > rate]
    below = [x for x, r in seen if r < rate]
    if above and below:
        assert max(above) < min(below)  # never a step outside the bracket


wild = st.dictionaries(st.integers(-40, 40), st.floats(0, 9), min_size=1, max_size=30)


@given(wild, st.floats(0.1, 8), st.floats(-6, 6), st.floats(-2, 2))
def test_any_curve_ends_with_the_best_seen(values, rate, start, slope):
    """Not monotone, with jumps, rising, flat: the search ends and tells the truth."""
    keys = sorted(values)
    trial, seen = search(
        lambda x: values[keys[math.floor(2 * x) % len(keys)]] + slope * x, rate, start
    )
    check_honest(trial, seen, rate)


def test_steps_and_bracket_by_hand():
    # Flat at 6 left of 2, then 1: no slope, so steps of 1 from 0 … to 2, where it is 1; between 1
    # and 2 no tread has the rate 3, and the bracket is halved or the secant taken inside of it.
    trial, seen = search(lambda x: 6.0 if x < 1.9 else 1.0, 3.0, -3.0)
    # -3: miss 3, slope -1 → 0. Slope 0 from then on: +1, +1 → 2, rate 1. Slope -5 from (1, 6):
    # secant 2 + (3-1)/(-5) = 1.6, rate 6. Slope (6-1)/(1.6-2) = -12.5: 1.6 + 3/12.5 = 1.84 …
    assert [x for x, _ in seen[:5]] == pytest.approx([-3, 0, 1, 2, 1.6])
    assert seen[5][0] == pytest.approx(1.84)
    assert trial.rate == 1.0
    assert trial.spacing == 4.0  # the first of the best

    # A curve that rises with x: the slope is not negative, and steps of ±1 follow the miss.
    _, seen = search(lambda x: 5 + 0.1 * x, 3.0, 0.0)
    assert [x for x, _ in seen[:4]] == pytest.approx([0, 2, 3, 4])

    # The secant leaves the bracket: halve it. From 0 (rate 5) slope -1 leads to 2 (rate 2.9, below
    # 3); the secant to 1.905 gives 2.9 again, flat: the step of -1 to 0.905 is inside the bracket,
    # rate 5; then slope -2.1, 0.905 + 2/2.1 = 1.857 …
    _, seen = search(lambda x: 5.0 if x < 1.5 else 2.9, 3.0, 0.0)
    assert [x for x, _ in seen[:4]] == pytest.approx([0, 2, 2 - 0.1 / 1.05, 1 - 0.1 / 1.05])
    # Nearly flat between 1 and ½, the secant would go 500 bits to the left; at ½ it leaves the
    # bracket [0, ½], which is halved.
    values = {0.0: 4.0, 1.0: 2.0, 0.5: 2.001, 0.25: 3.0}
    _, seen = search(lambda x: values[round(x, 9)], 3.0, 0.0)
    assert [x for x, _ in seen] == pytest.approx([0.0, 1.0, 0.5, 0.25])
    # The longest step is 8, and with one bound only the way out is a step of 1 from it.
    values = {0.0: 4.0, 1.0: 3.99, 9.0: 3.0}
    _, seen = search(lambda x: values[round(x, 9)], 3.0, 0.0)
    assert [x for x, _ in seen] == pytest.approx([0.0, 1.0, 9.0])


# On layers ----------------------------------------------------------------------------------------


def methods(W: np.ndarray, S: np.ndarray) -> dict[str, Callable]:
    eigenvalues, eigenvectors = eigenbasis(S)
    return {
        "rtn": lambda **o: rtn(W, S, **o),
        "gptq": lambda **o: gptq(W, S, actorder=True, **o),
        "watersic": lambda **o: watersic(W, S, **o),
        "waterfilling": lambda **o: waterfilling(
            W, S, eigenvalues=eigenvalues, eigenvectors=eigenvectors, **o
        ),
    }


NAMES = ["rtn", "gptq", "watersic", "waterfilling"]


@pytest.mark.parametrize("rate_measure", ["rate", "rate_column", "rate_pooled"])
@pytest.mark.parametrize("name", NAMES)
def test_layers_meet_their_rate(name, rate_measure):
    W, S = layers.weight(1, 160, 48), layers.covariance(2, 48)
    method = methods(W, S)[name]
    spacings = []
    for rate in (1.2, 2.0, 3.3):
        result = method(rate=rate, rate_measure=rate_measure)
        assert result.rate_met
        assert abs(getattr(result.rates, rate_measure) - rate) < TOLERANCE
        spacings.append(result.parameters["spacing"])
        # The result is that of its own spacing, without a search.
        again = method(spacing=spacings[-1])
        assert np.array_equal(again.codes, result.codes)
        assert np.array_equal(again.dequantized, result.dequantized)
    assert spacings[0] > spacings[1] > spacings[2]


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_reached_gives_the_coarsest_result_and_says_so(name):
    W, S = layers.weight(3, 200, 12), layers.covariance(4, 12)
    method = methods(W, S)[name]
    coarse = method(spacing=1e6)
    assert not coarse.codes.any()
    assert coarse.rate_met
    side_information = coarse.rates.rate
    for rate in (0.0, side_information / 2, side_information):
        result = method(rate=rate)
        assert not result.rate_met
        assert not result.codes.any()
        assert result.rates.rate == side_information
    assert method(rate=side_information + 2.0).rate_met

    nothing = methods(np.zeros_like(W), S)[name](rate=3.0)
    assert not nothing.rate_met
    assert not nothing.codes.any()
    assert nothing.distortion == 0


@pytest.mark.parametrize("open_loop", [False, True])
@pytest.mark.parametrize("rate", [40.0, 100.0, 1e4])
@pytest.mark.parametrize("name", NAMES)
def test_a_rate_that_no_code_can_hold_is_refused(name, rate, open_loop):
    W, S = layers.weight(5, 20, 12), layers.covariance(6, 12)
    with pytest.raises(CodeOverflow, match="does not fit in int32; use a larger spacing"):
        methods(W, S)[name](rate=rate, open_loop=open_loop)


@pytest.mark.parametrize("name", NAMES)
def test_any_number_is_answered_in_one_line(name):
    W, S = layers.weight(5, 20, 12), layers.covariance(6, 12)
    for rate in (1e6, 1e300, float("inf"), float("nan"), -1.0):
        with pytest.raises(WaterlevelError) as caught:
            methods(W, S)[name](rate=rate)
        assert "\n" not in str(caught.value)


def test_choices():
    calls = []

    def evaluate(spacing: float) -> Trial:
        calls.append(spacing)
        return Trial(spacing, 5.0 - math.log2(spacing), None)

    def found(choice: SpacingChoice) -> tuple[float, bool]:
        trial, met = find_spacing(choice, evaluate, lambda rate: 2.0**-rate, 1024.0, 0.5)
        return trial.spacing, met

    assert found(SpacingChoice(spacing=0.3)) == (0.3, True)
    assert found(SpacingChoice(rate=2.0, open_loop=True)) == (0.25, True)
    assert calls == [0.3, 0.25]
    assert found(SpacingChoice(rate=2.0)) == (8.0, True)
    assert found(SpacingChoice(rate=0.5)) == (1024.0, False)


def test_a_spacing_too_fine_for_int32_counts_as_too_fine():
    """A curve that never reaches R, and below 2⁻⁹ cannot be evaluated: the best seen comes back."""
    refused = []

    def saturating(spacing: float) -> Trial[None]:
        if spacing < 2.0**-9:
            refused.append(spacing)
            raise CodeOverflow(0, 0, 1 / spacing)
        return Trial(spacing, min(4.0, 3.0 - math.log2(spacing)), None)

    best = search_spacing(saturating, rate=6.0, start=1.0)
    assert refused, "the search never went as far as the overflow"
    assert best.rate == 4.0


def test_a_target_above_the_entropy_of_the_rows_is_not_met():
    """12 rows have at most log2 12 = 3.6 bits in a column, however fine the lattice."""
    weight = np.random.default_rng(5).standard_normal((12, 16))
    result = rtn(weight, np.eye(16), rate=6.0, rate_measure="rate_column")
    assert not result.rate_met
    assert result.rates.rate_column > 3.5
