"""Comparison of bit patterns, and the fused multiply-add that a diagnosis needs."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.validate.golden.fused import fma
from waterlevel.validate.support import comparison
from waterlevel.validate.support.comparison import (
    compare_bits,
    compare_outputs,
    distances_between,
    share_equal,
)

FLOATS = (np.float64, np.float32, np.float16)
floats = pytest.mark.parametrize("dtype", FLOATS)


def nan(payload: int) -> np.ndarray:
    return np.array([0x7FF8000000000000 + payload], np.uint64).view(np.float64)


# Equal --------------------------------------------------------------------------------------------


@floats
def test_equal_bits_are_no_difference(dtype):
    x = np.array([[1, -0.0, np.inf], [np.nan, 0.0, 3]], dtype)
    assert compare_bits(x, x.copy()) is None
    assert compare_bits(x, np.asfortranarray(x)) is None
    assert compare_bits(x, x.astype(x.dtype.newbyteorder())) is None


def test_empty_and_scalar():
    assert compare_bits(np.zeros((0, 3)), np.zeros((0, 3))) is None
    assert compare_bits(np.float64(2), np.array(2.0)) is None
    difference = compare_bits(np.float64(2), np.float64(3))
    assert difference.message("c", "x") == (
        "c: x = 3.0 (0x1.8000000000000p+1), expected 2.0 (0x1.0000000000000p+1); "
        "2251799813685248 ulp; 1 of 1 differ"
    )


def test_an_equal_memory_is_not_searched(monkeypatch):
    def searched(*_):
        raise AssertionError("the slow path ran")

    monkeypatch.setattr(comparison, "_differ", searched)
    assert compare_bits(np.ones(5), np.ones(5)) is None
    with pytest.raises(AssertionError, match="slow path"):
        compare_bits(np.ones(5), np.zeros(5))


# Different ----------------------------------------------------------------------------------------


def test_the_message_says_it_all():
    expected = np.full((64, 64), 0.1)
    actual = expected.copy()
    for index, steps in (((17, 3), 1), ((20, 4), 2), ((63, 63), -1)):
        actual.view(np.int64)[index] += steps
    difference = compare_bits(expected, actual)
    assert difference.index == (17, 3)
    assert difference.count == 3
    assert difference.message("cholesky/rounding/x", "L") == (
        "cholesky/rounding/x: L[17, 3] = 0.10000000000000002 (0x1.999999999999bp-4), "
        "expected 0.1 (0x1.999999999999ap-4); 1 ulp; 3 of 4096 differ, at most 2 ulp at [20, 4]"
    )
    assert difference.to_json()["largest_index"] == [20, 4]


def test_float32_decimals_are_the_shortest_of_float32():
    difference = compare_bits(np.array([0.1], np.float32), np.array([0.2], np.float32))
    assert difference.actual.startswith("0.2 (0x1.9999")
    assert difference.expected.startswith("0.1 (0x1.9999")


def test_signed_zeros_differ_by_no_ulp():
    difference = compare_bits(np.array([0.0, 1.0]), np.array([-0.0, 1.0]))
    assert (difference.distance, difference.count, difference.actual) == (0, 1, "-0.0 (-0x0.0p+0)")


def test_nan_by_bits():
    difference = compare_bits(nan(0), nan(1))
    assert difference.distance is None
    assert difference.largest is None
    assert "nan (bits 0x7ff8000000000001), expected nan (bits 0x7ff8000000000000)" in (
        difference.message("c", "x")
    )
    assert compare_bits(nan(1), nan(1)) is None


def test_a_nan_first_and_numbers_after():
    difference = compare_bits(np.array([1.0, 1.0]), np.array([np.nan, np.nextafter(1.0, 2.0)]))
    assert (difference.distance, difference.largest, difference.largest_index) == (None, 1, (1,))
    assert "no distance, NaN; 2 of 2 differ, at most 1 ulp at [1]" in difference.message("c", "x")


def test_integers():
    difference = compare_bits(np.array([1, 2, 3], np.int32), np.array([1, 5, -4], np.int32))
    assert difference.message("c", "codes") == (
        "c: codes[1] = 5, expected 2; off by 3; 2 of 3 differ, at most off by 7 at [2]"
    )
    extremes = compare_bits(np.array([-(2**63)]), np.array([2**63 - 1]))
    assert extremes.distance == 2**64 - 1
    unsigned = compare_bits(np.array([1], np.uint8), np.array([3], np.uint8))
    assert unsigned.distance == 2


@pytest.mark.parametrize(
    ("actual", "words"),
    [
        (np.zeros((2, 3), np.float32), "x is float32, expected float64"),
        (np.zeros((3, 2)), "x has shape 3×2, expected 2×3"),
        (np.zeros((2, 3, 1)), "x has shape 2×3×1, expected 2×3"),
        (np.zeros((2, 3), np.int64), "x is int64, expected float64"),
    ],
)
def test_layout(actual, words):
    assert compare_bits(np.zeros((2, 3)), actual).message("c", "x") == f"c: {words}"


def test_outputs_missing_and_unexpected():
    found = compare_outputs(
        {"a": np.ones(2), "b": np.ones(2), "c": np.ones(2)}, {"b": np.ones(2), "d": np.ones(1)}
    )
    assert {name: difference.layout for name, difference in found.items()} == {
        "a": "is missing",
        "c": "is missing",
        "d": "is there, and was not expected",
    }


def test_share():
    one = {"x": np.ones(3), "n": np.float64(2)}
    assert share_equal(one, one) == 1.0
    assert share_equal(one, {"x": np.array([1, 1, -1.0]), "n": np.float64(2)}) == 0.75
    assert share_equal(one, {"x": np.ones(4), "n": np.float64(2)}) == 0.25
    assert share_equal(one, {**one, "more": np.ones(1)}) < 1.0
    assert share_equal({"x": np.zeros(1)}, {"x": -np.zeros(1)}) == 0.0
    assert share_equal({}, {}) == 1.0


# Distances ----------------------------------------------------------------------------------------


@floats
def test_steps_from_the_most_negative_number_to_infinity(dtype):
    """Every float16, and for the others the neighbourhoods where the formula could break."""
    bits = np.dtype(f"i{np.dtype(dtype).itemsize}")
    if dtype == np.float16:
        ascending = np.arange(0, 0x7C01, dtype=bits).view(dtype)
    else:
        tiny, info = np.finfo(dtype).smallest_subnormal, np.finfo(dtype)
        ascending = np.array([0, tiny, 2 * tiny, 3 * tiny], dtype)
        largest = np.array([np.nextafter(info.max, dtype(0)), info.max, np.inf], dtype)
        normal = np.array([np.nextafter(info.tiny, dtype(0)), info.tiny], dtype)
        one = np.array([np.nextafter(dtype(1), dtype(0)), 1, 1 + info.eps], dtype)
        for run in (largest, normal, one):
            assert (distances_between(run[:-1], run[1:]) == 1).all()
    assert (distances_between(ascending[:-1], ascending[1:]) == 1).all()
    assert (distances_between(-ascending[1:], -ascending[:-1]) == 1).all()
    across = distances_between(-ascending, ascending)
    assert across.tolist() == [2 * i for i in range(len(ascending))]


def test_the_largest_distance_of_all():
    from_end_to_end = distances_between(np.array([-np.inf]), np.array([np.inf]))
    assert int(from_end_to_end[0]) == 2 * 0x7FF0000000000000


# Fused multiply-add -------------------------------------------------------------------------------


def rounded(exact: Fraction, dtype) -> float:
    """To nearest even, by integers alone; exact ≠ 0."""
    digits, least = (53, -1074) if dtype == np.float64 else (24, -149)
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    quantum = max(exponent - digits + 1, least)
    scaled = magnitude / Fraction(2) ** quantum
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest - scaled.denominator
    whole += twice > 0 or (twice == 0 and whole % 2)
    value = whole * Fraction(2) ** quantum
    over = value >= Fraction(2) ** (1024 if dtype == np.float64 else 128)
    return math.copysign(math.inf if over else value, 1 if exact > 0 else -1)


def check(a, b, c, dtype):
    """Compares with exact fractions; operands are arrays of finite numbers."""
    fused = fma(a, b, c)
    assert fused.dtype == dtype
    for x, y, z, found in zip(a.tolist(), b.tolist(), c.tolist(), fused.tolist(), strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        wanted = rounded(exact, dtype) if exact else x * y + z
        assert found.hex() == wanted.hex(), (x.hex(), y.hex(), z.hex())


WORKING = st.sampled_from((np.float64, np.float32))


@given(st.data(), WORKING)
def test_fma_on_any_numbers(data, dtype):
    width = 64 if dtype == np.float64 else 32
    number = st.floats(allow_nan=False, allow_infinity=False, width=width)
    triples = data.draw(st.lists(st.tuples(number, number, number), min_size=1, max_size=20))
    a, b, c = (np.array(column, dtype) for column in zip(*triples, strict=True))
    check(a, b, c, dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("middle", [0, 1])
def test_fma_where_it_is_hard(dtype, middle):
    """Terms that nearly cancel the product, or lie a hair off the middle of two results."""
    digits = 53 if dtype == np.float64 else 24
    raw = np.random.Philox(key=5).random_raw(6000).reshape(3, 2000)
    shift = np.uint64(64 - digits)
    a = np.ldexp((raw[0] >> shift).astype(dtype), -digits + 1)
    b = np.ldexp((raw[1] >> shift).astype(dtype), -digits + 1)
    steps = (raw[2] % np.uint64(7)).astype(int) - 3
    if middle:  # c is half a unit of the rounded product, give or take
        c = np.spacing(a * b) * np.ldexp(dtype(1), steps * (digits // 2) - 1)
        c = np.where(raw[2] % np.uint64(2) == 0, c, -c).astype(dtype)
    else:
        c = (-(a * b) + steps.astype(dtype) * np.spacing(a * b)).astype(dtype)
    check(a, b, c, dtype)
    check(-a, b, -c, dtype)


@pytest.mark.parametrize("power", [-1074, -1040, -1023, -1022, -1021, -960, 0, 500, 990, 1023])
def test_fma_at_the_ends_of_the_range(power):
    """Subnormal results, partial underflow, products near overflow, terms far from the product."""
    raw = np.random.Philox(key=power + 2000).random_raw(900).reshape(3, 300)
    unit = [np.ldexp((words >> np.uint64(11)).astype(np.float64), -53) for words in raw]
    for share in (0.5, 0.2, 0.9):
        exponent = int(power * share)
        a = np.ldexp(unit[0], exponent)
        b = np.ldexp(unit[1], power - exponent)
        for offset in (-1074 - power, -110, -54, -53, -1, 0, 1, 53, 54, 110):
            term = max(-1100, min(1023, power + offset))
            check(a, b, np.ldexp(unit[2] - 0.5, term), np.float64)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fma_of_what_is_not_a_number_or_zero(dtype):
    big, inf = np.finfo(dtype).max, np.inf
    a = np.array([inf, 1, big, big, 0, -0.0, 1, 0, np.nan, 1, -1], dtype)
    b = np.array([1, inf, big, big, 5, 5, 1, inf, 1, 1, 1], dtype)
    c = np.array([1, -inf, -inf, 1, -0.0, -0.0, np.nan, 1, 1, -1, 1], dtype)
    wanted = np.array([inf, np.nan, -inf, inf, 0, -0.0, np.nan, np.nan, np.nan, 0, 0], dtype)
    found = fma(a, b, c)
    assert (np.isnan(found) == np.isnan(wanted)).all()
    numbers = ~np.isnan(wanted)
    assert found[numbers].tobytes() == wanted[numbers].tobytes()


def test_fma_differs_from_two_roundings():
    """The check above could not fail if the emulation were a·b + c."""
    x = 1.0 + np.arange(1, 100) * 2.0**-40
    assert not np.array_equal(fma(x, x, -x * x), x * x - x * x)
    with pytest.raises(TypeError, match="float64 or float32 alone"):
        fma(np.ones(1), np.ones(1, np.float32), np.ones(1))
    assert fma(np.ones((3, 1)), np.ones(2), np.float64(1)).tolist() == [[2.0, 2.0]] * 3
