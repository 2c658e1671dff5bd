"""Cases of the parts of algorithms that run on a backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ....reference.bases.hadamard import base_matrix
from ....reference.grids.float_formats import FORMATS
from ....reference.operations.numpy_operations import NUMPY
from .. import flags
from ..case import DTYPES
from ..definition import Definition, Purpose
from ..ingredients import correlated, drift, turns, weight
from ..recipes import bell, integers


def part_cases() -> Iterator[Definition]:
    """Parts of algorithms on a backend: rotations, moments, grids, rescalers, mixing."""
    for dtype in DTYPES:
        yield from _rotation_parts(dtype)
        yield from _moments(dtype)
        for form in ("int", *FORMATS):
            for mse in (False, True) if form == "int" else (False,):
                parameters: dict[str, Any] = {"format": form, "group_size": 5}
                if form == "int":
                    parameters |= {"bits": 3, "asymmetric": True, "mse": mse}
                yield Definition(
                    "find_grids",
                    "semantics",
                    f"{form}{'-mse' if mse else ''}-4x13",
                    dtype,
                    "groups of 5, the last one of 3",
                    {"matrix": weight(550, 4, 13, dtype)},
                    parameters,
                    (flags.MSE if mse else flags.GROUPS, flags.ZERO_POINT),
                )
    codes = integers(551, [9, 6], -3, 3)
    points = codes * (0.25 + np.arange(6) / 16)
    sigma = correlated(552, 6, "float64")
    W = points + bell(553, [9, 6], -4)
    target = NUMPY.matmul(W, sigma)
    energy = float(NUMPY.row_inner(target, W).max()) * 16
    for what, gains in (("ones", np.ones(6)), ("others", bell(554, [6], -1))):
        yield Definition(
            "rescale",
            "semantics",
            f"{what}-9x6",
            "float64",
            "row scales and column gains by turns, from these gains",
            {
                "lattice_points": points,
                "covariance_quantized": sigma,
                "target_moment": target,
                "gains": gains,
            },
            {"clean_energy": energy},
            (flags.RESCALERS,),
            changed_by=("fused-multiply-add", "reversed"),
        )


def _rotation_parts(dtype: str) -> Iterator[Definition]:
    for n in (12, 16, 20, 28, 36, 24):
        yield Definition(
            "rotate",
            "semantics",
            f"columns-3x{n}",
            dtype,
            "W V: signs, transform, 1/√n",
            {"matrix": bell(560, [3, n], 0, dtype)},
            {"direction": "columns", "hadamard_seed": 7},
            (flags.ROTATION,),
        )
    for m in (12, 28):
        yield Definition(
            "rotate",
            "semantics",
            f"back-3x{m}",
            dtype,
            "W Vᵀ: the transposed base, 1/√n, then the signs",
            {"matrix": bell(561, [3, m], 0, dtype)},
            {"direction": "back", "hadamard_seed": 7},
            (flags.ROTATION,),
            purposes=(
                Purpose(
                    "this base is not symmetric",
                    lambda i, o, m=m: m != 12 or bool((base_matrix(12) != base_matrix(12).T).any()),
                ),
            ),
        )
    matrix = bell(562, [12, 12], 0, dtype)
    for direction, given in (("both", matrix), ("covariance", correlated(563, 12, dtype))):
        yield Definition(
            "rotate",
            "semantics",
            f"{direction}-n12",
            dtype,
            "Vᵀ M V: first M V, then the transpose of it, then back",
            {"matrix": given},
            {"direction": direction, "hadamard_seed": 2**63},
            (flags.ROTATION,),
        )
        yield Definition(
            "rotate",
            "semantics",
            f"given-{direction}-n12",
            dtype,
            "by a matrix: two products",
            {"matrix": given, "rotation": turns(12, dtype)},
            {"direction": direction},
            (flags.ROTATION,),
        )


def _moments(dtype: str) -> Iterator[Definition]:
    left, right = bell(570, [23, 5], 0, dtype), bell(571, [23, 4], 0, dtype)
    weights = np.abs(bell(572, [23], 0, "float64"))
    for batches in ([23], [1, 7, 15]):
        for weighted in (False, True):
            inputs = {"left": left, "right": right} | ({"weights": weights} if weighted else {})
            yield Definition(
                "moment",
                "semantics",
                f"{'weighted' if weighted else 'plain'}-{len(batches)}-batches-23x5x4",
                dtype,
                "the sizes of the batches change nothing",
                inputs,
                {"batches": batches, "moment_dtype": dtype},
                (flags.MOMENTS,),
            )
    weighted, unweighted = drift(575, 4, dtype, 2), drift(580, 4, dtype, 2)
    names = ("covariance", "covariance_quantized", "cross_covariance")
    for what, there in (("drift", names), ("no-drift", names[:1])):
        yield Definition(
            "mix_moments",
            "semantics",
            f"{what}-n4",
            dtype,
            "first drift against none, then weighted against unweighted",
            {f"weighted_{name}": weighted[name] for name in there}
            | {f"unweighted_{name}": unweighted[name] for name in there},
            {"drift_share": 0.3, "weighting_share": 0.7},
            (flags.MOMENTS, flags.DRIFT),
        )
