"""Each variant against an implementation of the same mistake that shares nothing with it.

The mistakes are written the way they happen: a loop over scalars that adds the products in another
order, a codebook that rounds otherwise, a backend that converts where it should not.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waterlevel.reference import CodeOverflow, NotPositiveDefinite
from waterlevel.reference.formats import FORMATS
from waterlevel.reference.hadamard import base_matrix
from waterlevel.reference.numpy_operations import NUMPY, NumpyOperations, ieee
from waterlevel.validate import variants
from waterlevel.validate.arithmetic import Arithmetic, ArithmeticOperations

from .helpers.codebooks import codebooks
from .helpers.inputs import (
    FLOATS,
    bell,
    dtypes,
    flavours,
    integers,
    keys,
    lower,
    numbers,
    positive_definite,
    same_bits,
)

PLAIN = ArithmeticOperations(Arithmetic())
sizes = st.sampled_from((1, 2, 5, 64, 70))


# The operations made of habits are those of the oracle --------------------------------------------


def both(call: Callable[[Any], Any]) -> None:
    """The call gives the same bits, or the same error, on the oracle and on PLAIN."""
    results = []
    for backend in (NUMPY, PLAIN):
        try:
            found = call(backend)
        except (NotPositiveDefinite, CodeOverflow) as error:
            found = (np.array(list(map(str, vars(error).values()))).astype("U"),)
        results.append(found if isinstance(found, tuple) else (found,))
    for expected, actual in zip(*results, strict=True):
        if np.asarray(expected).dtype.kind == "U":
            assert np.array_equal(expected, actual)
        else:
            same_bits(actual, expected)


@settings(max_examples=50)
@given(flavours, keys, sizes, sizes, dtypes)
def test_plain_arithmetic_is_the_oracle(flavour, key, a, n, dtype):
    A, B = numbers(flavour, key, (a, n), dtype), numbers(flavour, key + 1, (a, n), dtype)
    C, L = numbers(flavour, key + 2, (n, 3), dtype), lower(key, n, dtype)
    scale = np.abs(bell(key, (a,), dtype)) + dtype(0.125)
    zero = np.full(a, 7, np.int32)
    both(lambda o: o.matmul(A, C))
    both(lambda o: o.matmul_transposed(A, B))
    both(lambda o: o.row_inner(A, B))
    both(lambda o: o.column_inner(A, B))
    both(lambda o: o.combine(0.3, A, -1.7, B))
    both(lambda o: o.multiply(A, B))
    both(lambda o: o.divide(A, 0.3))
    both(lambda o: o.scale_rows(A, scale))
    both(lambda o: o.scale_columns(A.T, scale))
    both(lambda o: o.convert(A, np.float32))
    both(lambda o: o.solve(A, L))
    both(lambda o: o.solve_reversed(A, L, n // 3, n))
    both(lambda o: o.grid_error(A, scale, zero, 15))
    both(lambda o: o.symmetrize(numbers(flavour, key + 4, (n, n), dtype)))
    for weights in (None, bell(key, (a,), dtype)):

        def accumulate(o, weights=weights):
            total = numbers(flavour, key + 3, (n, n), dtype)
            o.accumulate(total, A, B, weights)
            return total

        both(accumulate)


@settings(max_examples=20)
@given(keys, st.sampled_from((1, 2, 5, 40, 70)), dtypes, st.booleans())
def test_plain_factors_and_codes(key, n, dtype, singular):
    H = positive_definite(key, n, dtype)
    if singular:
        H[n // 2, n // 2] = -1
    both(lambda o: o.cholesky(H))
    L, target = lower(key, n, dtype), bell(key, (6, n), dtype) * dtype(4)
    for codebook, _ in codebooks(key, 6, L.diagonal()).values():
        for factor in (None, L):
            for start, stop in ((0, n), (n // 3, n - n // 4)):

                def decide(o, codebook=codebook, factor=factor, start=start, stop=stop):
                    Y, codes = target.copy(), np.zeros((6, n), np.int32)
                    gains = o.sic(Y, codes, factor, codebook, start, stop)
                    return Y, codes, gains

                both(decide)
    both(lambda o: o.hadamard(bell(key, (2, 64), dtype), base_matrix(1)))
    both(lambda o: o.hadamard(bell(key, (2, 48), dtype), base_matrix(12)))


def test_a_code_that_does_not_fit():
    from waterlevel.reference.codebooks import UniformLattice

    target = np.array([[1.0, 1e30]])

    def decide(o):
        return o.sic(target.copy(), np.zeros((1, 2), np.int32), None, UniformLattice(1.0), 0, 2)

    both(decide)


# Mistakes ---------------------------------------------------------------------------------------


def same(a, b) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def fused_step(c, a, b, sign):
    exact = Fraction(float(c)) + sign * Fraction(float(a)) * Fraction(float(b))
    return c if not a * b else type(c)(float(exact))


def chained(c, terms, sign, step):
    for a, b in terms:
        c = step(c, a, b, sign)
    return c


def plain_step(c, a, b, sign):
    return c + a * b if sign > 0 else c - a * b


def in_blocks(size):
    def chain(c, terms, sign):
        for i in range(0, len(terms), size):
            part = chained(type(c)(0), terms[i : i + size], 1, plain_step)
            c = c + part if sign > 0 else c - part
        return c

    return chain


def by(reduce):
    """The products as a vector, reduced, and added to (or subtracted from) what was there."""

    def chain(c, terms, sign):
        if not terms:
            return c
        total = reduce(np.array([a * b for a, b in terms]))
        return c + total if sign > 0 else c - total

    return chain


def neighbours(x):
    """By recursion from the top, where `pairwise_sum` folds from the bottom."""
    if len(x) == 1:
        return x[0]
    half = 1 << (len(x) - 1).bit_length() - 1
    return neighbours(x[:half]) + neighbours(x[half:])


def one_after_the_other(x):
    total = x.dtype.type(0)
    for value in x:
        total = total + value
    return total


def float32_sum(c, terms, sign):
    c = np.float32(c)
    for a, b in terms:
        c = np.float32(float(c) + sign * float(a) * float(b))
    return np.float64(c)


def float32_sum_of_rounded(c, terms, sign):
    c = np.float32(c)
    for a, b in terms:
        term = np.float32(a * b)
        c = c + term if sign > 0 else c - term
    return np.float64(c)


def float32_all(c, terms, sign):
    c = np.float32(c)
    for a, b in terms:
        term = np.float32(a) * np.float32(b)
        c = c + term if sign > 0 else c - term
    return np.float64(c)


CHAINS: dict[str, Callable[[Any, list, int], Any]] = {
    "fused-multiply-add": lambda c, t, s: chained(c, t, s, fused_step),
    "reversed-chain": lambda c, t, s: chained(c, t[::-1], s, plain_step),
    "blocked-chain-32": in_blocks(32),
    "blocked-chain-64": in_blocks(64),
    "blocked-chain-128": in_blocks(128),
    "numpy-chain": by(np.sum),
    "pairwise-chain": by(neighbours),
    "tree-chain": by(lambda x: NUMPY.row_inner(x[None], np.ones((1, len(x))))[0]),
    "float32-accumulation": float32_sum,
    "float32-products": float32_sum_of_rounded,
    "float32-arithmetic": float32_all,
}


class Chained(NumpyOperations):
    """`matmul`, `cholesky`, `solve` and the cancellation of `sic` with another chain."""

    name = "wrong"

    def __init__(self, chain, only: tuple[str, ...] | None = None):
        self.chain, self.only = chain, only

    def _wrong(self, name):
        return self.only is None or name in self.only

    def matmul(self, left, right):
        if not self._wrong("matmul"):
            return super().matmul(left, right)
        zero = left.dtype.type(0)
        return np.array(
            [[self.chain(zero, list(zip(x, y, strict=True)), 1) for y in right.T] for x in left]
        )

    def matmul_transposed(self, left, right):
        return self.matmul(left.T, right)

    def cholesky(self, matrix):
        if not self._wrong("cholesky"):
            return super().cholesky(matrix)
        L = np.zeros_like(matrix)
        for i in range(len(L)):
            for j in range(i + 1):
                terms = list(zip(L[i, :j], L[j, :j], strict=True))
                h = self.chain(matrix[i, j], terms, -1)
                L[i, j] = np.sqrt(h) if i == j else h / L[j, j]
        return L

    def solve(self, target, factor):
        if not self._wrong("solve"):
            return super().solve(target, factor)
        X = np.zeros_like(target)
        for i in range(len(X)):
            for j in range(len(factor)):
                terms = list(zip(X[i, :j], factor[j, :j], strict=True))
                X[i, j] = self.chain(target[i, j], terms, -1) / factor[j, j]
        return X

    def sic(self, target, codes, factor, codebook, start, stop):
        if factor is None or start != 0 or not self._wrong("sic"):
            return super().sic(target, codes, factor, codebook, start, stop)
        gains = np.ones(stop)
        for k in reversed(range(stop)):
            for i in range(len(target)):
                terms = [(target[i, m], factor[m, k]) for m in range(stop - 1, k, -1)]
                target[i, k] = self.chain(target[i, k], terms, -1)
            decided = codebook.decide(target[:, k].copy(), factor[k, k], k)
            codes[:, k], target[:, k], gains[k] = decided
        return gains


SUMS: dict[str, Callable[[np.ndarray], Any]] = {
    "left-to-right-sum": one_after_the_other,
    "reversed-sum": lambda x: one_after_the_other(x[::-1]),
    "numpy-sum": lambda x: np.sum(np.ascontiguousarray(x)),
    "pairwise-sum": neighbours,
    **{
        f"blocked-sum-{size}": lambda x, size=size: one_after_the_other(
            np.array([one_after_the_other(x[i : i + size]) for i in range(0, len(x), size)])
        )
        for size in (32, 64, 128)
    },
    **{f"tree-chunk-{size}": lambda x, size=size: in_chunks(x, size) for size in (256, 1024)},
    "tree-without-chunks": lambda x: in_chunks(x, len(x)),
}


def in_chunks(x, size):
    def fold(part):
        part = list(part) + [x.dtype.type(0)] * ((1 << (len(part) - 1).bit_length()) - len(part))
        while len(part) > 1:
            half = len(part) // 2
            part = [part[i] + part[i + half] for i in range(half)]
        return part[0]

    parts = list(x)
    while len(parts) > 1:
        parts = [fold(parts[i : i + size]) for i in range(0, len(parts), size)]
    return parts[0]


class Summed(NumpyOperations):
    """Row and column sums in another order."""

    name = "wrong"

    def __init__(self, total):
        self.total = total

    def row_inner(self, left, right):
        return np.array([self.total(row) for row in left * right])

    def column_inner(self, left, right):
        return self.row_inner(left.T, right.T)


class Decided:
    """A codebook with another decision."""

    def __init__(self, codebook, decide):
        self.codebook, self._decide = codebook, decide

    def decide(self, y, diagonal, column):
        return self._decide(self.codebook, y, diagonal, column)


class Deciding(NumpyOperations):
    name = "wrong"

    def __init__(self, decide):
        self.decide = decide

    @ieee
    def sic(self, target, codes, factor, codebook, start, stop):
        wrong = Decided(codebook, self.decide)
        return super().sic(target, codes, factor, wrong, start, stop)


def decision(rounding=np.rint, ratio=np.divide, level=None, gain=None):
    """A decision of the lattices and the affine grid, spelled anew, with one thing different."""

    def decide(codebook, y, diagonal, column):
        kind, number = type(codebook).__name__, y.dtype.type
        if kind == "UniformLattice":
            spacing = number(codebook.spacing)
            codes = rounding(ratio(ratio(y, diagonal), spacing)).astype(np.int32)
            return codes, codes * spacing, 1.0
        if kind == "AffineGrid":
            group = codebook.group[column]
            scale, zero = codebook.scale[:, group], codebook.zero[:, group]
            v = ratio(ratio(y, diagonal), scale)
            q = level(v, zero) if level else rounding(v) + zero
            codes = np.clip(q, 0, codebook.maximum).astype(np.int32)
            return codes, scale * (codes - zero), 1.0
        step = number(codebook.step)
        codes = rounding(ratio(y, step)).astype(np.int32)
        z = codes.astype(y.dtype)
        found = number(1)
        if codebook.lmmse:
            energy = NUMPY.column_inner(z[:, None], z[:, None])[0]
            found = NUMPY.column_inner(z[:, None], y[:, None])[0] / energy / step
            found = found if energy else number(0)
            found = found if gain is None else number(gain(found))
        return codes, z * (found * codebook.spacing[column]), float(found)

    return decide


def away(x):
    return np.array([math.copysign(math.floor(abs(v) + 0.5), v) for v in x.tolist()], x.dtype)


DECISIONS: dict[str, Callable] = {
    "half-away": decision(rounding=away),
    "half-up": decision(rounding=lambda x: np.floor(x + 0.5)),
    "truncation": decision(rounding=np.fix),
    "reciprocal-division": decision(ratio=lambda x, d: x * (1 / d)),
    "zero-inside-rounding": decision(level=lambda v, zero: np.rint(v + zero)),
    "clamped-gain-0-1": decision(gain=lambda g: min(max(g, 0.0), 1.0)),
    "unit-gain": decision(gain=lambda g: 1.0),
    "unit-gain-of-zeros": decision(gain=lambda g: g or 1.0),
}


class Flushing(NumpyOperations):
    """Elementwise operations without subnormal numbers."""

    name = "wrong"

    def __init__(self, operands: bool):
        self.operands = operands

    def flush(self, x):
        flushed = x.copy()
        flushed[np.abs(flushed) < np.finfo(x.dtype).tiny] *= 0  # keeps the sign
        return flushed

    def operand(self, x):
        return self.flush(x) if self.operands else x

    def multiply(self, left, right):
        return self.flush(self.operand(left) * self.operand(right))

    def matmul(self, left, right):
        left, right = self.operand(left), self.operand(right)
        total = np.zeros((len(left), right.shape[1]), left.dtype)
        for k in range(len(right)):
            product = self.flush(left[:, k, None] * right[k])
            total = self.flush(self.operand(total) + self.operand(product))
        return total


SLOW = ("fused-multiply-add",)  # where it is out of the question, and the matrix large


# Each mistake is reproduced, and separated from the others ----------------------------------------


def reproducing(call, without: tuple[str, ...] = ()) -> set[str]:
    """The names of the operation's variants that give the bits of call(wrong backend)."""
    wrong = call(None)
    found = set()
    for variant in variants.operation_variants():
        if variant.name in without:
            continue
        with variant.applied() as backend:
            if same(call(backend), wrong):
                found.add(variant.name)
    return found


