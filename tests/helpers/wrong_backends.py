"""Backends that are wrong on purpose, each in one way.

The mistakes are written the way they happen: a loop over scalars that adds the products in another
order, a codebook that rounds otherwise, an operation that forgets subnormal numbers. Nothing here
is shared with what is to find them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations, ieee


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
    "truncation": decision(rounding=np.trunc),
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
