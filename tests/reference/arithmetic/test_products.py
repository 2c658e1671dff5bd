"""Products, covariance accumulation and the Hadamard transform, element by element."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from waterlevel.reference.arithmetic import products
from waterlevel.reference.bases.hadamard import base_matrix
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
    same_bits,
)
from ...helpers.scalar import FLOATING, ROUNDED

sizes = st.sampled_from((1, 2, 3, 17, 63, 64, 65))
few = st.sampled_from((1, 2, 5))


def scalar_matmul(A: np.ndarray, B: np.ndarray, kinds=FLOATING) -> np.ndarray:
    kind = kinds[A.dtype]
    with np.errstate(all="ignore"):
        product = scalar.matmul(scalar.lists(A, kind), scalar.lists(B, kind), kind)
    return scalar.array(product, A.dtype)


@given(few, sizes, sizes, flavours, flavours, keys, dtypes)
def test_matmul(a, m, n, left, right, key, dtype):
    A, B = numbers(left, key, (a, m), dtype), numbers(right, key + 10, (m, n), dtype)
    expected = scalar_matmul(A, B)
    same_bits(NUMPY.matmul(A, B), expected)
    same_bits(NUMPY.matmul_transposed(np.ascontiguousarray(A.T), B), expected)


@settings(max_examples=40)
@given(few, st.sampled_from((1, 2, 9)), few, flavours, flavours, keys, dtypes)
def test_matmul_correctly_rounded(a, m, n, left, right, key, dtype):
    A, B = numbers(left, key, (a, m), dtype), numbers(right, key + 10, (m, n), dtype)
    try:
        expected = scalar_matmul(A, B, ROUNDED)
    except OverflowError:
        assert not np.isfinite(NUMPY.matmul(A, B)).all()
    else:
        same_bits(NUMPY.matmul(A, B), expected)


def test_a_product_without_terms_is_zero():
    for dtype in FLOATS:
        same_bits(
            NUMPY.matmul(np.ones((2, 0), dtype), np.ones((0, 3), dtype)), np.zeros((2, 3), dtype)
        )


@given(st.sampled_from((1, 5, 9)), keys, dtypes)
def test_error_bound(m, key, dtype):
    """|C - A B| ≤ γ_m |A| |B|, γ_m = m·u / (1 - m·u).

    m products and m - 1 additions that round (the first adds to +0.0), so no term meets more than
    m factors 1 + δ (Higham, section 3.1); the sizes keep clear of underflow.
    """
    A, B = numbers("wide", key, (3, m), dtype), numbers("wide", key + 10, (m, 2), dtype)
    C = scalar.lists(NUMPY.matmul(A, B), Fraction)
    exact = scalar.matmul(scalar.lists(A, Fraction), scalar.lists(B, Fraction), Fraction)
    size = scalar.matmul(
        scalar.lists(np.abs(A), Fraction), scalar.lists(np.abs(B), Fraction), Fraction
    )
    u = Fraction(1, 2 ** (53 if dtype is np.float64 else 24))
    for i in range(3):
        for j in range(2):
            assert abs(C[i][j] - exact[i][j]) <= m * u / (1 - m * u) * size[i][j]


@pytest.mark.parametrize("tile", [1, 7, 64, 65, 10**9])
@pytest.mark.parametrize("dtype", FLOATS)
def test_tiles_change_nothing(monkeypatch, tile, dtype):
    A, B = numbers("wide", 3, (67, 33), dtype), numbers("wide", 4, (33, 65), dtype)
    expected = NUMPY.matmul(A, B)
    monkeypatch.setattr(products, "TILE", tile)
    same_bits(NUMPY.matmul(A, B), expected)


@given(few, sizes, keys, dtypes)
def test_the_zero_half_of_a_factor_may_be_skipped(a, n, key, dtype):
    """W L from the nonzero half of L alone."""
    W, L = numbers("zeros", key, (a, n), dtype), lower(key, n, dtype)
    kind = FLOATING[W.dtype]
    w, l = scalar.lists(W, kind), scalar.lists(L, kind)
    skipped = [
        [scalar.matmul([row[j:]], [[r[j]] for r in l[j:]], kind)[0][0] for j in range(n)]
        for row in w
    ]
    same_bits(NUMPY.matmul(W, L), scalar.array(skipped, dtype))


@given(sizes, sizes, keys, dtypes)
def test_zero_columns_and_rows_change_nothing(m, more, key, dtype):
    """c + 0·b = c: rows of B that meet zeros of A, before, between or behind."""
    A, B = numbers("zeros", key, (3, m), dtype), numbers("bell", key + 10, (m, 4), dtype)
    place = np.sort(integers(key, 0, m, more))
    wide = np.insert(A, place, dtype(0), axis=1)
    tall = np.insert(B, place, dtype(-3), axis=0)
    same_bits(NUMPY.matmul(wide, tall), NUMPY.matmul(A, B))


# Accumulation ------------------------------------------------------------------------------------


@given(st.sampled_from((0, 1, 2, 65)), few, few, flavours, st.booleans(), keys, dtypes)
def test_accumulate(tokens, n, m, flavour, weighted, key, dtype):
    X, Y = numbers(flavour, key, (tokens, n), dtype), numbers("bell", key + 10, (tokens, m), dtype)
    weights = numbers("wide", key + 20, (tokens,), dtype) if weighted else None
    total = numbers(flavour, key + 30, (n, m), dtype)
    kind = FLOATING[total.dtype]
    w = scalar.lists(weights, kind) if weights is not None else None
    with np.errstate(all="ignore"):
        expected = scalar.accumulate(*(scalar.lists(M, kind) for M in (total, X, Y)), w)
    batches = total.copy()
    NUMPY.accumulate(total, X, Y, weights)
    same_bits(total, scalar.array(expected, dtype))
    for part in np.array_split(np.arange(tokens), 3):  # batches of any size, also empty ones
        NUMPY.accumulate(batches, X[part], Y[part], None if weights is None else weights[part])
    same_bits(batches, total)


@given(st.sampled_from((1, 7)), st.booleans(), keys, dtypes)
def test_accumulate_correctly_rounded(tokens, weighted, key, dtype):
    """w·(x·y), not (w·x)·y, and each product and sum rounded."""
    X, Y = numbers("wide", key, (tokens, 2), dtype), numbers("wide", key + 10, (tokens, 3), dtype)
    weights = bell(key + 20, (tokens,), dtype) if weighted else None
    total = np.zeros((2, 3), dtype)
    kind = ROUNDED[total.dtype]
    w = scalar.lists(weights, kind) if weights is not None else None
    expected = scalar.accumulate(*(scalar.lists(M, kind) for M in (total, X, Y)), w)
    NUMPY.accumulate(total, X, Y, weights)
    same_bits(total, scalar.array(expected, dtype))


def test_a_covariance_is_symmetric_in_every_bit():
    for dtype in FLOATS:
        X, total = bell(7, (65, 9), dtype), np.zeros((9, 9), dtype)
        NUMPY.accumulate(total, X, X, np.abs(bell(8, (65,), dtype)))
        same_bits(total, total.T)


# Hadamard ----------------------------------------------------------------------------------------


def hadamard_matrix(base: np.ndarray, n: int) -> np.ndarray:
    """H_m ⊗ H_(2^p) from the definitions; entry (i, j) of H_(2^p) is (-1)^popcount(i & j)."""
    length = n // len(base)
    signs = [[1 - 2 * ((i & j).bit_count() % 2) for j in range(length)] for i in range(length)]
    return np.kron(base.astype(np.int64), np.array(signs))


@pytest.mark.parametrize("m", [1, 12, 20, 28, 36])
def test_bases_are_hadamard_matrices(m):
    H = base_matrix(m).astype(np.int64)
    assert set(H.ravel().tolist()) <= {-1, 1}
    assert np.array_equal(np.einsum("ki,kj->ij", H, H), m * np.eye(m, dtype=np.int64))
    if m in (12, 20):  # Paley's first construction is skew: H + Hᵀ = 2I; his second symmetric
        assert np.array_equal(H + H.T, 2 * np.eye(m, dtype=np.int64))
    else:
        assert np.array_equal(H, H.T)


ORDERS = [(1, 1), (1, 2), (1, 64), (12, 12), (12, 48), (20, 40), (28, 28), (36, 144)]


@pytest.mark.parametrize(("m", "n"), ORDERS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_hadamard_is_the_product_with_its_matrix(m, n, dtype):
    """On whole numbers every sum is exact, so the order does not matter but the matrix does."""
    A = integers(n, -99, 99, 3, n)
    expected = np.einsum("ik,kj->ij", A, hadamard_matrix(base_matrix(m), n))
    same_bits(NUMPY.hadamard(A.astype(dtype), base_matrix(m)), expected.astype(dtype))


@given(st.sampled_from(ORDERS), flavours, keys, dtypes)
def test_order_of_hadamard(order, flavour, key, dtype):
    m, n = order
    A = numbers(flavour, key, (2, n), dtype)
    kind = FLOATING[A.dtype]
    with np.errstate(all="ignore"):
        expected = scalar.hadamard(scalar.lists(A, kind), base_matrix(m).tolist(), kind)
    same_bits(NUMPY.hadamard(A, base_matrix(m)), scalar.array(expected, dtype))