@pytest.mark.parametrize("name", list(CHAINS))
def test_chain_in_a_product(name):
    A, B = bell(1, (2, 300), np.float64), bell(2, (300, 3), np.float64)
    wrong = Chained(CHAINS[name])
    assert not same(wrong.matmul(A, B), NUMPY.matmul(A, B))
    assert reproducing(lambda o: (o or wrong).matmul(A, B)) == {name}


@pytest.mark.parametrize("name", [n for n in CHAINS if n != "float32-arithmetic"])
def test_chain_in_triangular_operations(name):
    wrong = Chained(CHAINS[name])
    n = 136 if name == "blocked-chain-128" else 72 if name == "blocked-chain-64" else 40
    without = SLOW if n > 40 else ()
    H, L, T = positive_definite(3, n, np.float64), lower(4, n, np.float64), bell(5, (2, n), float)
    H = H + 0.1 * np.eye(n)  # not of a few bits
    assert name in reproducing(lambda o: (o or wrong).cholesky(H), without)
    assert not same(wrong.cholesky(H), NUMPY.cholesky(H))
    assert name in reproducing(lambda o: (o or wrong).solve(T, L), without)
    assert not same(wrong.solve(T, L), NUMPY.solve(T, L))


def test_float32_in_a_factor():
    H = positive_definite(3, 30, np.float64) + 0.1 * np.eye(30)
    wrong = NUMPY.cholesky(H.astype(np.float32)).astype(np.float64)
    assert reproducing(lambda o: wrong if o is None else o.cholesky(H)) == {"float32-arithmetic"}


