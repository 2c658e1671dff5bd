"""Cases of the operations at the places where two ways to round part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..fused import fma
from . import flags
from .case import DTYPES
from .definition import Definition, Inputs, Outputs, Purpose, differs
from .ingredients import factor, positive_definite
from .recipes import bell, integers
from .small_number_cases import signed_zero_cases, subnormal_cases

# The largest h with (1 + 2^-h)² = 1 + 2^(1-h) + 2^(-2h) losing its last term, with room to spare.
HALF_BITS = {"float64": 30, "float32": 13}


def rounding_cases() -> Iterator[Definition]:
    """Tier rounding."""
    for dtype in DTYPES:
        yield from _contraction(dtype)
        yield from _ties(dtype)
        yield from subnormal_cases(dtype)
        yield from signed_zero_cases(dtype)
        yield from _quotients(dtype)
        yield from _gains(dtype)
        yield from _limits(dtype)
    yield from _conversions()


def _pair(dtype: str) -> tuple[np.floating, np.floating]:
    """(x, p): x² is p + a term that is lost when the product is rounded."""
    number, h = np.dtype(dtype).type, HALF_BITS[dtype]
    return number(1 + 2.0**-h), number(1 + 2.0 ** (1 - h))


def _contraction(dtype: str) -> Iterator[Definition]:
    number = np.dtype(dtype).type
    x, p = _pair(dtype)
    flagged, changed = (flags.FUSED,), ("fused-multiply-add",)
    row, column = np.array([[-p, x]], dtype), np.array([[1], [x]], dtype)
    comment = "x·x - (1 + 2⁻ʰ⁺¹) is 0 with two roundings and 2⁻²ʰ with one"
    yield Definition(
        "matmul",
        "rounding",
        "contraction-sensitive-1x2x1",
        dtype,
        comment,
        {"left": row, "right": column},
        flags=flagged,
        changed_by=changed,
    )
    yield Definition(
        "matmul_transposed",
        "rounding",
        "contraction-sensitive-1x2x1",
        dtype,
        comment,
        {"left": np.ascontiguousarray(row.T), "right": column},
        flags=flagged,
        changed_by=changed,
    )
    one = np.array([[x]], dtype)
    for what, weights in (("plain", None), ("weighted", np.array([x], dtype))):
        inputs = {"total": np.array([[-p]], dtype), "left": one, "right": one}
        if weights is not None:
            inputs |= {"weights": weights, "right": np.array([[1]], dtype)}
        yield Definition(
            "accumulate",
            "rounding",
            f"contraction-sensitive-{what}-1x1x1",
            dtype,
            comment,
            inputs,
            flags=flagged,
            changed_by=changed,
        )
    for what, left, right in (("left", [[x]], [[p]]), ("right", [[p]], [[x]])):
        factors = {"left_factor": float(x), "right_factor": -1.0}
        if what == "right":
            factors = {"left_factor": -1.0, "right_factor": float(x)}
        yield Definition(
            "combine",
            "rounding",
            f"contraction-sensitive-{what}-1x1",
            dtype,
            comment,
            {"left": np.array(left, dtype), "right": np.array(right, dtype)},
            factors,
            flagged,
            purposes=(_fused_combination(factors),),
        )
    for function in ("row_inner", "column_inner"):
        left = np.array([[p, x]], dtype)
        right = np.array([[-1, x]], dtype)
        if function == "column_inner":
            left, right = np.ascontiguousarray(left.T), np.ascontiguousarray(right.T)
        yield Definition(
            function,
            "rounding",
            f"contraction-sensitive-{left.shape[0]}x{left.shape[1]}",
            dtype,
            comment,
            {"left": left, "right": right},
            flags=flagged,
            purposes=(
                Purpose("two roundings leave nothing", lambda i, o: float(o["sums"][0]) == 0.0),
            ),
        )
    H = np.array([[1, x, 0], [x, p + number(2.0**-10), 0], [0, 0, 1]], dtype)
    yield Definition(
        "cholesky",
        "rounding",
        "contraction-sensitive-n3",
        dtype,
        "h_11 - l_10·l_10 is 2⁻¹⁰ with two roundings",
        {"matrix": H},
        flags=flagged,
        changed_by=changed,
    )
    for function in ("solve", "solve_reversed"):
        L = np.array([[1, 0], [x, 1]], dtype)
        target = np.array([[x, p]], dtype)
        if function == "solve_reversed":
            target = np.ascontiguousarray(target[:, ::-1])
        yield Definition(
            function,
            "rounding",
            "contraction-sensitive-1xn2",
            dtype,
            comment,
            {"target": target, "factor": L},
            {"start": 0, "stop": 2} if function == "solve_reversed" else {},
            flagged,
            changed_by=changed,
        )
    step = number(2.0**-9)
    yield Definition(
        "sic",
        "rounding",
        "contraction-turns-a-code-1xn2",
        dtype,
        "what is left of column 0 is half a step below 0 with two roundings, a tie that goes to 0; "
        "with one rounding it is a little less and goes to -1",
        {
            "target": np.array([[p - step / 2, 1]], dtype),
            "factor": np.array([[1, 0], [x, 1]], dtype),
            "spacing": np.array([1, x * step], dtype),
        },
        {"codebook": "scaled", "step": float(step), "lmmse": False, "start": 0, "stop": 2},
        (flags.FUSED, flags.TIE),
        changed_by=changed,
        purposes=(Purpose("codes 0 and 512", lambda i, o: o["codes"].tolist() == [[0, 512]]),),
    )


def _fused_combination(factors: dict[str, float]) -> Purpose:
    """f·a + g·b with either product fused into the sum: one of the two must show."""

    def holds(inputs: Inputs, outputs: Outputs) -> bool:
        a, b = inputs["left"], inputs["right"]
        f, g = (a.dtype.type(factors[name]) for name in ("left_factor", "right_factor"))
        f, g = np.full_like(a, f), np.full_like(b, g)
        return any(
            differs(fused, outputs["combined"]) for fused in (fma(f, a, g * b), fma(g, b, f * a))
        )

    return Purpose("a fused multiply-add on the side of the long product shows", holds)


def _ties(dtype: str) -> Iterator[Definition]:
    halves = integers(300, [6, 4], -9, 9, -1, dtype)
    flagged = (flags.TIE, flags.HALF_EVEN)
    changed = ("half-away",)
    span = {"start": 0, "stop": 4}
    yield Definition(
        "sic",
        "rounding",
        "uniform-ties-6x4",
        dtype,
        "halves, without a factor",
        {"target": halves},
        {"codebook": "uniform", "spacing": 1.0, **span},
        flagged,
        changed_by=changed,
    )
    yield Definition(
        "sic",
        "rounding",
        "uniform-ties-6xn4",
        dtype,
        "halves times the diagonal; what is cancelled are whole steps",
        {
            "target": halves * 2,
            "factor": np.tril(np.full((4, 4), 2.0)).astype(dtype),
        },
        {"codebook": "uniform", "spacing": 1.0, **span},
        flagged,
        changed_by=changed,
    )
    yield Definition(
        "sic",
        "rounding",
        "scaled-ties-6x4",
        dtype,
        "halves of the step",
        {"target": halves, "spacing": np.array([1, 0.5, 0.25, 2], dtype)},
        {"codebook": "scaled", "step": 1.0, "lmmse": True, **span},
        flagged,
        changed_by=changed,
    )
    rows = len(halves)
    grid = {
        "scale": np.full((rows, 1), 0.5, dtype),
        "zero": integers(301, [rows, 1], 3, 5, 0, "int32"),
        "group": np.zeros(4, np.int64),
    }
    yield Definition(
        "sic",
        "rounding",
        "affine-ties-6x4",
        dtype,
        "rint first, then the zero point: with an odd zero point the order matters",
        {"target": halves / 2, **grid},
        {"codebook": "affine", "maximum": 15, **span},
        flagged,
        changed_by=changed,
    )
    yield Definition(
        "grid_error",
        "rounding",
        "ties-6x4",
        dtype,
        "halves of the scale",
        {
            "matrix": halves / 2,
            "scale": grid["scale"][:, 0].copy(),
            "zero": grid["zero"][:, 0].copy(),
        },
        {"maximum": 15},
        flagged,
    )
    for name, largest in (("fp4-e2m1", 6), ("fp6-e2m3", 7.5), ("fp6-e3m2", 28)):
        midpoints = np.linspace(-largest, largest, 6 * 16 + 1)[:-1].reshape(6, 16)
        exact = np.rint(midpoints * 16) / 16
        yield Definition(
            "sic",
            "rounding",
            f"{name}-ties-6x16",
            dtype,
            "values and midpoints of the format; the even mantissa wins",
            {
                "target": exact.astype(dtype),
                "scale": np.ones((6, 1), dtype),
                "group": np.zeros(16, np.int64),
            },
            {"codebook": name, "start": 0, "stop": 16},
            flagged,
        )


def _quotients(dtype: str) -> Iterator[Definition]:
    flagged, changed = (flags.DIVISION,), ("reciprocal-division",)
    matrix = integers(330, [5, 7], -99, 99, 0, dtype)
    for divisor in (3.0, 49.0):
        yield Definition(
            "divide",
            "rounding",
            f"by-{int(divisor)}-5x7",
            dtype,
            f"x/{int(divisor)} is not x·(1/{int(divisor)}) rounded twice",
            {"matrix": matrix},
            {"divisor": divisor},
            flagged,
            changed_by=changed,
        )
    L = factor(331, 7, dtype)
    yield Definition(
        "solve",
        "rounding",
        "quotients-5xn7",
        dtype,
        "the division by l_jj comes last",
        {"target": matrix, "factor": L},
        flags=flagged,
        changed_by=changed,
    )
    yield Definition(
        "solve_reversed",
        "rounding",
        "quotients-5xn7",
        dtype,
        "the division by l_jj comes last",
        {"target": matrix, "factor": L},
        {"start": 0, "stop": 7},
        flagged,
        changed_by=changed,
    )
    yield Definition(
        "cholesky",
        "rounding",
        "quotients-n7",
        dtype,
        "l_ij = h_ij / l_jj",
        {"matrix": positive_definite(332, 7, dtype)},
        flags=(flags.DIVISION, flags.SQRT),
        changed_by=changed,
    )
    # Multiples of a half step of 105: the quotient is a tie exactly where the division is exact.
    odd = integers(333, [6, 5], -30, 30, 0, dtype) * 2 + 1
    yield Definition(
        "sic",
        "rounding",
        "division-at-ties-6x5",
        dtype,
        "(2z + 1)·52.5 / 105 is z + ½, a tie; with a reciprocal it may be a little more",
        {"target": odd * np.dtype(dtype).type(52.5)},
        {"codebook": "uniform", "spacing": 105.0, "start": 0, "stop": 5},
        (flags.DIVISION, flags.TIE, flags.HALF_EVEN),
        changed_by=changed,
    )
    number = np.dtype(dtype).type
    lengths = np.array([3, 5, 7, 11, 13], dtype)
    halves = (integers(334, [6, 5], -30, 30, 0, dtype) * 2 + 1) / number(2)
    yield Definition(
        "sic",
        "rounding",
        "two-divisions-6x5",
        dtype,
        "y/l and then /α, ties again: two quotients, not y/(l·α)",
        {"target": halves * number(0.3) * lengths, "factor": np.diag(lengths)},
        {"codebook": "uniform", "spacing": 0.3, "start": 0, "stop": 5},
        (flags.DIVISION, flags.TIE),
        changed_by=("product-of-divisors",),
    )
    diagonal = np.abs(bell(336, [24], 0, dtype)) + np.dtype(dtype).type(0.1)
    yield Definition(
        "cholesky",
        "rounding",
        "square-roots-n24",
        dtype,
        "a diagonal matrix: 24 square roots and nothing else",
        {"matrix": np.diag(diagonal)},
        flags=(flags.SQRT,),
    )
    yield Definition(
        "grid_error",
        "rounding",
        "square-roots-6x19",
        dtype,
        "d·d·√d, from left to right",
        {
            "matrix": bell(337, [6, 19], -2, dtype),
            "scale": np.full(6, 0.1, dtype),
            "zero": np.full(6, 8, np.int32),
        },
        {"maximum": 15},
        (flags.SQRT, flags.DIVISION, flags.FUSED),
        changed_by=("fused-multiply-add",),
    )


def _gains(dtype: str) -> Iterator[Definition]:
    target = np.array([[2.2, 0.3, -1.4], [-0.9, -0.2, 3.1]], dtype)
    yield Definition(
        "sic",
        "semantics",
        "gain-of-a-column-of-zeros-2x3",
        dtype,
        "no code of column 1 is other than 0: there is nothing to scale, and γ = 0",
        {"target": target, "spacing": np.ones(3, dtype)},
        {"codebook": "scaled", "step": 1.0, "lmmse": True, "start": 0, "stop": 3},
        (flags.GAIN,),
        changed_by=("unit-gain-of-zeros",),
    )


def _limits(dtype: str) -> Iterator[Definition]:
    limits = np.array([[2147483647.0, -2147483648.0, 0.0], [1.0, -1.0, 2.0]], np.float64)
    if dtype == "float32":
        limits[0, 0] = 2147483520.0  # the largest float32 below 2³¹
    yield Definition(
        "sic",
        "rounding",
        "codes-at-the-limits-of-int32-2x3",
        dtype,
        "the greatest codes that fit",
        {"target": limits.astype(dtype)},
        {"codebook": "uniform", "spacing": 1.0, "start": 0, "stop": 3},
        (flags.LARGE,),
    )
    greatest = float(np.finfo(dtype).max)
    big = np.array([[greatest, -greatest, 1.0], [greatest / 2, 0.0, greatest / 4]], dtype)
    yield Definition(
        "combine",
        "rounding",
        "overflow-2x3",
        dtype,
        "what overflows is an infinity; nothing is refused here",
        {"left": big, "right": big},
        {"left_factor": 1.0, "right_factor": 1.0},
        (flags.LARGE,),
    )
    yield Definition(
        "matmul",
        "rounding",
        "overflow-1x3x1",
        dtype,
        "the chain overflows on its way and stays infinite",
        {
            "left": np.array([[greatest, greatest, 1.0]], dtype),
            "right": np.array([[1.0], [1.0], [-1.0]], dtype),
        },
        flags=(flags.LARGE, flags.ORDER),
    )
    yield Definition(
        "symmetrize",
        "rounding",
        "overflow-n2",
        dtype,
        "the sum is halved, not the halves summed: the largest number overflows",
        {"matrix": np.array([[1.0, greatest], [greatest, 1.0]], dtype)},
        flags=(flags.LARGE,),
    )


def _conversions() -> Iterator[Definition]:
    wide = np.array(
        [
            [1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-24 + 2.0**-52, -1 - 2.0**-24],
            [2.0**-149, 2.0**-150, 3 * 2.0**-150, 2.0**-150 + 2.0**-200],
            [3.4028235677973366e38, 3.4028235677973362e38, -1e300, 2.0**-1074],
        ]
    )
    for function, name in (("from_host", "array"), ("convert", "matrix")):
        yield Definition(
            function,
            "rounding",
            "float64-to-float32",
            "float32",
            "ties to even, subnormal results, overflow from the middle of the last step on",
            {name: wide},
            {"dtype": "float32"},
            (flags.TIE, flags.HALF_EVEN, flags.SUBNORMAL, flags.LARGE),
        )
    codes = np.array([[16777217, 16777219, -16777217, 2**31 - 1, -(2**31)]], np.int32)
    for dtype in DTYPES:
        yield Definition(
            "convert",
            "rounding",
            "codes",
            dtype,
            "codes beyond 2²⁴ are rounded in float32, ties to even",
            {"matrix": codes},
            {"dtype": dtype},
            (flags.TIE, flags.HALF_EVEN),
        )
    half = np.array([[6.103515625e-05, 5.9604644775390625e-08, 65504.0, -0.0]], np.float16)
    yield Definition(
        "from_host",
        "rounding",
        "float16",
        "float64",
        "subnormal half-precision numbers are widened exactly",
        {"array": half},
        {"dtype": "float64"},
        (flags.SUBNORMAL, flags.SIGNED_ZERO),
    )
