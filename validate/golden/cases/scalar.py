"""Cases of the functions that compute numbers on the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....reference.grids.float_formats import FORMATS
from .. import flags
from ..case import DTYPES
from ..definition import Definition, Purpose
from ..recipes import bell, integers


def scalar_cases() -> Iterator[Definition]:
    """All of them; but for tree_sum and formats they are in float64."""
    for dtype in DTYPES:
        yield from _sums(dtype)
        yield from _formats(dtype)
    yield from _logarithms()
    yield from _rates()
    yield from _waterfilling()
    yield from _layers()


def _case(function: str, what: str, comment: str, inputs: dict[str, NDArray], flagged: str,
          *more: str, tier: str = "semantics", dtype: str = "float64", **parameters: Any
          ) -> Definition:  # fmt: skip
    return Definition(function, tier, what, dtype, comment, inputs, parameters, (flagged, *more))


def _sums(dtype: str) -> Iterator[Definition]:
    for size in (0, 1, 2, 3, 511, 512, 513, 1024, 2500):
        tier = "order-free" if size < 4 else "order"
        yield _case(
            "tree_sum",
            f"{size}",
            f"{size} numbers: chunks of 512, the last one filled to a power of two",
            {"values": bell(700, [size], 0, dtype)},
            flags.CHUNK if size else flags.ONE,
            flags.ORDER,
            tier=tier,
            dtype=dtype,
        )
    yield _case(
        "tree_sum",
        "negative-zeros",
        "the sum of nothing but -0.0 is +0.0",
        {"values": np.full(3, -0.0, dtype)},
        flags.SIGNED_ZERO,
        tier="rounding",
        dtype=dtype,
    )
    yield _case(
        "tree_sum",
        "matrix-600x3",
        "over the first axis",
        {"values": bell(701, [600, 3], 0, dtype)},
        flags.CHUNK,
        tier="order",
        dtype=dtype,
    )


def _formats(dtype: str) -> Iterator[Definition]:
    for name, form in FORMATS.items():
        middle = form.midpoints
        ties = np.concatenate([form.magnitudes, middle, -middle, [0.0, -0.0]])
        beside = np.nextafter(middle.astype(dtype), np.dtype(dtype).type(np.inf))
        beyond = np.array([form.largest * 1.5, -np.inf, form.largest * 1.01])
        for what, values, flagged in (
            ("values-and-ties", ties, flags.TIE),
            ("beside-ties", np.concatenate([beside, -beside]), flags.HALF_EVEN),
            ("saturation", beyond, flags.FORMATS),
        ):
            yield _case(
                "float_format",
                f"{name}-{what}",
                "the nearest value; ties to the even mantissa, saturating",
                {"values": values.astype(dtype)},
                flagged,
                flags.FORMATS,
                tier="rounding",
                dtype=dtype,
                format=name,
            )


def _logarithms() -> Iterator[Definition]:
    x = np.abs(bell(710, [40])) + 2.0**-40
    near_one = 1 + np.ldexp(np.array([1.0, -1.0, 3.0, -7.0]), np.array([-52, -53, -40, -20]))
    powers = np.ldexp(1.0, np.array([-1074, -1022, -1, 0, 1, 52, 1023]))
    for what, values in (("bell", x), ("near-one", near_one), ("powers-of-two", powers)):
        yield _case(
            "log2", what, "correctly rounded", {"x": values}, flags.DECIMALS, tier="rounding"
        )
    for what, values in (
        ("bell", bell(711, [40], 5)),
        ("whole-and-half", np.array([-1074.0, -1022, -1, 0, 0.5, 1, 1023, -0.5])),
        ("limits", np.array([-1074.5, -1075.0, -1100.0, 1023.9999999999999, 1024.0, -1022.5])),
    ):
        yield _case(
            "exp2", what, "correctly rounded", {"x": values}, flags.DECIMALS, tier="rounding"
        )
    yield _case(
        "inverse_square_root",
        "orders",
        "1/√n rounded once, not 1 over a rounded √n",
        {"x": np.array([1, 2, 3, 12, 16, 28, 36, 384, 576, 1536, 4096, 14336], np.int64)},
        flags.DECIMALS,
        tier="rounding",
    )


def _rates() -> Iterator[Definition]:
    width = 2 ** integers(720, [20], 0, 6).astype(np.int64)
    codes = (bell(721, [50, 20], -1) * width).astype(np.int32)
    equal = np.tile(np.array([[1], [-1], [0], [2]], np.int32), (3, 17))
    extreme = codes.copy()
    extreme[0, 0], extreme[1, 0] = 2**31 - 1, -(2**31)
    watersic: dict[str, Any] = {"column_bits": 16, "row_bits": 16, "matrix_bits": 0}
    spacing: dict[str, Any] = {"column_bits": 0, "row_bits": 0, "matrix_bits": 16}
    for what, comment, matrix, columns, side in (
        ("watersic-50x20", "16 bits a row and a column", codes, 20, watersic),
        ("one-spacing-50x20", "16 bits for the matrix", codes, 20, spacing),
        ("dead-columns-50x24", "4 of 24 columns have no codes", codes, 24, watersic),
        ("equal-columns-12x17", "equal mean squares stay in order", equal, 17, watersic),
        ("one-symbol-8x3", "one symbol costs 0 bits", np.zeros((8, 3), np.int32), 3, spacing),
        ("no-columns-5x4", "everything is dead", np.zeros((5, 0), np.int32), 4, watersic),
        ("extreme-50x20", "squares of the greatest codes", extreme, 20, watersic),
    ):
        yield _case(
            "rates", what, comment, {"codes": matrix}, flags.RATES, flags.DECIMALS,
            columns=columns, **side,
        )  # fmt: skip
    yield _case(
        "rates",
        "grid-50x20",
        "a finite grid: b bits and the scales",
        {"codes": np.clip(codes, -8, 7)},
        flags.RATES,
        columns=20,
        column_bits=0,
        row_bits=0,
        matrix_bits=16 * 50,
        bits=4,
    )
    for what, counts in (
        ("bell", [5, 2, 1, 1]),
        ("one", [7]),
        ("none", []),
        ("equal", [3] * 11),
        ("fibonacci", [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]),
        ("large", [2**40, 1, 2**40, 3]),
    ):
        yield _case(
            "code_lengths",
            what,
            "Huffman; of equal counts the first is joined first",
            {"counts": np.array(counts, np.int64)},
            flags.RATES,
        )


def _waterfilling() -> Iterator[Definition]:
    spectrum = np.abs(bell(730, [30])) * np.ldexp(1.0, -np.arange(30) // 2)
    with_zeros = np.where(np.arange(30) % 4 == 0, 0.0, spectrum)
    equal = np.full(6, 0.75)
    for what, variances in (("30", spectrum), ("zeros-30", with_zeros), ("equal-6", equal)):
        for rate in (0.0, 0.25, 1.0, 4.0):
            yield _case(
                "allocate_rate",
                f"{what}-rate{rate}",
                "the water level of a rate",
                {"variances": variances},
                flags.WATER,
                flags.DECIMALS,
                rate=rate,
            )
        mean = float(variances.max()) / 8
        for part, name in ((0.01, "deep"), (0.5, "shallow"), (1000.0, "drowned")):
            yield _case(
                "allocate_distortion",
                f"{what}-{name}",
                "the water level of a distortion",
                {"variances": variances},
                flags.WATER,
                flags.DECIMALS,
                distortion=mean * part,
            )
    squares, diagonal = np.abs(bell(731, [9])), np.abs(bell(732, [9])) + 0.25
    squares[4] = 0
    for what, given in (("9", squares), ("all-zero-9", np.zeros(9))):
        yield _case(
            "open_loop_spacing",
            what,
            "½·mean log2(12·s·l²) - R over the columns that are not 0, rounded once",
            {"mean_squares": given, "diagonal": diagonal},
            flags.DECIMALS,
            flags.SEARCH,
            rate=2.75,
        )


def _layers() -> Iterator[Definition]:
    raw = np.abs(bell(740, [2, 7, 7]))
    visible = np.tril(np.ones((7, 7), np.bool_))
    padded = visible.copy()
    padded[5:] = False
    for what, inputs in (
        ("all-2x7x7", {"attention": raw}),
        ("causal-2x7x7", {"attention": raw, "visible": visible}),
        ("padded-2x7x7", {"attention": raw, "visible": padded}),
    ):
        yield _case(
            "token_importance",
            what,
            "the mean over heads and the queries that can see a token",
            inputs,
            flags.MOMENTS,
        )
    even = np.array([1.0, 4000.0, 1.0, 4000.0])
    for what, diagonal, threshold, live in (
        ("lower-median-n4", even, 1e-3, [0, 1, 2, 3]),
        ("at-the-threshold-n3", np.array([1.0, 0.5, 1.0]), 0.5, [0, 1, 2]),
        ("zeros-n4", np.array([0.0, 2.0, 0.0, 0.0]), 1e-3, [1]),
        ("all-zero-n3", np.zeros(3), 1e-3, []),
    ):
        yield Definition(
            "live_features",
            "semantics",
            what,
            "float64",
            "not 0 and not below τ times the lower median",
            {"diagonal": diagonal},
            {"threshold": threshold},
            (flags.MEDIAN, flags.DEAD),
            purposes=(Purpose(f"{live} live", lambda i, o, live=live: o["live"].tolist() == live),),
        )
    for m in (1, 12, 20, 28, 36):
        yield _case("base_matrix", f"m{m}", "by Paley's constructions", {}, flags.ROTATION, m=m)
    yield _case(
        "rate_budget",
        "four-layers",
        "each next layer aims at what the ones before it left",
        {"sizes": np.array([100, 300, 50, 7], np.int64), "spent": np.array([3.25, 2.9, 3.1, 3.0])},
        flags.RATES,
        rate=3.0,
    )
    for minimum in (0.3, 1.0):
        yield _case(
            "golden_section",
            f"minimum{minimum}",
            "the points that the search of [0, 1] visits for (x - minimum)²",
            {},
            flags.MOMENTS,
            minimum=minimum,
            steps=15,
        )
