"""Successive interference cancellation, compiled.

A panel is packed, decided and written back tile by tile, then all columns before it are updated at
once. Where a codebook looks at one row, each tile of rows is on its own (`decide_tile`). With gains
a sum over all rows stands between a column and the next: there one thread decides 16 columns
(`decide_block`), and all of them subtract the products from the next 16 (`advance_tile`).

Codes stay floats until a panel is written back, so that one that does not fit in int32 is seen.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ...reference.arithmetic.sums import CHUNK
from ...reference.errors import CodeOverflow
from ...reference.grids.codebooks import Codebook, ScaledLattice
from .codebooks import AFFINE, LATTICE, decide_affine, decide_float, decide_lattice, row_rule
from .compiler import Array, entry, serial, task
from .lanes import add_step, round_step, scale_step
from .packing import flat, pack_columns, pack_rows, pack_tile, packed_buffer, tiles_for, unpack_tile
from .panels import BLOCK, DEPTH, PANEL, coupling_block, subtract_before, subtract_within
from .threads import share
from .tiles import lanes, tile_lanes
from .transposes import side, turn_codes
from .trees import fold_partials
from .updates import update, whole_extents


@serial
def _decide_packed(
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
    column: int,
    lane: int,
    rows: int,
    steps: int,
) -> bool:
    """Writes values and codes of the tile at `row` back; returns whether all codes fit."""
    width, block = lanes(decided), side(decided)
    origin, present = row * lane + column, min(width, rows - row)
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


@task
def decide_tile(
    t: int,
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
    row = t * width
    base, origin, present = row * depth, row * lane + column, min(width, rows - row)
    one = panel.dtype.type(1)
    pack_tile(numbers, origin, lane, present, np.int64(-1), steps, one, panel, base)
    _decide_packed(
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
    fit[t] = _write_tile(panel, base, decided, row, numbers, codes, column, lane, rows, steps)


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


@entry
def decide_block(
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
) -> None:
    """Decides the columns first … stop-1 by z = rint(y/c), with gains from all rows.

    The values of the last lack their factor, gain times spacing. `products` has room for two
    chunks, `partials` for two numbers of each chunk.
    """
    width, two = lanes(panel), np.int64(2)
    most = CHUNK // width
    chunks = (tiles + most - 1) // most
    for k in range(first, stop):
        for chunk in range(chunks):
            here = min(most, tiles - chunk * most)
            for t in range(here):
                row = (chunk * most + t) * width
                base = row * depth
                at, place = base + k * width, t * 2 * width
                if k > first:
                    scale_step(panel, at - width, gains[k - 1] * spacing[k - 1])
                if coupled:
                    subtract_within(panel, base, first, k, coupling)
                to = row * PANEL + k * width
                round_step(panel, at, decided, to, products, place, products, place + width, step)
            _fold_products(products, here, width)
            partials[2 * chunk], partials[2 * chunk + 1] = products[0], products[width]
        fold_partials(partials, two, chunks)
        gain = panel.dtype.type(0)
        if partials[1] > 0:
            gain = partials[0] / partials[1] / step
        gains[k] = gain


@task
def advance_tile(
    t: int,
    panel: Array,
    depth: int,
    coupling: Array,
    coupled: bool,
    spacing: Array,
    gains: Array,
    first: int,
    stop: int,
) -> None:
    """Completes the step before `first`, and subtracts all of them from first … stop-1."""
    width = lanes(panel)
    base = t * width * depth
    scale_step(panel, base + (first - 1) * width, gains[first - 1] * spacing[first - 1])
    if coupled:
        subtract_before(panel, base, first, stop, coupling)


@task
def write_tile(
    t: int,
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
) -> None:
    """Writes values and codes back."""
    row = t * lanes(panel)
    base = row * depth
    fit[t] = _write_tile(panel, base, decided, row, numbers, codes, column, lane, rows, steps)


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
    sums = np.empty(2 * CHUNK, dtype), np.empty(2 * (rows // CHUNK + 1), dtype)
    packed = packed_buffer(start if factor is None else stop, DEPTH, dtype)
    for end in range(stop, start, -PANEL):
        first = max(end - PANEL, start)
        steps, descending = end - first, range(end - 1, first - 1, -1)
        columns = np.array(descending)
        block = np.eye(steps, dtype=dtype) if factor is None else factor[first:end, first:end]
        coupling = coupling_block(block[::-1, ::-1])
        lines = *written, end - 1, n, rows, steps, panel, DEPTH, decided, fit
        coupled = flat(coupling), factor is not None
        if isinstance(codebook, ScaledLattice) and codebook.lmmse:
            spacing, gain = codebook.spacing[columns], np.empty(steps, dtype)
            lattice = dtype.type(codebook.step), spacing, gain
            pack_rows(target, descending, range(rows), panel, DEPTH)
            for k in range(0, steps, BLOCK):
                until = min(k + BLOCK, steps)
                then = min(until + BLOCK, steps)
                decide_block(panel, DEPTH, decided, *coupled, k, until, tiles, *lattice, *sums)
                share(advance_tile, tiles, panel, DEPTH, *coupled, spacing, gain, until, then)
            share(write_tile, tiles, *lines)
            gains[first - start : end - start] = gain[::-1]
        else:
            rule = row_rule(codebook, coupling.diagonal()[:steps].copy(), columns, tiles * width)
            share(decide_tile, tiles, *lines, *coupled, *rule)
        if not fit.all():
            _refuse(decided, end, steps, rows)
        if factor is not None and first > 0:
            pack_columns(factor, descending, range(first), packed, DEPTH)
            update(
                *(target, range(rows), range(first), panel, whole_extents(tiles, steps)),
                *(packed, whole_extents(tiles_for(first, dtype), steps), DEPTH),
            )
    return gains
