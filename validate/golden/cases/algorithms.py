"""Cases of RTN and GPTQ: grids, formats, groups, orders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....reference.grids.float_formats import FORMATS
from .. import flags
from ..case import DTYPES
from ..definition import Definition, Inputs, Outputs, Purpose
from ..ingredients import layer, positive_definite, weight
from ..recipes import integers
from .one_scale import both, dead_cases, one_spacing_cases, rotated_cases

ROWS = 6


def grid_cases() -> Iterator[Definition]:
    """RTN and GPTQ, tiers order-free, order and semantics."""
    for dtype in DTYPES:
        yield from _plain(dtype)
        yield from _grids(dtype)
        yield from _groups(dtype)
        yield from _orders(dtype)
        yield from one_spacing_cases(dtype)
        yield from dead_cases(dtype)
        yield from rotated_cases(dtype)


def _plain(dtype: str) -> Iterator[Definition]:
    whole = {
        "weight": integers(400, [5, 7], -7, 7, -2, dtype),
        "covariance": np.eye(7, dtype=dtype),
    }
    yield from both(
        "quarters-on-a-lattice-5x7",
        dtype,
        "Σ = I, quarters rounded to halves: nothing is lost anywhere",
        whole,
        {"spacing": 0.5},
        (flags.EXACT, flags.TIE),
        tier="order-free",
    )
    yield Definition(
        "gptq",
        "order-free",
        "no-damping-5x7",
        dtype,
        "Σ = I without damping is RTN",
        whole,
        {"spacing": 0.5, "damping": 0.0},
        (flags.EXACT, flags.DAMPING),
    )
    for n in (12, 37):
        yield from both(
            f"bits4-6x{n}",
            dtype,
            "a symmetric grid of 4 bits for each row",
            layer(401, n, dtype),
            {"bits": 4},
            (flags.ORDER, flags.FUSED),
            tier="order",
        )
    yield Definition(
        "gptq",
        "order",
        "no-damping-6x12",
        dtype,
        "δ = 0",
        layer(403, 12, dtype),
        {"bits": 4, "damping": 0.0},
        (flags.DAMPING,),
    )
    yield Definition(
        "gptq",
        "order",
        "strong-damping-6x12",
        dtype,
        "δ = ½",
        layer(403, 12, dtype),
        {"bits": 4, "damping": 0.5},
        (flags.DAMPING,),
    )
    for what, inputs in (("1x1", layer(404, 1, dtype, 1)), ("1x9", layer(405, 9, dtype, 1))):
        yield from both(what, dtype, "one row", inputs, {"bits": 3}, (flags.ONE,))
    yield from both("6x1", dtype, "one column", layer(406, 1, dtype), {"bits": 3}, (flags.ONE,))
    half = layer(407, 8, dtype)
    half["weight"] = half["weight"].astype(np.float16)
    yield from both(
        "float16-weight-6x8",
        dtype,
        "a half-precision weight is widened exactly",
        half,
        {"bits": 4},
        (flags.EXACT,),
    )
    skewed = layer(408, 8, dtype)
    skewed["covariance"][0, 3] += np.dtype(dtype).type(2.0**-22)
    yield from both(
        "nearly-symmetric-6x8",
        dtype,
        "a covariance that is not quite symmetric is made so",
        skewed,
        {"bits": 4},
        (flags.LOWER_TRIANGLE,),
    )
    given = layer(409, 8, dtype)
    yield from both(
        "eigenvalues-given-6x8",
        dtype,
        "eigenvalues of Σ change the limit and nothing else",
        {**given, "eigenvalues": np.arange(8.0)},
        {"bits": 4},
        (flags.EXACT,),
    )


def _grids(dtype: str) -> Iterator[Definition]:
    inputs = layer(410, 10, dtype)
    number = np.dtype(dtype).type
    for bits in (2, 3, 5, 8):
        yield from both(
            f"bits{bits}-6x10",
            dtype,
            f"a symmetric grid of {bits} bits",
            inputs,
            {"bits": bits},
            (flags.CLIPPING,),
        )
    special = {**inputs, "weight": inputs["weight"].copy()}
    special["weight"][0] = np.abs(special["weight"][0]) + number(0.125)
    special["weight"][1] = -np.abs(special["weight"][1]) - number(0.125)
    special["weight"][2] = 0
    special["weight"][3, :] = number(0.25)
    special["weight"][4, 0] = 3
    for asymmetric in (False, True):
        name = "asymmetric" if asymmetric else "symmetric"
        yield from both(
            f"{name}-special-rows-6x10",
            dtype,
            "rows: all positive, all negative, all zero, all equal, with an outlier",
            special,
            {"bits": 3, "asymmetric": asymmetric},
            (flags.NON_NEGATIVE, flags.EMPTY, flags.ZERO_POINT, flags.CLIPPING),
        )
        yield from both(
            f"{name}-mse-6x10",
            dtype,
            "the range is searched for the least error",
            special,
            {"bits": 3, "asymmetric": asymmetric, "mse": True},
            (flags.MSE, flags.ZERO_POINT),
        )
    yield Definition(
        "gptq",
        "semantics",
        "clipped-6x10",
        dtype,
        "feedback carries weights past both ends of a grid of 2 bits",
        inputs,
        {"bits": 2, "asymmetric": True},
        (flags.CLIPPING,),
        purposes=(
            Purpose(
                "codes at both ends of the grid",
                lambda i, o: int(o["codes"].min()) == 0 and int(o["codes"].max()) == 3,
            ),
        ),
    )
    # xmin/s = -2.5 and -3.5 in turn: the zero point is a tie.
    ties = {
        "weight": np.array([[-2.5, 12.5, 1, 2], [-3.5, 11.5, 1, 2], [-0.5, 14.5, 3, 4]], dtype),
        "covariance": np.eye(4, dtype=dtype),
    }
    yield from both(
        "zero-point-ties-3x4",
        dtype,
        "-xmin/s is 2.5, 3.5 and 0.5: zero points 2, 4 and 0",
        ties,
        {"bits": 4, "asymmetric": True},
        (flags.ZERO_POINT, flags.TIE, flags.HALF_EVEN),
        changed_by=("half-away-everywhere", "truncated-zero-point"),
        purposes=(
            Purpose("zero points 2, 4, 0", lambda i, o: o["zero"][:, 0].tolist() == [2, 4, 0]),
        ),
    )
    tiny = {
        "weight": np.array([[0.5, -0.25], [1, -2]]) * float(np.finfo(dtype).smallest_subnormal) * 4,
        "covariance": np.eye(2, dtype=dtype),
    }
    tiny["weight"] = tiny["weight"].astype(dtype)
    yield from both(
        "vanishing-range-2x2",
        dtype,
        "a range so small that the scale underflows is treated like zeros",
        tiny,
        {"bits": 8},
        (flags.SUBNORMAL, flags.EMPTY),
        purposes=(Purpose("a scale 2/255", lambda i, o: bool((o["scale"] > 0.001).any())),),
    )
    for name in FORMATS:
        yield from both(
            f"{name}-6x10",
            dtype,
            "a float format, scaled by the largest magnitude of each row",
            special,
            {"format": name},
            (flags.FORMATS, flags.EMPTY),
        )
        yield from _float_ties(name, dtype)


def _float_ties(name: str, dtype: str) -> Iterator[Definition]:
    """Midpoints of a float format. The largest value in each row makes its scale a power of two."""
    form = FORMATS[name]
    chosen = np.linspace(0, len(form.midpoints) - 1, 7).astype(int)
    row = np.concatenate(([form.largest], form.midpoints[chosen], form.magnitudes[chosen]))
    signs = np.where(np.arange(len(row)) % 2, -1.0, 1.0)
    inputs = {
        "weight": np.stack([row * signs, -row * signs / 4, row * signs * 2]).astype(dtype),
        "covariance": np.eye(len(row), dtype=dtype),
    }

    def ties_to_even(i: Inputs, o: Outputs) -> bool:
        tied = np.abs(o["codes"])[:, 1 : 1 + len(chosen)]
        return bool((tied % 2 == 0).all() and np.isin(np.frexp(o["scale"])[0], 0.5).all())

    for method, parameters in (("rtn", {}), ("gptq", {"damping": 0.0})):
        yield Definition(
            method,
            "semantics",
            f"{name}-ties-3x{len(row)}",
            dtype,
            "midpoints of a float format go to the even code; Σ = I, so GPTQ changes nothing",
            inputs,
            {"format": name, **parameters},
            (flags.FORMATS, flags.HALF_EVEN),
            purposes=(Purpose("every midpoint has an even code", ties_to_even),),
        )


def _groups(dtype: str) -> Iterator[Definition]:
    inputs = layer(420, 22, dtype)
    yield from both(
        "groups-of-4-6x22",
        dtype,
        "the last group has 2 columns",
        inputs,
        {"bits": 3, "group_size": 4},
        (flags.GROUPS, flags.RAGGED),
        changed_by=("fresh-group-scales",),
    )
    yield from both(
        "groups-wider-than-the-row-6x22",
        dtype,
        "one group, of updated weights that nothing has updated yet",
        inputs,
        {"bits": 3, "group_size": 64},
        (flags.GROUPS,),
    )
    yield from both(
        "groups-of-1-6x22",
        dtype,
        "a grid for each weight",
        inputs,
        {"bits": 3, "group_size": 1, "asymmetric": True},
        (flags.GROUPS, flags.ZERO_POINT),
    )
    yield from both(
        "fp4-e2m1-groups-of-8-6x22",
        dtype,
        "a float format with a scale for each group",
        inputs,
        {"format": "fp4-e2m1", "group_size": 8},
        (flags.GROUPS, flags.FORMATS),
    )
    stale, fresh = "stale-group-scales", "fresh-group-scales"
    rebuilt = "rebuilt-group-scales"
    changed = {4: (stale, rebuilt), 8: (stale, fresh, rebuilt), 128: (fresh, rebuilt)}
    for block_size in changed:
        yield Definition(
            "gptq",
            "semantics",
            f"groups-of-4-blocks-of-{block_size}-6x22",
            dtype,
            "grids of the groups that begin in a block are found when the block begins",
            inputs,
            {"bits": 3, "group_size": 4, "block_size": block_size, "asymmetric": True},
            (flags.GROUPS,),
            changed_by=changed[block_size],
        )
    for actorder in (False, True):
        yield Definition(
            "gptq",
            "semantics",
            f"straddling-groups-{'activation-order-' if actorder else ''}6x22",
            dtype,
            "groups of 6 in blocks of 8: group 1 begins in block 0 and ends in block 1",
            inputs,
            {"bits": 3, "group_size": 6, "block_size": 8, "actorder": actorder},
            (flags.STRADDLING, flags.GROUPS, *((flags.ACTIVATION_ORDER,) if actorder else ())),
            changed_by=("stale-group-scales", "fresh-group-scales"),
        )
        yield Definition(
            "gptq",
            "semantics",
            f"static-groups-{'activation-order-' if actorder else ''}6x22",
            dtype,
            "groups by original place, grids from the original weights",
            inputs,
            {"bits": 3, "group_size": 4, "static_groups": True, "actorder": actorder},
            (flags.STATIC_GROUPS, *((flags.ACTIVATION_ORDER,) if actorder else ())),
        )
    yield Definition(
        "gptq",
        "semantics",
        "blocks-without-groups-6x22",
        dtype,
        "without groups the size of a block changes nothing",
        inputs,
        {"bits": 3, "block_size": 5},
        (flags.GROUPS,),
    )
    yield Definition(
        "gptq",
        "semantics",
        "mse-groups-6x22",
        dtype,
        "the MSE search on updated weights",
        inputs,
        {"bits": 2, "group_size": 8, "block_size": 8, "mse": True, "asymmetric": True},
        (flags.MSE, flags.GROUPS),
    )


def _orders(dtype: str) -> Iterator[Definition]:
    inputs = layer(430, 14, dtype)
    yield Definition(
        "gptq",
        "semantics",
        "activation-order-6x14",
        dtype,
        "columns by descending diagonal, back in their place at the end",
        inputs,
        {"bits": 3, "actorder": True},
        (flags.ACTIVATION_ORDER,),
    )
    n = 24
    equal = positive_definite(431, n, dtype)
    diagonal = np.where(np.arange(n) % 3 == 0, 16, 12).astype(dtype)
    np.fill_diagonal(equal, diagonal)
    yield Definition(
        "gptq",
        "semantics",
        f"activation-order-equal-diagonals-6x{n}",
        dtype,
        "a third of the diagonal is 16, the rest is 12: equals stay in the order of their columns",
        {"weight": weight(432, ROWS, n, dtype), "covariance": equal},
        {"bits": 3, "actorder": True},
        (flags.ACTIVATION_ORDER,),
        changed_by=("activation-order-reversed-ties",),
    )
