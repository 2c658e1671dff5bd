"""What lattice theory says about the loop, in exact fractions, and its second derivation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from waterlevel.reference.grids.codebooks import AffineGrid, UniformLattice
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers import scalar
from ...helpers.codebooks import codebooks
from ...helpers.inputs import bell, dtypes, integers, keys, lower, positive_definite


def run(target, factor, codebook, start=0):
    """What is left of the target, and the codes; the arguments stay as they are."""
    left, codes = target.copy(), np.zeros(target.shape, np.int32)
    NUMPY.sic(left, codes, factor, codebook, start, target.shape[1])
    return left, codes


def exact_case(key: int, n: int, a: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """W, L such that the loop with a spacing of a power of two never rounds in float64.

    The diagonal of L holds powers of two, off it stand eighths; W holds 256ths, on and off ties.
    """
    L = np.tril(integers(key, -8, 8, n, n), -1) / 8 + np.diag(2.0 ** integers(key + 1, -2, 1, n))
    return integers(key + 2, -1024, 1024, a, n) / 256, L


def exact_product(A: np.ndarray, B: np.ndarray) -> list[list[Fraction]]:
    return scalar.matmul(scalar.lists(A, Fraction), scalar.lists(B, Fraction), Fraction)


@given(st.integers(1, 7), keys, st.sampled_from((1.0, 0.5, 2.0)))
def test_error_of_a_column_is_its_own_rounding_error(n, key, spacing):
    """Column k of (W - Ŵ) L is (v_k - ŵ_k)·l_kk in fractions, so at most ½·α·l_kk (Babai)."""
    W, L = exact_case(key, n, 3)
    Y = NUMPY.matmul(W, L)
    assert scalar.lists(Y, Fraction) == exact_product(W, L)
    values, codes = run(Y, L, UniformLattice(spacing))
    left, exact_codes, _ = scalar.sic(
        exact_product(W, L), scalar.lists(L, Fraction),
        scalar.uniform_lattice(Fraction(spacing)), 0, n, Fraction,
    )  # fmt: skip
    assert scalar.lists(values, Fraction) == left
    assert codes.tolist() == exact_codes
    error = exact_product(W - values, L)
    for k in range(n):
        before, _ = run(Y, L, UniformLattice(spacing), k + 1)
        for i in range(3):
            wanted = Fraction(before[i, k]) / Fraction(L[k, k])
            assert error[i][k] == (wanted - Fraction(values[i, k])) * Fraction(L[k, k])
            assert abs(error[i][k]) <= Fraction(spacing) * Fraction(L[k, k]) / 2


@settings(max_examples=40)
@given(st.integers(1, 9), keys, dtypes)
def test_babai_bound_with_rounding(n, key, dtype):
    """|((W - Ŵ) L)_k| ≤ ½·α·l_kk + γ_{2n+5} Σ_{m≥k} (|w_m| + |ŵ_m|)·|l_mk|, Ŵ evaluated exactly.

    Y_k = Σ w_m l_mk carries γ_n; the subtractions another γ_n of what they meet; two divisions
    before rint and one product after it are three factors 1 + δ more; γ_a + γ_b + γ_a·γ_b ≤ γ_{a+b}
    gathers them (Higham, lemma 3.3), and one step is left for division by 1 + δ.
    """
    W, L = bell(key, (2, n), dtype), lower(key + 6, n, dtype)
    spacing = 0.25
    values, _ = run(NUMPY.matmul(W, L), L, UniformLattice(spacing))
    u = Fraction(1, 2 ** (53 if dtype is np.float64 else 24))
    growth = (2 * n + 5) * u / (1 - (2 * n + 5) * u)
    w, v, l = (scalar.lists(M, Fraction) for M in (W, values, L))
    for i in range(2):
        for k in range(n):
            error = sum((w[i][m] - v[i][m]) * l[m][k] for m in range(k, n))
            size = sum((abs(w[i][m]) + abs(v[i][m])) * abs(l[m][k]) for m in range(k, n))
            assert abs(error) <= Fraction(spacing) * l[k][k] / 2 + growth * size


def nearest_point(w: np.ndarray, L: np.ndarray) -> tuple[Fraction, list[tuple[int, ...]]]:
    """The least ‖(w - z) L‖² over all whole z, and every z that reaches it, by trying them.

    If ‖E‖ ≤ r for E = (w - z) L, then |w_k - z_k| = |E · column k of L⁻¹| ≤ r ‖column k‖: no z
    outside this box can beat the r of z = rint(w). Everything is a multiple of 2⁻⁸·2⁻³.
    """
    n = len(w)
    whole = np.rint(w * 256).astype(np.int64), np.rint(L * 8).astype(np.int64)

    def squared(z: np.ndarray) -> np.ndarray:
        error = np.einsum("ik,kj->ij", whole[0] - 256 * z, whole[1])
        return (error * error).sum(axis=1)  # whole numbers below 2⁶³

    start = np.rint(w).astype(np.int64)
    radius = math.sqrt(int(squared(start[None])[0])) / 2048
    reach = radius * np.sqrt((np.linalg.inv(L) ** 2).sum(axis=0)) * 1.001
    sides = [range(math.floor(x - r), math.ceil(x + r) + 1) for x, r in zip(w, reach, strict=True)]
    assert math.prod(map(len, sides)) < 10**6
    points = np.array(list(itertools.product(*sides)), np.int64).reshape(-1, n)
    lengths = squared(points)
    best = lengths.min()
    return Fraction(int(best), 2048**2), [tuple(z) for z in points[lengths == best].tolist()]


def sic_point(w: np.ndarray, L: np.ndarray) -> tuple[Fraction, tuple[int, ...]]:
    """The squared error of the loop, exact, and its codes."""
    _, codes = run(NUMPY.matmul(w[None], L), L, UniformLattice(1.0))
    error = exact_product(w[None] - codes, L)[0]
    return sum((e * e for e in error), Fraction(0)), tuple(codes[0].tolist())


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_nearest_point_for_a_diagonal_factor(n):
    """Columns that have nothing to do with one another: rounding each is the best, always."""
    for key in range(30):
        w, L = exact_case(key, n)
        w, L = w[0], np.diag(np.diag(L))
        if key % 3 == 0:
            w = np.rint(2 * w) / 2  # ties, where several points are nearest
        error, codes = sic_point(w, L)
        best, points = nearest_point(w, L)
        assert error == best
        assert codes in points


@pytest.mark.parametrize("n", [2, 3, 4])
def test_nearest_point_within_the_packing_radius(n):
    """‖E‖ < ½ min l_kk proves a point to be the nearest: no two points are closer than min l_kk.

    Beyond this radius the loop may miss the nearest point; these inputs do both.
    """
    proved = missed = 0
    for key in range(120):
        L = np.tril(integers(key, -4, 4, n, n), -1) / 8
        L += np.diag(integers(key + 1, 2, 8, n) / 8)
        w = integers(key + 2, -512, 512, n) / 256
        error, codes = sic_point(w, L)
        best, points = nearest_point(w, L)
        assert error >= best
        missed += error > best
        if 4 * error < Fraction(np.diag(L).min()) ** 2:
            proved += 1
            assert points == [codes]
        # Babai: never farther than half the diagonal of the box of sides l_kk
        assert error <= sum(Fraction(x) ** 2 for x in np.diag(L)) / 4
    assert proved > 3
    assert missed > 3


def test_the_loop_is_not_always_the_nearest_point():
    """L = (1 0; ⅜ ¼), w = (0.4, 0): column 1 is rounded to 0 at no cost and column 0 keeps 0.4.

    Had column 1 taken 1 instead, its error of ¼ would have left only 0.023 of the other.
    """
    w, L = np.array([102 / 256, 0.0]), np.array([[1.0, 0.0], [0.375, 0.25]])
    error, codes = sic_point(w, L)
    best, points = nearest_point(w, L)
    assert codes == (0, 0)
    assert error == Fraction(102, 256) ** 2
    assert points == [(0, 1)]
    assert best == Fraction(6, 256) ** 2 + Fraction(1, 16)
    assert float(error / best) > 2


# The second derivation of GPTQ -------------------------------------------------------------------

Rows = list[list[Fraction]]


def unit_factor(H: Rows) -> Rows:
    """M with H = M D Mᵀ, M lower triangular with ones on its diagonal, D diagonal: no roots."""
    n = len(H)
    M = [[Fraction(i == j) for j in range(n)] for i in range(n)]
    D: list[Fraction] = []
    for j in range(n):
        D.append(H[j][j] - sum(M[j][k] * M[j][k] * D[k] for k in range(j)))
        for i in range(j + 1, n):
            M[i][j] = (H[i][j] - sum(M[i][k] * M[j][k] * D[k] for k in range(j))) / D[j]
    return M


def inverse(H: Rows) -> Rows:
    """By Gauss and Jordan, without pivoting (H is positive definite)."""
    n = len(H)
    A = [[*row, *(Fraction(i == j) for j in range(n))] for i, row in enumerate(H)]
    for k in range(n):
        A[k] = [x / A[k][k] for x in A[k]]
        for i in range(n):
            if i != k:
                A[i] = [x - A[i][k] * y for x, y in zip(A[i], A[k], strict=True)]
    return [row[n:] for row in A]


def error_feedback(W: Rows, H: Rows, decide: scalar.Decide) -> tuple[list[list[int]], Rows]:
    """GPTQ as its authors write it: H⁻¹ = Tᵀ T, T upper triangular; column 0 first;

    err = (w_j - ŵ_j) / T_jj and w_k -= err·T_jk for k > j. With T = √D·U only U_jk = T_jk / T_jj
    appears. Returns the codes and what each weight had become when it was decided.
    """
    W = [row[:] for row in W]
    U = scalar.transpose(unit_factor(inverse(H)))
    codes: list[list[int]] = [[] for _ in W]
    for j in range(len(H)):
        decided, values, _ = decide([row[j] for row in W], Fraction(1), j)
        for i, row in enumerate(W):
            codes[i].append(decided[i])
            error = row[j] - values[i]
            for k in range(j + 1, len(H)):
                row[k] = row[k] - error * U[j][k]
    return codes, W


@pytest.mark.parametrize("which", ["uniform", "affine"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_error_feedback_is_the_loop_on_reversed_columns(which, n):
    """In exact fractions, and the float64 loop decides the same."""
    for key in range(12):
        W, H = bell(key, (3, n), np.float64), positive_definite(key + 50, n, np.float64)
        codebook, scalars = codebooks(key, 3, np.ones(n))[which]
        decide, flipped = scalars(Fraction), codebook
        if which == "affine":
            flipped = AffineGrid(codebook.scale, codebook.zero, codebook.group[::-1], 15)

        def decide_flipped(y, l, k, decide=decide):
            return decide(y, l, n - 1 - k)

        codes, updated = error_feedback(
            scalar.lists(W, Fraction), scalar.lists(H, Fraction), decide
        )
        w, h = scalar.lists(W[:, ::-1], Fraction), scalar.lists(H[::-1, ::-1], Fraction)
        M = unit_factor(h)  # L = M √D: Y_k / l_kk is the target of the same loop on M
        target = scalar.matmul(w, M, Fraction)
        _, loop_codes, _ = scalar.sic(target, M, decide_flipped, 0, n, Fraction)
        assert [row[::-1] for row in loop_codes] == codes
        for k in range(n):  # and each weight was asked for the very same number
            before, _, _ = scalar.sic(target, M, decide_flipped, k + 1, n, Fraction)
            assert [row[k] for row in before] == [row[n - 1 - k] for row in updated]

        L = NUMPY.cholesky(H[::-1, ::-1])
        _, float_codes = run(NUMPY.matmul(W[:, ::-1], L), L, flipped)
        assert float_codes[:, ::-1].tolist() == codes
