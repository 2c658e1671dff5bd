"""A program in C, written from the page for other languages, finds the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from waterlevel.reference.errors import BadInput, NotPositiveDefinite
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.reference.order_free import NoGrid
from waterlevel.validate.golden.execute_order_free import ORDER_FREE
from waterlevel.validate.golden.order_free_c import SOURCE, OrderFreeC

from ...helpers.inputs import bell
from .layers import NAMES, layer

METHODS: dict[str, dict[str, Any]] = {
    "watersic": {},
    "without gains": {"lmmse": False},
    "gptq": {"method": "gptq"},
}
GRIDS: dict[str, dict[str, Any]] = {
    "symmetric": {"bits": 3, "group_size": 8, "block_size": 16},
    "asymmetric": {"bits": 4, "asymmetric": True, "group_size": 16, "block_size": 8},
    "straddling": {"bits": 2, "asymmetric": True, "group_size": 6, "block_size": 16},
    "whole row": {"bits": 4},
    "in another order": {"bits": 3, "group_size": 7, "order": np.arange(70) * 3 % 70},
}

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")


@pytest.fixture(scope="module")
def program() -> OrderFreeC:
    return OrderFreeC()


def ours(function: str, **arguments: Any) -> dict[str, np.ndarray]:
    inputs = {name: x for name, x in arguments.items() if isinstance(x, np.ndarray)}
    parameters = {name: x for name, x in arguments.items() if name not in inputs}
    return dict(ORDER_FREE[function](NUMPY, inputs, parameters))


def agree(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    assert set(one) == set(other)
    pairs = [(np.asarray(one[name]), np.asarray(other[name])) for name in one]
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spacing", [0.7, 2.0**-7])
def test_the_same_codes(program: OrderFreeC, name: str, method: str, spacing: float):
    W, L = layer(name, 12, 70)
    given = {"weight": W, "factor": L, "spacing": spacing, **METHODS[method]}
    assert agree(program.order_free_lattice(**given), ours("order_free_lattice", **given))


def test_it_takes_the_same_grid_and_refuses_the_same_layers(program: OrderFreeC):
    W, L = layer("a large row", 12, 70)
    grids = set()
    for power in range(0, 40, 3):
        given = {"weight": W * 300, "factor": L, "spacing": 2.0**-power}
        try:
            expected = ours("order_free_lattice", **given)
        except NoGrid:
            with pytest.raises(BadInput, match="no grid"):
                program.order_free_lattice(**given)
            grids.add(0)
            continue
        grids.add(int(expected["fraction_bits"]))
        assert agree(program.order_free_lattice(**given), expected)
    assert grids >= {0, 28}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_same_grids(program: OrderFreeC, name: str, grid: str):
    W, L = layer(name, 12, 70)
    given = {"weight": W, "factor": L, **GRIDS[grid]}
    if "order" in given:
        given["order"] = np.argsort(np.argsort(given["order"][: W.shape[1]]))
    assert agree(program.order_free_grid(**given), ours("order_free_grid", **given))


def test_it_takes_the_same_slices(program: OrderFreeC):
    W, L = layer("plain", 12, 12)
    taken = set()
    for factor in (1.0, 8.0, 32.0, 256.0):
        given = {"weight": W, "factor": L * factor ** np.tri(12, 12, -1), **GRIDS["symmetric"]}
        given |= {"group_size": 1, "block_size": 1}
        try:
            expected = ours("order_free_grid", **given)
        except BadInput:
            with pytest.raises(BadInput, match="no grid"):
                program.order_free_grid(**given)
            taken.add(0)
            continue
        taken.add(int(expected["slice_bits"]))
        assert agree(program.order_free_grid(**given), expected)
    assert len(taken) > 2
    assert 0 in taken


@pytest.mark.parametrize("n", [1, 32, 33, 100])
def test_the_same_factor(program: OrderFreeC, n: int):
    X = bell(4, (n + 3, n), np.float64) * np.exp2(np.arange(n) % 5)
    given = {"matrix": X.T @ X}
    assert agree(program.order_free_cholesky(**given), ours("order_free_cholesky", **given))
    if n > 40:
        given["matrix"][40, 40] = 1e-3
        for function in (program.order_free_cholesky, lambda **g: ours("order_free_cholesky", **g)):
            with pytest.raises(NotPositiveDefinite) as caught:
                function(**given)
            assert caught.value.pivot == 40


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("39 - ceil_log2", "38 - ceil_log2"),
        ("if (rest) q |= 1", "q += 512"),
        ("rint(ldexp(y[i], f))", "floor(ldexp(y[i], f))"),
        ("{0, 1}", "{1, 1}"),
        ("errors[i] = x->W[i * n + k]", "errors[i] = (float)x->W[i * n + k]"),
        ("errors[i] = -F", "errors[i] = F"),
        ("E[i] * M2 + E[a + i] * M1", "E[i] * M2"),
        ("(double)P[1] + ldexp((double)P[2], -b)", "(double)P[1]"),
        ("ceil_log2(3 * n)", "ceil_log2(n)"),
    ],
)
def test_a_wrong_integer_is_noticed(tmp_path: Path, text: str, wrong: str):
    source = tmp_path / "wrong.c"
    assert text in SOURCE.read_text()
    source.write_text(SOURCE.read_text().replace(text, wrong))
    program = OrderFreeC(source)
    W, L = layer("plain", 12, 70)
    X = bell(4, (73, 70), np.float64)
    lattice = {"weight": W, "factor": L, "spacing": 2.0**-7}
    grid = {"weight": W, "factor": L, **GRIDS["straddling"]}
    same = [
        agree(program.order_free_lattice(**lattice), ours("order_free_lattice", **lattice)),
        agree(program.order_free_grid(**grid), ours("order_free_grid", **grid)),
        agree(
            program.order_free_cholesky(X.T @ X), ours("order_free_cholesky", matrix=X.T @ X)
        ),
    ]  # fmt: skip
    assert not all(same)
