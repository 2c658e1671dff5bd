"""Cases of the order-free contract: factor, lattice and finite grids, with no order of any sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....reference.grids.float_formats import FORMATS
from .. import flags
from ..case import DTYPES
from ..definition import Definition, Made, Purpose
from ..ingredients import factor, positive_definite, weight

SUM = (flags.EXACT_SUM,)


def exact_sum_cases() -> Iterator[Definition]:
    """The functions of `execute_order_free`, small and hostile, then medium and large."""
    for dtype in DTYPES:
        yield from _factors(dtype)
        yield from _lattices(dtype)
        yield from _grids(dtype)
    yield from _invalid()
    yield from _by_recipe("medium", 64, 384)
    yield from _by_recipe("large", 64, 2048)


def _layer(key: int, rows: int, n: int, dtype: str) -> dict[str, NDArray]:
    return {"weight": weight(key, rows, n, dtype), "factor": factor(key + 1, n, dtype)}


def _hostile(dtype: str) -> Iterator[tuple[str, str, dict[str, NDArray]]]:
    number = np.dtype(dtype).type
    yield "1x9", "one row", _layer(700, 1, 9, dtype)
    yield "6x1", "one column", _layer(702, 6, 1, dtype)
    zeros = _layer(704, 6, 10, dtype)
    zeros["weight"][[0, -1]] = 0
    yield "zero-rows-6x10", "a row of zeros comes first, another one last", zeros
    wide = _layer(706, 6, 20, dtype)
    wide["weight"][3] *= number(300)
    yield "large-row-6x20", "one row is 300 times as large as the others", wide
    steep = _layer(708, 6, 20, dtype)
    steep["factor"] *= np.logspace(-4, 0, 20).astype(dtype)
    yield "steep-6x20", "columns of L from 1e-4 to 1, so that the moment has condition 1e8", steep


def _factors(dtype: str) -> Iterator[Definition]:
    for n in (1, 5, 32, 33, 70):
        yield Definition(
            "order_free_cholesky",
            "semantics",
            f"n{n}",
            dtype,
            f"{-(-n // 32)} panels of 32 columns; what comes before a panel is summed exactly",
            {"matrix": positive_definite(720, n, dtype)},
            flags=SUM if n > 32 else (flags.FUSED,),
        )
    scale = np.ldexp(np.ones(40), np.arange(40) % 9).astype(dtype)
    H = positive_definite(722, 40, dtype)
    yield Definition(
        "order_free_cholesky",
        "semantics",
        "scaled-n40",
        dtype,
        "features of nine sizes: each row of L has a grid of its own",
        {"matrix": scale[:, None] * H * scale},
        flags=SUM,
    )


def _lattice(
    what: str,
    dtype: str,
    comment: str,
    inputs: dict[str, Any],
    parameters: dict[str, Any],
    purposes: tuple[Purpose, ...] = (),
    size: str = "small",
) -> Definition:
    flagged = (flags.COARSER, *SUM) if purposes else SUM
    return Definition(
        "order_free_lattice", "semantics", what, dtype, comment, inputs, parameters, flagged, size,
        purposes=purposes,
    )  # fmt: skip


def _lattices(dtype: str) -> Iterator[Definition]:
    methods: tuple[tuple[str, dict[str, Any]], ...] = (
        ("watersic", {}),
        ("no-gains", {"lmmse": False}),
        ("gptq", {"method": "gptq"}),
    )
    for n in (12, 37):
        for name, parameters in methods:
            for spacing in (0.25, 2.0**-7):
                yield _lattice(
                    f"{name}-{'coarse' if spacing > 0.1 else 'fine'}-6x{n}",
                    dtype,
                    "codes of some units" if spacing > 0.1 else "codes of many units",
                    _layer(710, 6, n, dtype),
                    {**parameters, "spacing": spacing},
                )
    for what, comment, inputs in _hostile(dtype):
        for name, parameters in methods:
            yield _lattice(
                f"{name}-{what}", dtype, comment, inputs, {**parameters, "spacing": 2.0**-5}
            )
    wide = _layer(712, 6, 33, dtype)
    wide["weight"][3] *= np.dtype(dtype).type(300)
    yield _lattice(
        "coarser-6x33",
        dtype,
        "codes so large that f = 36 does not hold the sums",
        wide,
        {"spacing": 2.0**-9},
        (Purpose("f below 36", lambda i, o: 0 < int(o["fraction_bits"]) < 36),),
    )


def _grid(
    what: str,
    dtype: str,
    comment: str,
    inputs: dict[str, Any],
    parameters: dict[str, Any],
    flagged: tuple[str, ...] = SUM,
    purposes: tuple[Purpose, ...] = (),
    size: str = "small",
) -> Definition:
    return Definition(
        "order_free_grid", "semantics", what, dtype, comment, inputs, parameters, flagged, size,
        purposes=purposes,
    )  # fmt: skip


def _grids(dtype: str) -> Iterator[Definition]:
    inputs = _layer(730, 6, 22, dtype)
    for bits in (2, 3, 4, 8):
        for asymmetric in (False, True):
            name = "asymmetric" if asymmetric else "symmetric"
            yield _grid(
                f"bits{bits}-{name}-6x22",
                dtype,
                f"a {name} grid of {bits} bits for each row",
                inputs,
                {"bits": bits, "asymmetric": asymmetric},
                (flags.CLIPPING, *SUM),
            )
    for what, size, block, flagged in (
        ("groups-of-4", 4, 128, flags.GROUPS),
        ("groups-of-4-blocks-of-4", 4, 4, flags.GROUPS),
        ("groups-of-4-blocks-of-8", 4, 8, flags.GROUPS),
        ("straddling-groups", 6, 8, flags.STRADDLING),
        ("groups-of-1-blocks-of-5", 1, 5, flags.GROUPS),
    ):
        yield _grid(
            f"{what}-6x22",
            dtype,
            f"groups of {size}, found when a block of {block} begins",
            inputs,
            {"bits": 3, "asymmetric": True, "group_size": size, "block_size": block},
            (flagged, *SUM),
        )
    shuffled = {**inputs, "order": np.random.Generator(np.random.Philox(5)).permutation(22)}
    yield _grid(
        "given-order-6x22",
        dtype,
        "the columns in an order that is given",
        shuffled,
        {"bits": 3, "group_size": 6, "block_size": 8},
        (flags.ACTIVATION_ORDER, flags.GROUPS),
    )
    yield _grid(
        "static-groups-6x22",
        dtype,
        "groups by original place, grids from the original weights",
        shuffled,
        {"bits": 3, "group_size": 4, "static_groups": True},
        (flags.STATIC_GROUPS, flags.ACTIVATION_ORDER),
    )
    yield _grid(
        "mse-groups-6x22",
        dtype,
        "the range is searched for the least error, on updated weights",
        inputs,
        {"bits": 2, "group_size": 8, "block_size": 8, "mse": True, "asymmetric": True},
        (flags.MSE, flags.GROUPS),
    )
    for name in FORMATS:
        yield _grid(
            f"{name}-groups-of-8-6x22",
            dtype,
            "a float format with a scale for each group",
            inputs,
            {"format": name, "group_size": 8, "block_size": 8},
            (flags.FORMATS, flags.GROUPS),
        )
    for what, comment, layer in _hostile(dtype):
        yield _grid(what, dtype, comment, layer, {"bits": 3, "group_size": 4, "block_size": 8}, SUM)
    steep = _layer(732, 6, 12, dtype)
    steep["factor"] += np.tril(steep["factor"], -1) * np.dtype(dtype).type(31)
    yield _grid(
        "narrower-slices-6x12",
        dtype,
        "updated weights so large that p = 23 does not hold the sums",
        steep,
        {"bits": 3, "group_size": 1, "block_size": 1},
        (flags.COARSER, *SUM),
        (Purpose("p below 23", lambda i, o: 0 < int(o["slice_bits"]) < 23),),
    )


def _invalid() -> Iterator[Definition]:
    H = positive_definite(740, 40, "float64")
    H[36, 36] = 0.001
    yield Definition(
        "order_free_cholesky", "invalid", "negative-pivot-n40", "float64",
        "a pivot behind the first panel is negative", {"matrix": H}, flags=(flags.REFUSED,),
    )  # fmt: skip


def _by_recipe(size: str, rows: int, n: int) -> Iterator[Definition]:
    made = {
        "weight": Made("bell", {"key": 750, "shape": [rows, n], "exponent": -2}),
        "factor": Made("structured_factor", {"key": 751, "n": n, "dtype": "float64"}),
    }
    if size == "medium":
        yield Definition(
            "order_free_cholesky", "semantics", f"n{n}", "float64", f"{n // 32} panels",
            {"matrix": Made("structured_covariance", {"key": 752, "n": n, "dtype": "float64"})},
            flags=SUM, size=size,
        )  # fmt: skip
    for method in ("watersic", "gptq"):
        yield _lattice(
            f"{method}-{rows}x{n}", "float64", "a layer", made,
            {"method": method, "spacing": 2.0**-5}, size=size,
        )  # fmt: skip
    yield _grid(
        f"groups-of-128-{rows}x{n}", "float64", "a layer", made,
        {"bits": 4, "asymmetric": True, "group_size": 128}, (flags.GROUPS, *SUM), size=size,
    )  # fmt: skip
