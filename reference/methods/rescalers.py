"""Once the codes are fixed, which row and column scales serve them best?

WaterSIC's gains γ are found one column at a time, from the errors of the moment. When all codes are
known, the scales can be found together. With P = Z·diag(α) and Ŵ = diag(t)·P·diag(g),

    D(t, g) = [tr(W Σ Wᵀ) - 2·⟨C, Ŵ⟩ + ⟨Ŵ Σ̂, Ŵ⟩] / (a·n),     C = W Σ_x + Δ

is quadratic in g when t is fixed, and in each t_i alone when g is fixed. So each half has a closed
solution, and taking them by turns lowers D until nothing moves (∘ is the elementwise product):

    (Σ̂ ∘ (Pᵀ diag(t²) P) + ρ·I) g = diag(Pᵀ diag(t) C)             ρ = 10⁻⁸·mean|diagonal|
    t_i = (C diag(g) Pᵀ)_ii / ((P̃ Σ̂ P̃ᵀ)_ii + ρ')                  P̃ = P diag(g)

with ρ' = 10⁻⁸ times the mean of that diagonal (t_i = 0 if nothing is left to divide by). Between
the two, g is clipped to [-0.1, 1.5]: a column with few codes could ask for anything. Afterwards
mean|t| = 1, the scale moves into g.

**When it ends.** After a turn that changes D by no more than 3·10⁻⁴ of itself, or 1000 turns.
Rounding and ρ can make a step worse instead of better. If the g-step raises D by more than
10⁻⁶·|D|, the best of ½, ¼, ⅛, 1/16 of it is taken; if none of these lowers D, or a turn in which
nothing was clipped raised D by that much, the state before the turn is the result.

All of it is in float64, whatever the working dtype: the inputs are widened exactly, and the results
are rounded once. The floors ρ are relative, so scaling W changes nothing but the scale of D.

D is never assembled from Ŵ. With cross_i = (C P̃ᵀ)_ii and energy_i = (P̃ Σ̂ P̃ᵀ)_ii it is

    D = [tr(W Σ Wᵀ) - 2·Σ_i t_i·cross_i + Σ_i t_i²·energy_i] / (a·n)

and the same two vectors give the t-step: t_i = cross_i / (energy_i + ρ'). One product a turn.

Worked example: one weight W = 3, one code Z = 2 with α = 1, Σ = 1. The best multiple is 1.5.

>>> import numpy as np
>>> from ..operations.numpy_operations import NUMPY
>>> one = np.ones((1, 1))
>>> problem = RescaleProblem(NUMPY, 2 * one, one, 3 * one, clean_energy=9.0)
>>> t, g = rescale(problem, np.ones(1))
>>> round(float(t[0] * g[0]), 6)
1.5

Exercise: with W = 4 the best multiple is 2, which the clip forbids for g alone. Who helps? (Check:
the row scale.)

>>> problem = RescaleProblem(NUMPY, 2 * one, one, 4 * one, clean_energy=16.0)
>>> t, g = rescale(problem, np.ones(1))
>>> round(float(t[0] * g[0]), 6)
2.0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.sums import mean, tree_sum
from ..errors import NotPositiveDefinite
from ..operations import Matrix, Operations
from .preparation import damped

Vector = NDArray[np.float64]

LEAST_GAIN, GREATEST_GAIN = -0.1, 1.5
FLOOR = 1e-8
SETTLED = 3e-4
RAISED = 1e-6
TURNS = 1000
PARTS_OF_A_STEP = (0.5, 0.25, 0.125, 0.0625)


@dataclass(frozen=True)
class RescaleProblem:
    """What the scales are to be found for, all matrices in float64 on one backend.

    Attributes:
        lattice_points: P = Z·diag(α), a×n.
        covariance_quantized: Σ̂, n×n, undamped (Σ without drift).
        target_moment: C = W Σ_x + Δ, a×n (W Σ without drift).
        clean_energy: tr(W Σ Wᵀ).
    """

    backend: Operations
    lattice_points: Matrix
    covariance_quantized: Matrix
    target_moment: Matrix
    clean_energy: float


@dataclass(frozen=True)
class _Columns:
    """Column gains g, with cross and energy of P̃ = P diag(g) for each row."""

    gains: Vector
    cross: Vector
    energy: Vector


def rescale(problem: RescaleProblem, gains: Vector) -> tuple[Vector, Vector]:
    """Row scales t (mean|t| = 1) and column gains g, from t = 1 and g = `gains`; float64, bits.

    Raises:
        NotPositiveDefinite: Σ̂ is so indefinite that the g-step has no minimum.
    """
    rows, _ = problem.backend.shape(problem.lattice_points)
    t = np.ones(rows)
    columns = _columns(problem, gains)
    D = _distortion(problem, t, columns)
    for _ in range(TURNS):
        stepped = _gain_step(problem, t, columns, D)
        if stepped is None:
            break
        clipped = np.minimum(np.maximum(stepped.gains, LEAST_GAIN), GREATEST_GAIN)
        was_clipped = not np.array_equal(clipped, stepped.gains)
        if was_clipped:
            stepped = _columns(problem, clipped)
        t_next = _row_step(stepped)
        D_next = _distortion(problem, t_next, stepped)
        if _raised(D_next, D) and not was_clipped:
            break
        t, columns = _normalized(t_next, stepped)
        settled = abs(D_next - D) <= SETTLED * abs(D)
        D = D_next
        if settled:
            break
    return t, columns.gains


def _columns(problem: RescaleProblem, gains: Vector) -> _Columns:
    backend = problem.backend
    scaled = backend.scale_columns(problem.lattice_points, gains)
    return _Columns(
        gains,
        cross=backend.row_inner(problem.target_moment, scaled),
        energy=backend.row_inner(backend.matmul(scaled, problem.covariance_quantized), scaled),
    )


def _distortion(problem: RescaleProblem, t: Vector, columns: _Columns) -> float:
    """D(t, g)·a·n; the constant factor plays no part in any comparison."""
    cross = float(tree_sum(t * columns.cross))
    energy = float(tree_sum(t * t * columns.energy))
    return (problem.clean_energy - 2.0 * cross) + energy


def _raised(D: float, D_before: float) -> bool:
    return D - D_before > RAISED * abs(D_before)


def _gain_step(problem: RescaleProblem, t: Vector, columns: _Columns, D: float) -> _Columns | None:
    """The best gains for these row scales, or a part of the way; None if every part is worse."""
    best = _columns(problem, _best_gains(problem, t))
    if not _raised(_distortion(problem, t, best), D):
        return best
    lowest, D_lowest = None, D
    for part in PARTS_OF_A_STEP:
        gains = columns.gains + part * (best.gains - columns.gains)
        candidate = _columns(problem, gains)
        D_candidate = _distortion(problem, t, candidate)
        if D_candidate < D_lowest:
            lowest, D_lowest = candidate, D_candidate
    return lowest


def _best_gains(problem: RescaleProblem, t: Vector) -> Vector:
    backend = problem.backend
    scaled = backend.scale_rows(problem.lattice_points, t)
    gram = backend.matmul_transposed(scaled, scaled)
    quadratic = backend.multiply(problem.covariance_quantized, gram)
    floor = FLOOR * mean(np.abs(backend.diagonal(quadratic)))
    try:
        L = backend.cholesky(damped(backend, quadratic, floor))
    except NotPositiveDefinite as failure:
        cause = "the covariance has negative eigenvalues: add to its diagonal"
        if failure.value == 0:
            cause = "no column with a code has energy in the covariance, or it underflows"
        elif not np.isfinite(failure.value):
            cause = "it overflows float64: scale the weight down"
        raise NotPositiveDefinite(
            failure.pivot,
            failure.value,
            "the rescalers' system",
            f"{cause}; or use --no-rescale (rescale=False)",
        ) from None
    linear = backend.from_host(backend.column_inner(scaled, problem.target_moment)[None], float)
    forward = backend.solve(linear, L)
    gains = backend.solve_reversed(forward, L, 0, backend.shape(L)[0])
    return backend.to_host(gains)[0]


def _row_step(columns: _Columns) -> Vector:
    floor = FLOOR * mean(columns.energy)
    energy = columns.energy + floor
    there = energy != 0
    return np.where(there, columns.cross / np.where(there, energy, 1.0), 0.0)


def _normalized(t: Vector, columns: _Columns) -> tuple[Vector, _Columns]:
    size = mean(np.abs(t))
    if size == 0:
        return t, columns
    moved = _Columns(columns.gains * size, columns.cross * size, columns.energy * size * size)
    return t / size, moved
