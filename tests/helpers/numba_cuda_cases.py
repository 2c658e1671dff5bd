"""Runs every operation of the backend numba-cuda in Numba's simulator beside the oracle.

As a program (the simulator must be asked for before Numba is imported) it prints JSON: for each
operation the cases that ran, each with what differed ("" for nothing).
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator

import numpy as np

from waterlevel.reference import watersic
from waterlevel.reference.bases import hadamard
from waterlevel.reference.errors import CodeOverflow, NotPositiveDefinite, WaterlevelError
from waterlevel.reference.grids.codebooks import (
    AffineGrid,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from waterlevel.reference.grids.float_formats import FORMATS
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.golden.case import Index, load_index
from waterlevel.validate.golden.check import check_case

from .codebooks import KINDS, codebooks, far_grid
from .inputs import FLAVOURS, FLOATS, bell, integers, lower, numbers, positive_definite, same_bits
from .simulated_sharing import share_safely

# Around tiles and panels of four, groups of two rows, and blocks of sixteen threads.
SHAPES = ((1, 1), (3, 5), (3, 9))
GOLDEN_ELEMENTS = 100  # of the largest input of a golden case that runs here


def is_matrix(argument) -> bool:
    return isinstance(argument, np.ndarray) and argument.ndim == 2 and argument.dtype != np.int8


def outcome(backend, name, arguments):
    """What an operation returns or raises, and what it leaves of its matrices, all on the host."""
    own = [
        backend.from_host(argument, argument.dtype) if is_matrix(argument) else argument
        for argument in arguments
    ]
    try:
        result = getattr(backend, name)(*own)
    except CodeOverflow as error:
        return [np.array([error.row, error.column]), np.array(error.value)], str(error)
    except NotPositiveDefinite as error:
        return [np.array(error.pivot), np.array(error.value)], str(error)
    left = [
        backend.to_host(argument)
        for argument, given in zip(own, arguments, strict=True)
        if is_matrix(given)
    ]
    if name == "column_histograms":
        return [result.symbols, result.counts, result.offsets, *left], ""
    if name == "dtype":
        return [np.array(str(result)), *left], ""
    found = result if isinstance(result, tuple) else (result,)
    return [on_host(backend, part) for part in found if part is not None] + left, ""


def on_host(backend, part):
    try:
        return backend.to_host(part)
    except AttributeError:  # a number
        return np.asarray(part)


def difference(backend, name, *arguments) -> str:
    found, message = outcome(backend, name, arguments)
    expected, refusal = outcome(NUMPY, name, arguments)
    if message != refusal:
        return f"{message!r} instead of {refusal!r}"
    if len(found) != len(expected):
        return f"{len(found)} results instead of {len(expected)}"
    for part, other in zip(found, expected, strict=True):
        if other.dtype.kind == "U":
            if part != other:
                return f"{part} instead of {other}"
            continue
        try:
            same_bits(part, other)
        except AssertionError as error:
            return str(error) or f"{part.dtype}{part.shape}, not {other.dtype}{other.shape}"
    return ""


# Which arguments ------------------------------------------------------------------------------


def moves(dtype) -> Iterator[tuple]:
    for rows, columns in ((3, 5), (1, 17)):
        A = bell(rows, (rows, columns), dtype)
        A[0, 0] = -0.0
        codes = integers(1, -(2**31), 2**31 - 1, rows, columns).astype(np.int32)
        for matrix in (A, codes):
            yield "shape", matrix
            yield "dtype", matrix
            yield "to_host", matrix
            yield "transpose", matrix
            yield "take", matrix, np.array([rows - 1, 0]), np.array([columns - 1, 1, 1])
            yield "take", matrix, None, np.array([], np.int64)
            yield "take", matrix, None, None
            yield "scatter_columns", matrix, np.arange(columns)[::-1] + 1, columns + 2
            yield "zeros", rows, columns, matrix.dtype
            yield "convert", matrix, np.float64
            yield "convert", matrix, np.float32
        yield "convert", np.rint(A), np.int32
        yield "from_host", np.asfortranarray(A.astype(np.float16)), dtype
    yield "convert", numbers("subnormal", 1, (2, 9), dtype), np.float32
    H = bell(1, (5, 5), dtype)
    yield "diagonal", H
    yield "with_diagonal", H, bell(2, (5,), dtype)


def elements(dtype) -> Iterator[tuple]:
    for flavour in FLAVOURS:
        A, B = (numbers(flavour, key, (3, 6), dtype) for key in (1, 4))
        yield "multiply", A, B
        yield "combine", 0.3, A, -1.7, B
        yield "divide", A, 0.7
        yield "scale_rows", A, bell(5, (3,), dtype)
        yield "scale_columns", A, bell(6, (6,), dtype)
        yield "symmetrize", numbers(flavour, 7, (5, 5), dtype)
    # A product of this size with a sum behind it tells a fused multiply-add.
    epsilon = np.finfo(dtype).eps
    x = np.array([[1 + epsilon]], dtype)
    yield "combine", float(1 + epsilon), x, 1.0, -np.array([[1 + 2 * epsilon]], dtype)


def checks(dtype) -> Iterator[tuple]:
    for flavour in ("bell", "zeros"):
        A, H = (numbers(flavour, 1, shape, dtype) for shape in ((4, 7), (6, 6)))
        yield "find_nonfinite", A
        yield "largest_magnitude", A
        yield "row_extrema", A, 0, 7
        yield "row_extrema", A, 2, 3
        yield "find_asymmetry", H
        yield "find_asymmetry", H + H.T
        for value in (np.nan, np.inf, -np.inf):
            for place in ((0, 1), (3, 0), (2, 5)):
                B, G = A.copy(), H.copy()
                B[place] = G[place] = B[3, 6] = value
                yield "find_nonfinite", B
                yield "largest_magnitude", B
                yield "row_extrema", B, 0, 6
                yield "find_asymmetry", G


def products(dtype) -> Iterator[tuple]:
    for rows, steps, columns in ((1, 1, 1), (5, 9, 3), (4, 8, 4), (3, 0, 2), (0, 2, 3)):
        for flavour in ("wide", "zeros"):
            A, B = (
                numbers(flavour, 1, (rows, steps), dtype),
                numbers(flavour, 2, (steps, columns), dtype),
            )
            transposed = np.ascontiguousarray(A.T)
            yield "matmul", A, B
            yield "matmul_transposed", transposed, B
            total = numbers(flavour, 3, (rows, columns), dtype)
            yield "accumulate", total, transposed, B, None
            yield "accumulate", total, transposed, B, bell(4, (steps,), dtype)
    infinite = bell(1, (5, 6), dtype)
    infinite[1, 5] = np.inf
    yield "matmul", infinite, np.tril(bell(2, (6, 6), dtype))


def factors(dtype) -> Iterator[tuple]:
    for n in (1, 4, 9):
        H = positive_definite(n, n, dtype, spread=3)
        L, T = NUMPY.cholesky(H), bell(n, (3, n), dtype)
        yield "cholesky", H
        yield "solve", T, L
        yield "solve_reversed", T, L, 0, n
        yield "solve_reversed", T, L, n // 3, n - n // 4
    H = positive_definite(3, 9, dtype)
    H[np.triu_indices(9, 1)] = np.nan
    yield "cholesky", H
    for pivot, value in ((0, 0.0), (3, -1e-3), (4, np.nan), (6, np.inf)):
        H = positive_definite(2, 7, dtype)
        H[pivot, pivot] = value
        yield "cholesky", H


def sums(dtype) -> Iterator[tuple]:
    for shape in ((1, 1), (3, 33), (0, 3), (3, 0)):
        for flavour in ("wide", "zeros"):
            A, B = (numbers(flavour, key, shape, dtype) for key in (1, 4))
            yield "row_inner", A, B
            yield "column_inner", A, B
        if min(shape) > 0:
            scale = np.abs(bell(2, (shape[0],), dtype)) + dtype(0.125)
            zero = integers(3, -2, 17, shape[0]).astype(np.int32)
            yield "grid_error", bell(4, shape, dtype) * dtype(4), scale, zero, 15
            yield "grid_error", np.full(shape, np.inf, dtype), scale, zero, 15
    long = bell(5, (1, 1100), dtype)
    yield "row_inner", long, np.ones_like(long)
    yield "column_inner", long.T.copy(), long.T.copy()
    for largest, rows, columns in ((1, 9, 4), (2**31 - 1, 8, 3), (2, 1, 5), (1, 3, 0), (0, 7, 1)):
        yield "column_histograms", integers(6, -largest, largest, rows, columns).astype(np.int32)
    yield "column_histograms", np.array([[2**31 - 1], [-(2**31)], [2**31 - 1]], np.int32)


def transforms(dtype) -> Iterator[tuple]:
    for n in (1, 2, 8, 12, 24, 20):
        A = numbers("zeros", n, (2, n), dtype)
        yield "hadamard", A, hadamard.base_matrix(hadamard.base_order(n))


def cancellations(dtype) -> Iterator[tuple]:
    def cancel(Y, L, codebook, start, stop):
        return "sic", Y, np.full(Y.shape, -77, np.int32), L, codebook, start, stop

    for which in KINDS:
        for key, (rows, n) in enumerate(SHAPES):
            L = lower(key, n, dtype)
            codebook, _ = codebooks(key, rows, np.diag(L))[which]
            Y = numbers(("zeros", "ties", "wide")[key], key, (rows, n), dtype)
            yield cancel(Y, L, codebook, n // 4, n - n // 4)
        Y = bell(4, (rows, n), dtype)
        yield cancel(Y, L, codebook, 0, n)
        yield cancel(Y, None, codebook, 0, n)
    yield cancel(Y, None, far_grid(len(Y), Y.shape[1], dtype), 0, Y.shape[1])
    many = bell(3, (600, 2), dtype)  # more rows than one chunk of a sum holds
    yield cancel(many, lower(3, 2, dtype), ScaledLattice(0.3, np.ones(2, dtype), True), 0, 2)
    for form in FORMATS.values():
        exact = np.concatenate([form.magnitudes, form.midpoints, [2 * form.largest]])
        some = exact[:: max(1, len(exact) // 12)]
        near = np.concatenate([some, np.nextafter(some, 0), np.nextafter(some, np.inf)])
        Y = np.concatenate([near, -near]).astype(dtype)[None]
        group = np.zeros(Y.shape[1], np.int64)
        yield cancel(Y, None, FloatGrid(np.ones((1, 1), dtype), group, form), 0, Y.shape[1])
    yield from overflows(dtype, cancel)


def overflows(dtype, cancel) -> Iterator[tuple]:
    """The first column in order of decision, and in it the first row; the value before it fits."""
    rows, n = 3, 6
    scale, group = np.ones((rows, 1), dtype), np.zeros(n, np.int64)
    for turn, codebook in enumerate(
        (
            UniformLattice(1e-3),
            ScaledLattice(1e-3, np.ones(n, dtype), True),
            ScaledLattice(1e-3, np.ones(n, dtype), False),
            AffineGrid(scale, np.zeros((rows, 1), np.int32), group, 15),
            FloatGrid(scale, group, FORMATS["fp8-e4m3"]),
        )
    ):
        for coupling in (np.eye(n, dtype=dtype), None):
            Y = bell(1, (rows, n), dtype)
            Y[2, 3] = Y[1, 3] = Y[0, 1] = (np.inf, -np.inf, np.nan)[turn % 3]
            if turn % 2:
                Y[1, 5] = 1e18  # too large for a lattice, and not for a grid
            yield cancel(Y, coupling, codebook, 0, n)
    edges = [2.0**31 - 128, -(2.0**31), 2.0**31, np.nextafter(dtype(-(2.0**31)), dtype(-np.inf))]
    for edge in edges:
        for lmmse in (False, True):
            codebook = ScaledLattice(1.0, np.ones(1, dtype), lmmse)
            yield cancel(np.array([[edge]], dtype), None, codebook, 0, 1)


GROUPS = (moves, elements, checks, products, factors, sums, transforms, cancellations)


# The program ----------------------------------------------------------------------------------


def small(index: Index) -> dict[str, list]:
    """Two golden cases of each operation, tier and dtype that the simulator runs quickly."""
    chosen: dict[str, list] = {}
    of_tier: dict[tuple, int] = {}
    for case in index.cases:
        if case.kind != "operation" or case.size != "small":
            continue
        largest = max((array.size for array in case.load_inputs().values()), default=0)
        key = (case.function, case.tier, case.dtype)
        if largest <= GOLDEN_ELEMENTS and of_tier.get(key, 0) < 2:
            of_tier[key] = of_tier.get(key, 0) + 1
            chosen.setdefault(case.function, []).append(case)
    return chosen


def algorithm(backend, dtype) -> str:
    weight, covariance = bell(1, (3, 5), dtype), positive_definite(2, 5, dtype)
    found = watersic(weight, covariance, spacing=0.4, backend=backend)
    expected = watersic(weight, covariance, spacing=0.4)
    try:
        same_bits(found.codes, expected.codes)
        same_bits(found.dequantized, expected.dequantized)
    except AssertionError as error:
        return str(error)
    return ""


def peak(dtype) -> str:
    """What differs from the chains of the kernel that measures a rate, in NumPy."""
    from waterlevel.backends.numba_cuda import peak as numba_cuda_peak

    turns = 5
    out, products = numba_cuda_peak.subtract_in_registers(dtype, 2, turns)
    chains, factor = np.arange(1, 5).astype(dtype), dtype(numba_cuda_peak.FACTOR)
    for _ in range(turns):
        chains = chains - chains * factor
    expected = np.full(out.size, (chains[0] + chains[1]) + (chains[2] + chains[3]))
    same_bits(out.copy_to_host(), expected)
    return "" if products == out.size * len(chains) * turns else f"{products} products"


def check_launches() -> None:
    """Every launch passes what its kernel declares; the simulator itself would take anything."""
    from waterlevel.backends.numba_cuda import launch as launch

    start = launch.Kernel.__call__

    def checked(kernel, blocks, threads, *arguments):
        for wanted, argument in zip(kernel.types, arguments, strict=True):
            dtype = np.dtype(getattr(wanted, "dtype", wanted).name)
            whole = isinstance(argument, int) and not isinstance(argument, bool)
            found = np.dtype(np.int64) if whole else np.dtype(argument.dtype)
            dimensions = 0 if whole else len(argument.shape)
            if (found, dimensions) != (dtype, getattr(wanted, "ndim", 0)):
                raise TypeError(
                    f"{kernel.function.__name__} wants {wanted}, got {found}, {dimensions}d"
                )
        start(kernel, blocks, threads, *arguments)

    launch.Kernel.__call__ = checked


def main() -> int:
    warnings.simplefilter("ignore", RuntimeWarning)  # overflows are results like any other
    sys.setswitchinterval(2e-4)  # threads that wait for each other, many in a small block
    from waterlevel.backends.numba_cuda.operations import NumbaCudaOperations

    share_safely()
    check_launches()
    try:
        backend = NumbaCudaOperations()
    except WaterlevelError as error:
        print(error, file=sys.stderr)
        return 2
    found: dict[str, dict[str, str]] = {}

    class OtherOrder(NumbaCudaOperations):
        def matmul(self, left, right):
            backwards = np.arange(right.shape[0])[::-1]
            return super().matmul(
                self.take(left, None, backwards), self.take(right, backwards, None)
            )

    planted = difference(OtherOrder(), "matmul", *(bell(key, (9, 9), np.float64) for key in (1, 2)))
    found["planted"] = {"another order": planted}
    for dtype in FLOATS:
        for group in GROUPS:
            for number, (name, *arguments) in enumerate(group(dtype)):
                label = f"{group.__name__}[{number}] {np.dtype(dtype).name}"
                found.setdefault(name, {})[label] = difference(backend, name, *arguments)
        found.setdefault("peak", {})[np.dtype(dtype).name] = peak(dtype)
        found.setdefault("watersic", {})[np.dtype(dtype).name] = algorithm(backend, dtype)
    for name, cases in small(load_index()).items():
        for case in cases:
            found.setdefault(name, {})[f"golden {case.id}"] = "; ".join(check_case(case, backend))
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
