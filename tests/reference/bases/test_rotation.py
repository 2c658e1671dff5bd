"""Rotations: orthogonality in integers, bits from integers, and bounds for what is rounded."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.bases.haar import haar
from waterlevel.reference.bases.hadamard import base_matrix, base_order
from waterlevel.reference.bases.rotation import (
    HadamardRotation,
    MatrixRotation,
    check_orthogonal,
    given_rotation,
)
from waterlevel.reference.errors import BadInput
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers.inputs import FLOATS, bell, dtypes, integers, keys, same_bits
from ...helpers.opaque import OPAQUE

ORDERS = (1, 2, 4, 8, 64, 12, 24, 96, 20, 40, 80, 28, 56, 36, 72, 144)
orders = st.sampled_from(ORDERS)
UNIT = {np.dtype(np.float64): 2.0**-53, np.dtype(np.float32): 2.0**-24}


def kronecker(n: int) -> np.ndarray:
    """H_m ⊗ H_(2^p), int64, entry by entry: Sylvester's sign is the parity of i AND j."""
    m = base_order(n)
    base, power = base_matrix(m).astype(np.int64), n // m
    return np.array(
        [
            [
                base[i // power, j // power] * (-1) ** ((i % power & j % power).bit_count())
                for j in range(n)
            ]
            for i in range(n)
        ]
    )


def signs_of(n: int, seed: int) -> np.ndarray:
    raw = [int(x) for x in np.random.Philox(key=seed).random_raw(n)]
    return np.array([-1 if x >= 2**63 else 1 for x in raw])


def depth(n: int) -> int:
    """Roundings on the way of one number through A V: p butterflies, m terms, the scale twice."""
    m = base_order(n)
    return (n // m).bit_length() - 1 + (m if m > 1 else 0) + 2


def explicit(rotation: HadamardRotation) -> np.ndarray:
    """V in float64, each entry the correctly rounded ±1/√n."""
    return signs_of(rotation.n, rotation.seed)[:, None] * kronecker(rotation.n) * rotation.scale


@pytest.mark.parametrize("n", ORDERS)
def test_orthogonal_in_integers(n):
    H = signs_of(n, 5)[:, None] * kronecker(n)
    assert set(np.unique(H).tolist()) <= {-1, 1}
    assert np.array_equal(H.T @ H, n * np.eye(n, dtype=np.int64))
    found = NUMPY.scale_rows(NUMPY.hadamard(np.eye(n), HadamardRotation(n, 5).base), signs_of(n, 5))
    assert np.array_equal(found, H)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", ORDERS)
def test_whole_numbers_are_exact_up_to_the_scale(n, dtype):
    # sums of n numbers up to 999 are exact in either dtype; one product is left
    A = integers(n, -999, 999, 5, n)
    rotation = HadamardRotation(n, seed=n)
    H = signs_of(n, n)[:, None] * kronecker(n)
    scale = dtype(rotation.scale)
    same_bits(rotation.rotate_columns(NUMPY, A.astype(dtype)), (A @ H).astype(dtype) * scale)
    back = (A @ kronecker(n).T).astype(dtype) * scale * signs_of(n, n).astype(dtype)
    same_bits(rotation.unrotate_columns(NUMPY, A.astype(dtype)), back)


@pytest.mark.parametrize("n", [*ORDERS, 384, 1536, 14336])
def test_the_scale_is_correctly_rounded(n):
    with mpmath.workdps(60):
        assert HadamardRotation(n, 0).scale == float(1 / mpmath.sqrt(n))


def test_signs_are_the_top_bits():
    # the raw numbers of Philox(key=2) begin 7d…, 52…, dc…, 90…: + + - -
    assert HadamardRotation(4, 2).signs.tolist() == [1.0, 1.0, -1.0, -1.0]
    for seed in (0, 1, 2**64, 2**128 - 1):
        assert HadamardRotation(96, seed).signs.tolist() == signs_of(96, seed).tolist()
    negative = (HadamardRotation(4096, 7).signs < 0).sum()
    assert abs(negative - 2048) < 5 * 32  # five standard deviations, √4096/2 each


@given(orders, keys, keys, dtypes)
def test_rotating_and_back(n, key, seed, dtype):
    A = bell(key, (3, n), dtype)
    rotation = HadamardRotation(n, seed)
    there = rotation.rotate_columns(NUMPY, A)
    back = rotation.unrotate_columns(NUMPY, there)
    length = np.abs(A.astype(np.float64)).sum(axis=1, keepdims=True)
    # S = Σ|a|. Every partial sum is below S, so each of `depth` roundings adds at most u·S to a
    # number, which the scale makes u·S/√n: this bounds A V. On the way back these n errors come
    # together again, √n·u·S/√n in all, and as much is added, since Σ|y| ≤ √n·S. The last factor is
    # for the second order.
    bound = depth(n) * UNIT[A.dtype] * length * 1.01
    exact = A.astype(np.float64) @ explicit(rotation)  # itself off by (n + 1)·2⁻⁵³·S/√n
    slack = (n + 1) * 2.0**-53 * length
    assert (np.abs(there - exact) <= (bound + slack) / math.sqrt(n)).all()
    assert (np.abs(back.astype(np.float64) - A) <= 2 * bound).all()


@pytest.mark.parametrize("n", [2, 24, 40])
def test_both_sides(n):
    # not symmetric, so that a transposition shows; in fractions of integers times two scales
    M = integers(3, -99, 99, n, n)
    rotation = HadamardRotation(n, seed=11)
    H = signs_of(n, 11)[:, None] * kronecker(n)
    found = rotation.rotate_both(NUMPY, M.astype(np.float64))
    exact = H.T @ M @ H
    # the first side is exact but for its scale (2 roundings with that of 1/√n), then come `depth`
    # roundings of sums below Σ|M H|/√n
    bound = (depth(n) + 2) * 2.0**-53 * np.abs(M @ H).sum(axis=0).max() / n * 1.01
    for i in range(n):
        for j in range(n):
            assert abs(Fraction(found[i, j]) - Fraction(int(exact[i, j]), n)) <= bound
    assert not np.array_equal(found, found.T)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [3, 24])
def test_a_covariance_stays_symmetric(n, dtype):
    G = bell(1, (n + 5, n), dtype)
    covariance = G.T @ G
    covariance = (covariance + covariance.T) / dtype(2)
    for rotation in (haar(n, 4), *([HadamardRotation(n, 4)] if n == 24 else [])):
        found = rotation.rotate_covariance(NUMPY, covariance)
        same_bits(found, np.ascontiguousarray(found.T))
        same_bits(found, NUMPY.symmetrize(rotation.rotate_both(NUMPY, covariance)))


@given(orders, keys, dtypes)
def test_distortion_is_the_same_in_both_bases(n, key, dtype):
    rotation = HadamardRotation(n, seed=key)
    E, G = bell(key, (4, n), dtype), bell(key + 1, (n + 3, n), np.float64)
    covariance = (G.T @ G).astype(dtype)
    rotated = rotation.rotate_columns(NUMPY, E), rotation.rotate_both(NUMPY, covariance)
    before, after = (
        float(np.trace(e.astype(np.float64) @ c.astype(np.float64) @ e.T.astype(np.float64)))
        for e, c in ((E, covariance), rotated)
    )
    # One transform of a row a is off by depth·u·Σ|a|/√n ≤ depth·u·|a| in each of n numbers, by
    # √n·depth·u·|a| in length. E enters twice and Σ is transformed twice, in Frobenius norms:
    # 4·√n·depth·u·|E|²·|Σ|. The two traces, in float64, add 2·2n·2⁻⁵³ of the same.
    size = float(np.linalg.norm(E)) ** 2 * float(np.linalg.norm(covariance))
    error = 4 * math.sqrt(n) * depth(n) * UNIT[E.dtype] + 4 * (n + 1) * 2.0**-53
    assert abs(after - before) <= 1.01 * error * size


@pytest.mark.parametrize("n", [1, 3, 10, 33])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_matrix_rotates_by_the_product(n, dtype):
    rotation = haar(n, 9)
    V = rotation.matrix.astype(dtype)
    A = bell(n, (4, n), dtype)
    there = rotation.rotate_columns(NUMPY, A)
    same_bits(there, NUMPY.matmul(A, V))
    back = rotation.unrotate_columns(NUMPY, there)
    same_bits(back, NUMPY.matmul(there, np.ascontiguousarray(V.T)))
    # A chain of n terms is off by n·u·|a|·|v| ≤ n·u·|a|. n such errors of the first product come
    # back as √n·n·u·|a|, the second one adds n·u·|a|, and V Vᵀ - I, measured, acts on |a|.
    length = np.linalg.norm(A.astype(np.float64), axis=1, keepdims=True)
    deviation = np.linalg.norm(V.astype(np.float64) @ V.T.astype(np.float64) - np.eye(n))
    u = UNIT[A.dtype]
    bound = ((math.sqrt(n) + 1) * n * u + deviation) * length * 1.01
    assert (np.abs(back.astype(np.float64) - A) <= bound).all()


def test_haar_has_no_preferred_direction():
    n, samples = 4, 2000
    V = np.array([haar(n, seed).matrix for seed in range(samples)])
    # Every entry has mean 0 and mean square 1/n; its fourth moment is 3/(n(n+2)), so the mean
    # square has the variance 3/(n(n+2)) - 1/n². Five standard deviations, 16 entries at once.
    deviation = 5 / math.sqrt(samples)
    assert (np.abs(V.mean(axis=0)) < deviation / math.sqrt(n)).all()
    spread = math.sqrt(3 / (n * (n + 2)) - 1 / n**2)
    assert (np.abs((V * V).mean(axis=0) - 1 / n) < deviation * spread).all()
    # Reflections and rotations come equally often, and E (tr V)² = 1, E (tr V)⁴ = 3.
    assert abs(np.mean(np.sign(np.linalg.det(V)))) < deviation
    trace = np.trace(V, axis1=1, axis2=2)
    assert abs(np.mean(trace**2) - 1) < deviation * math.sqrt(2)


def test_haar_is_the_factor_whose_triangle_has_a_positive_diagonal():
    n = 9
    G = np.random.Generator(np.random.Philox(key=5)).standard_normal((n, n))
    R = haar(n, 5).matrix.T @ G
    # LAPACK's own measure of a QR factorisation: |R - QᵀG| ≤ 30·n·u·|G|
    assert np.linalg.norm(np.tril(R, -1)) <= 30 * n * 2.0**-53 * np.linalg.norm(G)
    assert (np.diagonal(R) > 0).all()


def test_haar_is_determined_by_its_seed():
    same_bits(haar(8, 3).matrix, haar(8, 3).matrix)
    assert not np.array_equal(haar(8, 3).matrix, haar(8, 4).matrix)
    check_orthogonal(haar(8, 3).matrix, 8)
    assert haar(8, 3).describe() == {"kind": "haar", "seed": 3}


def test_what_is_recorded():
    assert HadamardRotation(12, 5).describe() == {"kind": "hadamard", "seed": 5}
    assert given_rotation(np.eye(3), 3).describe() == {"kind": "given", "seed": None}
    described = given_rotation(np.eye(3), 3, "eigenvectors").describe()
    assert described == {"kind": "eigenvectors", "seed": None}


@pytest.mark.parametrize("n", [1, 7, 64])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_lapack_returns_is_let_in(n, dtype):
    G = bell(n, (n, n), np.float64)
    for V in (np.linalg.qr(G)[0], np.linalg.eigh(G + G.T)[1], haar(n, 1).matrix):
        assert isinstance(given_rotation(V.astype(dtype), n), MatrixRotation)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_tolerance_of_a_given_rotation(dtype):
    n = 6
    tolerance = 30 * n * UNIT[np.dtype(dtype)]
    V = np.eye(n, dtype=dtype)
    V[1, 4] = 0.99 * tolerance
    check_orthogonal(V, n)
    V[1, 4] = 1.01 * tolerance
    with pytest.raises(BadInput, match=r"\(VᵀV\)\[1, 4\] differs from the identity by"):
        check_orthogonal(V, n)


NAN = np.where(np.arange(9).reshape(3, 3) == 5, np.nan, np.eye(3))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), r"rotation must be 3×3 in float64 or float32, got shape \(2, 2\)"),
        (np.ones(3), r"got shape \(3,\)"),
        (np.eye(3, dtype=np.int64), "int64"),
        (np.eye(3, dtype=np.float16), "float16"),
        (NAN, r"rotation\[1, 2\] is nan"),
        (np.where(NAN == 1, np.inf, 0.0), r"rotation\[0, 0\] is inf"),
        (2 * np.eye(3), r"\(VᵀV\)\[0, 0\] differs from the identity by 3, more than"),
        (np.full((3, 3), 1e200), "differs from the identity by inf"),
        (np.zeros((3, 3)), "differs from the identity by 1"),
    ],
)
def test_matrices_that_are_no_rotation(matrix, message):
    with pytest.raises(BadInput, match=message):
        given_rotation(matrix, 3)


