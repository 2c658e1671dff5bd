"""What `waterlevel bench` times: operations, the inputs they get, and the same from a library.

Pairs are products that are subtracted from (or added to) something: one each in an inner product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ..reference.codebooks import AffineGrid, Codebook, ScaledLattice
from ..reference.operations import Operations
from . import block_updated
from .golden.recipes import bell, structured_covariance

STEP = 0.5
MAXIMUM = 15


class Inputs:
    """A layer of a×n weights from recipes, and what follows from it."""

    def __init__(self, rows: int, columns: int, dtype: str) -> None:
        self.rows, self.columns, self.dtype = rows, columns, np.dtype(dtype)
        self.weight = bell(1, [rows, columns], dtype=dtype)
        self.covariance = structured_covariance(2, columns, dtype=dtype)

    @cached_property
    def factor(self) -> NDArray:
        """L of the covariance, by LAPACK."""
        return np.linalg.cholesky(self.covariance)

    @cached_property
    def target(self) -> NDArray:
        """W L, by BLAS."""
        return self.weight @ self.factor

    def gains(self, diagonal: NDArray) -> ScaledLattice:
        """WaterSIC's codebook."""
        return ScaledLattice(STEP, self.dtype.type(STEP) / diagonal, lmmse=True)

    @cached_property
    def grid(self) -> AffineGrid:
        """A grid of 4 bits for each row."""
        scale = np.full((self.rows, 1), 0.125, self.dtype)
        zero = np.full((self.rows, 1), (MAXIMUM + 1) // 2, np.int32)
        return AffineGrid(scale, zero, np.zeros(self.columns, np.int64), MAXIMUM)


Run = Callable[[Operations, Inputs], tuple[NDArray, ...]]


@dataclass(frozen=True)
class Row:
    """One operation or algorithm.

    Attributes:
        ours: on a backend. library: the inexact equivalent on BLAS and LAPACK.
        needs: attributes of `Inputs` to make before the clock runs.
        pairs: how many for a×n.
        square: whether the number of rows plays no part.
    """

    ours: Run
    library: Callable[[Inputs], object]
    needs: tuple[str, ...]
    pairs: Callable[[int, int], float]
    square: bool = False


def _cancel(operations: Operations, inputs: Inputs, codebook: Codebook) -> tuple[NDArray, ...]:
    target, codes = inputs.target.copy(), np.zeros(inputs.target.shape, np.int32)
    gains = operations.sic(target, codes, inputs.factor, codebook, 0, inputs.columns)
    return target, codes, gains


def _cancel_by_library(inputs: Inputs, decide: block_updated.Decide) -> None:
    codes = np.empty(inputs.target.shape, np.int32)
    block_updated.sic(inputs.target.copy(), codes, inputs.factor, decide)


def _core(operations: Operations, inputs: Inputs) -> tuple[NDArray, ...]:
    factor = operations.cholesky(inputs.covariance)
    target = operations.matmul(inputs.weight, factor)
    codes = np.zeros(target.shape, np.int32)
    codebook = inputs.gains(operations.diagonal(factor))
    gains = operations.sic(target, codes, factor, codebook, 0, inputs.columns)
    return target, codes, gains


def _before_the_diagonal(rows: int, columns: int) -> float:
    return rows * columns * (columns - 1) / 2


def _factor(rows: int, columns: int) -> float:
    return columns * (columns**2 - 1) / 6


ROWS = {
    "Cholesky": Row(
        lambda operations, inputs: (operations.cholesky(inputs.covariance),),
        lambda inputs: np.linalg.cholesky(inputs.covariance),
        needs=(),
        pairs=_factor,
        square=True,
    ),
    "product W Σ": Row(
        lambda operations, inputs: (operations.matmul(inputs.weight, inputs.covariance),),
        lambda inputs: inputs.weight @ inputs.covariance,
        needs=(),
        pairs=lambda rows, columns: rows * columns**2,
    ),
    "product W L": Row(
        lambda operations, inputs: (operations.matmul(inputs.weight, inputs.factor),),
        lambda inputs: inputs.weight @ inputs.factor,
        needs=("factor",),
        pairs=lambda rows, columns: rows * columns * (columns + 1) / 2,
    ),
    "solve X Lᵀ = W": Row(
        lambda operations, inputs: (operations.solve(inputs.weight, inputs.factor),),
        lambda inputs: solve_triangular(inputs.factor, inputs.weight.T, lower=True),
        needs=("factor",),
        pairs=_before_the_diagonal,
    ),
    "SIC, gains": Row(
        lambda operations, inputs: _cancel(
            operations, inputs, inputs.gains(inputs.factor.diagonal())
        ),
        lambda inputs: _cancel_by_library(
            inputs,
            block_updated.with_gains(STEP, inputs.dtype.type(STEP) / inputs.factor.diagonal()),
        ),
        needs=("target",),
        pairs=_before_the_diagonal,
    ),
    "SIC, 4-bit grid": Row(
        lambda operations, inputs: _cancel(operations, inputs, inputs.grid),
        lambda inputs: _cancel_by_library(
            inputs,
            block_updated.on_grid(
                inputs.grid.scale[:, 0],
                inputs.grid.zero[:, 0].astype(inputs.dtype),
                MAXIMUM,
                inputs.factor.diagonal(),
            ),
        ),
        needs=("target", "grid"),
        pairs=_before_the_diagonal,
    ),
    "WaterSIC core": Row(
        _core,
        lambda inputs: block_updated.watersic(inputs.weight, inputs.covariance, STEP),
        needs=(),
        pairs=lambda rows, columns: (
            _factor(rows, columns)
            + rows * columns * (columns + 1) / 2
            + _before_the_diagonal(rows, columns)
        ),
    ),
}