def test_products_summed_first_and_then_subtracted():
    H = positive_definite(3, 40, np.float64) + 0.1 * np.eye(40)
    wrong = Chained(in_blocks(10**9))
    names = reproducing(lambda o: (o or wrong).cholesky(H))
    assert "dot-product-first" in names
    assert names <= {"dot-product-first", "blocked-chain-64", "blocked-chain-128"}


@pytest.mark.parametrize("size", [32, 64, 128])
def test_panels(size):
    """A blocked factorisation: the trailing matrix is updated by whole panels."""
    n = size + 30
    H = positive_definite(3, n, np.float64) + 0.1 * np.eye(n)

    def blocked(matrix):
        open_, L = matrix.copy(), np.zeros_like(matrix)
        for start in range(0, n, size):
            stop = min(start + size, n)
            for j in range(start, stop):
                for k in range(start, j):
                    open_[j:, j] -= L[j:, k] * L[j, k]
                L[j:, j] = open_[j:, j] / np.sqrt(open_[j, j])
                L[j, j] = np.sqrt(open_[j, j])
            panel = L[stop:, start:stop]
            open_[stop:, stop:] -= NUMPY.matmul(panel, panel.T)
        return L

    wrong = blocked(H)
    names = reproducing(lambda o: wrong if o is None else o.cholesky(H), SLOW)
    assert names == {f"panel-chain-{size}"}


