"""The functions as a user meets them: a rate, RTN, hostile layers, refusals, other libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import waterlevel.reference as reference
from waterlevel.reference.errors import BadInput, CodeOverflow, NotPositiveDefinite
from waterlevel.reference.order_free import (
    NoGrid,
    order_free,
    order_free_cholesky,
    order_free_grid,
)

from ...helpers.inputs import bell, lower
from .layers import NAMES, layer


@pytest.mark.parametrize("method", ["watersic", "gptq", "rtn"])
@pytest.mark.parametrize("wanted", [1.5, 3.0])
def test_a_rate_is_met(method: str, wanted: float):
    W, L = bell(1, (64, 24), np.float64), lower(2, 24, np.float64)
    found = order_free(W, None if method == "rtn" else L, method=method, rate=wanted)
    assert found.rate_met
    assert found.rates.rate == pytest.approx(wanted, abs=0.005)  # `rate_search` promises it
    if method != "watersic":  # c is not had back from α without a rounding
        factor = None if method == "rtn" else L
        again = order_free(W, factor, float(found.spacing[0]), method=method)
        assert (again.codes == found.codes).all()


def test_rtn_has_the_bits_of_the_ordered_contract():
    W = bell(3, (9, 16), np.float64)
    ordered = reference.rtn(W, np.eye(16), spacing=0.37)
    assert (order_free(W, None, 0.37, method="rtn").codes == ordered.codes).all()


def test_rtn_on_a_grid_has_the_bits_of_the_ordered_contract():
    W = bell(3, (9, 16), np.float64)
    ordered = reference.rtn(W, np.eye(16), bits=4, group_size=8)
    found = order_free_grid(W, None, 4, group_size=8)
    assert (found.codes == ordered.codes).all()
    assert np.asarray(found.dequantized).tobytes() == ordered.dequantized.tobytes()


@pytest.mark.parametrize("block", [4, 8])
def test_columns_that_nothing_updates_have_their_own_weights(block: int):
    """With L in diagonal blocks of 8, what begins in block 1 sees what RTN sees."""
    W, L = bell(3, (9, 16), np.float64), lower(2, 16, np.float64)
    L[8:, :8] = 0
    found = order_free_grid(W, L, 3, group_size=4, block_size=block)
    own = order_free_grid(W, None, 3, group_size=4)
    same = found.scale == own.scale
    assert same[:, 0].all()
    assert same[:, 2].all()
    assert same[:, 1].all() == (block == 8)  # with blocks of 4 its columns were updated
    assert (found.codes[:, 8] == own.codes[:, 8]).all()


def test_the_order_of_the_columns():
    W, L = layer("plain")
    order = np.random.default_rng(3).permutation(W.shape[1])
    moved = order_free(W[:, order[::-1]], L, 0.3, method="gptq")
    found = order_free(W, L, 0.3, method="gptq", order=order)
    assert (found.codes[:, order[::-1]] == moved.codes).all()
    assert np.array_equal(found.column_scale[order[::-1]], moved.column_scale)


@pytest.mark.parametrize("name", NAMES)
def test_eight_bits(name: str):
    W, L = layer(name, 24, 16)
    found = order_free(W, L, rate=8.0, open_loop=True)
    error = (found.dequantized - W) @ L
    c = found.spacing * np.diag(L)
    # Off by half a spacing, and by what a gain that minimises the squares moves a code: at most
    # that of the largest code, |γ - 1|·max|z|.
    allowed = 0.5001 + np.abs(found.gains - 1) * np.abs(found.codes).max(axis=0)
    assert (np.abs(error) <= c * allowed).all()


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises((BadInput, CodeOverflow)) as caught:
        order_free(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_bad_input_is_refused_in_one_line():
    W, L = layer("plain")
    wrong = W.copy()
    wrong[2, 3] = np.nan
    assert "weight[2, 3] is nan" in refused(wrong, L, 1.0)
    assert "factor has shape" in refused(W, L[:3, :3], 1.0)
    assert "factor[0, 0] is -" in refused(W, -L, 1.0)
    assert "order must name" in refused(W, L, 1.0, order=[0, 0])
    assert "method is 'best'" in refused(W, L, 1.0, method="best")
    assert "method rtn has no factor" in refused(W, L, 1.0, method="rtn")
    assert "must be a matrix" in refused(W[0], L, 1.0)
    far = W.copy()
    far[1] *= 1e-200
    assert "no grid holds weight row 1" in refused(far, L, 1.0)
    assert "int32" in refused(W * 1e12, None, 1e-9, method="rtn")
    with pytest.raises(BadInput, match="square"):
        order_free_cholesky(W)
    with pytest.raises(NotPositiveDefinite, match="pivot 0"):
        order_free_cholesky(-L @ L.T)
    with pytest.raises(BadInput, match="give bits or a float format"):
        order_free_grid(W, L)


@pytest.mark.parametrize("spacing", [2.0**-20, 2.0**-60])
def test_what_no_grid_holds_is_refused_with_its_row(spacing: float):
    W, L = layer("a large row")
    with pytest.raises(NoGrid, match=r"no grid holds weight row 2: .* use a larger spacing"):
        order_free(W * 300, L, spacing)


def test_a_coupling_that_no_grid_holds_is_refused_with_its_row():
    W, n = np.array([[1.0, 1.0], [64.0, 64.0]]), 2
    L = np.array([[1.0, 0.0], [1e14, 1e-6]])
    with pytest.raises((NoGrid, BadInput), match="no grid holds weight row 1"):
        order_free(W, L, 1e-8, method="gptq")
    assert n == len(L)


def place(library: str, array: np.ndarray) -> Any:
    if library == "torch":
        return pytest.importorskip("torch").from_numpy(array.copy())
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray(array)


@pytest.mark.parametrize(
    "library",
    ["torch", pytest.param("jax", marks=pytest.mark.slow)],  # it compiles anew for every shape
)
@pytest.mark.parametrize("name", NAMES)
def test_other_libraries_find_the_same_bits(library: str, name: str):
    pytest.importorskip("array_api_compat")
    W, L = layer(name, 7, 20)
    n = W.shape[1]
    H = L @ L.T
    V, M = place(library, W), place(library, L)

    def host(array: Any) -> bytes:
        return (np.asarray(array, np.float64) + 0).tobytes()

    for options in ({"spacing": 0.3}, {"spacing": 0.01}, {"spacing": 0.3, "method": "gptq"}):
        here, there = order_free(W, L, **options), order_free(V, M, **options)
        assert type(there.codes) is type(V)
        assert host(here.codes) == host(there.codes)
        assert host(here.column_scale) == host(there.column_scale)
    for options in (
        {"bits": 3},
        {"bits": 4, "asymmetric": True, "group_size": 8, "block_size": 16},
        {"format": "fp4-e2m1", "group_size": 8},
    ):
        here = order_free_grid(W, L, order=np.arange(n)[::-1], **options)
        there = order_free_grid(V, M, order=np.arange(n)[::-1], **options)
        assert host(here.codes) == host(there.codes)
        assert host(here.dequantized) == host(there.dequantized)
    assert host(order_free_cholesky(H)) == host(order_free_cholesky(place(library, H)))


WITHOUT_FLOAT64 = """
import jax.numpy as jnp
from waterlevel.reference.order_free import order_free
try:
    order_free(jnp.ones((2, 2)), jnp.eye(2), 1.0)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_jax_without_float64_is_refused_in_one_line(tmp_path: Path):
    for package in ("jax", "array_api_compat"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FLOAT64], cwd=tmp_path, capture_output=True, text=True,
        check=True, env={"JAX_PLATFORMS": "cpu", "PATH": ""},
    )  # fmt: skip
    assert done.stdout.startswith("BadInput jax")
    assert 'jax.config.update("jax_enable_x64", True)' in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_library_without_its_package_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    class Foreign:
        __module__ = "foreign.arrays"

    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    assert "pip install 'waterlevel[order-free]'" in refused(Foreign(), np.eye(2), 1.0)
