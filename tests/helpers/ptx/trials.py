"""Work for compiled kernels: together it reaches every kernel, and every barrier that can be.

Each trial takes a backend and returns host arrays, so that a backend under test and the oracle are
given the same. Rows and columns go beyond 512, where a sum has a second level.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import numpy as np

from waterlevel.reference.bases import hadamard
from waterlevel.reference.errors import CodeOverflow, NotPositiveDefinite
from waterlevel.reference.grids.codebooks import ScaledLattice
from waterlevel.reference.operations import Operations

from ..codebooks import KINDS, codebooks
from ..inputs import FLOATS, bell, integers, lower, numbers, positive_definite, same_bits
from .translator import Translated

Trial = Callable[[Operations], list[np.ndarray]]
ROWS, N = 70, 69  # more than one panel and one tile of either family, and ragged
WIDE = 530
MANY = 1100  # rows of three chunks
VERY_MANY = 512 * 512 + 513  # of more chunks than one holds


def trials(dtype) -> dict[str, Trial]:
    """All of them for float64 or float32, by name."""
    found: dict[str, Trial] = {}

    def trial(function: Trial) -> Trial:
        found[function.__name__] = function
        return function

    short = bell(18, (20, 20), dtype)
    A, B = bell(1, (ROWS, N), dtype), numbers("zeros", 2, (ROWS, N), dtype)
    H, L = positive_definite(3, N, dtype), lower(4, N, dtype)
    long = bell(5, (2, MANY), dtype)
    ones = np.ones(N, dtype)

    @trial
    def moves(o):
        a = o.from_host(A, dtype)
        codes = o.from_host(integers(6, -9, 9, ROWS, N).astype(np.int32), np.int32)
        square = o.from_host(integers(6, -9, 9, N, N).astype(np.int32), np.int32)
        parts = [
            o.transpose(a),
            o.transpose(codes),
            o.take(a, np.arange(3), None),
            o.take(codes, None, np.arange(5)),
            o.scatter_columns(a, np.arange(N)[::-1], N + 1),
            o.with_diagonal(o.from_host(H, dtype), ones),
            o.with_diagonal(square, np.arange(N, dtype=np.int32)),
            o.convert(codes, dtype),
            o.convert(o.convert(codes, dtype), np.int32),
            o.convert(a, np.float32 if dtype is np.float64 else np.float64),
        ]
        return [*(o.to_host(part) for part in parts), o.diagonal(a), o.diagonal(codes)]

    @trial
    def elements(o):
        a, b, h = o.from_host(A, dtype), o.from_host(B, dtype), o.from_host(H, dtype)
        parts = [
            o.symmetrize(h),
            o.combine(0.3, a, -1.7, b),
            o.multiply(a, b),
            o.divide(a, 3.1),
            o.scale_rows(a, bell(7, (ROWS,), dtype)),
            o.scale_columns(a, bell(8, (N,), dtype)),
        ]
        return [o.to_host(part) for part in parts]

    @trial
    def checks(o):
        a, h = o.from_host(long, dtype), H.copy()
        h[5, 60] = np.nan
        bad = o.from_host(h, dtype)
        found = [o.find_nonfinite(a) or (-1, -1, 0), o.find_nonfinite(bad), o.find_asymmetry(bad)]
        return [
            *(np.array(place) for place in found),
            np.array(o.largest_magnitude(a)),
            *o.row_extrema(a, 3, MANY),
        ]

    @trial
    def sums(o):
        a, tall = o.from_host(long, dtype), o.from_host(long.T.copy(), dtype)
        scale = np.abs(bell(9, (2,), dtype)) + dtype(0.125)
        s = o.from_host(short, dtype)
        return [
            o.row_inner(s, s),
            o.column_inner(s, s),
            o.grid_error(s, np.ones(20, dtype), np.full(20, 2, np.int32), 15),
            o.row_inner(a, a),
            o.column_inner(tall, tall),
            o.grid_error(a, scale, np.array([7, 8], np.int32), 15),
            o.row_inner(o.from_host(A, dtype), o.from_host(B, dtype)),
            o.grid_error(o.from_host(H, dtype), ones, np.full(N, 2, np.int32), 15),
        ]

    @trial
    def long_sums(o):
        a = o.from_host(bell(10, (1, VERY_MANY), dtype), dtype)
        return [
            o.row_inner(a, a),
            o.grid_error(a, np.ones(1, dtype), np.array([7], np.int32), 15),
        ]

    @trial
    def histograms(o):
        parts = []
        for rows, largest in ((700, 3), (5, 2**31 - 1)):
            codes = integers(11, -largest, largest, rows, 3).astype(np.int32)
            found = o.column_histograms(o.from_host(codes, np.int32))
            parts += [found.symbols, found.counts, found.offsets]
        return parts

    @trial
    def products(o):
        a, b, h = o.from_host(A, dtype), o.from_host(B, dtype), o.from_host(H, dtype)
        weighted, plain = o.from_host(H, dtype), o.from_host(H, dtype)
        o.accumulate(weighted, a, b, bell(12, (ROWS,), dtype))
        o.accumulate(plain, a, b, None)
        infinite = A.copy()
        infinite[3, 4] = np.inf
        parts = [
            o.matmul(a, h),
            o.matmul(a, o.from_host(L, dtype)),
            o.matmul(o.from_host(infinite, dtype), o.from_host(L, dtype)),
            o.matmul_transposed(a, b),
            weighted,
            plain,
        ]
        return [o.to_host(part) for part in parts]

    @trial
    def triangular(o):
        a, factor = o.from_host(A, dtype), o.cholesky(o.from_host(H, dtype))
        parts = [factor, o.solve(a, factor), o.solve_reversed(a, factor, 2, N)]
        bad = H.copy()
        bad[40, 40] = -1
        try:
            o.cholesky(o.from_host(bad, dtype))
            refused = np.array(-1)
        except NotPositiveDefinite as error:
            refused = np.array([error.pivot, error.value])
        return [*(o.to_host(part) for part in parts), refused]

    @trial
    def wide(o):
        """More columns than 512: chains of many tiles."""
        a, factor = bell(16, (5, WIDE), dtype), lower(17, WIDE, dtype)
        l = o.from_host(factor, dtype)
        codebook = ScaledLattice(0.5, dtype(0.5) / np.diag(factor), lmmse=True)
        solved = o.solve(o.from_host(a, dtype), l)
        product = o.matmul(o.from_host(a, dtype), l)
        return [o.to_host(solved), o.to_host(product), *_cancelled(o, a, factor, codebook)]

    @trial
    def transforms(o):
        return [
            o.to_host(
                o.hadamard(
                    o.from_host(numbers("zeros", n, (5, n), dtype), dtype),
                    hadamard.base_matrix(hadamard.base_order(n)),
                )
            )
            for n in (8, 36)
        ]

    for kind in KINDS:
        for factor in (L, None):
            found[f"sic_{kind}{'' if factor is not None else '_alone'}"] = _sic(A, factor, kind)

    @trial
    def gains(o):
        """Over three chunks of rows."""
        codebook = ScaledLattice(0.5, dtype(0.5) / np.diag(L), lmmse=True)
        return _cancelled(o, bell(13, (MANY, N), dtype), L, codebook)

    @trial
    def gains_column_by_column(o):
        """A launch for each column, where a family has another way."""
        codebook = ScaledLattice(0.5, dtype(0.5) / np.diag(L), lmmse=True)
        meeting, o.meeting = getattr(o, "meeting", True), False
        try:
            return _cancelled(o, bell(13, (MANY, N), dtype), L, codebook)
        finally:
            o.meeting = meeting

    @trial
    def many_gains(o):
        codebook = ScaledLattice(0.5, np.full(2, 0.5, dtype), lmmse=True)
        return _cancelled(o, bell(14, (VERY_MANY, 2), dtype), lower(15, 2, dtype), codebook)

    @trial
    def overflows(o):
        y = A.copy()
        y[3, 5] = y[60, 5] = np.inf
        parts = []
        for kind in KINDS:
            codebook, _ = codebooks(1, ROWS, np.diag(L))[kind]
            parts += _cancelled(o, y, L, codebook)
        return parts

    return found


def _sic(target: np.ndarray, factor: np.ndarray | None, kind: str) -> Trial:
    diagonal = np.ones(target.shape[1], target.dtype) if factor is None else np.diag(factor)
    codebook, _ = codebooks(1, len(target), diagonal)[kind]
    return lambda o: _cancelled(o, target, factor, codebook)


def _cancelled(o, target, factor, codebook) -> list[np.ndarray]:
    dtype = target.dtype
    y, codes = o.from_host(target, dtype), o.zeros(*target.shape, np.int32)
    l = None if factor is None else o.from_host(factor, dtype)
    try:
        gains = o.sic(y, codes, l, codebook, 0, target.shape[1])
    except CodeOverflow as error:
        return [np.array([error.row, error.column, error.value])]
    return [o.to_host(y), o.to_host(codes), gains]


def difference(trial: Trial, operations: Operations, oracle: Operations) -> str:
    """What differs, or which fault was seen; empty if all is well."""
    with np.errstate(all="ignore"):
        expected = trial(oracle)
        try:
            found = trial(operations)
            for part, other in zip(found, expected, strict=True):
                same_bits(part, other)
        except AssertionError as fault:
            return str(fault) or "another shape"
    return ""


def barriers_missed(
    libraries: dict[str, ctypes.CDLL],
    kernels: dict[str, list[Translated]],
    operations: Operations,
    oracle: Operations,
    dtypes: tuple[type, ...] = FLOATS,
) -> tuple[dict[str, list[int]], dict[str, list[int]], int]:
    """Leaves out each barrier of each kernel once, in the trials that reach it.

    Returns:
        Kernel and dtype → the places of barriers, by their order in its code, that no trial
        reaches; the same of those whose absence no trial notices; how many were noticed.
    """
    unreached: dict[str, list[int]] = {}
    unnoticed: dict[str, list[int]] = {}
    noticed = 0
    for dtype in dtypes:
        name = np.dtype(dtype).name
        reaching: dict[int, list[tuple[float, Trial]]] = {}
        for trial in trials(dtype).values():
            for library in libraries.values():
                library.forget_reached()
            start = time.perf_counter()
            assert difference(trial, operations, oracle) == ""
            taken = time.perf_counter() - start
            for kernel in kernels[name]:
                for barrier in kernel.barriers:
                    if libraries[name].was_reached(barrier):
                        reaching.setdefault(barrier, []).append((taken, trial))
        for kernel in kernels[name]:
            for place, barrier in enumerate(kernel.barriers):
                label = f"{kernel.name} {name}"
                if barrier not in reaching:
                    unreached.setdefault(label, []).append(place)
                    continue
                libraries[name].leave_out(barrier)
                quickest = sorted(reaching[barrier], key=lambda pair: pair[0])
                if any(difference(trial, operations, oracle) for _, trial in quickest):
                    noticed += 1
                else:
                    unnoticed.setdefault(label, []).append(place)
                libraries[name].leave_out(-1)
    return unreached, unnoticed, noticed
