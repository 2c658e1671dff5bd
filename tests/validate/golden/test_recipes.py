"""The inputs of golden cases: each recipe once more, from the words of data/golden/README.md."""

from __future__ import annotations

import pytest

from waterlevel.validate.golden.recipes import RECIPES, raw


def philox(key: int, blocks: int) -> list[int]:
    """As data/golden/README.md has it."""
    mask, numbers = 2**64 - 1, []
    for block in range(1, blocks + 1):
        c, k = [block, 0, 0, 0], [key, 0]
        for turn in range(10):
            if turn:
                k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
            hi0, lo0 = divmod(0xD2E7470EE14C6C93 * c[0], 2**64)
            hi1, lo1 = divmod(0xCA5A826395121157 * c[2], 2**64)
            c = [hi1 ^ c[1] ^ k[0], lo1, hi0 ^ c[3] ^ k[1], lo0]
        numbers += c
    return numbers


@pytest.mark.parametrize("key", [0, 1, 911, 2**64 - 1])
def test_the_generator_is_the_one_of_the_readme(key: int):
    assert raw(key, 12).tolist() == philox(key, 3)


def test_bell_by_its_steps():
    w, b = philox(5, 6), 51
    expected = []
    for i in range(6):
        s = sum((w[q * 6 + i] >> (64 - b)) - 2 ** (b - 1) for q in range(4))
        expected.append(s * 2.0 ** (-2 + 1 - b))
    made = RECIPES["bell"].function(key=5, shape=[2, 3], exponent=-2)
    assert made.ravel().tolist() == expected


def test_structured_covariance_by_its_steps():
    w, n, r = philox(6, 2), 5, [1.0]
    d = [(256 + (x & 255)) * 2.0 ** (((x >> 8) & 255) % 2 - 8) for x in w[:n]]
    for _ in range(n):
        r.append(r[-1] * 0.875)
    expected = [[(d[i] * d[j]) * r[abs(i - j)] for j in range(n)] for i in range(n)]
    assert RECIPES["structured_covariance"].function(key=6, n=n).tolist() == expected


def test_structured_factor_by_its_steps():
    w, n, r = philox(7, 2), 5, [1.0]
    d = [(256 + (x & 255)) * 2.0 ** (((x >> 8) & 255) % 2 - 8) for x in w[:n]]
    for _ in range(n):
        r.append(r[-1] * 0.625)
    expected = [[d[j] * r[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)]
    assert RECIPES["structured_factor"].function(key=7, n=n).tolist() == expected


def test_integers_by_their_steps():
    made = RECIPES["integers"].function(key=8, shape=[3, 2], low=-9, high=9, exponent=-1)
    assert made.ravel().tolist() == [(x % 19 - 9) / 2 for x in philox(8, 2)[:6]]
