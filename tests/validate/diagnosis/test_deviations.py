"""Each deviation against an implementation of the same mistake that shares nothing with it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from waterlevel.reference import CodeOverflow, NotPositiveDefinite
from waterlevel.reference.bases.hadamard import base_matrix
from waterlevel.reference.grids.float_formats import FORMATS
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.diagnosis import deviations
from waterlevel.validate.diagnosis.deviating_operations import Arithmetic, ArithmeticOperations

from ...helpers.codebooks import codebooks
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
    same_bits,
)
from ...helpers.wrong_backends import (
    CHAINS,
    DECISIONS,
    SUMS,
    Chained,
    Deciding,
    Flushing,
    Summed,
    in_blocks,
    same,
)

PLAIN = ArithmeticOperations(Arithmetic())
sizes = st.sampled_from((1, 2, 5, 64, 70))


# Without a deviation the operations are those of the oracle -------------------------------------


def both(call: Callable[[Any], Any]) -> None:
    """The call gives the same bits, or the same error, on the oracle and on PLAIN."""
    results = []
    for backend in (NUMPY, PLAIN):
        try:
            found = call(backend)
        except (NotPositiveDefinite, CodeOverflow) as error:
            found = (np.array(list(map(str, vars(error).values()))).astype("U"),)
        results.append(found if isinstance(found, tuple) else (found,))
    for expected, actual in zip(*results, strict=True):
        if np.asarray(expected).dtype.kind == "U":
            assert np.array_equal(expected, actual)
        else:
            same_bits(actual, expected)


@settings(max_examples=50)
@given(flavours, keys, sizes, sizes, dtypes)
def test_plain_arithmetic_is_the_oracle(flavour, key, a, n, dtype):
    A, B = numbers(flavour, key, (a, n), dtype), numbers(flavour, key + 1, (a, n), dtype)
    C, L = numbers(flavour, key + 2, (n, 3), dtype), lower(key, n, dtype)
    scale = np.abs(bell(key, (a,), dtype)) + dtype(0.125)
    zero = np.full(a, 7, np.int32)
    both(lambda o: o.matmul(A, C))
    both(lambda o: o.matmul_transposed(A, B))
    both(lambda o: o.row_inner(A, B))
    both(lambda o: o.column_inner(A, B))
    both(lambda o: o.combine(0.3, A, -1.7, B))
    both(lambda o: o.multiply(A, B))
    both(lambda o: o.divide(A, 0.3))
    both(lambda o: o.scale_rows(A, scale))
    both(lambda o: o.scale_columns(A.T, scale))
    both(lambda o: o.convert(A, np.float32))
    both(lambda o: o.solve(A, L))
    both(lambda o: o.solve_reversed(A, L, n // 3, n))
    both(lambda o: o.grid_error(A, scale, zero, 15))
    both(lambda o: o.symmetrize(numbers(flavour, key + 4, (n, n), dtype)))
    for weights in (None, bell(key, (a,), dtype)):

        def accumulate(o, weights=weights):
            total = numbers(flavour, key + 3, (n, n), dtype)
            o.accumulate(total, A, B, weights)
            return total

        both(accumulate)


@settings(max_examples=20)
@given(keys, st.sampled_from((1, 2, 5, 40, 70)), dtypes, st.booleans())
def test_plain_factors_and_codes(key, n, dtype, singular):
    H = positive_definite(key, n, dtype)
    if singular:
        H[n // 2, n // 2] = -1
    both(lambda o: o.cholesky(H))
    L, target = lower(key, n, dtype), bell(key, (6, n), dtype) * dtype(4)
    for codebook, _ in codebooks(key, 6, L.diagonal()).values():
        for factor in (None, L):
            for start, stop in ((0, n), (n // 3, n - n // 4)):

                def decide(o, codebook=codebook, factor=factor, start=start, stop=stop):
                    Y, codes = target.copy(), np.zeros((6, n), np.int32)
                    gains = o.sic(Y, codes, factor, codebook, start, stop)
                    return Y, codes, gains

                both(decide)
    both(lambda o: o.hadamard(bell(key, (2, 64), dtype), base_matrix(1)))
    both(lambda o: o.hadamard(bell(key, (2, 48), dtype), base_matrix(12)))


def test_a_code_that_does_not_fit():
    from waterlevel.reference.grids.codebooks import UniformLattice

    target = np.array([[1.0, 1e30]])

    def decide(o):
        return o.sic(target.copy(), np.zeros((1, 2), np.int32), None, UniformLattice(1.0), 0, 2)

    both(decide)


SLOW = ("fused-multiply-add",)  # where it is out of the question, and the matrix large


# Each mistake is reproduced, and separated from the others ----------------------------------------


def reproducing(call, without: tuple[str, ...] = ()) -> set[str]:
    """The names of the operation's deviations that give the bits of call(wrong backend)."""
    wrong = call(None)
    found = set()
    for deviation in deviations.operation_deviations():
        if deviation.name in without:
            continue
        with deviation.applied() as backend:
            if same(call(backend), wrong):
                found.add(deviation.name)
    return found


