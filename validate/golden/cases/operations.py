"""Cases of the operations with inputs of few bits: every sum is exact, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....reference.bases.hadamard import base_matrix
from ....reference.operations.numpy_operations import NUMPY
from .. import flags
from ..case import DTYPES
from ..definition import Definition
from ..ingredients import whole, whole_factor
from ..recipes import integers

ANY_ORDER = ("reversed", "pairwise", "blocked-32", "fused-multiply-add")
EXACT = (flags.EXACT,)
BASES = (1, 12, 20, 28, 36)


def order_free_cases() -> Iterator[Definition]:
    """Tier order-free."""
    for dtype in DTYPES:
        yield from _moves(dtype)
        yield from _checks(dtype)
        yield from _elements(dtype)
        yield from _sums(dtype)
        yield from _products(dtype)
        yield from _factors(dtype)
        yield from _cancellation(dtype)
    yield Definition(
        "column_histograms",
        "order-free",
        "codes-9x5",
        "float64",
        "counts of codes, the least and the greatest int32 among them",
        {"codes": _codes()},
        flags=(flags.EXACT, flags.LARGE),
    )
    yield Definition(
        "column_histograms",
        "order-free",
        "one-row-1x4",
        "float64",
        "one code a column",
        {"codes": np.array([[3, 3, -1, 0]], np.int32)},
        flags=(flags.ONE,),
    )


def _codes() -> NDArray[np.int32]:
    codes = integers(101, [9, 5], -2, 2, 0, "int32")
    codes[3, 1], codes[4, 1], codes[:, 4] = 2**31 - 1, -(2**31), -7
    return codes


def _moves(dtype: str) -> Iterator[Definition]:
    other = "float32" if dtype == "float64" else "float64"
    matrix = whole(110, 4, 7, dtype)

    def case(
        function: str, what: str, comment: str, inputs: dict[str, NDArray], **parameters: Any
    ) -> Definition:
        return Definition(function, "order-free", what, dtype, comment, inputs, parameters, EXACT)

    yield case("from_host", "4x7", "the array as it is", {"array": matrix}, dtype=dtype)
    yield case("from_host", f"to-{other}-4x7", "in the other dtype", {"array": matrix}, dtype=other)
    yield case(
        "from_host",
        "float16-4x7",
        "half-precision weights are widened exactly",
        {"array": matrix.astype(np.float16)},
        dtype=dtype,
    )
    yield case("to_host", "4x7", "back as it was", {"matrix": matrix})
    yield case("shape", "4x7", "rows and columns", {"matrix": matrix})
    yield case("dtype", "4x7", "the name, as ASCII bytes", {"matrix": matrix})
    yield case("zeros", "3x5", "+0.0 everywhere", {}, shape=[3, 5], dtype=dtype)
    yield case("zeros", "codes-3x5", "int32 zeros", {}, shape=[3, 5], dtype="int32")
    yield case(
        "convert", "codes-4x7", "codes as numbers", {"matrix": matrix.astype(np.int32)}, dtype=dtype
    )
    yield case("transpose", "4x7", "rows become columns", {"matrix": matrix})
    yield case("transpose", "1x5", "a row becomes a column", {"matrix": matrix[:1, :5].copy()})
    rows, columns = np.array([3, 0, 0], np.int64), np.array([6, 1, 4, 1], np.int64)
    yield case("take", "rows-4x7", "rows, one of them twice", {"matrix": matrix, "rows": rows})
    yield case(
        "take",
        "columns-4x7",
        "columns in an order of their own",
        {"matrix": matrix, "columns": columns},
    )
    yield case(
        "take",
        "rows-and-columns-4x7",
        "both, the outer product of the two lists",
        {"matrix": matrix, "rows": rows, "columns": columns},
    )
    yield case("take", "everything-4x7", "a copy", {"matrix": matrix})
    yield case(
        "scatter_columns",
        "3-to-8",
        "columns put back, zeros between them",
        {"matrix": matrix[:, :3].copy(), "columns": np.array([6, 0, 3], np.int64)},
        total=8,
    )
    square = matrix[:, :4].copy()
    yield case("diagonal", "n4", "h_jj", {"matrix": square})
    yield case(
        "with_diagonal",
        "n4",
        "another diagonal, nothing else changed",
        {"matrix": square, "diagonal": matrix[:, 5].copy()},
    )


def _checks(dtype: str) -> Iterator[Definition]:
    finite = whole(120, 3, 5, dtype)

    def planted(*places: tuple[int, int, float]) -> NDArray:
        matrix = finite.copy()
        for row, column, value in places:
            matrix[row, column] = value
        return matrix

    for what, comment, matrix in (
        ("none-3x5", "nothing to find", finite),
        ("nan-3x5", "a NaN", planted((1, 2, np.nan))),
        ("infinity-3x5", "an infinity, with its sign", planted((2, 4, -np.inf))),
        (
            "first-in-row-major-order-3x5",
            "the infinity at [1, 3] comes before the NaN at [2, 0]",
            planted((2, 0, np.nan), (1, 3, np.inf)),
        ),
    ):
        yield Definition(
            "find_nonfinite", "order-free", what, dtype, comment, {"matrix": matrix}, flags=EXACT
        )
    square = whole(121, 4, 4, dtype)
    symmetric = square + square.T
    skew = symmetric.copy()
    skew[0, 2] += 5
    skew[3, 1] += 5
    yield Definition(
        "find_asymmetry",
        "order-free",
        "symmetric-n4",
        dtype,
        "no difference anywhere: the first place is [0, 0]",
        {"matrix": symmetric},
        flags=EXACT,
    )
    yield Definition(
        "find_asymmetry",
        "order-free",
        "first-of-equals-n4",
        dtype,
        "[0, 2] and [1, 3] differ as much from their mirrors: the first is named",
        {"matrix": skew},
        flags=EXACT,
    )
    yield Definition(
        "largest_magnitude",
        "order-free",
        "negative-3x5",
        dtype,
        "the largest magnitude belongs to a negative number",
        {"matrix": planted((1, 1, -33.0))},
        flags=EXACT,
    )


def _elements(dtype: str) -> Iterator[Definition]:
    left, right = whole(130, 5, 6, dtype), whole(131, 5, 6, dtype)
    square = whole(132, 5, 5, dtype)

    def case(
        function: str, what: str, comment: str, inputs: dict[str, NDArray], **parameters: Any
    ) -> Definition:
        return Definition(function, "order-free", what, dtype, comment, inputs, parameters, EXACT)

    both = {"left": left, "right": right}
    yield case("symmetrize", "n5", "(H + Hᵀ)/2", {"matrix": square})
    yield case("combine", "5x6", "2·A - 3·B", both, left_factor=2.0, right_factor=-3.0)
    yield case("multiply", "5x6", "element by element", both)
    yield case("divide", "5x6", "by a power of two", {"matrix": left}, divisor=4.0)
    factors = integers(133, [6], -4, 4, 0, dtype)
    yield case("scale_rows", "5x6", "f_i·a_ij", {"matrix": left, "factors": factors[:5].copy()})
    yield case("scale_columns", "5x6", "a_ij·f_j", {"matrix": left, "factors": factors})
    yield case(
        "row_extrema", "range-5x6", "of columns 2 … 4 alone", {"matrix": left}, start=2, stop=5
    )
    yield case("row_extrema", "one-column-5x6", "of column 3", {"matrix": left}, start=3, stop=4)


def _sums(dtype: str) -> Iterator[Definition]:
    for function in ("row_inner", "column_inner"):
        for size in (1, 3, 512, 513, 1100):
            rows, columns = (4, size) if function == "row_inner" else (size, 4)
            yield Definition(
                function,
                "order-free",
                f"{rows}x{columns}",
                dtype,
                f"sums of {size} products of whole numbers",
                {
                    "left": whole(140, rows, columns, dtype),
                    "right": whole(141, rows, columns, dtype),
                },
                flags=(flags.EXACT, flags.CHUNK) if size > 3 else EXACT,
                unchanged_by=ANY_ORDER,
            )


def _products(dtype: str) -> Iterator[Definition]:
    for rows, inner, columns in ((5, 7, 6), (1, 1, 1), (1, 65, 3), (33, 17, 9), (3, 0, 2)):
        what = f"{rows}x{inner}x{columns}"
        comment = "products of whole numbers" if inner else "no term at all: +0.0"
        flagged = (flags.EXACT, flags.RAGGED if rows > 1 and inner else flags.ONE)
        left, right = whole(150, rows, inner, dtype), whole(151, inner, columns, dtype)
        yield Definition(
            "matmul",
            "order-free",
            what,
            dtype,
            comment,
            {"left": left, "right": right},
            flags=flagged,
            unchanged_by=ANY_ORDER,
        )
        if inner:
            yield Definition(
                "matmul_transposed",
                "order-free",
                what,
                dtype,
                f"{comment}, the left one transposed",
                {"left": np.ascontiguousarray(left.T), "right": right},
                flags=flagged,
                unchanged_by=ANY_ORDER,
            )
    tokens, other = whole(152, 9, 4, dtype), whole(153, 9, 5, dtype)
    for what, weights in (("plain-9x4x5", None), ("weighted-9x4x5", integers(154, [9], 0, 3))):
        inputs = {"total": whole(155, 4, 5, dtype), "left": tokens, "right": other}
        if weights is not None:
            inputs["weights"] = weights.astype(dtype)
        yield Definition(
            "accumulate",
            "order-free",
            what,
            dtype,
            "outer products of nine tokens, added to a sum that is there already",
            inputs,
            flags=EXACT,
            unchanged_by=ANY_ORDER,
        )


def _factors(dtype: str) -> Iterator[Definition]:
    for n in (1, 3, 17, 65):
        L = whole_factor(160, n, dtype)
        H = NUMPY.matmul(L, np.ascontiguousarray(L.T))
        flagged = (flags.EXACT, flags.ONE if n == 1 else flags.RAGGED)
        yield Definition(
            "cholesky",
            "order-free",
            f"n{n}",
            dtype,
            "H = L Lᵀ with whole numbers in L",
            {"matrix": H},
            flags=flagged,
            unchanged_by=ANY_ORDER,
        )
        X = whole(161, 4, n, dtype)
        yield Definition(
            "solve",
            "order-free",
            f"4xn{n}",
            dtype,
            "X Lᵀ = T with whole numbers in X",
            {"target": NUMPY.matmul(X, np.ascontiguousarray(L.T)), "factor": L},
            flags=flagged,
            unchanged_by=ANY_ORDER,
        )
        yield Definition(
            "solve_reversed",
            "order-free",
            f"4xn{n}",
            dtype,
            "X L = T with whole numbers in X",
            {"target": NUMPY.matmul(X, L), "factor": L},
            {"start": 0, "stop": n},
            flags=flagged,
            unchanged_by=ANY_ORDER,
        )
    H = np.array([[4, 77, np.nan], [2, 5, np.inf], [0, 2, 5]], dtype)
    yield Definition(
        "cholesky",
        "order-free",
        "upper-triangle-is-not-read-n3",
        dtype,
        "above the diagonal stands what must not matter, a NaN too",
        {"matrix": H},
        flags=(flags.LOWER_TRIANGLE,),
    )
    for m in BASES:
        n = 4 * m if m > 1 else 32
        yield Definition(
            "hadamard",
            "order-free",
            f"3xn{n}-base{m}",
            dtype,
            f"A·(H_{m} ⊗ H_{n // m})",
            {"matrix": whole(163, 3, n, dtype), "base": base_matrix(m)},
            flags=EXACT,
        )
    yield Definition(
        "hadamard",
        "order-free",
        "3xn12-base12",
        dtype,
        "the base alone, no butterfly",
        {"matrix": whole(164, 3, 12, dtype), "base": base_matrix(12)},
        flags=(flags.EXACT, flags.ONE),
    )


def _cancellation(dtype: str) -> Iterator[Definition]:
    for n in (1, 5, 65):
        L = whole_factor(170, n, dtype)
        target = NUMPY.matmul(whole(171, 3, n, dtype), L) + np.dtype(dtype).type(0.25)
        yield Definition(
            "sic",
            "order-free",
            f"uniform-3xn{n}",
            dtype,
            "one spacing; what is a quarter off its grid point is rounded back to it",
            {"target": target, "factor": L},
            {"codebook": "uniform", "spacing": 1.0, "start": 0, "stop": n},
            (flags.EXACT, flags.ONE if n == 1 else flags.RAGGED),
            unchanged_by=ANY_ORDER,
        )
    L = whole_factor(172, 9, dtype)
    yield Definition(
        "sic",
        "order-free",
        "range-3xn9",
        dtype,
        "columns 6 … 3 are decided and cancelled in 2 … 0; columns 7 and 8 stay as they are",
        {"target": whole(173, 3, 9, dtype), "factor": L},
        {"codebook": "uniform", "spacing": 2.0, "start": 3, "stop": 7},
        (flags.EXACT, flags.RANGE),
        unchanged_by=ANY_ORDER,
    )
    yield Definition(
        "sic",
        "order-free",
        "no-column-3xn4",
        dtype,
        "an empty range changes nothing",
        {"target": whole(174, 3, 4, dtype), "factor": whole_factor(175, 4, dtype)},
        {"codebook": "uniform", "spacing": 1.0, "start": 2, "stop": 2},
        (flags.EXACT, flags.ONE),
    )
    yield Definition(
        "solve_reversed",
        "order-free",
        "range-3xn9",
        dtype,
        "columns 2 … 6 as if there were no others",
        {"target": whole(176, 3, 9, dtype, 64) * 16, "factor": L},
        {"start": 2, "stop": 7},
        (flags.EXACT, flags.RANGE),
        unchanged_by=ANY_ORDER,
    )
    scale = np.array([[1, 2], [0.5, 1], [4, 0.25]], dtype)
    yield Definition(
        "grid_error",
        "order-free",
        "3x6",
        dtype,
        "d = 0, 1 or 4 for every element: |d|^2.5 is a whole number",
        {
            "matrix": np.array(
                [[0, 1, 7, -4, 2, 3], [8, 0, 4, 1, 2, 3], [-4, -8, 0, 4, 3, 7]], dtype
            ),
            "scale": np.array([1, 1, 1], dtype),
            "zero": np.array([4, 0, 4], np.int32),
        },
        {"maximum": 7},
        EXACT,
    )
    for kind, parameters, extra in (
        (
            "affine",
            {"maximum": 3},
            {"zero": np.array([[1, 2], [0, 3], [2, 2]], np.int32)},
        ),
        ("fp4-e2m1", {}, {}),
    ):
        yield Definition(
            "sic",
            "order-free",
            f"{kind}-3x6",
            dtype,
            "a finite grid for each row and group of columns, without a factor",
            {
                "target": whole(177, 3, 6, dtype, 20) / np.dtype(dtype).type(8),
                "scale": scale,
                "group": np.array([0, 0, 1, 1, 0, 1], np.int64),
                **extra,
            },
            {"codebook": kind, "start": 0, "stop": 6, **parameters},
            EXACT,
        )
