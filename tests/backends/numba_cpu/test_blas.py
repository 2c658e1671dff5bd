"""Products of integers cut into pieces are NumPy's, and the BLAS keeps its threads."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")
threadpoolctl = pytest.importorskip("threadpoolctl")

from waterlevel.backends.numba_cpu import blas  # noqa: E402

SHAPES = [(1, 1, 1), (3, 7, 5), (128, 32, 256), (600, 193, 67), (2, 300, 130, 257)]


def integers(*shape: int) -> np.ndarray:
    """Up to 2^20: sums of 300 products stay below 2^53."""
    return np.random.default_rng(0).integers(-(2**20), 2**20, shape).astype(np.float64)


@pytest.fixture(autouse=True)
def always_shared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blas, "LARGE", 1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_shared_among_threads(
    shape: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blas._numba(), "get_num_threads", lambda: threads)
    a, b = integers(*shape[:-1]), integers(*shape[-2:])
    assert blas.product(a, b).tobytes() == (a @ b).tobytes()
    columns = np.asfortranarray(a)
    assert blas.product(columns, b).tobytes() == (a @ b).tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_product_with_its_own_transpose(threads: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blas._numba(), "get_num_threads", lambda: threads)
    for rows, columns in ((1, 1), (9, 2), (40, 67)):
        m = integers(rows, columns)
        assert blas.product(m.T, m).tobytes() == (m.T @ m).tobytes()
    m, other = integers(40, 67), integers(40, 67)
    other[3, 4] += 1
    assert blas.product(m.T, other).tobytes() == (m.T @ other).tobytes()


def test_batches_on_both_sides():
    a, b = integers(2, 5, 6), integers(2, 6, 3)
    assert blas.product(a, b).tobytes() == (a @ b).tobytes()


def test_the_blas_has_one_thread_meanwhile_and_its_own_again(monkeypatch: pytest.MonkeyPatch):
    def threads() -> set[int]:
        return {
            each["num_threads"]
            for each in threadpoolctl.threadpool_info()
            if each["user_api"] == "blas"
        }

    before, seen = threads(), []
    monkeypatch.setattr(blas, "_by_rows", lambda a, b, count: seen.append(threads()) or a @ b)
    blas.product(integers(5, 6), integers(6, 7))
    assert seen == [{1}]
    assert threads() == before


def test_without_what_sets_threads_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch):
    a, b = integers(50, 60), integers(60, 70)
    with_it = blas.product(a, b).tobytes()
    monkeypatch.setattr(blas, "find_control", lambda: None)
    assert blas.product(a, b).tobytes() == with_it
