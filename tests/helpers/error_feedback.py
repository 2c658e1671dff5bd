"""GPTQ as its paper derives it: error feedback through the inverse Hessian.

    H⁻¹ = Tᵀ T (T upper triangular);  column by column:  w_j -= ((w_i - q_i) / T_ii)·T_ij,  j > i

in blocks of columns, the columns behind a block being updated once, when it is done. The factor is
LAPACK's and the sums are BLAS's: nothing here is shared with the package, and rounding differs from
it everywhere. What must agree are the decisions, but for ties: on a symmetric grid the least weight
of a row lies at -maximum/2 steps, half-way between two codes, so where nothing was fed back to it
the last bit decides. `clear` says in which rows no decision was so close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .formats_by_value import nearest_values

Array = NDArray[np.float64]

# A weight this close to a tie, in steps, may go either way: the two derivations differ by rounding.
CLEAR = 1e-9


@dataclass(frozen=True)
class Grid:
    """The numbers that one row may take within a group of columns; one entry a row."""

    scale: Array
    zero: Array
    maximum: int

    def codes(self, x: Array) -> Array:
        return np.clip(np.rint(x / self.scale) + self.zero, 0, self.maximum)

    def values(self, codes: Array) -> Array:
        return self.scale * (codes - self.zero)


@dataclass(frozen=True)
class FloatGrid:
    """The same for a small float format; a code is the bit pattern without its sign bit, signed."""

    scale: Array
    zero: Array
    magnitudes: Array

    def codes(self, x: Array) -> Array:
        return nearest_values(x / self.scale, self.magnitudes)

    def values(self, codes: Array) -> Array:
        return self.scale * np.sign(codes) * self.magnitudes[np.abs(codes).astype(int)]


@dataclass(frozen=True)
class Lattice:
    """One spacing, no limits."""

    scale: Array
    zero: Array

    def codes(self, x: Array) -> Array:
        return np.rint(x / self.scale)

    def values(self, codes: Array) -> Array:
        return self.scale * codes


def find_grid(x: Array, bits: int, symmetric: bool, mse: bool, magnitudes: Array | None = None):
    """The grid of each row of x."""
    rows = len(x)
    if magnitudes is not None:
        largest = np.abs(x).max(axis=1)
        scale = np.where(largest == 0, 1, largest) / magnitudes[-1]
        return FloatGrid(scale, np.zeros(rows), magnitudes)

    maximum = 2**bits - 1
    low = np.minimum(x.min(axis=1), 0)
    high = np.maximum(x.max(axis=1), 0)
    if symmetric:
        high = np.maximum(np.abs(low), high)
        low = np.where(low < 0, -high, low)
    empty = (low == 0) & (high == 0)
    low, high = np.where(empty, -1, low), np.where(empty, 1, high)

    def shrunk(p: float) -> Grid:
        scale = (p * high - p * low) / maximum
        middle = np.full(rows, (maximum + 1) / 2)
        return Grid(scale, middle if symmetric else np.rint(-(p * low) / scale), maximum)

    grid = shrunk(1)
    if not mse:
        return grid
    best = np.full(rows, np.inf)
    scale, zero = grid.scale.copy(), grid.zero.copy()
    for i in range(80):
        trial = shrunk(1 - i / 100)
        columns = [trial.values(trial.codes(x[:, j])) - x[:, j] for j in range(x.shape[1])]
        error = (np.abs(np.stack(columns, axis=1)) ** 2.5).sum(axis=1)
        better = error < best
        best[better] = error[better]
        scale[better], zero[better] = trial.scale[better], trial.zero[better]
    return Grid(scale, zero, maximum)


@dataclass(frozen=True)
class Found:
    codes: Array
    dequantized: Array
    scale: Array  # rows × groups
    zero: Array
    group: NDArray[np.int64]  # of each column, in the original order
    clear: NDArray[np.bool_]  # rows without a decision that rounding could turn


def gptq(
    weight: Array,
    covariance: Array,
    *,
    bits: int = 4,
    symmetric: bool = True,
    mse: bool = False,
    magnitudes: Array | None = None,
    lattice: float | None = None,
    group_size: int | None = None,
    static: bool = False,
    actorder: bool = False,
    block_size: int = 128,
    damping: float = 0.01,
) -> Found:
    W, H = weight.copy(), covariance.copy()
    n = len(H)
    row_grid = find_grid(W, bits, symmetric, mse, magnitudes)
    if lattice:
        row_grid = Lattice(np.full(len(W), lattice), np.zeros(len(W)))

    dead = np.diag(H) == 0
    H[dead, dead] = 1
    W[:, dead] = 0

    static_grids = []
    if group_size and static:
        for start in range(0, n, group_size):
            part = W[:, start : start + group_size]
            static_grids.append(find_grid(part, bits, symmetric, mse, magnitudes))

    order = np.argsort(-np.diag(H), kind="stable") if actorder else np.arange(n)
    W, H = W[:, order], H[np.ix_(order, order)]
    H = H + damping * np.diag(H).mean() * np.eye(n)
    lower = np.linalg.cholesky(H)
    half = np.linalg.inv(lower)
    T = np.linalg.cholesky(half.T @ half).T

    codes, values = np.zeros_like(W), np.zeros_like(W)
    group = np.zeros(n, np.int64)
    grids: list = list(static_grids)
    clear = np.ones(len(W), bool)
    for first in range(0, n, block_size):
        last = min(first + block_size, n)
        block = W[:, first:last].copy()  # W itself stays as it is until the block is done
        error = np.zeros_like(block)
        for i in range(last - first):
            place = first + i
            if not group_size:
                grid = row_grid
            elif static:
                group[place] = order[place] // group_size
                grid = grids[group[place]]
            else:
                group[place] = place // group_size
                if place % group_size == 0:
                    part = W[:, place : place + group_size]
                    grids.append(find_grid(part, bits, symmetric, mse, magnitudes))
                grid = grids[-1]
            w = block[:, i]
            codes[:, place] = grid.codes(w)
            values[:, place] = grid.values(codes[:, place])
            shift = CLEAR * grid.scale
            clear &= grid.codes(w - shift) == grid.codes(w + shift)
            error[:, i] = (w - values[:, place]) / T[place, place]
            block[:, i:] -= np.outer(error[:, i], T[place, place:last])
        W[:, last:] -= error @ T[first:last, last:]

    undo = np.argsort(order)
    if not group_size:
        grids = [row_grid]
    return Found(
        codes[:, undo],
        values[:, undo],
        np.stack([g.scale for g in grids], axis=1),
        np.stack([g.zero for g in grids], axis=1),
        group[undo],
        clear,
    )