def test_float64_accumulation_of_float32():
    A, B = bell(1, (3, 40), np.float32), bell(2, (40, 3), np.float32)
    wrong = NUMPY.matmul(A.astype(np.float64), B.astype(np.float64)).astype(np.float32)
    assert reproducing(lambda o: wrong if o is None else o.matmul(A, B)) == {"float64-accumulation"}


@pytest.mark.parametrize("name", list(SUMS))
@pytest.mark.parametrize("operation", ["row_inner", "column_inner"])
def test_sum(name, operation):
    A, B = bell(1, (16, 3001), np.float64), bell(2, (16, 3001), np.float64)
    if operation == "column_inner":
        A, B = np.ascontiguousarray(A.T), np.ascontiguousarray(B.T)
    wrong = Summed(SUMS[name])
    assert not same(getattr(wrong, operation)(A, B), getattr(NUMPY, operation)(A, B))
    found = reproducing(lambda o: getattr(o or wrong, operation)(A, B))
    library = {"numpy-sum": "row_inner", "left-to-right-sum": "column_inner"}
    # The library's own order is one of the others; which one depends on how the numbers lie.
    assert found - {"library"} == {name}
    assert "library" not in found or library.get(name) == operation


def decisions(codebook, factor, target):
    def call(backend):
        Y, codes = target.copy(), np.zeros(target.shape, np.int32)
        gains = backend.sic(Y, codes, factor, codebook, 0, target.shape[1])
        return np.concatenate([Y, codes, gains[None].astype(Y.dtype)])

    return call


