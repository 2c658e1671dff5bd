"""The rules by which `sic` decides a column where each row is on its own.

One rule decides a step of a packed tile: `panel` at `at` holds the open numbers y and receives the
values, `decided` at `to` receives the codes, as floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.grids.codebooks import AffineGrid, Codebook, ScaledLattice, UniformLattice
from .compiler import Array, serial
from .tiles import lanes

LATTICE, AFFINE, FLOAT = 0, 1, 2


@serial
def decide_lattice(
    panel: Array,
    at: int,
    decided: Array,
    to: int,
    divisor: float,
    step: float,
    spacing: float,
) -> None:
    """z = rint((y/l)/step), value z·spacing."""
    zero = panel.dtype.type(0)  # turns -0.0 into +0.0
    for l in range(lanes(panel)):
        z = np.rint(panel[at + l] / divisor / step) + zero
        decided[to + l] = z
        panel[at + l] = z * spacing


@serial
def decide_affine(
    panel: Array,
    at: int,
    decided: Array,
    to: int,
    divisor: float,
    scale: Array,
    zero: Array,
    maximum: float,
) -> None:
    """q = clamp(rint((y/l)/s) + zero, 0, maximum), value s·(q - zero)."""
    number = panel.dtype.type
    for l in range(lanes(panel)):
        level = np.rint(panel[at + l] / divisor / scale[l]) + number(zero[l])
        finite = level - level == 0
        q = min(max(level, number(0)), maximum) if finite else level
        decided[to + l] = q
        difference = np.int32(np.int64(q) - zero[l]) if finite else np.int32(0)
        panel[at + l] = scale[l] * number(difference)


@serial
def decide_float(
    panel: Array,
    at: int,
    decided: Array,
    to: int,
    divisor: float,
    scale: Array,
    magnitudes: Array,
    midpoints: Array,
) -> None:
    """The nearest value of a format to (y/l)/s; of two equally near ones that of the even code."""
    number = panel.dtype.type
    largest = len(midpoints)
    for l in range(lanes(panel)):
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
        decided[to + l] = number(-low if negative else low) if finite else level
        value = number(magnitudes[low])
        panel[at + l] = scale[l] * (-value if negative else value)


def _filled_up(values: NDArray, groups: NDArray[np.int64], rows: int, filling: int) -> NDArray:
    """values[:, groups]ᵀ, with further columns for the rows that fill up the last tile."""
    padded = np.full((len(groups), rows), filling, values.dtype)
    padded[:, : len(values)] = values[:, groups].T
    return padded


def row_rule(
    codebook: Codebook, diagonal: NDArray, columns: NDArray[np.int64], rows: int
) -> tuple[Any, ...]:
    """The last ten arguments of `decide_tile`, for a panel whose steps are `columns`."""
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
