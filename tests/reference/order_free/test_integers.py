"""Python's integers and fractions give the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from waterlevel.reference.methods.grid_fitting import INTEGER, grid_format
from waterlevel.reference.methods.one_scale import Grouping
from waterlevel.reference.order_free import order_free, order_free_cholesky, order_free_grid
from waterlevel.reference.order_free.arrays import library_of
from waterlevel.reference.order_free.slices import product_transposed

from ...helpers import exact_order_free as integers
from ...helpers.inputs import bell
from .layers import NAMES, layer


def same_bits(found: np.ndarray, expected: Any) -> bool:
    expected = np.asarray(expected, found.dtype)
    return found.shape == expected.shape and (found + 0).tobytes() == (expected + 0).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_target(name: str):
    W, L = layer(name)
    found = product_transposed(library_of(W), W.astype(np.float64), L)
    T, rows, columns = integers.target(integers.exact(W), integers.exact(L))
    assert found.row_exponent.tolist() == rows
    assert found.column_exponent.tolist() == columns
    assert same_bits(found.value.T, [[float(x) for x in row] for row in T])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spacing", [0.7, 2.0**-7])
@pytest.mark.parametrize("method", ["watersic", "without gains", "gptq"])
def test_the_lattice(name: str, spacing: float, method: str):
    W, L = layer(name)
    watersic = method != "gptq"
    found = order_free(
        W, L, spacing, method="watersic" if watersic else "gptq", lmmse=method == "watersic"
    )
    codes, gains, f = integers.lattice(W, L, spacing, watersic, method == "watersic")
    assert same_bits(found.codes, codes)
    assert same_bits(found.gains, gains)
    assert found.fraction_bits == f


def test_a_large_row_takes_a_coarser_grid():
    W, L = layer("a large row")
    found = order_free(W * 300, L, 0.5)
    codes, gains, f = integers.lattice(W * 300, L, 0.5, True, True)
    assert found.fraction_bits == f < 36
    assert same_bits(found.codes, codes)
    assert same_bits(found.gains, gains)


GRIDS: dict[str, dict[str, Any]] = {
    "rows": {"bits": 3},
    "8 bits": {"bits": 8, "asymmetric": True},
    "static": {"bits": 2, "asymmetric": True, "group_size": 4, "static_groups": True},
    "updated": {"bits": 3, "group_size": 4, "block_size": 3},
    "searched": {"bits": 3, "group_size": 2, "block_size": 4, "mse": True},
    "fp4": {"format": "fp4-e2m1", "group_size": 3},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", GRIDS)
def test_finite_grids(name: str, grid: str):
    W, L = layer(name)
    options, n = GRIDS[grid], W.shape[1]
    order = np.random.default_rng(5).permutation(n)
    found = order_free_grid(W, L, order=order, **options)
    form = grid_format(
        options.get("bits"), options.get("format", INTEGER),
        options.get("asymmetric", False), options.get("mse", False),
    )  # fmt: skip
    assert form is not None
    grouping = Grouping(
        options.get("group_size"), options.get("static_groups", False),
        options.get("block_size", 128),
    )  # fmt: skip
    arranged = order[::-1]
    expected = integers.Finite(W.astype(np.float64), L, arranged, form, grouping)
    assert found.slice_bits == expected.p
    assert same_bits(found.codes[:, arranged], expected.codes)
    assert same_bits(
        found.dequantized[:, arranged], [[float(x) for x in row] for row in expected.values]
    )
    assert same_bits(found.scale.T, np.stack(expected.scale))
    assert same_bits(found.zero.T, np.stack(expected.zero))


@pytest.mark.parametrize(("n", "panel"), [(1, 32), (7, 32), (37, 32)])
def test_the_factor(n: int, panel: int):
    X = bell(4, (n + 3, n), np.float64) * np.exp2(np.arange(n) % 5)
    H = X.T @ X
    assert same_bits(order_free_cholesky(H), integers.cholesky(H, panel))
