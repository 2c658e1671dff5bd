"""The element-wise passes of a decoder as compiled loops: NumPy's BLAS between them, the same bits.

`reference.decoder` says what each pass computes; here one loop does a whole pass, row by row, in
the cache. Nothing is fused or reordered that rounds: sums are of integers, and exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.decoder.attention import WEIGHT_BITS
from ...reference.decoder.exponential import BITS, COEFFICIENTS, LOG2_E, LOWEST, UNIT
from ...reference.decoder.integers import LEAST, Linear, share, units
from ...reference.decoder.passes import Passes
from ...reference.decoder.rotary import QUERY_BITS
from . import blas
from .compiler import Array, serial, task
from .threads import share as share_work
from .tiles import intrinsic, ir, types

ROWS = 16
LIMIT = LOWEST * UNIT
TO_WEIGHTS = 2.0 ** (WEIGHT_BITS - BITS)
C0, C1, C2, C3, C4, C5, C6, C7 = COEFFICIENTS
MAGIC = 1.5 * 2.0**52
"""Added to a small whole number it leaves that number in the lowest bits."""
ONE = np.int64(1023) << np.int64(52)


@intrinsic
def bits_of(_: Any, number: Any) -> Any:
    """The bits of a float64 as an int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def number_of(_: Any, bits: Any) -> Any:
    """The float64 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), generate


@serial
def power_of_two(t: float) -> float:
    """`exponential.power_of_two`."""
    u = max(t, LIMIT) * (1.0 / UNIT)
    k = np.rint(u)
    r = u - k
    p = np.rint(C7 * r) + C6
    p = np.rint(p * r) + C5
    p = np.rint(p * r) + C4
    p = np.rint(p * r) + C3
    p = np.rint(p * r) + C2
    p = np.rint(p * r) + C1
    p = np.rint(p * r) + C0
    return p * number_of((bits_of(k + MAGIC) << np.int64(52)) + ONE)


@serial
def inverse_unit(largest: float, bits: int) -> float:
    """1/u of `integers.units`; what is refused there is refused by the caller."""
    _, exponent = math.frexp(largest)
    return math.ldexp(1.0, bits - max(exponent, LEAST))


@serial
def largest_of(x: Array) -> float:
    """max |x|; NaN if there is one."""
    largest = 0.0
    for value in x:
        size = abs(value)
        if size > largest or size != size:
            largest = size
    return largest


@task
def grid_rows(block: int, x: Array, bits: int, m: Array, largest: Array) -> None:
    """`integers.grid` of some rows."""
    for row in range(block * ROWS, min(len(x), (block + 1) * ROWS)):
        top = largest_of(x[row])
        largest[row] = top
        scale = inverse_unit(top, bits)
        for i in range(x.shape[1]):
            m[row, i] = np.rint(x[row, i] * scale)


@task
def rescale_rows(
    block: int,
    sums: Array,
    unit: Array,
    column_unit: Array,
    bias: Array,
    residual: Array,
    has_bias: bool,
    has_residual: bool,
) -> None:
    """`Passes.rescale` of some rows, in place."""
    for row in range(block * ROWS, min(len(sums), (block + 1) * ROWS)):
        u = unit[row]
        if has_bias:
            for j in range(sums.shape[1]):
                sums[row, j] = ((sums[row, j] + 0.0) * u) * column_unit[j] + bias[j]
        else:
            for j in range(sums.shape[1]):
                sums[row, j] = ((sums[row, j] + 0.0) * u) * column_unit[j]
        if has_residual:
            for j in range(sums.shape[1]):
                sums[row, j] = residual[row, j] + sums[row, j]


@task
def norm_rows(
    block: int, x: Array, gain: Array, epsilon: float, bits: int, y: Array, largest: Array
) -> None:
    """`normalization.rms_norm` of some rows."""
    n = x.shape[1]
    for row in range(block * ROWS, min(len(x), (block + 1) * ROWS)):
        top = largest_of(x[row])
        largest[row] = top
        scale = inverse_unit(top, bits)
        square = 0.0
        for i in range(n):
            m = np.rint(x[row, i] * scale)
            square += m * m
        unit = 1.0 / scale
        norm = 1.0 / np.sqrt((square / n) * (unit * unit) + epsilon)
        for i in range(n):
            y[row, i] = (x[row, i] * norm) * gain[i]


@task
def turn_rows(
    place: int, q: Array, cosine: Array, sine: Array, bits: int, y: Array, largest: Array
) -> None:
    """`rotary.rotate` of all positions of a head; `place` numbers batches and heads."""
    batch, head = place // q.shape[1], place % q.shape[1]
    half = q.shape[3] // 2
    for t in range(q.shape[2]):
        top = largest_of(q[batch, head, t])
        largest[batch, head, t] = top
        scale = inverse_unit(top, bits)
        unit = 1.0 / scale
        for i in range(half):
            a = np.rint(q[batch, head, t, i] * scale)
            b = np.rint(q[batch, head, t, half + i] * scale)
            y[batch, head, t, i] = (a * cosine[t, i] - b * sine[t, i]) * unit
            y[batch, head, t, half + i] = (b * cosine[t, i] + a * sine[t, i]) * unit


@serial
def weigh(s: Array, factor: float, unit: Array) -> float:
    """`attention.attention_weights` of one query over the keys that it sees."""
    n = len(s)
    for j in range(n):
        s[j] = np.rint((s[j] * factor) * unit[j])
    whole = n - n % 4
    a, b, c, d = s[0], s[0], s[0], s[0]
    for j in range(0, whole, 4):
        a, b = max(a, s[j]), max(b, s[j + 1])
        c, d = max(c, s[j + 2]), max(d, s[j + 3])
    for j in range(whole, n):
        a = max(a, s[j])
    top = max(max(a, b), max(c, d))
    for j in range(n):
        s[j] = np.rint(power_of_two(s[j] - top) * TO_WEIGHTS)
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for j in range(0, whole, 4):
        a, b, c, d = a + s[j], b + s[j + 1], c + s[j + 2], d + s[j + 3]
    for j in range(whole, n):
        a += s[j]
    return (a + b) + (c + d)


@task
def weigh_rows(
    block: int, scores: Array, factor: Array, unit: Array, first: Array, stop: Array, sums: Array
) -> None:
    """Some queries: each sees the keys first … stop-1; the rest get 0."""
    for row in range(block * ROWS, min(len(scores), (block + 1) * ROWS)):
        i, j = first[row], stop[row]
        scores[row, :i] = 0.0
        scores[row, j:] = 0.0
        sums[row] = weigh(scores[row, i:j], factor[row], unit[i:j])


@task
def swiglu_rows(block: int, gate: Array, up: Array) -> None:
    """`feed_forward.swiglu` of some rows, in place of the gate."""
    for row in range(block * ROWS, min(len(gate), (block + 1) * ROWS)):
        for i in range(gate.shape[1]):
            g = gate[row, i]
            e = power_of_two(-np.rint((abs(g) * LOG2_E) * UNIT))
            upper = UNIT if g >= 0 else e
            gate[row, i] = (g * (upper / (UNIT + e))) * up[row, i]


@task
def exponential_rows(block: int, t: Array, scale: float, sums: Array) -> None:
    """`Passes.exponentials` of some rows."""
    for row in range(block * ROWS, min(len(t), (block + 1) * ROWS)):
        total = 0.0
        for i in range(t.shape[1]):
            total += np.rint(power_of_two(t[row, i]) * scale)
        sums[row] = total


def _blocks(rows: int) -> int:
    return -(-rows // ROWS)


class CompiledPasses(Passes):
    """`Passes` on NumPy arrays, each pass one compiled loop over all threads."""

    def __init__(self) -> None:
        super().__init__(np)

    def product(self, a: NDArray, b: NDArray) -> NDArray:
        return blas.product(a, b)

    def grid(self, x: NDArray, bits: int) -> tuple[NDArray, NDArray[np.float64]]:
        flat = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        m, largest = np.empty(flat.shape), np.empty(len(flat))
        share_work(grid_rows, _blocks(len(flat)), flat, bits, m, largest)
        return m.reshape(x.shape), units(largest, bits).reshape(*x.shape[:-1], 1)

    def rescale(
        self, sums: NDArray, unit: NDArray[np.float64], layer: Linear, residual: NDArray | None
    ) -> NDArray:
        flat, bias = sums.reshape(-1, sums.shape[-1]), layer.bias
        add = flat if residual is None else np.ascontiguousarray(residual).reshape(flat.shape)
        share_work(
            *(rescale_rows, _blocks(len(flat)), flat, unit.reshape(-1), layer.unit),
            *(layer.unit if bias is None else bias, add, bias is not None, residual is not None),
        )
        return sums

    def rms_norm(self, x: NDArray, gain: NDArray, epsilon: float) -> NDArray:
        flat = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        y, largest = np.empty(flat.shape), np.empty(len(flat))
        bits = share(x.shape[-1])[1]
        share_work(norm_rows, _blocks(len(flat)), flat, gain, epsilon, bits, y, largest)
        units(largest, bits)  # refuses what is not finite
        return y.reshape(x.shape)

    def rotate(self, q: NDArray, cosine: NDArray, sine: NDArray) -> NDArray:
        y, largest = np.empty(q.shape), np.empty(q.shape[:-1])
        share_work(turn_rows, q.shape[0] * q.shape[1], q, cosine, sine, QUERY_BITS, y, largest)
        units(largest, QUERY_BITS)  # refuses what is not finite
        return y

    def attention_weights(
        self, scores: NDArray, factor: NDArray, unit: NDArray, seen: NDArray[np.bool_]
    ) -> tuple[NDArray, NDArray]:
        shared, queries, keys = scores.shape
        first = np.tile(np.argmax(seen, axis=1), shared)
        stop = keys - np.tile(np.argmax(seen[:, ::-1], axis=1), shared)
        sums, flat = np.empty(shared * queries), scores.reshape(-1, keys)
        share_work(
            *(weigh_rows, _blocks(len(flat)), flat, np.ascontiguousarray(factor).reshape(-1)),
            *(unit, first, stop, sums),
        )
        return scores, sums.reshape(shared, queries, 1)

    def swiglu(self, gate: NDArray, up: NDArray) -> NDArray:
        flat = gate.reshape(-1, gate.shape[-1])
        share_work(swiglu_rows, _blocks(len(flat)), flat, up.reshape(flat.shape))
        return gate

    def exponentials(self, t: NDArray, bits: int) -> NDArray:
        sums, scale = np.empty(len(t)), float(np.ldexp(1.0, bits - BITS))
        share_work(exponential_rows, _blocks(len(t)), t, scale, sums)
        return sums
