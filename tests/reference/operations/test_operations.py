"""The NumPy operations fulfil the contract: names, shapes, dtypes, moves, elements, manners."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.bases.hadamard import base_matrix
from waterlevel.reference.grids.codebooks import ScaledLattice
from waterlevel.reference.operations import Operations
from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations

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
    same_bits,
)
from ...helpers.scalar import FLOATING, ROUNDED

floats = pytest.mark.parametrize("dtype", FLOATS)
sizes = st.sampled_from((1, 2, 5, 64, 65))


def methods(of: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(of).items()
        if not name.startswith("_") and inspect.isfunction(member)
    }


# The contract ------------------------------------------------------------------------------------


def test_numpy_fulfils_the_protocol():
    assert isinstance(NUMPY, Operations)
    assert NUMPY.name == "numpy"
    declared, offered = methods(Operations), methods(NumpyOperations)
    assert offered.keys() == declared.keys()
    for name, signature in declared.items():
        found = offered[name].parameters.values()
        wanted = signature.parameters.values()
        assert [(p.name, p.kind, p.default) for p in found] == [
            (p.name, p.kind, p.default) for p in wanted
        ], name
        assert signature.return_annotation is not inspect.Signature.empty, name


def calls(dtype) -> dict[str, tuple]:
    """Arguments for every operation that changes none of them."""
    A, B, H, L = (
        bell(1, (3, 4), dtype), bell(2, (3, 4), dtype), positive_definite(3, 4, dtype),
        lower(4, 4, dtype),
    )  # fmt: skip
    rows, columns = np.array([2, 0]), np.array([3, 1, 0, 2])
    zero = np.ones(3, np.int32)
    return {
        "from_host": (A, dtype),
        "to_host": (A,),
        "shape": (A,),
        "dtype": (A,),
        "zeros": (2, 3, dtype),
        "convert": (A, dtype),
        "transpose": (A,),
        "take": (A, rows, columns),
        "scatter_columns": (A, columns, 6),
        "diagonal": (H,),
        "with_diagonal": (H, bell(5, (4,), dtype)),
        "find_nonfinite": (A,),
        "find_asymmetry": (H,),
        "largest_magnitude": (A,),
        "symmetrize": (H,),
        "combine": (1.0, A, 0.0, B),
        "multiply": (A, B),
        "divide": (A, 1.0),
        "scale_rows": (A, bell(6, (3,), dtype)),
        "scale_columns": (A, bell(6, (4,), dtype)),
        "row_inner": (A, B),
        "column_inner": (A, B),
        "row_extrema": (A, 1, 3),
        "column_histograms": (integers(7, -2, 2, 3, 4).astype(np.int32),),
        "matmul": (A, H),
        "matmul_transposed": (A, B),
        "cholesky": (H,),
        "solve": (A, L),
        "solve_reversed": (A, L, 1, 3),
        "hadamard": (A, base_matrix(1)),
        "grid_error": (A, np.abs(bell(8, (3,), dtype)), zero, 3),
    }


VECTOR_CALLS = {  # one row or one column, or nothing to do: where a view would look like a copy
    "to_host": [((1, 3),)],
    "transpose": [((1, 3),), ((3, 1),), ((1, 1),)],
    "take": [((3, 3), None, None), ((3, 3), np.arange(3), None)],
    "hadamard": [((3, 1), base_matrix(1))],
    "symmetrize": [((1, 1),)],
    "diagonal": [((1, 1),)],
    "row_extrema": [((3, 1), 0, 1)],
}


def check_manners(name: str, arguments: tuple) -> None:
    """Read-only arguments are accepted, stay as they are, and share no memory with the result."""
    arrays = [x for x in arguments if isinstance(x, np.ndarray)]
    before = [x.copy() for x in arrays]
    for x in arrays:
        x.setflags(write=False)
    results = getattr(NUMPY, name)(*arguments)
    for x, old in zip(arrays, before, strict=True):
        same_bits(x, old)
    for result in results if isinstance(results, tuple) else (results,):
        if isinstance(result, np.ndarray):
            assert result.flags.c_contiguous, name
            for x in arrays:
                assert not np.shares_memory(result, x), f"{name} returns a view of its argument"


@floats
def test_arguments_are_left_alone(dtype):
    table = calls(dtype)
    assert table.keys() | {"accumulate", "sic"} == methods(Operations).keys()
    for name, arguments in table.items():
        check_manners(name, arguments)


@pytest.mark.parametrize("name", VECTOR_CALLS)
def test_results_are_never_views(name):
    for shape, *rest in VECTOR_CALLS[name]:
        check_manners(name, (bell(1, shape, np.float64), *rest))


@floats
def test_accumulate_and_sic_change_what_they_say(dtype):
    X, Y, L, w = (
        bell(1, (5, 3), dtype),
        bell(2, (5, 4), dtype),
        lower(3, 4, dtype),
        bell(4, (5,), dtype),
    )
    spacing = np.ones(4, dtype)
    for array in (X, Y, L, w, spacing):
        array.setflags(write=False)
    total = np.zeros((3, 4), dtype)
    assert NUMPY.accumulate(total, X, Y, w) is None
    assert total.all()
    target, codes = Y.copy(), np.zeros((5, 4), np.int32)
    gains = NUMPY.sic(target, codes, L, ScaledLattice(0.25, spacing, True), 1, 3)
    assert gains.dtype == np.float64
    assert gains.shape == (2,)
    changed = (target != Y).any(axis=0).tolist(), codes.any(axis=0).tolist()
    assert changed == ([True, True, True, False], [False, True, True, False])


# Moves -------------------------------------------------------------------------------------------


@given(st.floats(allow_nan=False))
def test_convert_rounds_once(x):
    """float64 to float32, to nearest even, with gradual underflow; too large is infinite."""
    found = NUMPY.convert(np.array([[x]]), np.float32)
    if math.isinf(x):
        expected = x
    else:
        try:
            expected = float(ROUNDED[np.dtype(np.float32)](x))
        except OverflowError:
            expected = math.copysign(math.inf, x)
    same_bits(found, np.array([[expected]], np.float32))
    same_bits(NUMPY.from_host(np.array([[x]]), np.float32), found)
    same_bits(NUMPY.convert(found, np.float64), np.array([[expected]]))


@given(st.integers(-(2**31), 2**31 - 1), dtypes)
def test_convert_codes(z, dtype):
    found = NUMPY.convert(np.array([[z]], np.int32), dtype)
    same_bits(found, np.array([[float(ROUNDED[np.dtype(dtype)](z))]], dtype))


@floats
def test_moves(dtype):
    A = bell(1, (3, 5), dtype)
    A[1, 2] = -0.0
    assert NUMPY.shape(A) == (3, 5)
    assert NUMPY.dtype(A) == dtype
    same_bits(NUMPY.zeros(2, 3, dtype), np.array([[0.0] * 3] * 2, dtype))
    same_bits(NUMPY.zeros(1, 2, np.int32), np.array([[0, 0]], np.int32))
    rows, columns = np.array([2, 0, 2]), np.array([4, 1])
    same_bits(NUMPY.transpose(A), np.array([[A[i, j] for i in range(3)] for j in range(5)]))
    taken = NUMPY.take(A, rows, columns)
    same_bits(taken, np.array([[A[i, j] for j in (4, 1)] for i in (2, 0, 2)]))
    same_bits(NUMPY.take(A, None, columns), np.array([[A[i, j] for j in (4, 1)] for i in range(3)]))
    same_bits(NUMPY.take(A, rows, None), np.array([[A[i, j] for j in range(5)] for i in (2, 0, 2)]))
    zero = dtype(0)
    scattered = [[A[i, 1], zero, zero, A[i, 0]] for i in range(3)]
    same_bits(NUMPY.scatter_columns(A[:, :2], np.array([3, 0]), 4), np.array(scattered))
    H, d = bell(2, (4, 4), dtype), bell(3, (4,), dtype)
    same_bits(NUMPY.diagonal(H), np.array([H[i, i] for i in range(4)]))
    replaced = NUMPY.with_diagonal(H, d)
    same_bits(
        replaced, np.array([[d[i] if i == j else H[i, j] for j in range(4)] for i in range(4)])
    )
    for foreign in (np.asfortranarray(A), A[::-1][::-1], A.astype(A.dtype.newbyteorder())):
        same_bits(NUMPY.from_host(foreign, dtype), A)


# Checks ------------------------------------------------------------------------------------------


@floats
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_find_nonfinite(dtype, value):
    """The first in row-major order, not the first in its column."""
    A = bell(1, (4, 6), dtype)
    A[0, 0] = np.finfo(dtype).max
    assert NUMPY.find_nonfinite(A) is None
    A[2, 1], A[1, 4], A[3, 0] = np.nan, value, np.inf
    row, column, found = NUMPY.find_nonfinite(A)
    assert (row, column) == (1, 4)
    same_bits(np.float64(found), np.float64(value))


@given(sizes, flavours, keys, dtypes)
def test_find_asymmetry_and_largest_magnitude(n, flavour, key, dtype):
    H = numbers(flavour, key, (n, n), dtype)
    rows = scalar.lists(H, Fraction)
    largest = max(abs(x) for row in rows for x in row)
    assert Fraction(NUMPY.largest_magnitude(H)) == largest
    row, column, found = NUMPY.find_asymmetry(H)
    # The differences are rounded; the first of the largest is wanted.
    with np.errstate(over="ignore"):
        differences = [(abs(H[i, j] - H[j, i]), -i, -j) for i in range(n) for j in range(n)]
    difference, minus_row, minus_column = max(differences)
    assert (row, column, found) == (-minus_row, -minus_column, float(difference))


# Element by element ------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [FLOATING, ROUNDED], ids=["processor", "rational"])
@given(
    st.sampled_from((1, 2, 5)),
    st.sampled_from(("bell", "wide", "zeros", "subnormal")),
    keys,
    dtypes,
)
def test_elements(kinds, n, flavour, key, dtype):
    """Host scalars 0.1 and 0.7 are rounded to float32 before they are used."""
    A, B, f = (numbers(flavour, key + i, (n, n), dtype) for i in range(3))
    f = f[0]
    kind = kinds[A.dtype]
    a, b, factors = (scalar.lists(M, kind) for M in (A, B, f))
    tenth, seven = kind(float(dtype(0.1))), kind(float(dtype(0.7)))
    places = [(i, j) for i in range(n) for j in range(n)]

    def same(found, formula):
        expected = [formula(i, j) for i, j in places]
        same_bits(found, scalar.array(expected, dtype, (n, n)))

    same(NUMPY.combine(0.1, A, 0.7, B), lambda i, j: tenth * a[i][j] + seven * b[i][j])
    same(NUMPY.multiply(A, B), lambda i, j: a[i][j] * b[i][j])
    same(NUMPY.divide(A, 0.7), lambda i, j: a[i][j] / seven)
    same(NUMPY.scale_rows(A, f), lambda i, j: factors[i] * a[i][j])
    same(NUMPY.scale_columns(A, f), lambda i, j: a[i][j] * factors[j])
    same(NUMPY.symmetrize(A), lambda i, j: (a[i][j] + a[j][i]) / kind(2))


# Sums --------------------------------------------------------------------------------------------


@given(sizes, st.sampled_from((1, 3, 511, 512, 513)), flavours, keys, dtypes)
def test_inner_products(a, n, flavour, key, dtype):
    A, B = numbers(flavour, key, (a, n), dtype), numbers("bell", key + 10, (a, n), dtype)
    kind = FLOATING[A.dtype]
    x, y = scalar.lists(A, kind), scalar.lists(B, kind)
    with np.errstate(all="ignore"):
        rows = [scalar.inner(u, v, kind) for u, v in zip(x, y, strict=True)]
        columns = [
            scalar.inner(u, v, kind)
            for u, v in zip(scalar.transpose(x), scalar.transpose(y), strict=True)
        ]
    same_bits(NUMPY.row_inner(A, B), scalar.array(rows, dtype))
    same_bits(NUMPY.column_inner(A, B), scalar.array(columns, dtype))
    # The two directions are one operation, and rows of zeros below change no column.
    same_bits(NUMPY.row_inner(A.T, B.T), NUMPY.column_inner(A, B))
    taller = [np.concatenate([M, np.zeros((7, n), dtype)]) for M in (A, B)]
    same_bits(NUMPY.column_inner(*taller), NUMPY.column_inner(A, B))


@given(sizes, sizes, sizes, sizes, flavours, keys, dtypes)
def test_row_extrema(a, n, start, stop, flavour, key, dtype):
    start, stop = sorted((min(start - 1, n - 1), min(stop, n)))
    stop = max(stop, start + 1)
    A = numbers(flavour, key, (a, n), dtype)
    least, largest = NUMPY.row_extrema(A, start, stop)
    zero = dtype(0)
    ordered = [sorted(row[start:stop].tolist()) for row in A]
    same_bits(least, np.array([row[0] for row in ordered], dtype) + zero)
    same_bits(largest, np.array([row[-1] for row in ordered], dtype) + zero)


@floats
def test_extreme_zeros_are_positive(dtype):
    for zeros in ([-0.0, 0.0], [0.0, -0.0], [-0.0, -0.0]):
        least, largest = NUMPY.row_extrema(np.array([zeros], dtype), 0, 2)
        same_bits(least, np.zeros(1, dtype))
        same_bits(largest, np.zeros(1, dtype))