def scaled_lattice(L, lmmse=True, step=0.75):
    from waterlevel.reference.codebooks import ScaledLattice

    return ScaledLattice(step, step / L.diagonal(), lmmse)


@pytest.mark.parametrize("name", list(DECISIONS))
@pytest.mark.parametrize("dtype", FLOATS)
def test_decision(name, dtype):
    from waterlevel.reference.codebooks import AffineGrid, UniformLattice

    n = 8
    L = np.eye(n, dtype=dtype)
    target = integers(7, -20, 20, 12, n).astype(dtype) / dtype(2)  # ties
    target[:, 3] = 0.25
    if name == "zero-inside-rounding":
        scale, zero = np.ones((12, 1), dtype), np.full((12, 1), 7, np.int32)
        codebook = AffineGrid(scale, zero, np.zeros(n, np.int64), 15)
    elif name == "reciprocal-division":
        divisors = np.array([49, 98, 103, 107, 41, 47, 55, 61], dtype)
        L = np.diag(divisors)
        target = target * divisors
        codebook = UniformLattice(1.0)
    elif name in ("half-away", "half-up", "truncation"):
        codebook = UniformLattice(1.0)
    else:
        L, target = lower(5, n, dtype), bell(6, (12, n), dtype) * dtype(2)
        target[:, -1] = 0.25
        codebook = scaled_lattice(L, step=dtype(0.75))
    call = decisions(codebook, L, target)
    wrong = Deciding(DECISIONS[name])
    assert not same(call(wrong), call(NUMPY))
    assert reproducing(lambda o: call(o or wrong)) == {name}


def test_product_of_divisors():
    from waterlevel.reference.codebooks import UniformLattice

    L = np.full((1, 1), 0.1)
    target = (np.arange(2000.0) - 1000)[:, None] * 0.035
    call = decisions(UniformLattice(0.7), L, target)
    codes = np.rint(target / (0.1 * 0.7))
    wrong = np.concatenate([codes * 0.7, codes, np.ones((1, 1))])
    assert not same(wrong, call(NUMPY))
    assert reproducing(lambda o: wrong if o is None else call(o)) == {"product-of-divisors"}


@pytest.mark.parametrize("name", ["half-away", "truncation"])
def test_float_formats(name):
    from waterlevel.reference.codebooks import FloatGrid

    form = FORMATS["fp4-e2m1"]
    level = np.arange(-28, 29)[:, None] / 4.0
    call = decisions(FloatGrid(np.ones((len(level), 1)), np.zeros(1, np.int64), form), None, level)
    values = np.concatenate([-form.magnitudes[:0:-1], form.magnitudes])
    chosen = []
    for x in level[:, 0]:
        inside = values[np.abs(values) <= abs(x)]
        if name == "truncation":
            chosen.append(max(inside[inside * x >= 0], key=abs))
        else:  # the farther from zero of the nearest
            least = np.abs(values - x).min()
            chosen.append(max(values[np.abs(values - x) == least], key=abs))
    value = np.array(chosen)[:, None] + 0.0
    codes = np.array([[math.copysign(list(form.magnitudes).index(abs(v)), v)] for v in chosen])
    wrong = np.concatenate([value, codes + 0.0, np.ones((1, 1))])
    assert not same(wrong, call(NUMPY))
    assert name in reproducing(lambda o: wrong if o is None else call(o))


