"""Rates are what counting by hand, 400-bit logarithms and the definitions say."""

from __future__ import annotations

import decimal
import time
from collections import Counter
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from waterlevel.reference.coding import histogram, rates
from waterlevel.reference.coding.histogram import (
    column_histograms,
    grouped_histograms,
    sums_of_squares,
)
from waterlevel.reference.coding.huffman import code_lengths
from waterlevel.reference.coding.rates import (
    SideInformation,
    column_classes,
    grid_rates,
    lattice_rates,
)
from waterlevel.reference.errors import BadInput

REFERENCE = mpmath.MPContext()
REFERENCE.prec = 400

Codes = NDArray[np.int32]


def codes_of(values: st.SearchStrategy[int], largest: int = 24) -> st.SearchStrategy[Codes]:
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=largest)
    return hnp.arrays(np.int32, shapes, elements=values)


small = codes_of(st.integers(-3, 3))
whole_range = codes_of(st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-1, 1)), 12)
any_codes = st.one_of(small, whole_range)
side_informations = st.builds(
    SideInformation, st.integers(0, 20), st.integers(0, 20), st.integers(0, 99)
)


# An independent account, from the definitions: dictionaries and big rationals.


def bits_of(symbols: list[int]) -> mpmath.mpf:
    total = REFERENCE.mpf(len(symbols))
    terms = [count * REFERENCE.log(total / count, 2) for count in Counter(symbols).values()]
    return REFERENCE.fsum(terms)


