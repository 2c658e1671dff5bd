"""Successive interference cancellation, compiled.

A panel is packed, decided and written back tile by tile. In `decide_rows` each tile of rows is on
its own. In `decide_with_gains` a sum over all rows stands between a column and the next: there one
thread decides 16 columns, and all of them subtract the products from the next 16. Then all columns
before the panel are updated at once.

Codes stay floats until a panel is written back, so that one that does not fit in int32 is seen.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..reference.codebooks import Codebook, ScaledLattice
from ..reference.errors import CodeOverflow
from ..reference.sums import CHUNK
from .numba_codebooks import AFFINE, LATTICE, decide_affine, decide_float, decide_lattice, row_rule
from .numba_compiler import Array, parallel, prange, serial
from .numba_lanes import add_step, round_step, scale_step
from .numba_packing import flat, pack_columns, pack_tile, packed_buffer, tiles_for, unpack_tile
from .numba_panels import BLOCK, DEPTH, PANEL, coupling_block, subtract_before, subtract_within
from .numba_tiles import lanes, tile_lanes
from .numba_transposes import side, turn_codes
from .numba_trees import fold_partials
from .numba_updates import update, whole_extents


@serial
def _decide_tile(
    panel: Array,
    base: int,
    decided: Array,
    coupling: Array,
    coupled: bool,
    steps: int,
    row: int,
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
    rows = slice(row, row + width)
    for first in range(0, steps, BLOCK):
        stop = min(first + BLOCK, steps)
        if coupled:
            subtract_before(panel, base, first, stop, coupling)
        for k in range(first, stop):
            at, to = base + k * width, row * PANEL + k * width
            if coupled:
                subtract_within(panel, base, first, k, coupling)
            if kind == LATTICE:
                decide_lattice(panel, at, decided, to, divisor[k], step, spacing[k])
            elif kind == AFFINE:
                decide_affine(
                    panel,
                    at,
                    decided,
                    to,
                    divisor[k],
                    scale[group[k], rows],
                    zero[group[k], rows],
                    maximum,
                )
            else:
                decide_float(
                    panel,
                    at,
                    decided,
                    to,
                    divisor[k],
                    scale[group[k], rows],
                    magnitudes,
                    midpoints,
                )


@serial
def _write_tile(
    panel: Array,
    base: int,
    decided: Array,
    row: int,
    numbers: Array,
    codes: Array,
    origin: int,
    lane: int,
    present: int,
    steps: int,
) -> bool:
    """Writes values and codes of a tile back; returns whether all codes fit."""
    width, block = lanes(decided), side(decided)
    unpack_tile(panel, base, numbers, origin, lane, present, np.int64(-1), steps)
    low, high = decided.dtype.type(-2147483648.0), decided.dtype.type(2147483648.0)
    fit = True
    done = steps - steps % block if present == width else 0
    for k in range(0, done, block):
        last = k + block - 1
        for l in range(0, width, block):
            fit &= turn_codes(
                decided,
                row * PANEL + last * width + l,
                -width,
                codes,
                origin + l * lane - last,
                lane,
            )
    for k in range(done, steps):
        for l in range(present):
            z = decided[row * PANEL + k * width + l]
            fits = z >= low and z < high
            fit &= fits
            codes[origin + l * lane - k] = np.int32(z) if fits else np.int32(0)
    return fit


@parallel
def decide_rows(
    numbers: Array,
    codes: Array,
    column: int,
    lane: int,
    rows: int,
    steps: int,
    panel: Array,
    depth: int,
    decided: Array,
    fit: Array,
    coupling: Array,
    coupled: bool,
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
    """Decides step k in column - k, k = 0, 1, …, by a codebook that looks at one row."""
    width = lanes(panel)
    for t in prange(len(fit)):
        row = np.int64(t) * width
        base, origin, present = row * depth, row * lane + column, min(width, rows - row)
        one = panel.dtype.type(1)
        pack_tile(numbers, origin, lane, present, np.int64(-1), steps, one, panel, base)
        _decide_tile(
            panel,
            base,
            decided,
            coupling,
            coupled,
            steps,
            row,
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
        fit[t] = _write_tile(
            panel, base, decided, row, numbers, codes, origin, lane, present, steps
        )


@serial
def _fold_products(products: Array, tiles: int, width: int) -> None:
    """Folds z·y and z·z of some tiles, side by side for each tile; both sums come to stand first.

    The sums are at 0 and `width`.
    """
    half = 1
    while 2 * half < tiles:
        half *= 2
    count = tiles
    while count > 1:
        for t in range(count - half):
            at, other = t * 2 * width, (t + half) * 2 * width
            add_step(products, at, products, other)
            add_step(products, at + width, products, other + width)
        count = half
        half //= 2
    half = width // 2
    while half > 0:
        for l in range(half):
            products[l] += products[l + half]
            products[width + l] += products[width + l + half]
        half //= 2


@serial
def _decide_block(
    panel: Array,
    depth: int,
    decided: Array,
    coupling: Array,
    coupled: bool,
    first: int,
    stop: int,
    tiles: int,
    step: float,
    spacing: Array,
    gains: Array,
    products: Array,
    partials: Array,
) -> float:
    """Decides the columns first … stop-1; returns the factor that the values of the last lack."""
    width = lanes(panel)
    share = CHUNK // width
    chunks = (tiles + share - 1) // share
    factor = step
    for k in range(first, stop):
        for chunk in range(chunks):
            here = min(share, tiles - chunk * share)
            for t in range(here):
                row = (chunk * share + t) * width
                base = row * depth
                at, place = base + k * width, t * 2 * width
                if k > first:
                    scale_step(panel, at - width, factor)
                if coupled:
                    subtract_within(panel, base, first, k, coupling)
                to = row * PANEL + k * width
                round_step(panel, at, decided, to, products, place, products, place + width, step)
            _fold_products(products, here, width)
            partials[chunk, 0], partials[chunk, 1] = products[0], products[width]
        fold_partials(partials, chunks)
        gain = panel.dtype.type(0)
        if partials[0, 1] > 0:
            gain = partials[0, 0] / partials[0, 1] / step
        gains[k] = gain
        factor = gain * spacing[k]
    return factor


@parallel
def decide_with_gains(
    numbers: Array,
    codes: Array,
    column: int,
    lane: int,
    rows: int,
    steps: int,
    panel: Array,
    depth: int,
    decided: Array,
    fit: Array,
    coupling: Array,
    coupled: bool,
    step: float,
    spacing: Array,
    gains: Array,
    products: Array,
    partials: Array,
) -> None:
    """Decides step k in column - k by z = rint(y/c), with gains from all rows.

    `products` has room for two chunks, `partials` for two numbers of each chunk.
    """
    width, tiles = lanes(panel), len(fit)
    factor = step
    for first in range(0, steps + BLOCK, BLOCK):
        stop = min(first + BLOCK, steps)
        for t in prange(tiles):
            row = np.int64(t) * width
            base, origin, present = row * depth, row * lane + column, min(width, rows - row)
            if first == 0:
                one = panel.dtype.type(1)
                pack_tile(numbers, origin, lane, present, np.int64(-1), steps, one, panel, base)
            else:
                scale_step(panel, base + (min(first, steps) - 1) * width, factor)
            if coupled:
                subtract_before(panel, base, first, stop, coupling)
            if first >= steps:
                fit[t] = _write_tile(
                    panel, base, decided, row, numbers, codes, origin, lane, present, steps
                )
        if first < steps:
            factor = _decide_block(
                panel,
                depth,
                decided,
                coupling,
                coupled,
                first,
                stop,
                tiles,
                step,
                spacing,
                gains,
                products,
                partials,
            )


def _refuse(decided: NDArray, end: int, steps: int, rows: int) -> NoReturn:
    """Raises CodeOverflow for the first column in order of decision, and in it the first row."""
    tiles = decided.reshape(-1, PANEL, tile_lanes(decided.dtype))
    values = tiles[:, :steps].transpose(1, 0, 2).reshape(steps, -1)[:, :rows]
    fits = (values >= -2147483648.0) & (values < 2147483648.0)
    k, row = np.argwhere(~fits)[0]
    raise CodeOverflow(int(row), int(end - 1 - k), float(values[k, row]))


def sic(
    target: NDArray,
    codes: NDArray[np.int32],
    factor: NDArray | None,
    codebook: Codebook,
    start: int,
    stop: int,
) -> NDArray[np.float64]:
    """Decides the columns stop-1 … start: `sic.sic`. Raises CodeOverflow."""
    (rows, n), dtype = target.shape, target.dtype
    gains = np.ones(stop - start)
    if rows == 0:
        return gains
    width, tiles = tile_lanes(dtype), tiles_for(rows, dtype)
    panel = packed_buffer(rows, DEPTH, dtype)
    decided, fit = packed_buffer(rows, PANEL, dtype), np.empty(tiles, np.bool_)
    written = flat(target), flat(codes)
    sums = np.empty(2 * CHUNK, dtype), np.empty((rows // CHUNK + 1, 2), dtype)
    packed = packed_buffer(start if factor is None else stop, DEPTH, dtype)
    for end in range(stop, start, -PANEL):
        first = max(end - PANEL, start)
        steps, descending = end - first, range(end - 1, first - 1, -1)
        columns = np.array(descending)
        block = np.eye(steps, dtype=dtype) if factor is None else factor[first:end, first:end]
        coupling = coupling_block(block[::-1, ::-1])
        shared = (*written, end - 1, n, rows, steps, panel, DEPTH, decided, fit, flat(coupling))
        if isinstance(codebook, ScaledLattice) and codebook.lmmse:
            gain = np.empty(steps, dtype)
            lattice = dtype.type(codebook.step), codebook.spacing[columns]
            decide_with_gains(*shared, factor is not None, *lattice, gain, *sums)
            gains[first - start : end - start] = gain[::-1]
        else:
            rule = row_rule(codebook, coupling.diagonal()[:steps].copy(), columns, tiles * width)
            decide_rows(*shared, factor is not None, *rule)
        if not fit.all():
            _refuse(decided, end, steps, rows)
        if factor is not None and first > 0:
            pack_columns(factor, descending, range(first), packed, DEPTH)
            update(
                *(target, range(rows), range(first), panel, whole_extents(tiles, steps)),
                *(packed, whole_extents(tiles_for(first, dtype), steps), DEPTH),
            )
    return gains