@pytest.mark.parametrize("name", list(CHAINS))
def test_chain_in_a_product(name):
    A, B = bell(1, (2, 300), np.float64), bell(2, (300, 3), np.float64)
    wrong = Chained(CHAINS[name])
    assert not same(wrong.matmul(A, B), NUMPY.matmul(A, B))
    assert reproducing(lambda o: (o or wrong).matmul(A, B)) == {name}


@pytest.mark.parametrize("name", [n for n in CHAINS if n != "float32-arithmetic"])
def test_chain_in_triangular_operations(name):
    wrong = Chained(CHAINS[name])
    n = 136 if name == "blocked-chain-128" else 72 if name == "blocked-chain-64" else 40
    without = SLOW if n > 40 else ()
    H, L, T = positive_definite(3, n, np.float64), lower(4, n, np.float64), bell(5, (2, n), float)
    H = H + 0.1 * np.eye(n)  # not of a few bits
    if n < 100:  # scalars take their time
        assert name in reproducing(lambda o: (o or wrong).cholesky(H), without)
        assert not same(wrong.cholesky(H), NUMPY.cholesky(H))
    assert name in reproducing(lambda o: (o or wrong).solve(T, L), without)
    assert not same(wrong.solve(T, L), NUMPY.solve(T, L))


def test_float32_in_a_factor():
    H = positive_definite(3, 30, np.float64) + 0.1 * np.eye(30)
    wrong = NUMPY.cholesky(H.astype(np.float32)).astype(np.float64)
    assert reproducing(lambda o: wrong if o is None else o.cholesky(H)) == {"float32-arithmetic"}


def test_products_summed_first_and_then_subtracted():
    H = positive_definite(3, 40, np.float64) + 0.1 * np.eye(40)
    wrong = Chained(in_blocks(10**9))
    names = reproducing(lambda o: (o or wrong).cholesky(H))
    assert "dot-product-first" in names
    assert names <= {"dot-product-first", "blocked-chain-64", "blocked-chain-128"}


@pytest.mark.parametrize("size", [32, 64, 128])
def test_panels(size):
    """A blocked factorisation: the trailing matrix is updated by whole panels."""
    n = size + 30
    H = positive_definite(3, n, np.float64) + 0.1 * np.eye(n)

    def blocked(matrix):
        open_, L = matrix.copy(), np.zeros_like(matrix)
        for start in range(0, n, size):
            stop = min(start + size, n)
            for j in range(start, stop):
                for k in range(start, j):
                    open_[j:, j] -= L[j:, k] * L[j, k]
                L[j:, j] = open_[j:, j] / np.sqrt(open_[j, j])
                L[j, j] = np.sqrt(open_[j, j])
            panel = L[stop:, start:stop]
            open_[stop:, stop:] -= NUMPY.matmul(panel, panel.T)
        return L

    wrong = blocked(H)
    names = reproducing(lambda o: wrong if o is None else o.cholesky(H), SLOW)
    assert names == {f"panel-chain-{size}"}


def test_float64_accumulation_of_float32():
    A, B = bell(1, (3, 40), np.float32), bell(2, (40, 3), np.float32)
    wrong = NUMPY.matmul(A.astype(np.float64), B.astype(np.float64)).astype(np.float32)
    assert reproducing(lambda o: wrong if o is None else o.matmul(A, B)) == {"float64-accumulation"}


@pytest.mark.parametrize("name", list(SUMS))
@pytest.mark.parametrize("operation", ["row_inner", "column_inner"])
def test_sum(name, operation):
    A, B = bell(1, (16, 3001), np.float64), bell(2, (16, 3001), np.float64)
    if operation == "column_inner":
        A, B = np.ascontiguousarray(A.T), np.ascontiguousarray(B.T)
    wrong = Summed(SUMS[name])
    assert not same(getattr(wrong, operation)(A, B), getattr(NUMPY, operation)(A, B))
    found = reproducing(lambda o: getattr(o or wrong, operation)(A, B))
    library = {"numpy-sum": "row_inner", "left-to-right-sum": "column_inner"}
    # The library's own order is one of the others; which one depends on how the numbers lie.
    assert found - {"library"} == {name}
    assert "library" not in found or library.get(name) == operation