def classes_by_definition(codes: Codes) -> list[int]:
    columns = codes.shape[1]
    mean_square = [
        Fraction(sum(int(z) * int(z) for z in codes[:, j]), len(codes)) for j in range(columns)
    ]
    order = sorted(range(columns), key=lambda j: (mean_square[j], j))
    return [16 * order.index(j) // columns for j in range(columns)]


def rates_by_definition(codes: Codes, columns: int, side: SideInformation) -> dict[str, float]:
    rows, live = codes.shape
    of_class: dict[int, list[int]] = {}
    for j, k in enumerate(classes_by_definition(codes)):
        of_class.setdefault(k, []).extend(codes[:, j].tolist())
    side_bits = 4 * live + side.column_bits * columns + side.row_bits * rows + side.matrix_bits

    ideal = REFERENCE.fsum(bits_of(symbols) for symbols in of_class.values())
    by_column = REFERENCE.mpf(0)
    for j in range(live):
        symbols = codes[:, j].tolist()
        miller_madow = (len(set(symbols)) - 1) / (2 * rows * REFERENCE.log(2))
        by_column += bits_of(symbols) / rows + miller_madow
    whole_bits = 0
    for symbols in of_class.values():
        counts = [count for _, count in sorted(Counter(symbols).items())]
        whole_bits += sum(c * b for c, b in zip(counts, code_lengths(counts), strict=True))
    weights = rows * columns
    return {
        "rate": float((ideal + side_bits) / weights),
        "rate_column": float(by_column / columns),
        "rate_pooled": float(
            bits_of(codes.ravel().tolist()) / weights
            + REFERENCE.mpf(16) / rows
            + REFERENCE.mpf(16) / columns
        ),
        "rate_huffman": float(Fraction(whole_bits + side_bits, weights)),
    }


@settings(max_examples=60, deadline=None)
@given(any_codes, side_informations, st.integers(0, 3))
def test_rates_equal_their_definition_to_the_last_bit(codes, side, removed):
    rows, live = codes.shape
    found = lattice_rates(column_histograms(codes), rows, live + removed, side)
    expected = rates_by_definition(codes, live + removed, side)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.rate_bytes is None


@settings(max_examples=60, deadline=None)
@given(any_codes)
def test_histograms_equal_a_counter(codes):
    found = column_histograms(codes)
    for j, column in enumerate(codes.T):
        part = slice(found.offsets[j], found.offsets[j + 1])
        counted = sorted(Counter(column.tolist()).items())
        listed = zip(found.symbols[part].tolist(), found.counts[part].tolist(), strict=True)
        assert list(listed) == counted
    assert found.symbols.dtype == np.int32
    assert (found.counts.dtype, found.offsets.dtype) == (np.int64, np.int64)
    assert found.columns == codes.shape[1]
    assert found.totals().tolist() == [len(codes)] * codes.shape[1]
    squares = [sum(int(z) * int(z) for z in column) for column in codes.T]
    assert sums_of_squares(found) == squares


@settings(max_examples=60, deadline=None)
@given(any_codes, st.data())
def test_grouped_histograms_equal_a_counter(codes, data):
    columns = codes.shape[1]
    group = data.draw(st.lists(st.integers(0, 4), min_size=columns, max_size=columns))
    found = grouped_histograms(column_histograms(codes), np.array(group, dtype=np.int64), 5)
    for k in range(5):
        members = codes[:, [j for j in range(columns) if group[j] == k]]
        part = slice(found.offsets[k], found.offsets[k + 1])
        listed = zip(found.symbols[part].tolist(), found.counts[part].tolist(), strict=True)
        assert list(listed) == sorted(Counter(members.ravel().tolist()).items())


def test_squares_beyond_64_bits_are_exact():
    codes = np.full((100_000, 2), -(2**31), dtype=np.int32)
    codes[0] = [1, 0]
    found = sums_of_squares(column_histograms(codes))
    assert found == [99_999 * 2**62 + 1, 99_999 * 2**62]
    # In floats they are equal: the order of the columns would be decided by their places.
    assert float(found[0]) == float(found[1])
    assert column_classes(column_histograms(codes)).tolist() == [8, 0]


@pytest.mark.parametrize(
    "codes",
    [np.zeros((2, 2)), np.zeros((2, 2), np.int64), np.zeros(3, np.int32), np.zeros((0, 2), int)],
)
def test_histograms_refuse_other_arrays(codes):
    with pytest.raises(BadInput, match=r"^codes must be an int32 matrix[^\n]+$"):
        column_histograms(codes)


@settings(max_examples=40, deadline=None)
@given(any_codes, st.randoms(use_true_random=False))
def test_permuting_rows_changes_no_rate(codes, random):
    order = list(range(len(codes)))
    random.shuffle(order)
    side = SideInformation.watersic()
    assert lattice_rates(column_histograms(codes[order]), *codes.shape, side) == lattice_rates(
        column_histograms(codes), *codes.shape, side
    )


@settings(max_examples=40, deadline=None)
@given(any_codes, st.randoms(use_true_random=False))
def test_permuting_columns_changes_neither_rate_column_nor_rate_pooled(codes, random):
    order = list(range(codes.shape[1]))
    random.shuffle(order)
    side = SideInformation.watersic()
    one = lattice_rates(column_histograms(codes), *codes.shape, side)
    other = lattice_rates(column_histograms(codes[:, order]), *codes.shape, side)
    assert (one.rate_column, one.rate_pooled) == (other.rate_column, other.rate_pooled)


@pytest.mark.parametrize("k", [0, 1, 3, 8])
@pytest.mark.parametrize("times", [1, 3])
def test_uniform_counts_on_a_power_of_two_cost_exactly_k_bits(k, times):
    codes = np.tile(np.arange(2**k, dtype=np.int32), times)[:, None].repeat(3, axis=1)
    rows = len(codes)
    found = lattice_rates(column_histograms(codes), rows, 3, SideInformation())
    assert found.rate == float(k + Fraction(4, rows))
    assert found.rate_huffman == found.rate
    assert found.rate_pooled == float(k + Fraction(16, rows) + Fraction(16, 3))


def test_all_zero_codes_cost_the_side_information_alone():
    histograms = column_histograms(np.zeros((5, 7), dtype=np.int32))
    side = SideInformation.watersic()
    found = lattice_rates(histograms, 5, 7, side)
    assert found.rate == found.rate_huffman == float(Fraction(4 * 7 + 16 * 7 + 16 * 5, 35))
    assert found.rate_column == 0.0
    assert found.rate_pooled == float(Fraction(16, 5) + Fraction(16, 7))
    for which in rates.RATE_MEASURES:
        assert rates.overhead(7, 5, 7, side, which) == getattr(found, which)


def test_removed_columns_count_as_weights_and_cost_their_gain():
    codes = np.array([[0, 1], [1, 1], [0, 2], [1, 2]], dtype=np.int32)
    side = SideInformation.watersic(row_scales=False)
    found = lattice_rates(column_histograms(codes), 4, 5, side)
    assert found.rate == (4 * 2 + 2 * 4 + 16 * 5) / 20
    assert found.rate_column == pytest.approx((2 + 2 / (8 * np.log(2))) / 5, rel=1e-15)
    assert found.rate_pooled == (12 + 16 * 5 + 16 * 4) / 20  # 0 0 1 1 1 1 2 2: 12 bits
    nothing = column_histograms(np.zeros((4, 0), dtype=np.int32))
    all_removed = lattice_rates(nothing, 4, 5, side)
    assert (all_removed.rate, all_removed.rate_column) == (16 * 5 / 20, 0.0)


def test_what_each_method_sends():
    assert SideInformation.watersic().bits(3, 5) == 16 * 5 + 16 * 3
    assert SideInformation.watersic(row_scales=False).bits(3, 5) == 16 * 5
    assert SideInformation.one_spacing().bits(3, 5) == 16
    assert SideInformation.grid(bits=4, scales=6).bits(3, 5) == 96
    assert SideInformation.grid(bits=4, scales=6, zeros=6).bits(3, 5) == 96 + 24


@settings(max_examples=20, deadline=None)
@given(small)
def test_a_grid_costs_its_bits_and_keeps_the_entropies(codes):
    rows, columns = codes.shape
    side = SideInformation.grid(bits=3, scales=rows, zeros=rows)
    found = grid_rates(column_histograms(codes), rows, columns, side, bits=3)
    coded = lattice_rates(column_histograms(codes), rows, columns, side)
    assert found.rate == float(3 + Fraction(16 + 3, columns))
    assert (found.rate_column, found.rate_pooled) == (coded.rate_column, coded.rate_pooled)
    assert found.rate_huffman == coded.rate_huffman


@settings(max_examples=20, deadline=None)
@given(any_codes, side_informations)
def test_one_measure_is_the_same_number_as_among_all(codes, side):
    rows, columns = codes.shape
    histograms = column_histograms(codes)
    found = lattice_rates(histograms, rows, columns, side)
    for which in rates.RATE_MEASURES:
        assert rates.measure(histograms, rows, columns, side, which) == getattr(found, which)


@settings(max_examples=40, deadline=None)
@given(any_codes)
def test_joining_columns_never_saves_bits(codes):
    # H(z) ≥ H(z | class) ≥ H(z | column), each without side information; two roundings apart.
    rows, columns = codes.shape
    found = lattice_rates(column_histograms(codes), rows, columns, SideInformation())
    pooled = found.rate_pooled - 16 / rows - 16 / columns
    by_class = found.rate - 4 / rows
    distinct = sum(len(set(column.tolist())) - 1 for column in codes.T)
    by_column = found.rate_column - distinct / (2 * rows * columns * np.log(2))
    slack = 2.0**-46  # a few ulp of numbers below 64
    assert pooled >= by_class - slack
    assert by_class >= by_column - slack


def test_unequal_columns_pay_for_one_table_what_the_information_is():
    # Half the columns constant, half uniform on 4 other symbols: I(column; z) = 1 bit.
    codes = np.zeros((8, 32), dtype=np.int32)
    codes[:, ::2] = np.array([-2, -1, 1, 2] * 2, dtype=np.int32)[:, None]
    found = lattice_rates(column_histograms(codes), 8, 32, SideInformation())
    assert found.rate == 1.0 + 4 / 8  # the classes tell the two kinds apart
    assert found.rate_pooled == 2.0 + 16 / 8 + 16 / 32


def test_classes_of_equal_columns_follow_their_places():
    codes = np.ones((3, 40), dtype=np.int32)
    codes[:, 1::2] = -1
    assert column_classes(column_histograms(codes)).tolist() == [16 * r // 40 for r in range(40)]


@settings(max_examples=40, deadline=None)
@given(any_codes)
def test_classes_equal_their_definition(codes):
    assert column_classes(column_histograms(codes)).tolist() == classes_by_definition(codes)


def test_the_caller_s_decimal_context_is_not_used():
    codes = np.arange(60, dtype=np.int32).reshape(12, 5) % 7
    side = SideInformation.watersic()
    expected = lattice_rates(column_histograms(codes), 12, 5, side)
    rates._c_log2_c.cache_clear()
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        assert lattice_rates(column_histograms(codes), 12, 5, side) == expected


def test_refusals():
    histograms = column_histograms(np.zeros((3, 2), dtype=np.int32))
    side = SideInformation()
    with pytest.raises(BadInput, match="do not fit"):
        lattice_rates(histograms, 3, 1, side)
    with pytest.raises(BadInput, match="column 0 holds 3 codes"):
        grid_rates(histograms, 4, 2, side, bits=4)
    with pytest.raises(BadInput, match=r"'rate_colum'.*rate_column"):
        rates.measure(histograms, 3, 2, side, "rate_colum")
    with pytest.raises(BadInput, match="unknown rate measure"):
        rates.overhead(2, 3, 2, side, "rate_bytes")


def test_running_totals_may_overflow():
    values = np.array([2**62, 2**62, 2**62, 5, 2**62], dtype=np.int64)
    offsets = np.array([0, 1, 1, 3, 5], dtype=np.int64)
    values[1] = 2**62 - 1
    assert histogram._sums_between(values, offsets).tolist() == [
        2**62,
        0,
        2**63 - 1,
        2**62 + 5,
    ]


def test_speed_is_fit_for_a_search():
    random = np.random.default_rng(1)
    spread = np.exp(random.normal(size=1536))
    codes = np.rint(random.normal(size=(1536, 1536)) * spread * 2).astype(np.int32)
    start = time.perf_counter()
    histograms = column_histograms(codes)
    for which in rates.RATE_MEASURES:
        rates.measure(histograms, 1536, 1536, SideInformation.watersic(), which)
    # About 0.1 s on a quiet core; a dense table, a loop over codes or a logarithm for every
    # symbol instead of every distinct count would take tens of seconds.
    assert time.perf_counter() - start < 5
