"""One step of a packed tile at a time: the same operation on all its lanes, as vector instructions.

Like the micro-kernel (`tiles`) these are vector instructions of LLVM without any fast-math
flag. As loops they would be left to the compiler, which is content with half a register.

Each takes pairs (array, offset of the first lane), then numbers. The arrays are of one dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .tiles import intrinsic, ir, tile_lanes, types, vector_lanes

Emit = Callable[[Any, list[Any], list[Any]], list[Any]]


def _lanewise(arrays: int, given: Sequence[Any], emit: Emit) -> tuple[Any, Any]:
    """Signature and code of an operation on one vector of each array and on broadcast numbers.

    `emit(builder, vectors, numbers)` returns the vectors to store, of the first arrays on.
    """
    scalar = given[0].dtype
    kinds = [kind for at in range(arrays) for kind in (given[2 * at], types.intp)]
    kinds += [scalar] * (len(given) - len(kinds))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size, count = scalar.bitwidth // 8, tile_lanes(str(scalar))
        width = vector_lanes(str(scalar))
        vector = ir.VectorType(context.get_value_type(scalar), width)
        undefined, lane = ir.Constant(vector, ir.Undefined), ir.IntType(32)
        first_lane = ir.Constant(ir.VectorType(lane, width), [0] * width)

        def at(pointer: Any, offset: Any) -> Any:
            return builder.gep(pointer, [offset], inbounds=True)

        def broadcast(number: Any) -> Any:
            single = builder.insert_element(undefined, number, lane(0))
            return builder.shuffle_vector(single, undefined, first_lane)

        numbers = [broadcast(number) for number in arguments[2 * arrays :]]
        firsts = [
            at(context.make_array(kind)(context, builder, array).data, offset)
            for kind, array, offset in zip(
                kinds[: 2 * arrays : 2], arguments[::2], arguments[1::2], strict=False
            )
        ]
        for start in range(0, count, width):
            places = [
                builder.bitcast(at(first, ir.IntType(64)(start)), vector.as_pointer())
                for first in firsts
            ]
            vectors = [builder.load(place, align=size) for place in places]
            for place, result in zip(places, emit(builder, vectors, numbers), strict=False):
                builder.store(result, place, align=size)
        return context.get_dummy_value()

    return types.void(*kinds), generate


@intrinsic
def copy_step(_: Any, x: Any, at: Any, y: Any, y_at: Any, sign: Any) -> Any:
    """x ← sign·y."""
    return _lanewise(2, (x, at, y, y_at, sign), lambda builder, v, s: [builder.fmul(s[0], v[1])])


@intrinsic
def scale_step(_: Any, x: Any, at: Any, factor: Any) -> Any:
    """x ← x·f."""
    return _lanewise(1, (x, at, factor), lambda builder, v, f: [builder.fmul(v[0], f[0])])


@intrinsic
def divide_step(_: Any, x: Any, at: Any, divisor: Any) -> Any:
    """x ← x/d."""
    return _lanewise(1, (x, at, divisor), lambda builder, v, d: [builder.fdiv(v[0], d[0])])


@intrinsic
def add_step(_: Any, x: Any, at: Any, y: Any, y_at: Any) -> Any:
    """x ← x + y."""
    return _lanewise(2, (x, at, y, y_at), lambda builder, v, _: [builder.fadd(v[0], v[1])])


@intrinsic
def round_step(
    _: Any, y: Any, at: Any, z: Any, z_at: Any, zy: Any, zy_at: Any, zz: Any, zz_at: Any, c: Any
) -> Any:
    """z = rint(y/c) + 0 is written, also in place of y, and z·y and z·z; -0.0 becomes +0.0."""

    def emit(builder: Any, v: list[Any], c: list[Any]) -> list[Any]:
        vector = v[0].type
        name = f"llvm.rint.v{vector.count}{vector.element.intrinsic_name}"
        rint = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(vector, [vector]))
        rounded = builder.call(rint, [builder.fdiv(v[0], c[0])])
        z = builder.fadd(rounded, ir.Constant(vector, [0.0] * vector.count))
        return [z, z, builder.fmul(z, v[0]), builder.fmul(z, z)]

    return _lanewise(4, (y, at, z, z_at, zy, zy_at, zz, zz_at, c), emit)
