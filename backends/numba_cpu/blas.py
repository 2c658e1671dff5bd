"""Exact products of integers: NumPy's BLAS on one thread, rows shared among threads of our own.

No sum of them rounds (`reference.decoder.integers`), so how a product is cut changes no bit. Why it
is cut here and not by the BLAS: threads of OpenBLAS wait for one another by spinning, which takes
the processor from the very thread they wait for as soon as another program runs. With another busy
program on two cores a small model's forward pass was seen to last ten times as long.

Without threadpoolctl, which is what tells a BLAS to keep to one thread, it uses its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 1 << 22
"""Multiplications from which on a product is worth waking a second thread: about 0.2 ms."""


def product(a: NDArray, b: NDArray) -> NDArray:
    """A B; A may have axes before its two. Exactness: bits, for integers whose sums are exact."""
    if find_control() is None:
        return np.matmul(a, b)
    with find_control().limit(limits=1, user_api="blas"):
        if b.ndim > 2:
            return np.matmul(a, b)
        flat = a.reshape(-1, a.shape[-1])
        threads = _numba().get_num_threads() if flat.shape[0] * b.size >= LARGE else 1
        cut = _symmetric if _same(a, b) else _by_rows
        return cut(flat, b, threads).reshape(*a.shape[:-1], b.shape[-1])


def _by_rows(a: NDArray, b: NDArray, threads: int) -> NDArray:
    out = np.empty((len(a), b.shape[1]))

    def work(rows: slice) -> None:
        np.matmul(a[rows], b, out=out[rows])

    _share(work, _slices(len(a), threads), threads)
    return out


def _symmetric(a: NDArray, b: NDArray, threads: int) -> NDArray:
    """Bᵀ B by blocks of columns: of those on the diagonal the BLAS computes half."""
    out = np.empty((len(a), len(a)))

    def work(pair: tuple[slice, slice]) -> None:
        i, j = pair
        np.matmul(a[i], b[:, j], out=out[i, j])
        if i is not j:
            out[j, i] = out[i, j].T

    pairs = combinations_with_replacement(_slices(len(a), threads), 2)
    _share(work, list(pairs), threads)
    return out


def _same(a: NDArray, b: NDArray) -> bool:
    """Whether A is the very Bᵀ."""
    return (
        a.ndim == 2
        and a.shape == b.shape[::-1]
        and a.strides == b.strides[::-1]
        and a.ctypes.data == b.ctypes.data
    )


def _slices(count: int, parts: int) -> list[slice]:
    ends = [count * i // parts for i in range(parts + 1)]
    return [slice(i, j) for i, j in pairwise(ends) if i < j]


def _share(work: Callable[[Any], None], parts: list[Any], threads: int) -> None:
    if threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    list(_pool(threads).map(work, parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "waterlevel-products")


@cache
def find_control() -> Any:
    """What sets the threads of the BLAS libraries in this process, or None."""
    if find_spec("threadpoolctl") is None:
        return None
    return import_module("threadpoolctl").ThreadpoolController()


@cache
def _numba() -> Any:
    return import_module("numba")
