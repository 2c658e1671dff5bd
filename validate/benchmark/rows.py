"""What `waterlevel bench` times: operations, the inputs they get, and the same from a library.

Pairs are products that are subtracted from (or added to) something: one each in an inner product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ...reference.grids.codebooks import AffineGrid, Codebook, ScaledLattice
from ...reference.operations import Matrix, Operations
from ..golden.recipes import bell, structured_covariance
from . import block_updated, eager

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
    def scale(self) -> NDArray:
        """Of the grid, for each row."""
        return self.grid.scale[:, 0].copy()

    @cached_property
    def zero(self) -> NDArray:
        """Of the grid, for each row, as numbers to calculate with."""
        return self.grid.zero[:, 0].astype(self.dtype)

    @cached_property
    def grid(self) -> AffineGrid:
        """A grid of 4 bits for each row."""
        scale = np.full((self.rows, 1), 0.125, self.dtype)
        zero = np.full((self.rows, 1), (MAXIMUM + 1) // 2, np.int32)
        return AffineGrid(scale, zero, np.zeros(self.columns, np.int64), MAXIMUM)


class Placed:
    """The matrices of `Inputs` where they are to be computed with, each put there once."""

    def __init__(self, inputs: Inputs, place: Callable[[NDArray], Any]) -> None:
        self.host, self._place = inputs, place

    def __getattr__(self, name: str) -> Any:
        matrix = self._place(getattr(self.host, name))
        setattr(self, name, matrix)  # is found from now on before this method is asked
        return matrix


Run = Callable[[Operations, Placed], tuple[Matrix | NDArray, ...]]


@dataclass(frozen=True)
class Row:
    """One operation or algorithm.

    Attributes:
        ours: on a backend. library: the inexact equivalent on BLAS and LAPACK.
        eager: the same on a device, as one would write it for the array module that is handed over.
        needs: matrices of `Inputs` to make and place before the clock runs.
        pairs: how many for a×n. numbers: of the least that must be read and written for a×n.
        square: whether the number of rows plays no part.
    """

    ours: Run
    library: Callable[[Inputs], object]
    eager: Callable[[Any, Placed], object]
    needs: tuple[str, ...]
    pairs: Callable[[int, int], float]
    numbers: Callable[[int, int], float]
    square: bool = False


def _cancel(
    operations: Operations, placed: Placed, codebook: Codebook
) -> tuple[Matrix | NDArray, ...]:
    rows, columns = placed.host.rows, placed.host.columns
    target = operations.take(placed.target, None, None)
    codes = operations.zeros(rows, columns, np.int32)
    gains = operations.sic(target, codes, placed.factor, codebook, 0, columns)
    return target, codes, gains


def _cancel_by_library(inputs: Inputs, decide: block_updated.Decide) -> None:
    codes = np.empty(inputs.target.shape, np.int32)
    block_updated.sic(inputs.target.copy(), codes, inputs.factor, decide)


def _core(
    operations: Operations, placed: Placed, codebook: Callable[[NDArray], Codebook]
) -> tuple[Matrix | NDArray, ...]:
    """Factor, target and cancellation, by a codebook that may depend on the factor's diagonal."""
    host = placed.host
    factor = operations.cholesky(placed.covariance)
    target = operations.matmul(placed.weight, factor)
    codes = operations.zeros(host.rows, host.columns, np.int32)
    chosen = codebook(operations.diagonal(factor))
    gains = operations.sic(target, codes, factor, chosen, 0, host.columns)
    return target, codes, gains


def _before_the_diagonal(rows: int, columns: int) -> float:
    return rows * columns * (columns - 1) / 2


def _factor(rows: int, columns: int) -> float:
    return columns * (columns**2 - 1) / 6


def _triangle(columns: int) -> float:
    return columns * (columns + 1) / 2


def _core_pairs(rows: int, columns: int) -> float:
    target = rows * _triangle(columns)
    return _factor(rows, columns) + target + _before_the_diagonal(rows, columns)


