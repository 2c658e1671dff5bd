"""The budget across layers: what is missed is carried over, and nothing else."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.calibration.budget import RateBudget
from waterlevel.reference.errors import BadInput

sizes = st.lists(st.integers(1, 100).map(lambda k: 1024 * k), min_size=1, max_size=8)
UNIT = 2.0**-53


def budget_of(layers: list[int], rate: float) -> RateBudget:
    return RateBudget({str(i): size for i, size in enumerate(layers)}, rate)


@given(sizes, st.floats(0.1, 16.0), st.data())
def test_the_mean_rate_misses_by_what_the_last_layer_misses(layers, rate, data):
    budget = budget_of(layers, rate)
    spent, order = Fraction(0), data.draw(st.permutations(range(len(layers))))
    for i in order:
        target = budget.next_rate()
        reached = target * data.draw(st.floats(0.9995, 1.0005))  # a small last layer survives it
        budget.spend(str(i), reached)
        spent += layers[i] * Fraction(reached)
    miss = layers[order[-1]] * (Fraction(reached) - Fraction(target))
    # one product at the start; a product and a difference for each layer, a quotient, all of
    # numbers no larger than 1.01·B, since all misses together are below 0.01·B
    bits = Fraction(rate) * sum(layers)
    assert abs(spent - bits - miss) <= 1.01 * bits * (2 * len(layers) + 4) * UNIT


@given(sizes, st.sampled_from((0.5, 2.0, 3.0, 3.25)))
def test_layers_that_meet_their_target_all_get_the_same(layers, rate):
    budget = budget_of(layers, rate)  # dyadic rates and whole sizes: exact
    for i in range(len(layers)):
        assert budget.next_rate() == rate
        budget.spend(str(i), rate)
    assert budget.remaining_bits == 0.0
    assert budget.open_sizes == {}


def test_by_hand():
    budget = RateBudget({"a": 100, "b": 300, "c": 200}, 2.0)  # 1200 bits
    budget.spend("b", 2.5)
    assert budget.next_rate() == (1200 - 750) / 300
    budget.spend("c", 0.5)
    assert budget.next_rate() == (1200 - 750 - 100) / 100
    assert list(budget.open_sizes) == ["a"]
    budget.spend("a", 3.75)
    assert budget.remaining_bits == -25.0  # the last one may cost more; nobody pays for it


def test_each_rounding_in_the_order_of_the_calls():
    budget = budget_of([3, 7, 11], 0.1)
    budget.spend("2", 0.13)
    budget.spend("0", 0.07)
    assert budget.remaining_bits == 0.1 * 21 - 11 * 0.13 - 3 * 0.07
    assert budget.next_rate() == (0.1 * 21 - 11 * 0.13 - 3 * 0.07) / 7


@pytest.mark.parametrize(("rate", "left"), [(6.0, "0"), (7.0, "-100")])
def test_a_layer_that_leaves_nothing_is_refused(rate, left):
    budget = RateBudget({"a": 100, "b": 100}, 3.0)
    with pytest.raises(BadInput, match=f"layer a at .* leaves {left} bits for the 100 weights"):
        budget.spend("a", rate)
    assert (budget.next_rate(), budget.open_sizes) == (3.0, {"a": 100, "b": 100})
    budget.spend("a", 5.99)


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_rates_that_no_layer_has(rate):
    budget = budget_of([5], 3.0)
    with pytest.raises(BadInput, match="the rate of layer 0 must be finite and not negative"):
        budget.spend("0", rate)


def test_a_layer_is_spent_once():
    budget = budget_of([5, 5], 3.0)
    budget.spend("0", 3.0)
    for layer in ("0", "nobody"):
        with pytest.raises(BadInput, match=f"layer {layer} is not open"):
            budget.spend(layer, 3.0)


def test_no_next_layer():
    budget = budget_of([5], 3.0)
    budget.spend("0", 3.0)
    with pytest.raises(BadInput, match="there is no next one"):
        budget.next_rate()


@pytest.mark.parametrize(
    ("layers", "rate", "message"),
    [
        ({}, 3.0, "at least one layer"),
        ({"a": 4, "b": 0}, 3.0, "layer b has 0 weights"),
        ({"a": 4}, 0.0, "must be positive and finite, got 0.0"),
        ({"a": 4}, -1.0, "must be positive"),
        ({"a": 4}, math.nan, "must be positive"),
        ({"a": 4}, math.inf, "must be positive and finite"),
    ],
)
def test_budgets_that_are_none(layers, rate, message):
    with pytest.raises(BadInput, match=message):
        RateBudget(layers, rate)


def test_the_sizes_of_the_caller_are_left_alone():
    layers = {"a": 1, "b": 1}
    RateBudget(layers, 3.0).spend("a", 3.0)
    assert layers == {"a": 1, "b": 1}
