"""The micro-kernel: one tile of open numbers from which products are subtracted, in registers.

    open[r, l] ← open[r, l] - vectors[k, l]·factors[k, r]      for k = 0, 1, 2, …, in this order

for 8 rows r and `lanes` neighbouring l. The tile is read once, stays in vector registers for all k
and is written once; each element keeps its own chain, one rounding for the product and one for the
difference. It is written as vector instructions of LLVM without any fast-math flag, so nothing may
be fused or reordered. A loop in Python would leave the choice of registers to the compiler and
reach three quarters of the speed.

Everything in this backend that costs n³ is this kernel. A sum is a difference of negated numbers:
c + a·b = c - (-a)·b bit for bit, signs of zeros included, so one kernel serves both.

**Packed operands.** `vectors` come from a buffer of tiles, tile t holding for each step k its
`lanes` numbers side by side: element (k, l) of tile t is at (t·depth + k)·lanes + l. `factors` are
read one by one, 8 neighbours a step, so they may come from such a buffer too (a tile has lanes/8
groups of 8). Both may come from the rows of a small matrix.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

ir: Any = import_module("llvmlite.ir")
types: Any = import_module("numba").types
target: Any = import_module("numba.core.registry").cpu_target.target_context
intrinsic: Any = import_module("numba.extending").intrinsic

ROWS = 8


def _registers() -> tuple[int, int]:
    """(bytes of a vector register, vectors in a row of the tile) on the processor compiled for.

    The features are those by which Numba compiles and keeps its cache, so a setting like
    NUMBA_CPU_FEATURES is followed. With 32 registers two vectors in each of 8 rows fit, else one.
    """
    triple, _, features = target.codegen().magic_tuple()
    present = set(features.split(","))
    if "+avx512f" in present:
        return 64, 2
    if "+avx2" in present:
        return 32, 1
    return 16, 2 if triple.startswith(("aarch64", "arm64")) else 1


VECTOR_BYTES, VECTORS = _registers()


def vector_lanes(dtype: DTypeLike) -> int:
    """How many numbers a vector register holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def tile_lanes(dtype: DTypeLike) -> int:
    """How many neighbours a packed tile holds: a power of two from 8 to 32."""
    return max(ROWS, VECTORS * vector_lanes(dtype))


