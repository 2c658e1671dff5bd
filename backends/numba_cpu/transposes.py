"""A block of a matrix turned in registers: rows become lanes, or lanes rows, without scalar moves.

A block has as many rows as a vector has lanes, W. It is turned in log2 W rounds; the round of
distance d takes the rows i and i + d (i without the bit d) and exchanges their corners:

    a0 a1 | a2 a3        a0 a1 | c0 c1
    b0 b1 | b2 b3        b0 b1 | d0 d1
    -----------    →     -----------        d = 2; the next round, d = 1, does the same in each
    c0 c1 | c2 c3        a2 a3 | c2 c3      corner
    d0 d1 | d2 d3        b2 b3 | d2 d3

Like the micro-kernel (`tiles`) these are vector instructions of LLVM. Offsets and strides
count elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .tiles import intrinsic, ir, types, vector_lanes

Emit = Callable[[Any, list[Any], Any], tuple[list[Any], Any]]


def _side(_: Any, array: Any) -> Any:
    """W for an array's dtype, as a constant of the compiled code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.intp, vector_lanes(str(signature.args[0].dtype)))

    return types.intp(array), generate


side = intrinsic(_side)


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square block."""
    count, lane = len(rows), ir.IntType(32)
    kind, distance = ir.VectorType(lane, count), count // 2
    while distance > 0:
        # Lane j of the pair (x, y) is j in x and count + j in y.
        near = [j if not j & distance else count + j - distance for j in range(count)]
        far = [j + distance if not j & distance else count + j for j in range(count)]
        turned = list(rows)
        for i in range(count):
            if not i & distance:
                x, y = rows[i], rows[i + distance]
                turned[i] = builder.shuffle_vector(x, y, ir.Constant(kind, near))
                turned[i + distance] = builder.shuffle_vector(x, y, ir.Constant(kind, far))
        rows, distance = turned, distance // 2
    return rows


class _Places:
    """Where the rows of a block lie: vectors from an offset on, a stride apart."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any, at: Any) -> None:
        self._builder, self._size = builder, kind.dtype.bitwidth // 8
        self._vector = ir.VectorType(
            context.get_value_type(kind.dtype), vector_lanes(str(kind.dtype))
        )
        offset, self._stride = at
        data = context.make_array(kind)(context, builder, array).data
        self._first = builder.gep(data, [offset], inbounds=True)

    def _at(self, i: int, count: int) -> Any:
        ahead = self._builder.mul(self._stride, ir.IntType(64)(i))
        place = self._builder.gep(self._first, [ahead], inbounds=True)
        scalar = self._vector.element
        return self._builder.bitcast(place, ir.VectorType(scalar, count).as_pointer())

    def load(self, count: int) -> list[Any]:
        return [self._builder.load(self._at(i, count), align=self._size) for i in range(count)]

    def store(self, rows: list[Any]) -> None:
        for i, row in enumerate(rows):
            self._builder.store(row, self._at(i, len(rows)), align=self._size)


def _turning(source: Any, target: Any, given: Sequence[Any], result: Any, emit: Emit) -> Any:
    """Signature and code of target[j, i] ← source[i, j] for one block.

    `emit(builder, rows, numbers)` gets the turned rows and the arguments `given`; it returns what
    to store, and a value of the type `result`.
    """
    index = types.intp

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = vector_lanes(str(source.dtype))
        rows = _Places(context, builder, source, arguments[0], arguments[1:3]).load(count)
        turned, value = emit(builder, _turned(builder, rows), arguments[6:])
        _Places(context, builder, target, arguments[3], arguments[4:6]).store(turned)
        return context.get_dummy_value() if value is None else value

    return result(source, index, index, target, index, index, *given), generate


@intrinsic
def turn(
    _: Any,
    source: Any,
    source_at: Any,
    source_stride: Any,
    target: Any,
    target_at: Any,
    target_stride: Any,
    sign: Any,
) -> Any:
    """target[j, i] ← sign·source[i, j] for a block of floats."""

    def emit(builder: Any, rows: list[Any], numbers: Any) -> tuple[list[Any], None]:
        vector, lane = rows[0].type, ir.IntType(32)
        undefined = ir.Constant(vector, ir.Undefined)
        single = builder.insert_element(undefined, numbers[0], lane(0))
        zeros = ir.Constant(ir.VectorType(lane, vector.count), [0] * vector.count)
        signs = builder.shuffle_vector(single, undefined, zeros)
        return [builder.fmul(signs, row) for row in rows], None

    return _turning(source, target, [source.dtype], types.void, emit)


@intrinsic
def turn_codes(
    _: Any,
    source: Any,
    source_at: Any,
    source_stride: Any,
    target: Any,
    target_at: Any,
    target_stride: Any,
) -> Any:
    """target[j, i] ← source[i, j] for a block of whole numbers kept as floats, to int32.

    Returns whether all of them fit; one that does not becomes 0.
    """

    def emit(builder: Any, rows: list[Any], numbers: Any) -> tuple[list[Any], Any]:
        kind, count = rows[0].type, rows[0].type.count
        low, high = (ir.Constant(kind, [end] * count) for end in (-2147483648.0, 2147483648.0))
        codes, fit = [], ir.Constant(ir.VectorType(ir.IntType(1), count), [True] * count)
        for row in rows:
            fits = builder.and_(
                builder.fcmp_ordered(">=", row, low), builder.fcmp_ordered("<", row, high)
            )
            fit = builder.and_(fit, fits)
            inside = builder.select(fits, row, ir.Constant(kind, [0.0] * count))
            codes.append(builder.fptosi(inside, ir.VectorType(ir.IntType(32), count)))
        mask = builder.bitcast(fit, ir.IntType(count))
        return codes, builder.icmp_unsigned("==", mask, ir.IntType(count)(2**count - 1))

    return _turning(source, target, [], types.boolean, emit)