ROWS = {
    "Cholesky": Row(
        lambda operations, placed: (operations.cholesky(placed.covariance),),
        lambda inputs: np.linalg.cholesky(inputs.covariance),
        lambda xp, placed: xp.linalg.cholesky(placed.covariance),
        needs=("covariance",),
        pairs=_factor,
        numbers=lambda rows, columns: 2 * _triangle(columns),
        square=True,
    ),
    "product W Σ": Row(
        lambda operations, placed: (operations.matmul(placed.weight, placed.covariance),),
        lambda inputs: inputs.weight @ inputs.covariance,
        lambda xp, placed: placed.weight @ placed.covariance,
        needs=("weight", "covariance"),
        pairs=lambda rows, columns: rows * columns**2,
        numbers=lambda rows, columns: 2 * rows * columns + columns**2,
    ),
    "product W L": Row(
        lambda operations, placed: (operations.matmul(placed.weight, placed.factor),),
        lambda inputs: block_updated.product(inputs.weight, inputs.factor),
        lambda xp, placed: placed.weight @ placed.factor,
        needs=("weight", "factor"),
        pairs=lambda rows, columns: rows * columns * (columns + 1) / 2,
        numbers=lambda rows, columns: 2 * rows * columns + _triangle(columns),
    ),
    "solve X Lᵀ = W": Row(
        lambda operations, placed: (operations.solve(placed.weight, placed.factor),),
        lambda inputs: solve_triangular(inputs.factor, inputs.weight.T, lower=True),
        lambda xp, placed: eager.solve(xp, placed.weight, placed.factor),
        needs=("weight", "factor"),
        pairs=_before_the_diagonal,
        numbers=lambda rows, columns: 2 * rows * columns + _triangle(columns),
    ),
    "SIC, gains": Row(
        lambda operations, placed: _cancel(
            operations, placed, placed.host.gains(placed.host.factor.diagonal())
        ),
        lambda inputs: _cancel_by_library(
            inputs,
            block_updated.with_gains(STEP, inputs.dtype.type(STEP) / inputs.factor.diagonal()),
        ),
        lambda xp, placed: eager.sic(
            xp,
            placed.target,
            placed.factor,
            eager.with_gains(xp, STEP, STEP / xp.diagonal(placed.factor)),
        ),
        needs=("target", "factor"),
        pairs=_before_the_diagonal,
        numbers=lambda rows, columns: 3 * rows * columns + _triangle(columns),
    ),
    "SIC, 4-bit grid": Row(
        lambda operations, placed: _cancel(operations, placed, placed.host.grid),
        lambda inputs: _cancel_by_library(
            inputs,
            block_updated.on_grid(inputs.scale, inputs.zero, MAXIMUM, inputs.factor.diagonal()),
        ),
        lambda xp, placed: eager.sic(
            xp,
            placed.target,
            placed.factor,
            eager.on_grid(xp, placed.scale, placed.zero, MAXIMUM, xp.diagonal(placed.factor)),
        ),
        needs=("target", "factor"),
        pairs=_before_the_diagonal,
        numbers=lambda rows, columns: 3 * rows * columns + _triangle(columns),
    ),
    "WaterSIC core": Row(
        lambda operations, placed: _core(operations, placed, placed.host.gains),
        lambda inputs: block_updated.watersic(inputs.weight, inputs.covariance, STEP),
        lambda xp, placed: eager.watersic(xp, placed.weight, placed.covariance, STEP),
        needs=("weight", "covariance"),
        pairs=_core_pairs,
        numbers=lambda rows, columns: 3 * rows * columns + _triangle(columns),
    ),
    "GPTQ core": Row(
        lambda operations, placed: _core(operations, placed, lambda _: placed.host.grid),
        lambda inputs: block_updated.gptq(
            *(inputs.weight, inputs.covariance, inputs.scale, inputs.zero, MAXIMUM)
        ),
        lambda xp, placed: eager.gptq(
            *(xp, placed.weight, placed.covariance, placed.scale, placed.zero, MAXIMUM)
        ),
        needs=("weight", "covariance"),
        pairs=_core_pairs,
        numbers=lambda rows, columns: 3 * rows * columns + _triangle(columns),
    ),
}
