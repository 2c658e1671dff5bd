"""Cases of the operations at the places where two ways to round part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import flags
from ..case import DTYPES
from ..definition import Definition
from ..ingredients import factor, positive_definite
from ..recipes import bell, integers
from .contraction import contraction_cases
from .small_number import signed_zero_cases, subnormal_cases


def rounding_cases() -> Iterator[Definition]:
    """Tier rounding."""
    for dtype in DTYPES:
        yield from contraction_cases(dtype)
        yield from _ties(dtype)
        yield from subnormal_cases(dtype)
        yield from signed_zero_cases(dtype)
        yield from _quotients(dtype)
        yield from _gains(dtype)
        yield from _limits(dtype)
    yield from _conversions()


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
