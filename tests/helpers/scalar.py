"""The arithmetic contract once more, one number at a time, for any kind of number.

Matrices are lists of rows. `kind` is `float`, `numpy.float32`, one of the correctly rounded kinds
of `rational`, or `Fraction` (exact, without square roots). Nothing here is vectorised, blocked or
shared with the package: it is the table of orders, read aloud.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .rational import Binary, Binary32, Binary64

Number = Any
Row = list[Number]
Rows = list[Row]
Decide = Callable[[Row, Number, int], tuple[list[int], Row, Number]]

FLOATING = {np.dtype(np.float64): float, np.dtype(np.float32): np.float32}
ROUNDED = {np.dtype(np.float64): Binary64, np.dtype(np.float32): Binary32}


class NotPositive(Exception):
    """(pivot, value)"""


class Overflow(Exception):
    """(row, column, value)"""


def lists(array: NDArray, kind: type) -> Any:
    """The array as nested lists of `kind`; exact."""
    if array.ndim == 0:
        return kind(float(array))
    return [lists(part, kind) for part in array]


def array(values: Any, dtype: DTypeLike, shape: tuple[int, ...] | None = None) -> NDArray:
    """Nested lists as an array; exact."""
    result = np.array(values, dtype)
    return result if shape is None else result.reshape(shape)


def exact(x: Number) -> Fraction:
    return x.value if isinstance(x, Binary) else Fraction(x if isinstance(x, int) else float(x))


def sqrt(x: Number) -> Number:
    if isinstance(x, Binary):
        return x.sqrt()
    return np.sqrt(x) if isinstance(x, np.float32) else math.sqrt(x)


def transpose(A: Rows) -> Rows:
    return [list(column) for column in zip(*A, strict=True)]


# Sums and products -------------------------------------------------------------------------------


def tree_sum(x: Row, kind: type) -> Number:
    if not x:
        return kind(0)
    sums = []
    for start in range(0, len(x), 512):
        chunk = x[start : start + 512]
        while len(chunk) & (len(chunk) - 1):
            chunk.append(kind(0))
        m = len(chunk)
        while m > 1:
            m //= 2
            for i in range(m):
                chunk[i] = chunk[i] + chunk[i + m]
        sums.append(chunk[0])
    return tree_sum(sums, kind) if len(sums) > 1 else sums[0] + kind(0)


def inner(x: Row, y: Row, kind: type) -> Number:
    return tree_sum([a * b for a, b in zip(x, y, strict=True)], kind)


def matmul(A: Rows, B: Rows, kind: type) -> Rows:
    C = []
    for row in A:
        C.append([])
        for j in range(len(B[0])):
            c = kind(0)
            for k in range(len(B)):
                c = c + row[k] * B[k][j]
            C[-1].append(c)
    return C


def accumulate(total: Rows, X: Rows, Y: Rows, weights: Row | None) -> Rows:
    result = [row[:] for row in total]
    for i, row in enumerate(result):
        for j in range(len(row)):
            for t in range(len(X)):
                term = X[t][i] * Y[t][j]
                row[j] = row[j] + (term if weights is None else weights[t] * term)
    return result


# Triangular factors ------------------------------------------------------------------------------


def cholesky(H: Rows, kind: type) -> Rows:
    n = len(H)
    L = [[kind(0)] * n for _ in range(n)]
    for j in range(n):
        for i in range(j, n):
            h = H[i][j]
            for k in range(j):
                h = h - L[i][k] * L[j][k]
            if i > j:
                L[i][j] = h / L[j][j]
            elif 0.0 < float(h) < math.inf:
                L[j][j] = sqrt(h)
            else:
                raise NotPositive(j, float(h))
    return L


def solve(T: Rows, L: Rows) -> Rows:
    """X with X Lᵀ = T."""
    X = []
    for row in T:
        x: Row = []
        for j, t in enumerate(row):
            for k in range(j):
                t = t - x[k] * L[j][k]
            x.append(t / L[j][j])
        X.append(x)
    return X


def solve_reversed(T: Rows, L: Rows) -> Rows:
    """X with X L = T: the columns of T reversed, L reversed in both directions and transposed."""
    reversed_factor = transpose([row[::-1] for row in L[::-1]])
    return [row[::-1] for row in solve([row[::-1] for row in T], reversed_factor)]


def hadamard(A: Rows, base: list[list[int]], kind: type) -> Rows:
    result = []
    for row in A:
        x, m = row[:], len(base)
        length = len(x) // m
        distance = 1
        while distance < length:
            for i in range(len(x)):
                if i % length & distance == 0:
                    x[i], x[i + distance] = x[i] + x[i + distance], x[i] - x[i + distance]
            distance *= 2
        if m > 1:
            mixed, x = x, []
            for place in range(len(mixed)):
                j, i = divmod(place, length)
                c = kind(0)
                for k in range(m):
                    term = mixed[k * length + i]
                    c = c + term if base[k][j] > 0 else c - term
                x.append(c)
        result.append(x)
    return result


# Quantisation ------------------------------------------------------------------------------------


def code(x: Number, row: int, column: int) -> int:
    """rint(x) as a 32-bit code."""
    if not isinstance(x, (Binary, Fraction)) and not math.isfinite(x):
        raise Overflow(row, column, float(x))
    z = round(exact(x))
    if not -(2**31) <= z < 2**31:
        raise Overflow(row, column, float(z))
    return z


def sic(
    Y: Rows, L: Rows | None, decide: Decide, start: int, stop: int, kind: type
) -> tuple[Rows, list[list[int]], Row]:
    """What the loop leaves of Y, the codes of columns start … stop-1, and their gains."""
    Y = [row[:] for row in Y]
    codes: list[list[int]] = [[] for _ in Y]
    gains: Row = []
    for k in range(stop - 1, start - 1, -1):
        diagonal = kind(1) if L is None else L[k][k]
        decided, values, gain = decide([row[k] for row in Y], diagonal, k)
        gains.insert(0, gain)
        for i, row in enumerate(Y):
            codes[i].insert(0, decided[i])
            row[k] = values[i]
            for j in range(k if L is not None else 0):
                row[j] = row[j] - values[i] * L[k][j]
    return Y, codes, gains


def uniform_lattice(spacing: Number) -> Decide:
    def decide(y: Row, l: Number, k: int) -> tuple[list[int], Row, Number]:
        codes = [code(v / l / spacing, i, k) for i, v in enumerate(y)]
        return codes, [type(spacing)(z) * spacing for z in codes], 1

    return decide


def scaled_lattice(step: Number, spacing: Row, lmmse: bool) -> Decide:
    kind = type(step)

    def decide(y: Row, l: Number, k: int) -> tuple[list[int], Row, Number]:
        codes = [code(v / step, i, k) for i, v in enumerate(y)]
        z = [kind(c) for c in codes]
        gain = kind(1)
        if lmmse and any(codes):
            gain = inner(z, y, kind) / inner(z, z, kind) / step
        elif lmmse:
            gain = kind(0)
        return codes, [c * (gain * spacing[k]) for c in z], gain

    return decide


def affine_grid(scale: Rows, zero: list[list[int]], group: list[int], maximum: int) -> Decide:
    def decide(y: Row, l: Number, k: int) -> tuple[list[int], Row, Number]:
        codes, values = [], []
        for i, v in enumerate(y):
            s, z = scale[i][group[k]], zero[i][group[k]]
            level = v / l / s
            finite = isinstance(level, (Binary, Fraction)) or math.isfinite(level)
            # Whole numbers in place of clamped floating-point numbers: the same codes.
            codes.append(
                min(max(round(exact(level)) + z, 0), maximum) if finite else code(level, i, k)
            )
            values.append(s * type(s)(codes[-1] - z))
        return codes, values, 1

    return decide


def affine_error(x: Row, scale: Number, zero: int, maximum: int) -> Number:
    """Σ d·d·√d over the row."""
    kind = type(scale)
    decide = affine_grid([[scale]], [[zero]], [0], maximum)
    errors = []
    for v in x:
        d = abs(decide([v], kind(1), 0)[1][0] - v)
        errors.append(d * d * sqrt(d))
    return tree_sum(errors, kind)


def magnitudes(exponent_bits: int, mantissa_bits: int, bias: int, count: int) -> list[Fraction]:
    """The first `count` magnitudes of a small float format, by the definition of its fields."""
    assert count <= 2 ** (exponent_bits + mantissa_bits)
    found = []
    for pattern in range(count):
        e, f = divmod(pattern, 2**mantissa_bits)
        significand = Fraction(f, 2**mantissa_bits) + (e > 0)
        found.append(significand * Fraction(2) ** (max(e, 1) - bias))
    return found


def nearest(x: Fraction, values: list[Fraction]) -> int:
    """The code of the nearest value, ties to the even one, beyond the largest that one."""
    above = bisect_left(values, abs(x))
    candidates = [p for p in (above - 1, above) if 0 <= p < len(values)]
    best = min(candidates, key=lambda p: (abs(abs(x) - values[p]), p % 2))
    return -best if x < 0 else best


def float_grid(scale: Rows, group: list[int], values: list[Fraction]) -> Decide:
    def decide(y: Row, l: Number, k: int) -> tuple[list[int], Row, Number]:
        codes, decided = [], []
        for i, v in enumerate(y):
            s = scale[i][group[k]]
            level = v / l / s
            if not isinstance(level, (Binary, Fraction)) and not math.isfinite(level):
                raise Overflow(i, k, float(level))
            codes.append(nearest(exact(level), values))
            value = values[abs(codes[-1])]
            decided.append(s * type(s)(float(-value if codes[-1] < 0 else value)))
        return codes, decided, 1

    return decide