def _lanes(typing_context: Any, array: Any) -> Any:
    """`tile_lanes` of an array's dtype, as a constant of the compiled code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = tile_lanes(str(signature.args[0].dtype))
        return context.get_constant(types.intp, count)

    return types.intp(array), generate


lanes = intrinsic(_lanes)


def _micro_kernel(rows: int, weighted: bool = False) -> Any:
    """The micro-kernel for a number of rows; `weighted` multiplies each product by weights[k]."""

    def kernel(
        typing_context: Any,
        open_: Any,  # array of any shape, C-contiguous, like all arrays here
        offset: Any,  # of the tile's first element, counted in elements
        stride: Any,  # from one row of the tile to the next
        vectors: Any,
        vectors_offset: Any,
        vectors_stride: Any,  # from one step to the next
        factors: Any,
        factors_offset: Any,
        factors_stride: Any,  # from one step to the next
        steps: Any,
        weights: Any,  # one number a step; anything where the kernel has no weights
    ) -> Any:
        index = types.intp
        signature = types.void(
            *(open_, index, index),
            *(vectors, index, index),
            *(factors, index, index),
            *(index, weights),
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            dtype = signature.args[0].dtype
            pointers = {
                at: context.make_array(signature.args[at])(context, builder, arguments[at]).data
                for at in (0, 3, 6)
            }
            if weighted:
                pointers[10] = context.make_array(signature.args[10])(
                    context, builder, arguments[10]
                ).data
            count = tile_lanes(str(dtype))
            width = vector_lanes(str(dtype))
            held = min(count, VECTORS * width)
            for first in range(0, count, held):
                _tile(
                    builder,
                    context.get_value_type(dtype),
                    dtype.bitwidth // 8,
                    pointers,
                    arguments,
                    rows=rows,
                    width=width,
                    starts=range(first, first + held, width),
                    count=count,
                )
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(kernel)


def _prefetch(builder: Any, pointers: list[Any]) -> None:
    """Asks for what a walk from tile to tile along the rows needs next; changes no number."""
    byte, flag = ir.PointerType(), ir.IntType(32)
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = ir.Function(builder.module, kind, name)
    to_write, keep, data = flag(1), flag(3), flag(1)
    for pointer in pointers:
        builder.call(function, [builder.bitcast(pointer, byte), to_write, keep, data])


def _tile(
    builder: Any,
    scalar: Any,
    alignment: int,
    pointers: dict[int, Any],
    arguments: Any,
    rows: int,
    width: int,
    starts: range,
    count: int,
) -> None:
    """Emits the loop over k for the columns that fit in the registers at once."""
    _, offset, stride, _, vectors_offset, vectors_stride = arguments[:6]
    _, factors_offset, factors_stride, steps, _ = arguments[6:]
    vector = ir.VectorType(scalar, width)
    integer, lane = ir.IntType(64), ir.IntType(32)
    undefined = ir.Constant(vector, ir.Undefined)
    first_lane = ir.Constant(ir.VectorType(lane, width), [0] * width)

    def constant(value: int) -> Any:
        return ir.Constant(integer, value)

    def at(pointer: Any, *offsets: Any) -> Any:
        for each in offsets:
            pointer = builder.gep(pointer, [each], inbounds=True)
        return pointer

    def load(pointer: Any) -> Any:
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=alignment)

    def broadcast(pointer: Any) -> Any:
        single = builder.insert_element(undefined, builder.load(pointer), ir.Constant(lane, 0))
        return builder.shuffle_vector(single, undefined, first_lane)

    tile = [(row, start) for row in range(rows) for start in starts]
    row_pointers = [
        at(pointers[0], offset, builder.mul(stride, constant(row))) for row in range(rows)
    ]
    places = {(row, start): at(row_pointers[row], constant(start)) for row, start in tile}
    before = {place: load(places[place]) for place in tile}
    if rows == ROWS:
        ahead = [constant(count + start) for start in (starts[0], starts[-1])]
        _prefetch(builder, [at(row, place) for row in row_pointers for place in ahead])

    entry = builder.block
    loop = builder.append_basic_block("steps")
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", steps, constant(0)), loop, done)

    builder.position_at_end(loop)
    k = builder.phi(integer)
    k.add_incoming(constant(0), entry)
    open_ = {place: builder.phi(vector) for place in tile}
    for place in tile:
        open_[place].add_incoming(before[place], entry)
    step_vectors = at(pointers[3], vectors_offset, builder.mul(k, vectors_stride))
    step_factors = at(pointers[6], factors_offset, builder.mul(k, factors_stride))
    columns = {start: load(at(step_vectors, constant(start))) for start in starts}
    weight = broadcast(at(pointers[10], k)) if 10 in pointers else None
    after = {}
    for row in range(rows):
        factor = broadcast(at(step_factors, constant(row)))
        for start in starts:
            product = builder.fmul(columns[start], factor)
            if weight is not None:
                product = builder.fmul(weight, product)
            after[row, start] = builder.fsub(open_[row, start], product)
    following = builder.add(k, constant(1))
    k.add_incoming(following, loop)
    for place in tile:
        open_[place].add_incoming(after[place], loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)

    builder.position_at_end(done)
    for place in tile:
        result = builder.phi(vector)
        result.add_incoming(before[place], entry)
        result.add_incoming(after[place], loop)
        before[place] = result
    for place in tile:
        pointer = builder.bitcast(places[place], vector.as_pointer())
        builder.store(before[place], pointer, align=alignment)


subtract_tile = _micro_kernel(ROWS)
subtract_row = _micro_kernel(1)
subtract_weighted_tile = _micro_kernel(ROWS, weighted=True)