def test_reciprocal_in_the_factor():
    H = positive_definite(3, 20, np.float64) + 0.1 * np.eye(20)
    L = np.zeros_like(H)
    for j in range(20):
        column = H[j:, j].copy()
        for k in range(j):
            column = column - L[j:, k] * L[j, k]
        L[j, j] = np.sqrt(column[0])
        L[j + 1 :, j] = column[1:] * (1 / L[j, j])
    assert reproducing(lambda o: L if o is None else o.cholesky(H)) == {"reciprocal-division"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("operands", [False, True])
def test_flush_to_zero(dtype, operands):
    tiny = np.finfo(dtype).tiny
    A, B = bell(1, (4, 40), dtype) * (tiny * dtype(8)), bell(2, (40, 4), dtype)
    wrong = Flushing(operands)
    name = "flush-to-zero" if operands else "flush-results"
    other = "flush-results" if operands else "flush-to-zero"
    A[0, :5] = tiny / dtype(2)  # an operand that is large again as a result
    B[:5, 0] = 64
    assert not same(wrong.matmul(A, B), NUMPY.matmul(A, B))
    found = reproducing(lambda o: (o or wrong).matmul(A, B))
    assert name in found
    assert other not in found


def test_largest_distance_first():
    A = bell(1, (2, 64), np.float64)
    x = A.copy()
    for distance in (32, 16, 8, 4, 2, 1):
        for i in range(64):
            if not i & distance:
                left, right = x[:, i].copy(), x[:, i + distance].copy()
                x[:, i], x[:, i + distance] = left + right, left - right
    found = reproducing(lambda o: x if o is None else o.hadamard(A, base_matrix(1)))
    assert found == {"largest-distance-first"}


def test_library():
    A, B = bell(1, (40, 90), np.float64), bell(2, (90, 40), np.float64)
    assert "library" in reproducing(lambda o: A @ B if o is None else o.matmul(A, B))
    H = positive_definite(3, 40, np.float64)
    wrong = np.linalg.cholesky(H)
    assert "library" in reproducing(lambda o: wrong if o is None else o.cholesky(H))
    indefinite = H - 100 * np.eye(40)
    with variants.named("library").applied() as library, pytest.raises(NotPositiveDefinite):
        library.cholesky(indefinite)


# Manners ----------------------------------------------------------------------------------------


def test_names_are_unique_and_described():
    every = variants.all_variants()
    assert len({v.name for v in every}) == len(every)
    assert len({v.description for v in every}) == len(every)
    with pytest.raises(KeyError):
        variants.named("abacus")


def test_every_habit_is_caught_here_or_in_the_diagnosis():
    tested = {*CHAINS, *SUMS, *DECISIONS, "flush-results", "flush-to-zero", "library"}
    tested |= {f"panel-chain-{size}" for size in (32, 64, 128)}
    tested |= {"dot-product-first", "float64-accumulation", "product-of-divisors"}
    tested |= {"largest-distance-first"}
    assert {v.name for v in variants.operation_variants()} == tested


@pytest.mark.parametrize("variant", variants.algorithm_variants(), ids=lambda v: v.name)
def test_patches_are_taken_back(variant):
    def present():
        modules = [
            importlib.import_module(f"waterlevel.reference.{m}") for m, _, _ in variant.patches
        ]
        return [getattr(m, a) for m, (_, a, _) in zip(modules, variant.patches, strict=True)]

    def apply():
        with variant.applied():
            assert all(x is not y for x, y in zip(present(), before, strict=True))
            raise ZeroDivisionError

    before = present()
    with pytest.raises(ZeroDivisionError):
        apply()
    assert all(x is y for x, y in zip(present(), before, strict=True))


@settings(max_examples=20)
@given(keys, st.floats(-100, 100))
def test_half_away_of_any_number(key, x):
    near = np.array([x, np.nextafter(0.5, 0), -0.5, 2.5, -0.0, 2**52 + 1, round(x) + 0.5])
    for value, found in zip(near.tolist(), variants.half_away(near).tolist(), strict=True):
        wanted = math.floor(abs(Fraction(value)) + Fraction(1, 2))
        assert abs(found) == wanted
        assert math.copysign(1, found) == math.copysign(1, value)
