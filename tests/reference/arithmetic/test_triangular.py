"""Cholesky and the triangular solves: order, rounding, error bounds, refusals."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings, strategies as st

from waterlevel.reference.arithmetic import products, triangular
from waterlevel.reference.errors import NotPositiveDefinite
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers import scalar
from ...helpers.inputs import (
    FLOATS,
    bell,
    dtypes,
    flavours,
    integers,
    keys,
    lower,
    numbers,
    positive_definite,
    ragged,
    same_bits,
)
from ...helpers.scalar import FLOATING, ROUNDED

small = st.integers(1, 6)
few_rows = st.sampled_from((1, 3))


def unit_roundoff(dtype) -> Fraction:
    return Fraction(1, 2 ** (53 if np.dtype(dtype) == np.float64 else 24))


def gamma(k: int, dtype) -> Fraction:
    """γ_k = k·u / (1 - k·u)."""
    return k * unit_roundoff(dtype) / (1 - k * unit_roundoff(dtype))


# Order and rounding ------------------------------------------------------------------------------


def check_cholesky(H: np.ndarray, kinds) -> None:
    """The same factor, or the same refusal with the same pivot and value."""
    kind = kinds[H.dtype]
    try:
        with np.errstate(all="ignore"):
            expected = scalar.cholesky(scalar.lists(H, kind), kind)
    except scalar.NotPositive as refusal:
        with pytest.raises(NotPositiveDefinite) as caught:
            NUMPY.cholesky(H)
        pivot, value = refusal.args
        assert caught.value.pivot == pivot
        same_bits(np.float64(caught.value.value), np.float64(value))
    else:
        same_bits(NUMPY.cholesky(H), scalar.array(expected, H.dtype))


@settings(max_examples=40)
@given(ragged, st.sampled_from((0, 9)), keys, dtypes)
def test_cholesky(n, spread, key, dtype):
    check_cholesky(positive_definite(key, n, dtype, spread), FLOATING)


@given(small, st.sampled_from((0, 9)), keys, dtypes)
def test_cholesky_correctly_rounded(n, spread, key, dtype):
    check_cholesky(positive_definite(key, n, dtype, spread), ROUNDED)


@given(st.sampled_from((1, 2, 5, 65)), flavours, keys, dtypes)
def test_cholesky_of_hostile_matrices(n, flavour, key, dtype):
    """Mostly refusals: subnormal, huge, indefinite, singular; a few with a heavy diagonal pass."""
    H = numbers(flavour, key, (n, n), dtype)
    if key % 2:
        with np.errstate(over="ignore"):
            np.fill_diagonal(H, np.abs(H).max(axis=0) * dtype(n))
    check_cholesky(H, FLOATING)


@settings(max_examples=60)
@given(few_rows, ragged, flavours, keys, dtypes)
def test_solves(a, n, flavour, key, dtype):
    T, L = numbers(flavour, key, (a, n), dtype), lower(key + 10, n, dtype)
    kind = FLOATING[T.dtype]
    t, l = scalar.lists(T, kind), scalar.lists(L, kind)
    with np.errstate(all="ignore"):
        forward, backward = scalar.solve(t, l), scalar.solve_reversed(t, l)
    same_bits(NUMPY.solve(T, L), scalar.array(forward, dtype))
    same_bits(NUMPY.solve_reversed(T, L, 0, n), scalar.array(backward, dtype))


@given(few_rows, small, flavours, keys, dtypes)
def test_solves_correctly_rounded(a, n, flavour, key, dtype):
    T, L = numbers(flavour, key, (a, n), dtype), lower(key + 10, n, dtype)
    kind = ROUNDED[T.dtype]
    t, l = scalar.lists(T, kind), scalar.lists(L, kind)
    for solve, found in (
        (scalar.solve, NUMPY.solve(T, L)),
        (scalar.solve_reversed, NUMPY.solve_reversed(T, L, 0, n)),
    ):
        try:
            expected = solve(t, l)
        except OverflowError:
            assert not np.isfinite(found).all()
        else:
            same_bits(found, scalar.array(expected, dtype))


@given(ragged, ragged, ragged, keys, dtypes)
def test_solve_reversed_on_a_range(n, start, stop, key, dtype):
    """As if there were no other columns, and as its definition says."""
    start, stop = sorted((min(start, n), min(stop, n)))
    T, L = numbers("wide", key, (3, n), dtype), lower(key + 10, n, dtype)
    part, block = T[:, start:stop], L[start:stop, start:stop]
    found = NUMPY.solve_reversed(T, L, start, stop)
    same_bits(found, NUMPY.solve_reversed(part, block, 0, stop - start))
    same_bits(found[:, ::-1], NUMPY.solve(part[:, ::-1], block[::-1, ::-1].T))


@pytest.mark.parametrize("panel", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("tile", [1, 500])
@pytest.mark.parametrize("dtype", FLOATS)
def test_panels_and_tiles_change_nothing(monkeypatch, panel, tile, dtype):
    n = 67
    H, T = positive_definite(1, n, dtype), numbers("wide", 2, (9, n), dtype)
    expected = NUMPY.cholesky(H)
    forward, backward = NUMPY.solve(T, expected), NUMPY.solve_reversed(T, expected, 3, 67)
    monkeypatch.setattr(triangular, "PANEL", panel)
    monkeypatch.setattr(products, "TILE", tile)
    same_bits(NUMPY.cholesky(H), expected)
    same_bits(NUMPY.solve(T, expected), forward)
    same_bits(NUMPY.solve_reversed(T, expected, 3, 67), backward)


@given(ragged, keys, dtypes)
def test_only_the_lower_triangle_is_read(n, key, dtype):
    H = positive_definite(key, n, dtype)
    L = NUMPY.cholesky(H)
    H[np.triu_indices(n, 1)] = np.nan
    same_bits(NUMPY.cholesky(H), L)
    same_bits(np.triu(L, 1), np.zeros((n, n), dtype))


@given(ragged, st.integers(-6, 6), keys, dtypes)
def test_scaling_by_a_power_of_two(n, p, key, dtype):
    """H·4^p has the factor L·2^p, and X Lᵀ = T·2^p the solution X·2^p, in every bit."""
    H, T = positive_definite(key, n, dtype), bell(key, (2, n), dtype)
    L = NUMPY.cholesky(H)
    same_bits(NUMPY.cholesky(np.ldexp(H, 2 * p)), np.ldexp(L, p))
    same_bits(NUMPY.solve(np.ldexp(T, p), L), np.ldexp(NUMPY.solve(T, L), p))


# Error bounds, in exact fractions ----------------------------------------------------------------
#
# y = (c - Σ_{k<m} a_k b_k) / d, evaluated as a chain, satisfies
# |c - Σ a_k b_k - y d| ≤ γ_{m+1} (Σ |a_k b_k| + |y d|), and for a square root y = √(c - …) the same
# with γ_{m+2} (Higham, lemma 8.4 and theorem 10.3). No underflow occurs in these inputs.


@settings(max_examples=40)
@given(st.integers(1, 9), st.sampled_from((0, 5)), keys, dtypes)
def test_backward_error_of_cholesky(n, spread, key, dtype):
    """|L Lᵀ - H|_ij ≤ γ_{j+2} (|L| |Lᵀ|)_ij for i ≥ j."""
    H = positive_definite(key, n, dtype, spread)
    h, l = scalar.lists(H, Fraction), scalar.lists(NUMPY.cholesky(H), Fraction)
    for i in range(n):
        for j in range(i + 1):
            terms = [l[i][k] * l[j][k] for k in range(j + 1)]
            assert abs(sum(terms) - h[i][j]) <= gamma(j + 2, dtype) * sum(map(abs, terms))


@settings(max_examples=40)
@given(st.integers(1, 9), keys, dtypes)
def test_residual_of_the_solves(n, key, dtype):
    """|X Lᵀ - T|_ij ≤ γ_{j+1} (|X| |Lᵀ|)_ij, and mirrored for X L = T."""
    T, L = numbers("wide", key, (2, n), dtype), lower(key, n, dtype)
    l, t = scalar.lists(L, Fraction), scalar.lists(T, Fraction)
    forward = scalar.lists(NUMPY.solve(T, L), Fraction)
    backward = scalar.lists(NUMPY.solve_reversed(T, L, 0, n), Fraction)
    for i in range(2):
        for j in range(n):
            terms = [forward[i][k] * l[j][k] for k in range(j + 1)]
            assert abs(sum(terms) - t[i][j]) <= gamma(j + 1, dtype) * sum(map(abs, terms))
            terms = [backward[i][k] * l[k][j] for k in range(j, n)]
            assert abs(sum(terms) - t[i][j]) <= gamma(n - j, dtype) * sum(map(abs, terms))


@pytest.mark.parametrize("spread", [0, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_cholesky_against_mpmath_and_lapack(spread, dtype):
    """Both factors lie within Sun's bound of the factor found with 60 digits.

    L Lᵀ = H + E with ‖E‖_F ≤ γ_{n+1} ‖|L| |Lᵀ|‖_F ≤ γ_{n+1} ‖L‖_F² and ‖L‖_F² = tr(H + E), so
    ‖E‖_F ≤ γ_{n+1} tr(H) / (1 - γ_{n+1}). With ε = ‖E‖_F / ‖H‖₂ and κ = ‖H‖₂ ‖H⁻¹‖₂, κ·ε < 1,
    ‖ΔL‖_F ≤ ‖L‖₂ · κ·ε / (√2 (1 - κ·ε)) (Higham, theorem 10.8). LAPACK's order of sums is unknown,
    but γ_{n+1} holds for any order. ‖H‖₂ and κ come from NumPy and are enlarged by 1 %.
    """
    n = 8
    H = positive_definite(4, n, dtype, spread)
    values = np.linalg.eigvalsh(H.astype(np.float64))
    norm, condition = float(values[-1]), 1.01 * float(values[-1] / values[0])
    growth = float(gamma(n + 1, dtype))
    epsilon = growth * float(np.trace(H.astype(np.float64))) / (1 - growth) / norm * 1.01
    assert condition * epsilon < 0.1
    bound = 1.01 * norm**0.5 * condition * epsilon / (2**0.5 * (1 - condition * epsilon))
    with mpmath.workdps(60):
        reference = mpmath.cholesky(mpmath.matrix(H.astype(np.float64).tolist()))
        for factor in (NUMPY.cholesky(H), scipy.linalg.cholesky(H, lower=True)):
            difference = mpmath.matrix(factor.astype(np.float64).tolist()) - reference
            assert mpmath.norm(difference, 2) <= bound  # of the vector of all elements
            assert factor.dtype == dtype


def test_the_chain_itself_in_fractions():
    """Whole numbers whose roots and quotients are exact: H = L Lᵀ gives back this very L."""
    for dtype in FLOATS:
        for key in range(20):
            L = np.tril(integers(key, -9, 9, 7, 7), -1) + np.diag(2 ** integers(key + 1, 0, 4, 7))
            H = np.einsum("ik,jk->ij", L, L).astype(dtype)
            same_bits(NUMPY.cholesky(H), L.astype(dtype))
            X = integers(key + 2, -99, 99, 3, 7)
            for product, solve in (
                ("ik,jk->ij", NUMPY.solve),
                ("ik,kj->ij", lambda T, L: NUMPY.solve_reversed(T, L, 0, 7)),
            ):
                T = np.einsum(product, X, L).astype(dtype)
                same_bits(solve(T, L.astype(dtype)) + dtype(0), X.astype(dtype))


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pivot", [0, 1, 63, 64, 69])
@pytest.mark.parametrize("value", [0.0, -0.0, -(2.0**-1074), -3.0, np.nan, np.inf])
def test_refusal_names_pivot_and_value(pivot, value):
    """A block diagonal H, so that what stands under the root is what was put there."""
    H = positive_definite(3, 70, np.float64)
    H[pivot, :] = H[:, pivot] = 0.0
    H[pivot, pivot] = value
    with pytest.raises(NotPositiveDefinite) as caught:
        NUMPY.cholesky(H)
    assert caught.value.pivot == pivot
    same_bits(np.float64(caught.value.value), np.float64(value))


def test_refusal_of_a_singular_matrix_is_exact():
    """Rank 2 of 4, whole numbers: the Schur complement is exactly 0 at pivot 2."""
    G = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 5.0, -2.0]])
    for dtype in FLOATS:
        with pytest.raises(NotPositiveDefinite) as caught:
            NUMPY.cholesky(np.einsum("ti,tj->ij", G, G).astype(dtype))
        assert (caught.value.pivot, caught.value.value) == (2, 0.0)
