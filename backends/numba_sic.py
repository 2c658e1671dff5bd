"""Successive interference cancellation, compiled.

The columns of a panel are decided in `decide_rows`, where each tile of rows is on its own, or in
`decide_with_gains`, where a sum over all rows stands between a column and the next: there one
thread decides 16 columns, and all of them subtract the products from the rest of the panel. Then
all columns before the panel are updated at once.

Codes stay floats until a panel is done. If one does not fit in int32, the panel is still untouched
in the target and goes to the oracle, which refuses it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reference.codebooks import AffineGrid, Codebook, ScaledLattice, UniformLattice
from ..reference.numpy_operations import NUMPY
from ..reference.sums import CHUNK
from .numba_compiler import Array, parallel, prange, serial
from .numba_packing import (
    pack_columns,
    pack_rows,
    packed_buffer,
    tiles_for,
    unpack_rows,
)
from .numba_panels import BLOCK, DEPTH, PANEL, coupling_block, subtract_before, subtract_within
from .numba_tiles import lanes, tile_lanes
from .numba_trees import fold, fold_partials
from .numba_updates import update, whole_extents

LATTICE, AFFINE, FLOAT = 0, 1, 2


@serial
def _decide_lattice(
    panel: Array,
    decided: Array,
    at: int,
    width: int,
    divisor: float,
    step: float,
    spacing: float,
) -> None:
    """z = rint((y/l)/step), value z·spacing."""
    zero = panel.dtype.type(0)  # turns -0.0 into +0.0
    for l in range(at, at + width):
        z = np.rint(panel[l] / divisor / step) + zero
        decided[l] = z
        panel[l] = z * spacing


@serial
def _decide_affine(
    panel: Array,
    decided: Array,
    at: int,
    width: int,
    divisor: float,
    scale: Array,
    zero: Array,
    maximum: float,
) -> None:
    """q = clamp(rint((y/l)/s) + zero, 0, maximum), value s·(q - zero)."""
    number = panel.dtype.type
    for l in range(width):
        level = np.rint(panel[at + l] / divisor / scale[l]) + number(zero[l])
        finite = level - level == 0
        q = min(max(level, number(0)), maximum) if finite else level
        decided[at + l] = q
        difference = np.int32(np.int64(q) - zero[l]) if finite else np.int32(0)
        panel[at + l] = scale[l] * number(difference)


@serial
def _decide_float(
    panel: Array,
    decided: Array,
    at: int,
    width: int,
    divisor: float,
    scale: Array,
    magnitudes: Array,
    midpoints: Array,
) -> None:
    """The nearest value of a format to (y/l)/s; of two equally near ones that of the even code."""
    number = panel.dtype.type
    largest = len(midpoints)
    for l in range(width):
        level = panel[at + l] / divisor / scale[l]
        magnitude = np.float64(abs(level))
        low, high = 0, largest
        while low < high:
            middle = (low + high) // 2
            if midpoints[middle] < magnitude:
                low = middle + 1
            else:
                high = middle
        if low < largest and magnitude == midpoints[low]:
            low += low % 2
        negative = level < 0 and low > 0
        finite = level - level == 0
        decided[at + l] = number(-low if negative else low) if finite else level
        value = number(magnitudes[low])
        panel[at + l] = scale[l] * (-value if negative else value)


@serial
def _decide_tile(
    panel: Array,
    decided: Array,
    coupling: Array,
    coupled: bool,
    steps: int,
    t: int,
    kind: int,
    divisor: Array,
    step: float,
    spacing: Array,
    scale: Array,
    zero: Array,
    group: Array,
    maximum: float,
    magnitudes: Array,
    midpoints: Array,
) -> None:
    width = lanes(panel)
    base = t * DEPTH * width
    rows = slice(t * width, (t + 1) * width)
    for first in range(0, steps, BLOCK):
        stop = min(first + BLOCK, steps)
        if coupled:
            subtract_before(panel, base, first, stop, coupling)
        for k in range(first, stop):
            at = base + k * width
            if coupled:
                subtract_within(panel, base, first, k, coupling)
            if kind == LATTICE:
                _decide_lattice(panel, decided, at, width, divisor[k], step, spacing[k])
            elif kind == AFFINE:
                _decide_affine(
                    panel,
                    decided,
                    at,
                    width,
                    divisor[k],
                    scale[group[k], rows],
                    zero[group[k], rows],
                    maximum,
                )
            else:
                _decide_float(
                    panel,
                    decided,
                    at,
                    width,
                    divisor[k],
                    scale[group[k], rows],
                    magnitudes,
                    midpoints,
                )


@parallel
def decide_rows(
    panel: Array,
    decided: Array,
    coupling: Array,
    coupled: bool,
    steps: int,
    tiles: int,
    kind: int,
    divisor: Array,
    step: float,
    spacing: Array,
    scale: Array,
    zero: Array,
    group: Array,
    maximum: float,
    magnitudes: Array,
    midpoints: Array,
) -> None:
    """Decides the columns of a panel by a codebook that looks at one row alone."""
    flat = coupling.reshape(-1)
    for t in prange(tiles):
        _decide_tile(
            panel,
            decided,
            flat,
            coupled,
            steps,
            t,
            kind,
            divisor,
            step,
            spacing,
            scale,
            zero,
            group,
            maximum,
            magnitudes,
            midpoints,
        )


@serial
def _scale_values(
    panel: Array,
    at: int,
    width: int,
    factor: float,
) -> None:
    for l in range(at, at + width):
        panel[l] *= factor


@serial
def _round_tile(
    panel: Array, decided: Array, at: int, width: int, step: float, products: Array, place: int
) -> None:
    """z = rint(y/c) takes the place of y; writes z·y, and CHUNK numbers behind it z·z."""
    zero = panel.dtype.type(0)  # turns -0.0 into +0.0
    for l in range(width):
        y = panel[at + l]
        z = np.rint(y / step) + zero
        decided[at + l] = z
        panel[at + l] = z
        products[place + l] = z * y
        products[place + CHUNK + l] = z * z


@serial
def _decide_block(
    panel: Array,
    decided: Array,
    coupling: Array,
    coupled: bool,
    first: int,
    stop: int,
    tiles: int,
    rows: int,
    step: float,
    spacing: Array,
    gains: Array,
    products: Array,
    partials: Array,
) -> float:
    """Decides the columns first … stop-1; returns the factor that the values of the last lack."""
    width = lanes(panel)
    chunks = (rows + CHUNK - 1) // CHUNK
    factor = step
    for k in range(first, stop):
        for chunk in range(chunks):
            begin = chunk * CHUNK // width
            end = min(tiles, begin + CHUNK // width)
            if k > first:
                for t in range(begin, end):
                    _scale_values(panel, (t * DEPTH + k - 1) * width, width, factor)
            for t in range(begin, end):
                base = t * DEPTH * width
                if coupled:
                    subtract_within(panel, base, first, k, coupling)
                place = (t - begin) * width
                _round_tile(panel, decided, base + k * width, width, step, products, place)
            for which in range(2):
                fold(products, which * CHUNK, min(CHUNK, rows - chunk * CHUNK), 1)
                partials[2 * chunk + which] = products[which * CHUNK]
        fold_partials(partials, chunks, 2)
        gain = panel.dtype.type(0)
        if partials[1] > 0:
            gain = partials[0] / partials[1] / step
        gains[k] = gain
        factor = gain * spacing[k]
    return factor


@serial
def _open_block(
    panel: Array,
    coupling: Array,
    coupled: bool,
    first: int,
    stop: int,
    factor: float,
    t: int,
) -> None:
    """Completes the values of the column before the block; subtracts all that went before."""
    width = lanes(panel)
    base = t * DEPTH * width
    _scale_values(panel, base + (first - 1) * width, width, factor)
    if coupled:
        subtract_before(panel, base, first, stop, coupling)


@parallel
def decide_with_gains(
    panel: Array,
    decided: Array,
    coupling: Array,
    coupled: bool,
    steps: int,
    tiles: int,
    rows: int,
    step: float,
    spacing: Array,
    gains: Array,
    products: Array,
    partials: Array,
) -> None:
    """Decides the columns of a panel by z = rint(y/c), with gains from all rows.

    `products` has room for two chunks, `partials` for two numbers of each chunk.
    """
    flat = coupling.reshape(-1)
    stop = 0
    while stop < steps:
        first, stop = stop, min(stop + BLOCK, steps)
        factor = _decide_block(
            panel,
            decided,
            flat,
            coupled,
            first,
            stop,
            tiles,
            rows,
            step,
            spacing,
            gains,
            products,
            partials,
        )
        following = min(stop + BLOCK, steps)  # is `stop` when there is none
        for t in prange(tiles):
            _open_block(panel, flat, coupled, stop, following, factor, t)


@serial
def _unpack_codes(
    decided: Array,
    codes: Array,
    step0: int,
    step: int,
    steps: int,
    first: int,
    stop: int,
    t: int,
) -> bool:
    width = lanes(decided)
    base = t * DEPTH * width
    low, high = decided.dtype.type(-2147483648.0), decided.dtype.type(2147483648.0)
    fit = True
    for k0 in range(0, steps, BLOCK):
        for l in range(min(width, stop - first)):
            for k in range(k0, min(k0 + BLOCK, steps)):
                z = decided[base + k * width + l]
                fits = z >= low and z < high
                fit &= fits
                codes[first + l, step0 + step * k] = np.int32(z) if fits else np.int32(0)
    return fit


@parallel
def unpack_codes(
    decided: Array, codes: Array, step0: int, step: int, steps: int, fit: Array
) -> None:
    """Writes the columns of a panel as int32, step k to column step0 + step·k.

    Notes for each tile of rows whether all codes fit.
    """
    width = lanes(decided)
    for t in prange(len(fit)):
        fit[t] = _unpack_codes(decided, codes, step0, step, steps, t * width, len(codes), t)


def _filled_up(values: NDArray, groups: NDArray[np.int64], rows: int, filling: int) -> NDArray:
    """values[:, groups]ᵀ, with further columns for the rows that fill up the last tile."""
    padded = np.full((len(groups), rows), filling, values.dtype)
    padded[:, : len(values)] = values[:, groups].T
    return padded


def _row_rule(
    codebook: Codebook, diagonal: NDArray, columns: NDArray[np.int64], rows: int
) -> tuple[Any, ...]:
    """The last ten arguments of `decide_rows`, for a panel whose steps are `columns`."""
    number = diagonal.dtype.type
    ones = np.ones_like(diagonal)
    every, no_scale = np.zeros(len(columns), np.int64), np.ones((1, 1), diagonal.dtype)
    no_zero, no_values = np.zeros((1, 1), np.int32), np.zeros(0)
    no_grid = (no_scale, no_zero, every, number(0), no_values, no_values)
    if isinstance(codebook, UniformLattice):
        spacing = number(codebook.spacing)
        return LATTICE, diagonal, spacing, spacing * ones, *no_grid
    if isinstance(codebook, ScaledLattice):
        return LATTICE, ones, number(codebook.step), codebook.spacing[columns], *no_grid
    used, group = np.unique(codebook.group[columns], return_inverse=True)
    scale = _filled_up(codebook.scale, used, rows, filling=1)
    if isinstance(codebook, AffineGrid):
        zero = _filled_up(codebook.zero, used, rows, filling=0)
        maximum = number(codebook.maximum)
        return (
            *(AFFINE, diagonal, number(1), ones),
            *(scale, zero, group, maximum, no_values, no_values),
        )
    form = codebook.form
    return (
        *(FLOAT, diagonal, number(1), ones),
        *(scale, no_zero, group, number(0), form.magnitudes, form.midpoints),
    )


def sic(
    target: NDArray,
    codes: NDArray[np.int32],
    factor: NDArray | None,
    codebook: Codebook,
    start: int,
    stop: int,
) -> NDArray[np.float64]:
    """Decides the columns stop-1 … start: `sic.sic`. Raises CodeOverflow."""
    rows, dtype = len(target), target.dtype
    gains = np.ones(stop - start)
    if rows == 0:
        return gains
    width, tiles = tile_lanes(dtype), tiles_for(rows, dtype)
    panel = packed_buffer(rows, DEPTH, dtype)
    decided, fit = np.empty_like(panel), np.empty(tiles, np.bool_)
    sums = np.empty(2 * CHUNK, dtype), np.empty(2 * (rows // CHUNK + 1), dtype)
    packed = packed_buffer(start if factor is None else stop, DEPTH, dtype)
    for end in range(stop, start, -PANEL):
        first = max(end - PANEL, start)
        steps = end - first
        descending = range(end - 1, first - 1, -1)
        columns = np.array(descending)
        block = np.eye(steps, dtype=dtype) if factor is None else factor[first:end, first:end]
        coupling = coupling_block(block[::-1, ::-1])
        shared = (panel, decided, coupling, factor is not None, steps, tiles)
        pack_rows(target, descending, range(rows), panel, DEPTH)
        if isinstance(codebook, ScaledLattice) and codebook.lmmse:
            gain = np.empty(steps, dtype)
            spacing = codebook.spacing[columns]
            decide_with_gains(*shared, rows, dtype.type(codebook.step), spacing, gain, *sums)
            gains[first - start : end - start] = gain[::-1]
        else:
            diagonal = coupling.diagonal()[:steps].copy()
            rule = _row_rule(codebook, diagonal, columns, tiles * width)
            decide_rows(*shared, *rule)
        unpack_codes(decided, codes, end - 1, -1, steps, fit)
        if not fit.all():
            gains[first - start : end - start] = NUMPY.sic(
                target, codes, factor, codebook, first, end
            )
            continue
        unpack_rows(panel, DEPTH, target, descending, range(rows))
        if factor is not None and first > 0:
            pack_columns(factor, descending, range(first), packed, DEPTH)
            update(
                *(target, range(rows), range(first), panel, whole_extents(tiles, steps)),
                *(packed, whole_extents(tiles_for(first, dtype), steps), DEPTH),
            )
    return gains