@pytest.mark.parametrize("n", [0, -4, 3, 6, 7, 44, 72 + 1])
def test_an_order_without_hadamard_matrix(n):
    with pytest.raises(BadInput, match=rf"order {n} .* use a Haar rotation"):
        HadamardRotation(n, 0)


@pytest.mark.parametrize("seed", [-1, 2**128])
def test_a_seed_out_of_range(seed):
    with pytest.raises(BadInput, match="a seed must be"):
        HadamardRotation(4, seed)
    with pytest.raises(BadInput, match="a seed must be"):
        haar(4, seed)


def test_haar_without_order():
    with pytest.raises(BadInput, match="at least 1, got 0"):
        haar(0, 1)


@pytest.mark.parametrize("rotation", [HadamardRotation(12, 3), haar(12, 3)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_only_operations_touch_matrices(rotation, dtype):
    A, M = bell(1, (5, 12), dtype), bell(2, (12, 12), dtype)
    for method, matrix in (
        ("rotate_columns", A),
        ("unrotate_columns", A),
        ("rotate_both", M),
        ("rotate_covariance", M),
    ):
        boxed = getattr(rotation, method)(OPAQUE, OPAQUE.from_host(matrix, dtype))
        same_bits(OPAQUE.to_host(boxed), getattr(rotation, method)(NUMPY, matrix))
