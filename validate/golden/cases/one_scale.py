"""Cases of RTN and GPTQ beyond grids: lattices, dead features, rotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import flags
from ..definition import Definition, Purpose
from ..ingredients import layer, turns


def both(
    what: str,
    dtype: str,
    comment: str,
    inputs: dict[str, Any],
    parameters: dict[str, Any],
    flagged: tuple[str, ...],
    tier: str = "semantics",
    changed_by: tuple[str, ...] = (),
    purposes: tuple[Purpose, ...] = (),
) -> Iterator[Definition]:
    """The same for RTN and GPTQ."""
    for method in ("rtn", "gptq"):
        yield Definition(
            method,
            tier,
            what,
            dtype,
            comment,
            inputs,
            parameters,
            flagged,
            changed_by=changed_by if method == "gptq" else (),
            purposes=purposes,
        )


def one_spacing_cases(dtype: str) -> Iterator[Definition]:
    """Of one dtype."""
    inputs = layer(440, 12, dtype, 40)
    yield from both(
        "step-40x12",
        dtype,
        "one spacing for the whole matrix, given",
        inputs,
        {"spacing": 0.0625},
        (flags.LATTICE, flags.RATES),
    )
    yield from both(
        "open-loop-40x12",
        dtype,
        "the spacing by formula; GPTQ's knows nothing of the factor",
        inputs,
        {"rate": 3.0, "open_loop": True},
        (flags.LATTICE, flags.DECIMALS),
    )
    for measure in ("rate", "rate_column", "rate_pooled"):
        yield from both(
            f"search-{measure.replace('_', '-')}-40x12",
            dtype,
            f"the spacing is searched until `{measure}` is 2.5 bits",
            inputs,
            {"rate": 2.5, "rate_measure": measure},
            (flags.SEARCH, flags.RATES),
        )
    yield Definition(
        "gptq",
        "semantics",
        "activation-order-step-40x12",
        dtype,
        "activation order on the lattice",
        inputs,
        {"spacing": 0.0625, "actorder": True},
        (flags.LATTICE, flags.ACTIVATION_ORDER),
    )
    yield from both(
        "rate-below-side-information-40x12",
        dtype,
        "a rate below the side information cannot be met: the coarsest result, every code 0",
        inputs,
        {"rate": 0.01},
        (flags.UNREACHABLE,),
        purposes=(Purpose("the rate is not met", lambda i, o: not o["rate_met"]),),
    )
    zeros = {**inputs, "weight": np.zeros_like(inputs["weight"])}
    yield from both(
        "zero-weight-40x12",
        dtype,
        "W = 0 cannot cost 3 bits",
        zeros,
        {"rate": 3.0},
        (flags.UNREACHABLE, flags.EMPTY),
        purposes=(Purpose("the rate is not met", lambda i, o: not o["rate_met"]),),
    )


def dead_cases(dtype: str) -> Iterator[Definition]:
    """Of one dtype."""
    inputs = layer(450, 12, dtype)
    for feature in (3, 7):
        inputs["covariance"][feature, :] = inputs["covariance"][:, feature] = 0
    inputs["weight"][:, 3] *= 64  # the row grid, found before these are zeroed, sees them
    for what, parameters in (
        ("row-grid", {"bits": 4}),
        ("groups-of-4", {"bits": 4, "group_size": 4}),
        ("step", {"spacing": 0.0625}),
    ):
        yield from both(
            f"dead-{what}-6x12",
            dtype,
            "features 3 and 7 are always 0: their weights are 0 after the row grid is found and "
            "before a group grid is",
            inputs,
            parameters,
            (flags.DEAD,),
            purposes=(
                Purpose("silent columns", lambda i, o: not o["dequantized"][:, [3, 7]].any()),
            ),
        )
    yield from both(
        "unseen-rounded-6x12",
        dtype,
        "the same, but their weights are rounded to nearest",
        inputs,
        {"bits": 4, "unseen": "rtn"},
        (flags.DEAD,),
        purposes=(
            Purpose("no silent column", lambda i, o: bool(o["dequantized"][:, [3, 7]].any())),
        ),
    )
    yield Definition(
        "gptq",
        "semantics",
        "dead-activation-order-6x12",
        dtype,
        "a dead feature has the diagonal 1 when the order is found",
        inputs,
        {"bits": 4, "actorder": True, "group_size": 4, "static_groups": True},
        (flags.DEAD, flags.ACTIVATION_ORDER, flags.STATIC_GROUPS),
    )


def rotated_cases(dtype: str) -> Iterator[Definition]:
    """Of one dtype."""
    for n in (12, 16, 20, 28, 36):
        yield from both(
            f"hadamard-6x{n}",
            dtype,
            "quantised in the basis of a randomised Hadamard matrix, values back in the original",
            layer(460, n, dtype),
            {"bits": 4, "hadamard_seed": n},
            (flags.ROTATION,),
        )
    inputs = layer(461, 9, dtype)
    yield from both(
        "given-rotation-6x9",
        dtype,
        "an orthogonal matrix that somebody gives",
        {**inputs, "rotation": turns(9, dtype)},
        {"bits": 4},
        (flags.ROTATION,),
    )
