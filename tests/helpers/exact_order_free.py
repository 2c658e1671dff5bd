"""The order-free methods again, in Python's integers and fractions, from the pages' equations.

Numbers are fractions. `r` rounds one to float64, where a page rounds; everything else is exact.
"""

from __future__ import annotations

import math
from fractions import Fraction as F

import numpy as np

from waterlevel.reference.grids.float_formats import FORMATS
from waterlevel.reference.methods.grid_fitting import find_grid
from waterlevel.reference.operations.numpy_operations import NUMPY

Matrix = list[list[F]]
LIMIT = 2**53


class TooFine(Exception):
    """The bound of a column reaches 2⁵³."""


def r(x: F) -> F:
    return F(float(x))


def exact(matrix: np.ndarray) -> Matrix:
    return [[F(float(x)) for x in row] for row in matrix]


def exponent(numbers: list[F]) -> int:
    largest = max(abs(x) for x in numbers)
    return math.frexp(float(largest))[1] if largest else 0


def cut(x: F, width: int, count: int) -> list[int]:
    found = []
    for _ in range(count):
        x *= 2**width
        found.append(round(x))
        x -= found[-1]
    return found


def columns_of(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def target(W: Matrix, L: Matrix) -> tuple[Matrix, list[int], list[int]]:
    """T in units of 2^(row + column), a×n; the exponents."""
    n = len(L)
    q = 39 - (n - 1).bit_length()
    rows, columns = [exponent(w) for w in W], [exponent(c) for c in columns_of(L)]
    Ws = [[cut(x / F(2) ** e, 14, 3) for x in w] for w, e in zip(W, rows, strict=True)]
    Ls = [[cut(L[k][j] / F(2) ** columns[j], q, 2) for j in range(n)] for k in range(n)]

    def dot(i: int, j: int, p: int, s: int) -> int:
        return sum(Ws[i][k][p] * Ls[k][j][s] for k in range(n))

    def element(i: int, j: int) -> F:
        sum_ = r(dot(i, j, 2, 0) / F(2) ** 28 + dot(i, j, 0, 1) / F(2) ** q)
        sum_ = r(sum_ + dot(i, j, 1, 0) / F(2) ** 14)
        return r(sum_ + dot(i, j, 0, 0)) / F(2) ** (14 + q)

    return [[element(i, j) for j in range(n)] for i in range(len(W))], rows, columns


def lattice(
    W: np.ndarray, L: np.ndarray, spacing: float, watersic: bool, lmmse: bool
) -> tuple[list[list[int]], list[float], int]:
    """Codes, gains and f, columns in the order of the loop."""
    factor, n = exact(L), len(L)
    T, rows, columns = target(exact(W), factor)
    diagonal = [factor[k][k] for k in range(n)]
    unit = [F(spacing) if watersic else r(F(spacing) * d) for d in diagonal]
    y = [
        [
            r(T[i][j] * r(1 / unit[j])) * F(2) ** (rows[i] + columns[j])
            for j in range(n)
        ]
        for i in range(len(W))
    ]  # fmt: skip
    ratio = [
        [r(factor[k][j] / (diagonal[k] if watersic else diagonal[j])) for j in range(k)]
        for k in range(n)
    ]
    for f in range(36, 0, -8):
        try:
            return *_lattice(y, ratio, f, watersic and lmmse), f
        except TooFine:
            continue
    raise TooFine


def _lattice(y: Matrix, ratio: Matrix, f: int, lmmse: bool) -> tuple[list[list[int]], list[float]]:
    a, n = len(y), len(ratio)
    Y = [[round(x * 2**f) for x in row] for row in y]
    bound = [max(abs(row[j]) for row in Y) for j in range(n)]
    z, gains = [[0] * n for _ in range(a)], [F(1)] * n
    for k in reversed(range(n)):
        if bound[k] >= LIMIT:
            raise TooFine
        for i in range(a):
            z[i][k] = round(F(Y[i][k], 2**f))
        squares = sum(row[k] ** 2 for row in z)
        if lmmse:
            products = sum(z[i][k] * Y[i][k] for i in range(a))
            gains[k] = r(F(products, squares)) / 2**f if squares else F(0)
        for j in range(k):
            M = round(r(gains[k] * ratio[k][j]) * 2**f)
            bound[j] += max(abs(row[k]) for row in z) * abs(M)
            for i in range(a):
                Y[i][j] -= z[i][k] * M
    return z, [float(g) for g in gains]


class Finite:
    """GPTQ on finite grids; `codes`, `values`, `scale` and `zero` hold what was found."""

    def __init__(self, W: np.ndarray, L: np.ndarray, arranged: np.ndarray, form, grouping) -> None:
        self.W, self.form, self.grouping = W, form, grouping
        self.L, self.arranged, self.n = exact(L), arranged, len(L)
        self.w = exact(W[:, arranged])
        self.rows = [exponent(w) for w in self.w]
        self.columns = [exponent(c) for c in columns_of(self.L)]
        widest = min(23, (56 - (self.n - 1).bit_length()) // 2)
        for self.p in range(widest, 12, -1):
            try:
                self.run()
                return
            except TooFine:
                continue
        raise TooFine

    def run(self) -> None:
        p, n, a = self.p, self.n, len(self.W)
        self.M = [
            [cut(x / F(2) ** e, p, 2) for x, e in zip(row, self.columns, strict=True)]
            for row in self.L
        ]
        G = [[[0, 0] for _ in range(n)] for _ in range(a)]
        bound = [[0, 0] for _ in range(n)]
        self.codes, self.values = [[0] * n for _ in range(a)], [[F(0)] * n for _ in range(a)]
        size, block = self.grouping.size or n, self.grouping.block_size
        self.scale: list[np.ndarray] = [np.zeros(0)] * -(-n // size)
        self.zero: list[np.ndarray] = [np.zeros(0)] * -(-n // size)
        if self.grouping.size is None or self.grouping.static:
            for g in range(len(self.scale)):
                self.scale[g], self.zero[g] = find_grid(
                    NUMPY, self.W, g * size, min((g + 1) * size, n), self.form
                )
        for place in range(n):
            k = n - 1 - place
            if self.grouping.size is not None and not self.grouping.static and place % block == 0:
                self.fit(G, bound, place, min(place + block, n), size)
            g = place // size if self.grouping.static is False else int(self.arranged[k]) // size
            for i in range(a):
                v = r(self.w[i][k] + self.update(G[i][k], i, k))
                self.codes[i][k], self.values[i][k] = self.decide(
                    v, F(float(self.scale[g][i])), int(self.zero[g][i])
                )
            errors = [r(self.w[i][k] - self.values[i][k]) for i in range(a)]
            self.feed(G, k, errors, range(k), bound)

    def update(self, g: list[int], i: int, k: int) -> F:
        sum_ = r(g[0] + F(g[1], 2**self.p)) * F(2) ** (self.columns[k] - 2 * self.p + self.rows[i])
        return r(sum_ / self.L[k][k])

    def feed(self, G, k: int, errors: list[F], over: range, bound) -> None:
        E = [cut(x / F(2) ** e, self.p, 2) for x, e in zip(errors, self.rows, strict=True)]
        for j in over:
            M = self.M[k][j]
            for i, e in enumerate(E):
                G[i][j][0] += e[0] * M[0]
                G[i][j][1] += e[0] * M[1] + e[1] * M[0]
            largest = [max(abs(e[s]) for e in E) for s in (0, 1)]
            bound[j][0] += largest[0] * abs(M[0])
            bound[j][1] += largest[0] * abs(M[1]) + largest[1] * abs(M[0])
            if max(bound[j]) >= LIMIT:
                raise TooFine

    def fit(self, G, bound, first: int, end: int, size: int) -> None:
        """The grids of all groups that begin in a block, from the updated weights."""
        begun = [start for start in range(0, self.n, size) if first <= start < end]
        if not begun:
            return
        last, n = min(begun[-1] + size, self.n), self.n
        now = np.zeros((len(self.W), last - first))
        left = [[list(g) for g in row] for row in G]
        solved = [list(b) for b in bound]
        for place in range(first, last):
            k = n - 1 - place
            F_k = [self.update(row[k], i, k) for i, row in enumerate(left)]
            now[:, place - first] = [float(self.w[i][k] + f) for i, f in enumerate(F_k)]
            self.feed(left, k, [-f for f in F_k], range(n - last, k), solved)
        for start in begun:
            fitted = find_grid(NUMPY, now, start - first, min(start + size, n) - first, self.form)
            self.scale[start // size], self.zero[start // size] = fitted

    def decide(self, v: F, scale: F, zero: int) -> tuple[int, F]:
        level = r(v / scale)
        if self.form.name == "int":
            code = min(max(round(level) + zero, 0), self.form.maximum)
            return code, r(scale * (code - zero))
        code = FORMATS[self.form.name].nearest(np.array([float(level)]))
        return int(code[0]), r(scale * F(float(FORMATS[self.form.name].values(code, float)[0])))


def cholesky(H: np.ndarray, panel: int = 32) -> list[list[float]]:
    n = len(H)
    h = exact(H)
    b = (53 - (3 * n - 1).bit_length()) // 2
    e = [exponent([F(math.sqrt(float(h[i][i])))]) for i in range(n)]
    L = [[F(0)] * n for _ in range(n)]
    S: list[dict[int, list[int]]] = [{} for _ in range(n)]
    for start in range(0, n, panel):
        stop = min(start + panel, n)
        for j in range(start, stop):
            for i in range(j, n):
                P = [0, 0, 0]
                for k in range(start):
                    for s in range(3):
                        P[s] += sum(S[i][k][q] * S[j][k][s - q] for q in range(s + 1))
                if start:
                    inner = r(P[1] + F(P[2], 2**b))
                    sum_ = r(P[0] + inner / 2**b) * F(2) ** (e[i] + e[j] - 2 * b)
                    h[i][j] = r(h[i][j] - sum_)
        for k in range(start, stop):
            L[k][k] = F(math.sqrt(float(h[k][k])))
            for i in range(k + 1, n):
                L[i][k] = r(h[i][k] / L[k][k])
            for j in range(k + 1, stop):
                for i in range(j, n):
                    h[i][j] = r(h[i][j] - r(L[i][k] * L[j][k]))
        for i in range(n):
            for k in range(start, stop):
                S[i][k] = cut(L[i][k] / F(2) ** e[i], b, 3)
    return [[float(x) for x in row] for row in L]