def decisions(codebook, factor, target):
    def call(backend):
        Y, codes = target.copy(), np.zeros(target.shape, np.int32)
        gains = backend.sic(Y, codes, factor, codebook, 0, target.shape[1])
        return np.concatenate([Y, codes, gains[None].astype(Y.dtype)])

    return call


def scaled_lattice(L, lmmse=True, spacing=0.75):
    from waterlevel.reference.grids.codebooks import ScaledLattice

    return ScaledLattice(spacing, spacing / L.diagonal(), lmmse)


@pytest.mark.parametrize("name", list(DECISIONS))
@pytest.mark.parametrize("dtype", FLOATS)
def test_decision(name, dtype):
    from waterlevel.reference.grids.codebooks import AffineGrid, UniformLattice

    n = 8
    L = np.eye(n, dtype=dtype)
    target = integers(7, -20, 20, 12, n).astype(dtype) / dtype(2)  # ties
    target[:, 3] = 0.25
    if name == "zero-inside-rounding":
        scale, zero = np.ones((12, 1), dtype), np.full((12, 1), 7, np.int32)
        codebook = AffineGrid(scale, zero, np.zeros(n, np.int64), 15)
    elif name == "reciprocal-division":
        divisors = np.array([49, 98, 103, 107, 41, 47, 55, 61], dtype)
        L = np.diag(divisors)
        target = target * divisors
        codebook = UniformLattice(1.0)
    elif name in ("half-away", "half-up", "truncation"):
        codebook = UniformLattice(1.0)
    else:
        L, target = lower(5, n, dtype), bell(6, (12, n), dtype) * dtype(2)
        target[:, -1] = 0.25
        codebook = scaled_lattice(L, spacing=dtype(0.75))
    call = decisions(codebook, L, target)
    wrong = Deciding(DECISIONS[name])
    assert not same(call(wrong), call(NUMPY))
    assert reproducing(lambda o: call(o or wrong)) == {name}


def test_product_of_divisors():
    from waterlevel.reference.grids.codebooks import UniformLattice

    L = np.full((1, 1), 0.1)
    target = (np.arange(2000.0) - 1000)[:, None] * 0.035
    call = decisions(UniformLattice(0.7), L, target)
    codes = np.rint(target / (0.1 * 0.7))
    wrong = np.concatenate([codes * 0.7, codes, np.ones((1, 1))])
    assert not same(wrong, call(NUMPY))
    assert reproducing(lambda o: wrong if o is None else call(o)) == {"product-of-divisors"}


@pytest.mark.parametrize("name", ["half-away", "truncation"])
def test_float_formats(name):
    from waterlevel.reference.grids.codebooks import FloatGrid

    form = FORMATS["fp4-e2m1"]
    level = np.arange(-28, 29)[:, None] / 4.0
    call = decisions(FloatGrid(np.ones((len(level), 1)), np.zeros(1, np.int64), form), None, level)
    values = np.concatenate([-form.magnitudes[:0:-1], form.magnitudes])
    chosen = []
    for x in level[:, 0]:
        inside = values[np.abs(values) <= abs(x)]
        if name == "truncation":
            chosen.append(max(inside[inside * x >= 0], key=abs))
        else:  # the farther from zero of the nearest
            least = np.abs(values - x).min()
            chosen.append(max(values[np.abs(values - x) == least], key=abs))
    value = np.array(chosen)[:, None] + 0.0
    codes = np.array([[math.copysign(list(form.magnitudes).index(abs(v)), v)] for v in chosen])
    wrong = np.concatenate([value, codes + 0.0, np.ones((1, 1))])
    assert not same(wrong, call(NUMPY))
    assert name in reproducing(lambda o: wrong if o is None else call(o))


