"""Moments of activations: the chain of every element, batches, weights, and refusals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.arithmetic.sums import tree_sum
from waterlevel.reference.calibration.moments import MomentAccumulator, causal, token_importance
from waterlevel.reference.errors import BadInput

from ...helpers.inputs import FLOATS, bell, dtypes, flavours, integers, keys, numbers, same_bits
from ...helpers.opaque import OPAQUE


def one_by_one(left, right, weights, dtype) -> np.ndarray:
    """The same moment with one number at a time."""
    total = [[dtype(0) for _ in right[0]] for _ in left[0]]
    total_weight = 0.0
    for t in range(len(left)):
        total_weight += 1.0 if weights is None else float(dtype(weights[t]))
        for i, x in enumerate(left[t]):
            for j, y in enumerate(right[t]):
                term = dtype(x) * dtype(y)
                total[i][j] += term if weights is None else dtype(weights[t]) * term
    return np.array(total, dtype) / dtype(total_weight)


def collected(left, right, weights, dtype, cuts=()) -> np.ndarray:
    accumulator = MomentAccumulator(left.shape[1], right.shape[1], dtype)
    for batch in np.split(np.arange(len(left)), sorted(cuts)):
        chosen = None if weights is None else weights[batch]
        accumulator.add(left[batch], right[batch], chosen)
    return accumulator.moment()


@given(
    st.integers(1, 9),
    st.lists(st.integers(0, 9), max_size=4),
    flavours,
    keys,
    dtypes,
    st.booleans(),
)
def test_batches_of_any_size_give_the_chain_of_one_token_at_a_time(
    tokens, cuts, flavour, key, dtype, weighted
):
    if flavour == "huge":
        flavour = "wide"  # overflow has a test of its own
    left, right = (
        numbers(flavour, key, (tokens, 3), dtype),
        numbers(flavour, key + 5, (tokens, 2), dtype),
    )
    weights = np.abs(bell(key + 9, (tokens,), np.float64)) + 0.1 if weighted else None
    expected = one_by_one(left, right, weights, dtype)
    same_bits(collected(left, right, weights, dtype), expected)
    same_bits(collected(left, right, weights, dtype, cuts), expected)


def test_all_pairs_in_fractions():
    # dyadic numbers and a total weight of 2^k: everything is exact
    tokens, n, a = 8, 3, 2
    x, y = integers(1, -9, 9, tokens, n) / 4, integers(2, -9, 9, tokens, n) / 4
    residual = integers(3, -9, 9, tokens, a) / 2
    weights = np.array([1, 2, 0.5, 4, 0.5, 3, 4, 1])
    for left, right in ((x, x), (y, y), (x, y), (residual, y)):
        found = collected(left, right, weights, np.float64)
        assert found.shape == (left.shape[1], right.shape[1])
        for i in range(found.shape[0]):
            for j in range(found.shape[1]):
                terms = (
                    Fraction(weights[t]) * Fraction(left[t, i]) * Fraction(right[t, j])
                    for t in range(tokens)
                )
                assert Fraction(found[i, j]) == sum(terms) / 16


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_covariance_is_symmetric_in_every_bit(dtype):
    x = bell(1, (70, 5), dtype)
    covariance = collected(x, x, np.abs(bell(2, (70,), np.float64)), dtype)
    same_bits(covariance, np.ascontiguousarray(covariance.T))


@pytest.mark.parametrize("dtype", FLOATS)
def test_weights(dtype):
    x = bell(1, (12, 3), dtype)
    weights = np.abs(bell(2, (12,), np.float64)) + 0.1
    same_bits(collected(x, x, np.ones(12), dtype), collected(x, x, None, dtype))
    same_bits(collected(x, x, 4 * weights, dtype), collected(x, x, weights, dtype))
    silent = weights.copy()
    silent[[0, 5, 11]] = 0.0
    kept = silent > 0
    same_bits(collected(x, x, silent, dtype), collected(x[kept], x[kept], silent[kept], dtype))


def test_the_mean_divides_and_does_not_multiply_by_a_reciprocal():
    x = np.array([[1.0], [2.0], [0.0]])  # 5/3; 5·(1/3) is another number
    assert collected(x, x, None, np.float64)[0, 0] == 5 / 3 != 5 * (1 / 3)


def test_more_tokens_may_follow():
    x = bell(1, (10, 2), np.float64)
    accumulator = MomentAccumulator(2, 2)
    accumulator.add(x[:4], x[:4])
    same_bits(accumulator.moment(), collected(x[:4], x[:4], None, np.float64))
    accumulator.add(x[4:], x[4:])
    same_bits(accumulator.moment(), collected(x, x, None, np.float64))
    assert accumulator.tokens == 10


def test_activations_are_converted_before_they_are_multiplied():
    half = bell(1, (6, 3), np.float64).astype(np.float16)
    same_bits(
        collected(half, half, None, np.float64),
        collected(half.astype(np.float64), half.astype(np.float64), None, np.float64),
    )
    double = bell(2, (6, 3), np.float64)
    single = double.astype(np.float32)
    same_bits(
        collected(double, double, None, np.float32), collected(single, single, None, np.float32)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_token_that_is_not_finite_is_named_and_nothing_is_added(bad, side):
    x, y = bell(1, (5, 2), np.float64), bell(2, (5, 3), np.float64)
    accumulator = MomentAccumulator(2, 3)
    accumulator.add(x, y)
    before = accumulator.moment().copy()
    wrong = {"left": x.copy(), "right": y.copy()}
    wrong[side][3, 1] = bad
    with pytest.raises(BadInput, match=f"{side} of token 8, feature 1, is {bad}"):
        accumulator.add(wrong["left"], wrong["right"])
    same_bits(accumulator.moment(), before)
    assert accumulator.tokens == 5


def test_what_does_not_fit_in_float32_is_named():
    accumulator = MomentAccumulator(1, 1, np.float32)
    with pytest.raises(BadInput, match="token 1, feature 0, is inf in float32"):
        accumulator.add(np.array([[1.0], [1e39]]), np.ones((2, 1)))
    with pytest.raises(BadInput, match="weight of token 0 is inf in float32"):
        accumulator.add(np.ones((1, 1)), np.ones((1, 1)), np.array([1e39]))


def test_an_overflowing_sum_is_refused():
    accumulator = MomentAccumulator(1, 1, np.float32)
    x = np.full((3, 1), 1e19, np.float32)
    accumulator.add(x, x)
    assert accumulator.moment()[0, 0] == np.float32(1e19) * np.float32(1e19)
    accumulator.add(x, x)  # 4·10³⁸ and more is beyond float32
    with pytest.raises(BadInput, match="overflowed float32"):
        accumulator.moment()


@pytest.mark.parametrize(
    ("left", "right", "weights", "message"),
    [
        (np.ones(2), np.ones((1, 3)), None, r"left must be tokens × 2 floats, got shape \(2,\)"),
        (np.ones((1, 3)), np.ones((1, 3)), None, r"left must be tokens × 2 floats"),
        (np.ones((1, 2)), np.ones((1, 2)), None, r"right must be tokens × 3 floats"),
        (np.ones((1, 2), int), np.ones((1, 3)), None, "in int64"),
        (np.ones((4, 2)), np.ones((5, 3)), None, "left has 4 tokens and right 5"),
        (np.ones((4, 2)), np.ones((4, 3)), np.ones(3), "weights must be 4 floats"),
        (np.ones((1, 2)), np.ones((1, 3)), np.ones(1, int), "weights must be 1 floats"),
        (np.ones((2, 2)), np.ones((2, 3)), np.array([1.0, -1.0]), "token 1 is -1.0"),
        (np.ones((2, 2)), np.ones((2, 3)), np.array([np.nan, 1.0]), "token 0 is nan"),
    ],
)
def test_batches_that_do_not_fit(left, right, weights, message):
    accumulator = MomentAccumulator(2, 3)
    with pytest.raises(BadInput, match=message):
        accumulator.add(left, right, weights)
    assert (accumulator.tokens, accumulator.total_weight) == (0, 0.0)


def test_nothing_to_average():
    accumulator = MomentAccumulator(2, 2)
    with pytest.raises(BadInput, match="total weight of 0 tokens is 0"):
        accumulator.moment()
    accumulator.add(np.ones((3, 2)), np.ones((3, 2)), np.zeros(3))
    with pytest.raises(BadInput, match="total weight of 3 tokens is 0"):
        accumulator.moment()


def test_impossible_accumulators():
    with pytest.raises(BadInput, match="at least one feature"):
        MomentAccumulator(0, 2)
    with pytest.raises(BadInput, match="not in float16"):
        MomentAccumulator(2, 2, np.float16)


@pytest.mark.parametrize("dtype", FLOATS)
def test_only_operations_touch_the_moment(dtype):
    x, y = bell(1, (6, 3), np.float64), bell(2, (6, 2), np.float64)
    accumulator = MomentAccumulator(3, 2, dtype, OPAQUE)
    accumulator.add(x, y)
    same_bits(OPAQUE.to_host(accumulator.moment()), collected(x, y, None, dtype))


# Attention -------------------------------------------------------------------------------------


def importance_in_fractions(attention, visible) -> list[Fraction]:
    heads, queries, keys_ = attention.shape
    importance = []
    for k in range(keys_):
        watchers = [q for q in range(queries) if visible[q, k]]
        received = [Fraction(float(attention[h, q, k])) for h in range(heads) for q in watchers]
        importance.append(sum(received, Fraction(0)) / max(1, heads * len(watchers)))
    return importance


@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    keys,
    st.sampled_from(("f2", "f4", "f8")),
)
def test_importance_is_the_mean_over_heads_and_the_queries_that_see(heads, queries, n, key, dtype):
    # multiples of 1/1024 up to 1: the sums are exact, one rounding is left
    attention = (integers(key, 0, 1024, heads, queries, n) / 1024).astype(dtype)
    visible = integers(key + 1, 0, 2, queries, n) > 0
    found = token_importance(attention, visible)
    assert found.dtype == np.float64
    assert found.tolist() == [float(w) for w in importance_in_fractions(attention, visible)]


def test_without_a_mask_every_query_sees_every_key():
    attention = integers(1, 0, 16, 2, 5, 4) / 16
    same_bits(token_importance(attention), token_importance(attention, np.ones((5, 4), bool)))


def test_a_query_that_could_look_and_did_not_counts():
    attention = np.zeros((1, 2, 2))
    attention[0, :, 0] = 1.0, 0.0
    assert token_importance(attention, causal(2)).tolist() == [0.5, 0.0]


def test_what_is_out_of_sight_is_ignored():
    attention = integers(1, 0, 16, 2, 3, 3) / 16
    hidden = np.where(causal(3), attention, np.nan)
    same_bits(token_importance(hidden, causal(3)), token_importance(attention, causal(3)))


def test_padding_is_left_out():
    attention = integers(1, 1, 16, 2, 4, 4) / 16
    visible = causal(4)
    visible[3] = False
    same_bits(
        token_importance(attention, visible),
        np.append(token_importance(attention[:, :3, :3], causal(3)), 0.0),
    )


def test_the_order_of_the_sum():
    # along the queries of a head first, then over the heads
    attention = np.abs(bell(1, (3, 700, 2), np.float64))
    by_head = np.array([[tree_sum(head[:, k]) for k in range(2)] for head in attention])
    same_bits(token_importance(attention), tree_sum(by_head) / (3 * 700.0))


@pytest.mark.parametrize(
    ("attention", "visible", "message"),
    [
        (np.ones((2, 2)), None, "heads × queries × keys"),
        (np.ones((1, 2, 2), int), None, "int64"),
        (np.ones((0, 2, 2)), None, r"shape \(0, 2, 2\)"),
        (np.ones((1, 2, 3)), causal(3), r"visible must be 2×3 booleans, got shape \(3, 3\)"),
        (np.ones((1, 2, 2)), np.ones((2, 2)), "float64"),
        (
            np.where(np.arange(12).reshape(2, 2, 3) == 10, -1.0, 1.0),
            None,
            r"attention\[1, 1, 1\] is -1",
        ),
        (np.where(np.arange(12).reshape(2, 2, 3) == 5, np.nan, 1.0), None, r"\[0, 1, 2\] is nan"),
        (np.full((1, 1, 1), np.inf), None, "is inf"),
    ],
)
def test_attention_that_is_none(attention, visible, message):
    with pytest.raises(BadInput, match=message):
        token_importance(attention, visible)
