"""Huffman's lengths are optimal (against every possible code), complete, and reproducible."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.coding.huffman import canonical_codewords, code_lengths
from waterlevel.reference.errors import BadInput

counts_of = st.lists(st.integers(1, 10**12), min_size=2, max_size=60)


def kraft(lengths: list[int]) -> Fraction:
    return sum((Fraction(1, 2**length) for length in lengths), Fraction(0))


def cost(counts: list[int], lengths: list[int]) -> int:
    return sum(count * length for count, length in zip(counts, lengths, strict=True))


def test_small_alphabets():
    assert code_lengths([]) == []
    assert code_lengths([7]) == [0]
    assert code_lengths([7, 1]) == [1, 1]


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_no_prefix_code_is_shorter(counts: list[int]):
    possible = product(range(1, len(counts)), repeat=len(counts))
    best = min(cost(counts, list(lengths)) for lengths in possible if kraft(list(lengths)) <= 1)
    assert cost(counts, code_lengths(counts)) == best


@given(counts_of)
def test_the_code_tree_is_full(counts: list[int]):
    assert kraft(code_lengths(counts)) == 1


@given(counts_of)
def test_mean_length_is_within_a_bit_of_the_entropy(counts: list[int]):
    total = sum(counts)
    entropy = math.log2(total) - sum(c * math.log2(c) for c in counts) / total
    mean = cost(counts, code_lengths(counts)) / total
    # math.log2 is good to 2 ulp of numbers below 64: 2⁻⁴⁰ covers all terms amply.
    assert entropy - 2.0**-40 <= mean < entropy + 1


@given(counts_of)
def test_rarer_symbols_never_have_shorter_words(counts: list[int]):
    lengths = code_lengths(counts)
    by_count: dict[int, list[int]] = {}
    for count, length in zip(counts, lengths, strict=True):
        by_count.setdefault(count, []).append(length)
    maxima = [max(by_count[count]) for count in sorted(by_count, reverse=True)]
    minima = [min(by_count[count]) for count in sorted(by_count, reverse=True)]
    assert all(a <= b for a, b in zip(maxima, minima[1:], strict=False))


def test_uniform_counts_on_a_power_of_two():
    assert code_lengths([5] * 64) == [6] * 64


def test_fibonacci_counts_make_the_deepest_tree():
    counts = [1, 1]
    while len(counts) < 120:  # sums pass 2⁶⁴
        counts.append(counts[-1] + counts[-2])
    # 1, 1, 2, 3, …: every join is again the smallest but one, so the tree is a single chain.
    assert code_lengths(counts) == [119, *range(119, 0, -1)]


@pytest.mark.parametrize(
    ("counts", "lengths"),
    [
        ([1, 1, 2, 2], [2, 2, 2, 2]),  # symbols before joined nodes: not 3, 3, 2, 1
        ([2, 2, 2], [2, 2, 1]),  # the first two of three equals are joined
        ([1, 1, 1, 1, 1], [3, 3, 2, 2, 2]),
        ([3, 1, 1, 1, 1], [1, 3, 3, 3, 3]),
    ],
)
def test_ties(counts: list[int], lengths: list[int]):
    assert code_lengths(counts) == lengths


@pytest.mark.parametrize("counts", [[0], [3, 0], [2, -1]])
def test_counts_below_one_are_refused(counts: list[int]):
    with pytest.raises(BadInput, match=r"^[^\n]+$"):
        code_lengths(counts)


@given(counts_of)
def test_canonical_words_are_prefix_free_and_ordered(counts: list[int]):
    lengths = code_lengths(counts)
    words = canonical_codewords(lengths)
    assert [len(word) for word in words] == lengths
    ordered = sorted(words)  # a prefix would stand right before one of its continuations
    assert not any(b.startswith(a) for a, b in pairwise(ordered))
    by_length = sorted(range(len(words)), key=lambda s: (lengths[s], s))
    assert [words[s] for s in by_length] == ordered


def test_canonical_words_of_small_alphabets():
    assert canonical_codewords([]) == []
    assert canonical_codewords([0]) == [""]
    assert canonical_codewords([2, 1, 2]) == ["10", "0", "11"]


@pytest.mark.parametrize("lengths", [[1, 1, 1], [0, 1], [1, 2, 2, 3], [0, 0]])
def test_impossible_lengths_are_refused(lengths: list[int]):
    with pytest.raises(BadInput):
        canonical_codewords(lengths)