def test_reciprocal_in_the_factor():
    H = positive_definite(3, 20, np.float64) + 0.1 * np.eye(20)
    L = np.zeros_like(H)
    for j in range(20):
        column = H[j:, j].copy()
        for k in range(j):
            column = column - L[j:, k] * L[j, k]
        L[j, j] = np.sqrt(column[0])
        L[j + 1 :, j] = column[1:] * (1 / L[j, j])
    assert reproducing(lambda o: L if o is None else o.cholesky(H)) == {"reciprocal-division"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("operands", [False, True])
def test_flush_to_zero(dtype, operands):
    tiny = np.finfo(dtype).tiny
    A, B = bell(1, (4, 40), dtype) * (tiny * dtype(8)), bell(2, (40, 4), dtype)
    wrong = Flushing(operands)
    name = "flush-to-zero" if operands else "flush-results"
    other = "flush-results" if operands else "flush-to-zero"
    A[0, :5] = tiny / dtype(2)  # an operand that is large again as a result
    B[:5, 0] = 64
    assert not same(wrong.matmul(A, B), NUMPY.matmul(A, B))
    found = reproducing(lambda o: (o or wrong).matmul(A, B))
    assert name in found
    assert other not in found


def test_largest_distance_first():
    A = bell(1, (2, 64), np.float64)
    x = A.copy()
    for distance in (32, 16, 8, 4, 2, 1):
        for i in range(64):
            if not i & distance:
                left, right = x[:, i].copy(), x[:, i + distance].copy()
                x[:, i], x[:, i + distance] = left + right, left - right
    found = reproducing(lambda o: x if o is None else o.hadamard(A, base_matrix(1)))
    assert found == {"largest-distance-first"}


def test_library():
    A, B = bell(1, (40, 90), np.float64), bell(2, (90, 40), np.float64)
    assert "library" in reproducing(lambda o: A @ B if o is None else o.matmul(A, B))
    H = positive_definite(3, 40, np.float64)
    wrong = np.linalg.cholesky(H)
    assert "library" in reproducing(lambda o: wrong if o is None else o.cholesky(H))
    indefinite = H - 100 * np.eye(40)
    with deviations.named("library").applied() as library, pytest.raises(NotPositiveDefinite):
        library.cholesky(indefinite)


# Manners ----------------------------------------------------------------------------------------


def test_what_a_habit_concerns():
    """A deviation that is said not to concern an operation changes nothing in it."""
    A, B = bell(1, (5, 300), np.float64), bell(2, (300, 5), np.float64)
    H, L = positive_definite(3, 40, np.float64) + 0.1 * np.eye(40), lower(4, 40, np.float64)
    T = bell(5, (5, 40), np.float64)
    calls = {
        "matmul": lambda o: o.matmul(A, B),
        "cholesky": lambda o: o.cholesky(H),
        "solve": lambda o: o.solve(T, L),
        "solve_reversed": lambda o: o.solve_reversed(T, L, 0, 40),
        "sic": decisions(scaled_lattice(L), L, T),
    }
    for name, call in calls.items():
        concerned = [v for v in deviations.operation_deviations() if v.concerns(name)]
        for deviation in deviations.operation_deviations():
            if deviation not in concerned:
                with deviation.applied() as backend:
                    assert same(call(backend), call(NUMPY)), (deviation.name, name)
        assert {"fused-multiply-add", "reversed-chain"} <= {v.name for v in concerned}
        assert len(concerned) < len(deviations.operation_deviations())


def test_names_are_unique_and_described():
    every = deviations.all_deviations()
    assert len({v.name for v in every}) == len(every)
    assert len({v.description for v in every}) == len(every)
    with pytest.raises(KeyError):
        deviations.named("abacus")


def test_every_habit_is_caught_here_or_in_the_diagnosis():
    tested = {*CHAINS, *SUMS, *DECISIONS, "flush-results", "flush-to-zero", "library"}
    tested |= {f"panel-chain-{size}" for size in (32, 64, 128)}
    tested |= {"dot-product-first", "float64-accumulation", "product-of-divisors"}
    tested |= {"largest-distance-first"}
    assert {v.name for v in deviations.operation_deviations()} == tested


@pytest.mark.parametrize("deviation", deviations.algorithm_deviations(), ids=lambda v: v.name)
def test_patches_are_taken_back(deviation):
    def present():
        modules = [
            importlib.import_module(f"waterlevel.reference.methods.{m}")
            for m, _, _ in deviation.patches
        ]
        return [getattr(m, a) for m, (_, a, _) in zip(modules, deviation.patches, strict=True)]

    def apply():
        with deviation.applied():
            assert all(x is not y for x, y in zip(present(), before, strict=True))
            raise ZeroDivisionError

    before = present()
    with pytest.raises(ZeroDivisionError):
        apply()
    assert all(x is y for x, y in zip(present(), before, strict=True))


@settings(max_examples=20)
@given(keys, st.floats(-100, 100))
def test_half_away_of_any_number(key, x):
    near = np.array([x, np.nextafter(0.5, 0), -0.5, 2.5, -0.0, 2**52 + 1, round(x) + 0.5])
    for value, found in zip(near.tolist(), deviations.half_away(near).tolist(), strict=True):
        wanted = math.floor(abs(Fraction(value)) + Fraction(1, 2))
        assert abs(found) == wanted
        assert math.copysign(1, found) == math.copysign(1, value)
