"""No order of a sum changes a bit, and every sum is shown to be exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from waterlevel.reference.order_free import (
    cancellation,
    factor,
    finite,
    lattice,
    order_free,
    order_free_cholesky,
    order_free_grid,
)
from waterlevel.reference.order_free.arrays import Library

from ...helpers.inputs import bell
from .layers import NAMES, layer

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


def plain(array: Any) -> np.ndarray:
    return np.asarray(array).view(np.ndarray)


class Sums:
    """A library whose products are taken by `product`; `calls` counts them."""

    def __init__(self, product: Product) -> None:
        self.product, self.calls = product, 0
        sums = self

        class Array(np.ndarray):
            def __matmul__(self, other: Any) -> Any:
                sums.calls += 1
                return sums.product(plain(self), plain(other)).view(Array)

        self.array = Array

    def asarray(self, values: Any) -> np.ndarray:
        return np.array(values).view(self.array)

    def astype(self, array: np.ndarray, dtype: Any, copy: bool) -> np.ndarray:
        return array.astype(dtype, copy=copy)

    def sum(self, array: np.ndarray, axis: int) -> np.ndarray:
        if axis == 0:
            return (np.ones((1, len(array))).view(self.array) @ array)[0]
        return array @ np.ones(array.shape[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def shuffled(seed: int) -> Product:
    """Sums in a random order, in random pieces, some of them one fused product at a time."""
    random = np.random.default_rng(seed)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        order = random.permutation(a.shape[-1])
        total = np.zeros(np.matmul(a[..., :1], b[:1]).shape)
        for piece in np.split(order, np.sort(random.integers(0, len(order) + 1, 3))):
            if random.integers(2):
                total = total + np.matmul(a[..., piece], b[piece])
            else:
                for k in piece:
                    total = total + np.matmul(a[..., [k]], b[[k]])
        return total

    return product


def watched(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Refuses factors that are no integers, and sums that might not be exact."""
    assert (a == np.rint(a)).all(), "no integers"
    assert (b == np.rint(b)).all(), "no integers"
    assert np.max(np.abs(a) @ np.abs(b)) <= 2.0**53, "too wide"
    return a @ b


class Shuffled(cancellation.Cancellation):
    """Cancels in random pieces of the decided columns, in random order."""

    random = np.random.default_rng(9)

    def subtract(self, columns: list, first: int, decided: list, begin: int) -> list:
        m = decided[0].shape[0]
        cut = int(self.random.integers(1, m)) if m > 1 else 0
        if not cut:
            return super().subtract(columns, first, decided, begin)
        pieces = [(0, cut), (cut, m)]
        if self.random.integers(2):
            pieces.reverse()
        for start, stop in pieces:
            part = [fed[start:stop, :] for fed in decided]
            columns = self.subtract(columns, first, part, begin + start)
        return columns


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[Product], Sums]:
    """Has all products of the folder taken by a function."""

    def take(product: Product) -> Sums:
        sums = Sums(product)
        monkeypatch.setattr(cancellation, "product", lambda left, right: left @ right)
        for module in (lattice, finite, factor):
            monkeypatch.setattr(module, "library_of", lambda _: Library(sums))
        return sums

    return take


def outputs(name: str) -> dict[str, bytes]:
    W, L = layer(name, 6, 33)
    n = W.shape[1]
    X = bell(7, (2 * n, n), np.float64) * np.exp2(np.arange(n) % 9)
    found = {}
    for method, spacing in (("watersic", 0.4), ("watersic", 2.0**-7), ("gptq", 0.4)):
        run = order_free(W, L, spacing, method=method)
        found[f"{method} {spacing}"] = [run.codes, run.gains, run.fraction_bits]
    for asymmetric, group in ((False, None), (True, 8)):
        grid = order_free_grid(W, L, 4, asymmetric=asymmetric, group_size=group, block_size=16)
        found[f"grid {group}"] = [grid.codes, grid.dequantized, grid.scale, grid.slice_bits]
    found["factor"] = [order_free_cholesky(X.T @ X / n)]
    return {
        key: b"".join((np.asarray(value, float) + 0).tobytes() for value in values)
        for key, values in found.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_no_order_changes_a_bit(
    name: str,
    through: Callable[[Product], Sums],
    monkeypatch: pytest.MonkeyPatch,
):
    expected = outputs(name)
    monkeypatch.setattr(lattice, "Cancellation", Shuffled)
    monkeypatch.setattr(finite, "Cancellation", Shuffled)
    for seed in range(3):
        sums = through(shuffled(seed))
        assert outputs(name) == expected
        assert sums.calls > 50 or name == "one column"


@pytest.mark.parametrize("columns", [1, 2, 5, 64])
def test_how_many_columns_are_decided_one_by_one_changes_no_bit(
    columns: int, monkeypatch: pytest.MonkeyPatch
):
    expected = outputs("a large row")
    monkeypatch.setattr(cancellation, "ONE_BY_ONE", columns)
    assert outputs("a large row") == expected


@pytest.mark.parametrize("columns", [32, 64])
def test_blocks_of_panels_change_no_bit(columns: int, monkeypatch: pytest.MonkeyPatch):
    X = bell(7, (200, 150), np.float64)
    expected = order_free_cholesky(X.T @ X)
    monkeypatch.setattr(factor, "BLOCK_COLUMNS", columns)
    assert order_free_cholesky(X.T @ X).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_product_is_one_of_integers_that_fit(
    name: str, through: Callable[[Product], Sums]
):  # fmt: skip
    sums = through(watched)
    assert outputs(name) == outputs(name)
    assert sums.calls > 50 or name == "one column"


@pytest.mark.parametrize("place", range(0, 40, 4))
def test_one_product_that_rounds_is_caught(place: int, through: Callable[[Product], Sums]):
    """The factors of one product gain a fraction of their last place."""

    def once(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return watched(a * (1 + 2.0**-40) if sums.calls == place + 1 else a, b)

    sums = through(once)
    with pytest.raises(AssertionError, match="no integers"):
        outputs("plain")


def test_a_grid_that_is_too_fine_is_caught(
    through: Callable[[Product], Sums], monkeypatch: pytest.MonkeyPatch
):
    """Without the bound the sums round, and the watch and the orders both show it."""
    W, L = layer("a large row", 6, 33)
    monkeypatch.setattr(cancellation.Cancellation, "_check", lambda self, places: None)
    through(watched)
    with pytest.raises(AssertionError, match="too wide"):
        order_free(W * 300, L, 2.0**-7)


@pytest.mark.parametrize("width", ["WEIGHT_WIDTH", "slice_width"])
def test_slices_that_are_too_wide_are_caught(
    width: str, through: Callable[[Product], Sums], monkeypatch: pytest.MonkeyPatch
):
    if width == "slice_width":
        monkeypatch.setattr(factor, width, lambda n: 27)
    else:
        from waterlevel.reference.order_free import slices

        real = slices.factor_width
        monkeypatch.setattr(slices, "factor_width", lambda n: real(n) + 6)
    through(watched)
    with pytest.raises(AssertionError, match="too wide"):
        outputs("plain")
