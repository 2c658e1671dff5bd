"""The order of sums, against a scalar reading of the contract and against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.arithmetic.sums import CHUNK, mean, total, tree_sum

from ...helpers import scalar
from ...helpers.inputs import FLAVOURS, FLOATS, bell, dtypes, flavours, keys, numbers, same_bits
from ...helpers.scalar import FLOATING, ROUNDED

LENGTHS = (0, 1, 2, 3, 4, 5, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 1537)
lengths = st.sampled_from(LENGTHS)


def scalar_sums(values: np.ndarray, kinds=FLOATING) -> np.ndarray:
    """The sum of each column, as the contract has it."""
    kind = kinds[values.dtype]
    with np.errstate(all="ignore"):
        sums = [scalar.tree_sum(scalar.lists(column, kind), kind) for column in values.T]
    return scalar.array(sums, values.dtype)


def quiet_sum(values: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return tree_sum(values)


@given(lengths, flavours, keys, dtypes)
def test_order(length, flavour, key, dtype):
    values = numbers(flavour, key, (length, 2), dtype)
    same_bits(quiet_sum(values), scalar_sums(values))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("length", [CHUNK**2 - 1, CHUNK**2, CHUNK**2 + 1, CHUNK**2 + 3 * CHUNK + 7])
def test_order_of_three_levels(length, dtype):
    values = numbers("wide", 5, (length, 1), dtype)
    same_bits(tree_sum(values), scalar_sums(values))


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_place_is_in_its_chunk(dtype):
    """A number so large that it swallows what it is added to, and its negative, put everywhere.

    Only what was added to the large number before its negative came is lost; so the sum of ones
    counts how many partners each place has, level by level.
    """
    length = 1300
    large = dtype(2.0 ** (60 if dtype is np.float64 else 30))
    for place in range(0, length, 37):
        values = np.ones((length, 3), dtype)
        for column, distance in enumerate((1, 256, 512)):
            values[place, column], values[(place + distance) % length, column] = large, -large
        same_bits(tree_sum(values), scalar_sums(values))


@given(st.sampled_from((1, 2, 3, 63, 64, 65, 511, 512, 513)), flavours, keys, dtypes)
def test_correctly_rounded(length, flavour, key, dtype):
    """The same order in rational arithmetic: the bits do not rest on this processor."""
    values = numbers(flavour, key, (length, 1), dtype)
    try:
        expected = scalar_sums(values, ROUNDED)
    except OverflowError:
        assert not np.isfinite(quiet_sum(values)).all()
    else:
        same_bits(quiet_sum(values), expected)


@given(lengths.filter(bool), keys, dtypes)
def test_error_bound(length, key, dtype):
    """|computed - exact| ≤ γ_d Σ|x| with γ_d = d·u / (1 - d·u) and d = ⌈log₂ length⌉.

    Each number takes part in at most d rounded additions (9 in its chunk, ⌈log₂ chunks⌉ above;
    adding +0.0 rounds nothing), so it reaches the sum with at most d factors 1 + δ, |δ| ≤ u
    (Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1 and section 4.2). Sums
    that are subnormal are exact. Two such vectors are summed after one another with opposite
    signs, so that most of the sum cancels.
    """
    half = numbers("wide", key, (length, 1), dtype)
    values = np.concatenate([half, -half[::-1]]) * (1 + bell(key + 9, (2 * length, 1), dtype) / 64)
    u = Fraction(1, 2 ** (53 if dtype is np.float64 else 24))
    depth = (2 * length - 1).bit_length()
    exact = [Fraction(float(x)) for x in values[:, 0]]
    bound = depth * u / (1 - depth * u) * sum(map(abs, exact))
    assert abs(Fraction(float(tree_sum(values)[0])) - sum(exact)) <= bound


@given(lengths, flavours, keys, dtypes, st.sampled_from((1, 3, 511, 512, 700)))
def test_zeros_behind_change_nothing(length, flavour, key, dtype, more):
    values = numbers(flavour, key, (length, 2), dtype)
    padded = np.concatenate([values, np.zeros((more, 2), dtype)])
    same_bits(quiet_sum(padded), quiet_sum(values))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_sum_of_zeros_is_positive(length, dtype):
    same_bits(tree_sum(np.full((length, 2), -0.0, dtype)), np.zeros(2, dtype))


@given(lengths, st.sampled_from(sorted(set(FLAVOURS) - {"huge", "subnormal"})), keys, dtypes)
def test_scaling_by_a_power_of_two(length, flavour, key, dtype):
    """2^p Σx = Σ 2^p x in every bit, as long as nothing leaves the normal range."""
    values = numbers(flavour, key, (length, 2), dtype)
    same_bits(tree_sum(np.ldexp(values, 17)), np.ldexp(tree_sum(values), 17))


@given(st.sampled_from((1, 2, 65, 513)), st.sampled_from((1, 3, 513)), keys, dtypes)
def test_total_goes_along_the_rows_first(rows, columns, key, dtype):
    matrix = numbers("wide", key, (rows, columns), dtype)
    kind = FLOATING[matrix.dtype]
    sums = [scalar.tree_sum(row, kind) for row in scalar.lists(matrix, kind)]
    expected = float(scalar.tree_sum(sums, kind))
    assert total(matrix).hex() == expected.hex()
    column = matrix[:, 0]
    mean_of_column = float(scalar.tree_sum(scalar.lists(column, kind), kind)) / rows
    assert mean(column).hex() == mean_of_column.hex()
