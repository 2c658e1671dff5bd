"""Where in an operation does one addition, product, quotient or sum happen, seen from outside?

Each function here makes one operation of a backend compute something whose parts are known, and
returns what came out: p + q·r, q·r, x/d, or the sum of given terms. `probes` asks the questions.
Matrices carry nothing else, so that what comes out is the work of one place in one operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.bases.hadamard import base_matrix
from ...reference.grids.codebooks import AffineGrid, UniformLattice
from ...reference.operations import Matrix, Operations
from .summation_order import PAIRWISE, SEQUENTIAL, TREE_SUM, NoTree

WIDTH = 8  # columns that must all be computed alike, so that more than a vector is multiplied

Question = tuple[str, str, Callable[[], str]]  # operation, what is expected, how to find out


@dataclass(frozen=True)
class Bench:
    """A backend and a float dtype to try it with."""

    backend: Operations
    dtype: np.dtype

    def matrix(self, rows: Any) -> Matrix:
        """On the backend."""
        return self.backend.from_host(np.asarray(rows, self.dtype), self.dtype)

    def host(self, matrix: Matrix) -> NDArray:
        """Back again."""
        return np.asarray(self.backend.to_host(matrix))

    def vector(self, numbers: Any) -> NDArray:
        """On the host, in the dtype."""
        return np.asarray(numbers, self.dtype)


# p + q·r ----------------------------------------------------------------------------------------

MultiplyAdd = Callable[[Bench, float, float, float], float]


def _matmul(bench: Bench, p: float, q: float, r: float) -> float:
    product = bench.backend.matmul(bench.matrix([[p, q]]), bench.matrix([[1.0], [r]]))
    return bench.host(product)[0, 0]


def _matmul_transposed(bench: Bench, p: float, q: float, r: float) -> float:
    left, right = bench.matrix([[p], [q]]), bench.matrix([[1.0], [r]])
    return bench.host(bench.backend.matmul_transposed(left, right))[0, 0]


def _accumulate(bench: Bench, p: float, q: float, r: float) -> float:
    total = bench.matrix([[p]])
    bench.backend.accumulate(total, bench.matrix([[q]]), bench.matrix([[r]]), None)
    return bench.host(total)[0, 0]


def _accumulate_weighted(bench: Bench, p: float, q: float, r: float) -> float:
    total, one = bench.matrix([[p]]), bench.matrix([[1.0]])
    bench.backend.accumulate(total, bench.matrix([[q]]), one, bench.vector([r]))
    return bench.host(total)[0, 0]


def _combine(bench: Bench, p: float, q: float, r: float) -> float:
    backend, P, Q = bench.backend, bench.matrix([[p]]), bench.matrix([[q]])
    ways = (backend.combine(1.0, P, r, Q), backend.combine(r, Q, 1.0, P))
    values = [bench.host(way)[0, 0] for way in ways]
    return max(values, key=abs)


def _row_inner(bench: Bench, p: float, q: float, r: float) -> float:
    left, right = bench.matrix([[p, q], [q, p]]), bench.matrix([[1.0, r], [r, 1.0]])
    return max(bench.backend.row_inner(left, right), key=abs)


def _column_inner(bench: Bench, p: float, q: float, r: float) -> float:
    left, right = bench.matrix([[p, q], [q, p]]), bench.matrix([[1.0, r], [r, 1.0]])
    return max(bench.backend.column_inner(left, right), key=abs)


# The chains of triangular work subtract: -(t - q·r) with t = -p.


def _cholesky(bench: Bench, p: float, q: float, r: float) -> float:
    # l_11 = √(h_11 - q²) is a power of two, because q² is lost in h_11.
    pivot = 1.0 if abs(q) < 2.0**-40 else 2.0**120
    L = bench.backend.cholesky(bench.matrix([[1.0, 0.0, 0.0], [q, pivot, 0.0], [r, -p, 2.0**100]]))
    return -bench.host(L)[2, 1] * np.sqrt(pivot)


def _solve(bench: Bench, p: float, q: float, r: float) -> float:
    L = bench.matrix([[1.0, 0.0], [r, 1.0]])
    return -bench.host(bench.backend.solve(bench.matrix([[q, -p]]), L))[0, 1]


def _solve_reversed(bench: Bench, p: float, q: float, r: float) -> float:
    L = bench.matrix([[1.0, 0.0], [r, 1.0]])
    return -bench.host(bench.backend.solve_reversed(bench.matrix([[-p, q]]), L, 0, 2))[0, 0]


def _sic(bench: Bench, p: float, q: float, r: float) -> float:
    if q == 0:
        return p
    target, L = bench.matrix([[-p, q]]), bench.matrix([[1.0, 0.0], [r, 1.0]])
    codes = bench.backend.zeros(1, 2, np.int32)
    bench.backend.sic(target, codes, L, UniformLattice(spacing=float(q)), 1, 2)
    return -bench.host(target)[0, 0]


MULTIPLY_ADD: dict[str, MultiplyAdd] = {
    "matmul": _matmul,
    "matmul_transposed": _matmul_transposed,
    "accumulate": _accumulate,
    "accumulate, weighted": _accumulate_weighted,
    "combine": _combine,
    "row_inner": _row_inner,
    "column_inner": _column_inner,
    "cholesky": _cholesky,
    "solve": _solve,
    "solve_reversed": _solve_reversed,
    "sic": _sic,
}


def grid_distance(bench: Bench, scale: float, level: int) -> float:
    """Σ d·d·√d of one weight that is `scale · level` rounded: 0 unless d was fused."""
    weight = bench.dtype.type(scale) * bench.dtype.type(level)
    zero = np.zeros(1, np.int32)
    return bench.backend.grid_error(bench.matrix([[weight]]), bench.vector([scale]), zero, 7)[0]


# q·r and x/d ------------------------------------------------------------------------------------


def _multiply(bench: Bench, q: float, r: float) -> float:
    return bench.host(bench.backend.multiply(bench.matrix([[q]]), bench.matrix([[r]])))[0, 0]


def _scale_rows(bench: Bench, q: float, r: float) -> float:
    return bench.host(bench.backend.scale_rows(bench.matrix([[q]]), bench.vector([r])))[0, 0]


def _scale_columns(bench: Bench, q: float, r: float) -> float:
    return bench.host(bench.backend.scale_columns(bench.matrix([[q]]), bench.vector([r])))[0, 0]


PRODUCTS: dict[str, Callable[[Bench, float, float], float]] = {
    "multiply": _multiply,
    "scale_rows": _scale_rows,
    "scale_columns": _scale_columns,
}


def _divide(bench: Bench, numerators: NDArray, d: float) -> NDArray:
    return bench.host(bench.backend.divide(bench.matrix([numerators]), d))[0]


def _divide_in_cholesky(bench: Bench, numerators: NDArray, d: float) -> NDArray:
    n = len(numerators) + 1
    H = np.eye(n) * 2.0**60
    H[0, 0], H[1:, 0] = d * d, numerators
    return bench.host(bench.backend.cholesky(bench.matrix(H)))[1:, 0]


def _divide_in_solve(bench: Bench, numerators: NDArray, d: float) -> NDArray:
    L = bench.matrix(np.eye(len(numerators)) * d)
    return bench.host(bench.backend.solve(bench.matrix([numerators]), L))[0]


def _divide_in_solve_reversed(bench: Bench, numerators: NDArray, d: float) -> NDArray:
    n = len(numerators)
    L = bench.matrix(np.eye(n) * d)
    return bench.host(bench.backend.solve_reversed(bench.matrix([numerators]), L, 0, n))[0]


QUOTIENTS: dict[str, Callable[[Bench, NDArray, float], NDArray]] = {
    "divide": _divide,
    "cholesky": _divide_in_cholesky,
    "solve": _divide_in_solve,
    "solve_reversed": _divide_in_solve_reversed,
}


# Sums -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """A sum inside an operation.

    Attributes:
        add_up: from a bench and r×terms masked terms to r sums (r×WIDTH where there are several
            equal ones). terms: how many are enough to tell blocks of 256 from one chain, or what a
            Cholesky factor can hold in a moment. order: what the contract asks for.
        started: term 0 is what a chain starts from. counts: what the terms are called, in order.
        largest: None, or for each precision the largest mask that no step overflows with.
    """

    add_up: Callable[[Bench, NDArray], NDArray]
    terms: int
    order: str
    started: bool = False
    counts: str = "k = 0, 1, 2, …"
    largest: dict[int, float] | None = None

    def describe(self, order: str) -> str:
        """An order in words, counted as the operation counts its terms."""
        return f"{order}, {self.counts}" if order == SEQUENTIAL else order


def _sums_of_matmul(bench: Bench, terms: NDArray) -> NDArray:
    ones = bench.matrix(np.ones((terms.shape[1], WIDTH)))
    return bench.host(bench.backend.matmul(bench.matrix(terms), ones))


def _sums_of_matmul_transposed(bench: Bench, terms: NDArray) -> NDArray:
    ones = bench.matrix(np.ones((terms.shape[1], WIDTH)))
    return bench.host(bench.backend.matmul_transposed(bench.matrix(terms.T), ones))


def _sums_of_accumulate(bench: Bench, terms: NDArray, weighted: bool = False) -> NDArray:
    tokens = terms.shape[1] - 1
    total = bench.matrix(np.repeat(terms[:, :1], WIDTH, axis=1))
    weights = bench.vector(np.ones(tokens)) if weighted else None
    ones = bench.matrix(np.ones((tokens, WIDTH)))
    bench.backend.accumulate(total, bench.matrix(terms[:, 1:].T), ones, weights)
    return bench.host(total)


def _sums_of_row_inner(bench: Bench, terms: NDArray) -> NDArray:
    return bench.backend.row_inner(bench.matrix(terms), bench.matrix(np.ones_like(terms)))


def _sums_of_column_inner(bench: Bench, terms: NDArray) -> NDArray:
    return bench.backend.column_inner(bench.matrix(terms.T), bench.matrix(np.ones_like(terms.T)))


def _sums_of_cholesky(bench: Bench, terms: NDArray) -> NDArray:
    # Row j = terms-1 of L is all ones; each row below it is one row of terms, so that its element j
    # is h_ij less these terms, one after the other. The rows below are kept apart by their own
    # inner products; what is left of them is small beside the diagonal.
    rows, count = terms.shape
    j = count - 1
    H = np.eye(j + 1 + rows)
    H[j, :j], H[j, j] = 1.0, count
    wide = terms.astype(np.float64)
    H[j + 1 :, :j], H[j + 1 :, j] = -wide[:, 1:], wide[:, 0]
    H[j + 1 :, j + 1 :] = wide[:, 1:] @ wide[:, 1:].T
    below = np.arange(j + 1, len(H))
    H[below, below] += 16.0 * np.abs(wide).max() ** 2
    return bench.host(bench.backend.cholesky(bench.matrix(H)))[j + 1 :, j]


def _star(bench: Bench, count: int, center: int) -> Matrix:
    """A factor with ones on the diagonal, and in row (or column) `center`."""
    L = np.eye(count)
    L[center if center else slice(None), slice(None) if center else center] = 1.0
    return bench.matrix(L)


def _sums_of_solve(bench: Bench, terms: NDArray) -> NDArray:
    last = terms.shape[1] - 1
    target = np.concatenate([-terms[:, 1:], terms[:, :1]], axis=1)
    X = bench.backend.solve(bench.matrix(target), _star(bench, last + 1, last))
    return bench.host(X)[:, last]


def _backwards(terms: NDArray) -> NDArray:
    return np.concatenate([terms[:, :1], -terms[:, :0:-1]], axis=1)


def _sums_of_solve_reversed(bench: Bench, terms: NDArray) -> NDArray:
    n = terms.shape[1]
    target = bench.matrix(_backwards(terms))
    return bench.host(bench.backend.solve_reversed(target, _star(bench, n, 0), 0, n))[:, 0]


def _sums_of_sic(bench: Bench, terms: NDArray) -> NDArray:
    rows, n = terms.shape
    weights = _backwards(terms)
    zero = np.full((rows, n), 4, np.int32)
    scale = np.where(weights == 0, 1, np.abs(weights)).astype(bench.dtype)
    grid = AffineGrid(scale, zero, np.arange(n), 7)  # every term is one step from zero, or none
    target, codes = bench.matrix(weights), bench.backend.zeros(rows, n, np.int32)
    bench.backend.sic(target, codes, _star(bench, n, 0), grid, 1, n)
    return bench.host(target)[:, 0]


HADAMARD_BASE = 12


def _sums_of_hadamard(bench: Bench, terms: NDArray) -> NDArray:
    base = base_matrix(HADAMARD_BASE)
    signs = np.repeat(base[:, 0], terms.shape[1] // HADAMARD_BASE).astype(terms.dtype)
    return bench.host(bench.backend.hadamard(bench.matrix(terms * signs), base))[:, 0]


BACKWARDS = "k = n-1, n-2, …"
SUMS: dict[str, Sum] = {
    "matmul": Sum(_sums_of_matmul, 300, SEQUENTIAL),
    "matmul_transposed": Sum(_sums_of_matmul_transposed, 300, SEQUENTIAL),
    "accumulate": Sum(_sums_of_accumulate, 300, SEQUENTIAL, True, "t = 0, 1, 2, …"),
    "accumulate, weighted": Sum(
        lambda bench, terms: _sums_of_accumulate(bench, terms, weighted=True),
        300, SEQUENTIAL, True, "t = 0, 1, 2, …",
    ),
    "row_inner": Sum(_sums_of_row_inner, 600, TREE_SUM),
    "column_inner": Sum(_sums_of_column_inner, 600, TREE_SUM),
    "cholesky": Sum(
        _sums_of_cholesky, 150, SEQUENTIAL, True, largest={53: 2.0**200, 24: 2.0**57}
    ),
    "solve": Sum(_sums_of_solve, 300, SEQUENTIAL, True),
    "solve_reversed": Sum(_sums_of_solve_reversed, 300, SEQUENTIAL, True, BACKWARDS),
    "sic": Sum(_sums_of_sic, 300, SEQUENTIAL, True, BACKWARDS),
    "hadamard": Sum(_sums_of_hadamard, 96, f"{PAIRWISE} in blocks of 8"),
}  # fmt: skip


def one_sum(name: str, bench: Bench) -> Callable[[NDArray], NDArray]:
    """The sum inside an operation as a function of its terms, r×terms, alone.

    Raises `NoTree`, when called, if elements that have the same terms differ.
    """

    def add_up(terms: NDArray) -> NDArray:
        sums = SUMS[name].add_up(bench, terms)
        if sums.ndim == 1:
            return sums
        bits = np.ascontiguousarray(sums).view(f"u{sums.itemsize}")
        unlike = (bits != bits[:, :1]).any(axis=0)
        if unlike.any():
            raise NoTree(f"columns 0 and {int(np.argmax(unlike))} are not summed alike")
        return sums[:, 0]

    return add_up
