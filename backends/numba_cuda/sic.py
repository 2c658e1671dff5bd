"""Successive interference cancellation, a panel of columns after the other, the last one first.

Without gains the rows know nothing of each other: in a panel each row has one thread for each
column, whoever's turn it is decides, the others subtract. With gains a column needs sums over all
rows: one launch decides it and sums by chunks, launches of `numba_cuda_sums` add the chunks, one
more forms the gain and the values. Either way the finished panel is then subtracted from all
columns before it.

The host waits at no column. Gains come back once, at the end of the range, and so does the place of
a code that does not fit: of each column the first row, and where the value would stand, the level
that became no code.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.arithmetic.sums import CHUNK
from ...reference.errors import CodeOverflow
from ...reference.grids.codebooks import Codebook, ScaledLattice
from .arithmetic import arithmetic, cuda, device_function
from .codebooks import book_of, book_types, decisions
from .launch import (
    FLOATS,
    GROUP,
    PANEL,
    THREADS,
    Kernel,
    blocks_of,
    integer,
    kernel,
    kernels_for,
    new,
    types_of,
    upload,
)
from .products import update
from .sums import fold_chunks, folding, width_of
from .triangular import panels


def _panel(dtype: Any, decide: Any) -> Kernel:
    number, _, matrix = types_of(dtype)
    _, sub, mul, _, _, _ = arithmetic(dtype)
    places, code_matrix = types_of(np.int64).vector, types_of(np.int32).matrix
    zero, one = dtype(0), dtype(1)

    @kernel(matrix, code_matrix, matrix, *[integer] * 3, places, *book_types(dtype))
    def decide_panel(
        target: Any,
        codes: Any,
        factor: Any,
        coupled: int,
        first: int,
        end: int,
        misfit: Any,
        scale: Any,
        zeros: Any,
        group: Any,
        spacing: Any,
        constant: Any,
        midpoints: Any,
        magnitudes: Any,
    ) -> None:
        triangle = cuda.shared.array((PANEL, PANEL), number)
        decided = cuda.shared.array((GROUP, PANEL), number)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        row = cuda.blockIdx.x * GROUP + y
        column, width = first + x, end - first
        for k in range(y, width, GROUP):
            if x < width:
                if coupled:
                    triangle[k, x] = factor[first + k, column]
                else:
                    triangle[k, x] = one
        inside = row < target.shape[0] and x < width
        open_ = target[row, column] if inside else zero
        cuda.syncthreads()
        for k in range(width - 1, -1, -1):
            if inside and x == k:
                fits, code, value = decide(
                    open_,
                    triangle[k, k],
                    row,
                    column,
                    scale,
                    zeros,
                    group,
                    spacing,
                    constant,
                    midpoints,
                    magnitudes,
                )
                if not fits:
                    cuda.atomic.min(misfit, column, row)
                codes[row, column] = code
                target[row, column] = value
                decided[y, k] = value
            cuda.syncthreads()
            if coupled and inside and x < k:
                open_ = sub(open_, mul(decided[y, k], triangle[k, x]))

    return decide_panel


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    number, vector, matrix = types_of(dtype)
    add, sub, mul, div, _, rint = arithmetic(dtype)
    places, code_matrix = types_of(np.int64).vector, types_of(np.int32).matrix
    fold = folding(dtype)
    zero, least, limit = dtype(0), dtype(-(2.0**31)), dtype(2.0**31)

    @device_function
    def still_open(target: Any, factor: Any, row: int, k: int, end: int, coupled: int) -> Any:
        """What the columns after k in its panel leave of it."""
        value = target[row, k]
        if coupled:
            for m in range(end - 1, k, -1):
                value = sub(value, mul(target[row, m], factor[m, k]))
        return value

    @kernel(matrix, code_matrix, matrix, *[integer] * 3, number, integer, places, matrix)
    def decide_column(
        target: Any,
        codes: Any,
        factor: Any,
        coupled: int,
        k: int,
        end: int,
        step: Any,
        width: int,
        misfit: Any,
        sums: Any,
    ) -> None:
        """Codes z = rint(y/c) of a chunk of rows; the sums of z·z and z·y over it."""
        buffer = cuda.shared.array((CHUNK, 2), number)
        thread = cuda.threadIdx.x
        start = cuda.blockIdx.x * CHUNK
        for i in range(thread, width, THREADS):
            row = start + i
            energy, inner = zero, zero
            if row < target.shape[0]:
                y = still_open(target, factor, row, k, end, coupled)
                level = rint(div(y, step))
                if level >= least and level < limit:
                    code = np.int32(level)
                    z = dtype(code)
                    energy, inner = mul(z, z), mul(z, y)
                    codes[row, k] = code
                else:
                    cuda.atomic.min(misfit, k, row)
                    target[row, k] = level
            buffer[i, 0], buffer[i, 1] = energy, inner
        fold(buffer, 0, thread, THREADS, width)
        fold(buffer, 1, thread, THREADS, width)
        if thread == 0:
            sums[cuda.blockIdx.x, 0], sums[cuda.blockIdx.x, 1] = buffer[0, 0], buffer[0, 1]

    @kernel(matrix, code_matrix, integer, integer, number, vector, matrix, places, vector)
    def apply_gain(
        target: Any,
        codes: Any,
        k: int,
        start: int,
        step: Any,
        spacing: Any,
        sums: Any,
        misfit: Any,
        gains: Any,
    ) -> None:
        row = cuda.grid(1)
        if row < target.shape[0] and misfit[k] == target.shape[0]:
            energy, inner = add(sums[0, 0], zero), add(sums[0, 1], zero)
            gain = zero
            if energy > zero:
                gain = div(div(inner, energy), step)
            target[row, k] = mul(dtype(codes[row, k]), mul(gain, spacing[k]))
            if row == 0:
                gains[k - start] = gain

    return SimpleNamespace(
        decide_column=decide_column,
        apply_gain=apply_gain,
        **{name: _panel(dtype, decide) for name, decide in decisions(dtype).items()},
    )


def sic(
    target: Any, codes: Any, factor: Any | None, codebook: Codebook, start: int, stop: int
) -> NDArray[np.float64]:
    """Overwrites target and codes, returns the gains: `sic.sic`. Raises CodeOverflow."""
    rows, columns = target.shape
    misfit = upload(np.full(columns, rows))
    gains = upload(np.ones(stop - start, target.dtype))
    if isinstance(codebook, ScaledLattice) and codebook.lmmse:
        decide = _with_gains(target, codes, factor, codebook, start, misfit, gains)
    else:
        decide = _without_gains(target, codes, factor, codebook, misfit)
    for panel in reversed(panels(start, stop)):
        decide(panel)
        if factor is not None:
            extents = (range(rows), range(panel.start), panel)
            update("subtract_descending", target, target, factor, *extents)
    first_rows = misfit.copy_to_host()
    refused = np.flatnonzero(first_rows < rows)
    if len(refused) > 0:
        column = int(refused[-1])
        row = int(first_rows[column])
        raise CodeOverflow(row, column, float(target[row, column]))
    return gains.copy_to_host().astype(np.float64)


def _coupling(target: Any, factor: Any | None) -> tuple[Any, int]:
    return (target, 0) if factor is None else (factor, 1)


def _without_gains(target: Any, codes: Any, factor: Any, codebook: Codebook, misfit: Any) -> Any:
    name, book = book_of(codebook, target.dtype)
    launch = vars(_kernels(target.dtype))[name]
    blocks = blocks_of(target.shape[0], GROUP)
    coupling = _coupling(target, factor)

    def decide(panel: range) -> None:
        bounds = (panel.start, panel.stop)
        launch(blocks, (PANEL, GROUP), target, codes, *coupling, *bounds, misfit, *book)

    return decide


def _with_gains(
    target: Any,
    codes: Any,
    factor: Any,
    codebook: ScaledLattice,
    start: int,
    misfit: Any,
    gains: Any,
) -> Any:
    rows, kernels = target.shape[0], _kernels(target.dtype)
    step = np.dtype(target.dtype).type(codebook.step)
    spacing = upload(np.asarray(codebook.spacing, target.dtype))
    coupling = _coupling(target, factor)
    levels = [new((blocks_of(rows, CHUNK), 2), target.dtype)]
    while levels[-1].shape[0] > 1:
        levels.append(new((blocks_of(levels[-1].shape[0], CHUNK), 2), target.dtype))

    def decide(panel: range) -> None:
        for k in reversed(panel):
            kernels.decide_column(
                *(levels[0].shape[0], THREADS, target, codes, *coupling, k, panel.stop),
                *(step, width_of(rows), misfit, levels[0]),
            )
            for below, above in pairwise(levels):
                fold_chunks("alone", below, below, below.shape[0], above)
            kernels.apply_gain.over(
                *(rows, target, codes, k, start, step, spacing, levels[-1], misfit, gains)
            )

    return decide
