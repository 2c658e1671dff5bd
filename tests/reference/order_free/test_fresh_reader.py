"""A page of plain NumPy, from FOR_OTHER_LANGUAGES.md alone, finds the bits of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from waterlevel.reference.order_free import order_free, order_free_cholesky, order_free_grid

from ...helpers import plain_order_free as plain
from ...helpers.inputs import bell
from .layers import layer


def same(found: Any, expected: Any) -> bool:
    found, expected = np.asarray(found), np.asarray(expected)
    return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def test_the_factor():
    X = bell(4, (140, 130), np.float64) * np.exp2(np.arange(130) % 5)
    assert same(plain.factor(X.T @ X), order_free_cholesky(X.T @ X))


@pytest.mark.parametrize("name", ["plain", "a large row", "zero rows", "one column"])
@pytest.mark.parametrize(
    ("method", "gains"), [("watersic", True), ("watersic", False), ("gptq", False)]
)
def test_the_lattice(name: str, method: str, gains: bool):
    W, L = layer(name, 40, 150)
    expected = order_free(W, L, 2.0**-5, method=method, lmmse=gains)
    codes, g, scale, f = plain.lattice(W, L, 2.0**-5, method == "watersic", gains)
    assert same(codes, expected.codes)
    assert same(g, expected.gains)
    assert same(scale, expected.column_scale)
    assert f == expected.fraction_bits


@pytest.mark.parametrize("name", ["plain", "a large row", "zero rows", "one column"])
@pytest.mark.parametrize(("size", "block", "asymmetric"), [(32, 64, True), (20, 64, False)])
def test_the_grids(name: str, size: int, block: int, asymmetric: bool):
    W, L = layer(name, 40, 150)
    reversed_ = np.arange(W.shape[1])[::-1]
    expected = order_free_grid(
        W, L, 4, asymmetric=asymmetric, group_size=size, block_size=block, order=reversed_
    )
    codes, values, scale, zero, p = plain.grids(W, L, 4, asymmetric, size, block)
    assert same(codes, expected.codes)
    assert same(values, expected.dequantized)
    assert same(scale, expected.scale)
    assert same(zero, expected.zero)
    assert p == expected.slice_bits
