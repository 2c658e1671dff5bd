"""Every codebook twice: as the package has it, and made of scalars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from waterlevel.reference.grids.codebooks import (
    AffineGrid,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from waterlevel.reference.grids.float_formats import FORMATS

from . import scalar
from .inputs import bell, integers

# Exponent bits, mantissa bits, bias, and how many magnitudes are finite
FORMAT_FIELDS = {
    "fp4-e2m1": (2, 1, 1, 8),
    "fp6-e2m3": (2, 3, 1, 32),
    "fp6-e3m2": (3, 2, 3, 32),
    "fp8-e4m3": (4, 3, 7, 127),
    "fp8-e5m2": (5, 2, 15, 124),
}


def codebooks(key: int, rows: int, diagonal: NDArray):
    """Each codebook for a factor with this diagonal, and the same one made of scalars of a kind.

    A third of the keys gives whole steps, so that ties occur; the others nothing that is exact.
    """
    a, n, dtype = rows, len(diagonal), diagonal.dtype.type
    scale = np.abs(bell(key, (a, 2), dtype)) + dtype(0.125)
    zero = integers(key + 1, -3, 18, a, 2).astype(np.int32)
    group = integers(key + 2, 0, 1, n)
    step = 0.3  # not a float32, so it has to be rounded
    if key % 3 == 0:
        scale, step = integers(key, 1, 2, a, 2).astype(dtype), 1.0
    spacing = dtype(step) / diagonal
    form = list(FORMATS)[key % len(FORMATS)]
    lists = scalar.lists
    return {
        "uniform": (
            UniformLattice(step),
            lambda kind: scalar.uniform_lattice(kind(float(dtype(step)))),
        ),
        "scaled": (
            ScaledLattice(step, spacing, lmmse=True),
            lambda kind: scalar.scaled_lattice(
                kind(float(dtype(step))), lists(spacing, kind), True
            ),
        ),
        "unscaled": (
            ScaledLattice(step, spacing, lmmse=False),
            lambda kind: scalar.scaled_lattice(
                kind(float(dtype(step))), lists(spacing, kind), False
            ),
        ),
        "affine": (
            AffineGrid(scale, zero, group, 15),
            lambda kind: scalar.affine_grid(lists(scale, kind), zero.tolist(), group.tolist(), 15),
        ),
        "float": (
            FloatGrid(scale, group, FORMATS[form]),
            lambda kind: scalar.float_grid(
                lists(scale, kind), group.tolist(), scalar.magnitudes(*FORMAT_FIELDS[form])
            ),
        ),
    }


def far_grid(rows: int, columns: int, dtype) -> AffineGrid:
    """Zero points at the ends of int32: q - zero wraps around."""
    zero = np.resize(np.array([-(2**31), 2**31 - 1, 1 - 2**31], np.int32), (rows, 1))
    return AffineGrid(np.full((rows, 1), 0.5, dtype), zero, np.zeros(columns, np.int64), 15)


KINDS = ("uniform", "scaled", "unscaled", "affine", "float")
