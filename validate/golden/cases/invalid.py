"""Cases that must be refused, with the error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import flags
from ..case import DTYPES
from ..definition import Definition
from ..ingredients import exact_eigensystem, positive_definite, turns, weight

Options = tuple[tuple[str, dict[str, Any]], ...]

N = 5
NONSENSE = "parameters that make no sense"


def invalid_cases() -> Iterator[Definition]:
    """Tier invalid."""
    for dtype in DTYPES:
        yield from _pivots(dtype)
        yield from _overflows(dtype)
        yield from _layers(dtype)
    yield from _parameters()
    yield from _scalars()


def _case(
    function: str,
    what: str,
    comment: str,
    inputs: dict[str, Any],
    dtype: str = "float64",
    **parameters: Any,
) -> Definition:
    return Definition(
        function, "invalid", what, dtype, comment, inputs, parameters, (flags.REFUSED,)
    )


def _pivots(dtype: str) -> Iterator[Definition]:
    for what, value, comment in (
        ("negative", 3.0, "pivot 2 is 3 - 4 = -1"),
        ("zero", 4.0, "pivot 2 is exactly 0, which is not positive"),
        ("nan", np.nan, "pivot 2 is a NaN"),
        ("infinity", np.inf, "pivot 2 is infinite"),
    ):
        matrix = np.diag(np.array([4, 1, value, 1], dtype))
        matrix[2, 0] = matrix[0, 2] = 4
        yield _case("cholesky", f"pivot-{what}-n4", comment, {"matrix": matrix}, dtype)
    first = -np.eye(2, dtype=dtype)
    yield _case("cholesky", "pivot-first-n2", "pivot 0 is -1", {"matrix": first}, dtype)
    indefinite = positive_definite(800, N, dtype)
    indefinite[1, 3] = indefinite[3, 1] = 100
    W = weight(801, 3, N, dtype)
    layer = {"weight": W, "covariance": indefinite}
    yield _case(
        "gptq", "indefinite-3x5", "the pivot in the numbers of the weight", layer, dtype, bits=4
    )
    yield _case(
        "gptq",
        "indefinite-activation-order-3x5",
        "the pivot in the numbers of the weight, not in the order of processing",
        layer,
        dtype,
        bits=4,
        actorder=True,
    )
    yield _case(
        "watersic", "indefinite-3x5", "Σ has a negative eigenvalue", layer, dtype, spacing=0.5
    )
    dead = indefinite.copy()
    dead[0] = dead[:, 0] = 0
    yield _case(
        "watersic",
        "indefinite-behind-a-dead-feature-3x5",
        "feature 0 is removed, and the pivot counts it all the same",
        {"weight": W, "covariance": dead},
        dtype,
        spacing=0.5,
    )


def _overflows(dtype: str) -> Iterator[Definition]:
    target = np.zeros((3, 4), dtype)
    span = {"start": 0, "stop": 4}
    for what, value, comment in (
        ("greatest", 2.0**31, "2³¹ does not fit"),
        ("least", -(2.0**31) - 4096, "below -2³¹"),
        ("nan", np.nan, "a NaN is no code"),
        ("infinity", -np.inf, "an infinity is no code"),
    ):
        planted = target.copy()
        planted[1, 2] = value
        for kind, extra, parameters in (
            ("uniform", {}, {"spacing": 1.0}),
            ("scaled", {"spacing": np.ones(4, dtype)}, {"step": 1.0, "lmmse": False}),
            ("affine", _grid(dtype, 4), {"maximum": 7}),
            ("fp4-e2m1", _grid(dtype, None), {}),
        ):
            if kind in ("affine", "fp4-e2m1") and np.isfinite(value):
                continue
            yield _case(
                "sic",
                f"{kind}-{what}-3x4",
                comment,
                {"target": planted, **extra},
                dtype,
                codebook=kind,
                **parameters,
                **span,
            )
    two = target.copy()
    two[2, 3] = two[1, 3] = two[0, 0] = 1e10
    yield _case(
        "sic",
        "first-in-the-order-of-the-loop-3x4",
        "column 3 is decided before column 0, and row 1 is named before row 2",
        {"target": two},
        dtype,
        codebook="uniform",
        spacing=1.0,
        **span,
    )
    layer = {"weight": weight(810, 3, N, dtype), "covariance": positive_definite(811, N, dtype)}
    for method in ("rtn", "gptq", "watersic"):
        yield _case(method, "codes-overflow-3x5", "a tiny spacing", layer, dtype, spacing=1e-12)
    yield _case(
        "gptq",
        "codes-overflow-activation-order-3x5",
        "the column in the numbers of the weight",
        layer,
        dtype,
        spacing=1e-12,
        actorder=True,
    )


def _grid(dtype: str, zero: int | None) -> dict[str, NDArray]:
    grid: dict[str, NDArray] = {
        "scale": np.ones((3, 1), dtype),
        "group": np.zeros(4, np.int64),
    }
    return grid if zero is None else {**grid, "zero": np.full((3, 1), zero, np.int32)}


def _layers(dtype: str) -> Iterator[Definition]:
    W, sigma = weight(820, 3, N, dtype), positive_definite(821, N, dtype)

    def planted(array: NDArray, row: int, column: int, value: float) -> NDArray:
        copy = array.copy()
        copy[row, column] = value
        return copy

    negative = sigma.copy()
    negative[3, 3] = -1
    greatest = float(np.finfo(dtype).max)
    for what, comment, layer in (
        ("weight-nan", "a NaN in the weight", {"weight": planted(W, 1, 2, np.nan)}),
        ("weight-infinite", "an infinity in the weight", {"weight": planted(W, 2, 0, np.inf)}),
        ("weight-vector", "a vector is no matrix", {"weight": W[0].copy()}),
        ("weight-empty", "no row", {"weight": W[:0].copy()}),
        ("weight-integers", "int64 is no float", {"weight": np.ones((3, N), np.int64)}),
        ("shapes", "Σ is one larger", {"weight": W[:, : N - 1].copy()}),
        ("covariance-nan", "a NaN in Σ", {"covariance": planted(sigma, 0, 4, np.nan)}),
        ("covariance-not-square", "4 rows and 5 columns", {"covariance": sigma[:4].copy()}),
        (
            "covariance-asymmetric",
            "Σ differs from its transpose by 0.1",
            {"covariance": planted(sigma, 0, 1, float(sigma[0, 1]) + 0.1)},
        ),
        ("covariance-negative", "a negative mean square", {"covariance": negative}),
        ("weight-overflows", "Ŵ or D overflows", {"weight": np.full((3, N), greatest, dtype)}),
    ):
        for method, parameters in (
            ("rtn", {"bits": 4}),
            ("gptq", {"bits": 4}),
            ("watersic", {"spacing": 0.5}),
        ):
            if dtype == "float32" and method != "gptq":
                continue
            inputs = {"weight": W, "covariance": sigma, **layer}
            yield _case(method, f"{what}-3x5", comment, inputs, dtype, **parameters)
    if dtype == "float32":
        wide = {"weight": W.astype(np.float64) * 1e60, "covariance": sigma}
        yield _case("gptq", "too-wide-3x5", "1e60 is no float32", wide, dtype, bits=4)


def _parameters() -> Iterator[Definition]:
    W, sigma = weight(830, 3, N, "float64"), positive_definite(831, N, "float64")
    layer = {"weight": W, "covariance": sigma}
    lattice = ("rtn", "gptq", "watersic")
    of_lattices: Options = (
        ("rate-and-step", {"rate": 3.0, "spacing": 0.5}),
        ("rate-negative", {"rate": -1.0}),
        ("rate-nan", {"rate": "nan"}),
        ("step-zero", {"spacing": 0.0}),
        ("step-infinite", {"spacing": "inf"}),
        ("step-and-open-loop", {"spacing": 0.5, "open_loop": True}),
        ("measure-unknown", {"rate": 3.0, "rate_measure": "entropy"}),
        ("nothing", {}),
    )
    for method in lattice:
        for what, parameters in of_lattices:
            yield _case(method, f"{what}-3x5", NONSENSE, layer, **parameters)
        yield Definition(
            method,
            "invalid",
            "dtype-half-3x5",
            "float64",
            "float16 is no working dtype",
            layer,
            {"spacing": 0.5, "dtype": "float16"},
            (flags.REFUSED,),
        )
    of_grids: Options = (
        ("bits-1", {"bits": 1}),
        ("bits-9", {"bits": 9}),
        ("bits-and-step", {"bits": 4, "spacing": 0.5}),
        ("format-unknown", {"format": "fp5"}),
        ("format-with-bits", {"format": "fp4-e2m1", "bits": 4}),
        ("format-asymmetric", {"format": "fp4-e2m1", "asymmetric": True}),
        ("group-of-0", {"bits": 4, "group_size": 0}),
        ("group-on-a-lattice", {"spacing": 0.5, "group_size": 4}),
    )
    for method in ("rtn", "gptq"):
        for what, parameters in of_grids:
            yield _case(method, f"{what}-3x5", NONSENSE, layer, **parameters)
    of_gptq: Options = (
        ("static-without-groups", {"bits": 4, "static_groups": True}),
        ("block-of-0", {"bits": 4, "block_size": 0}),
        ("damping-negative", {"bits": 4, "damping": -0.5}),
        ("damping-nan", {"bits": 4, "damping": "nan"}),
        ("no-hadamard", {"bits": 4, "hadamard_seed": 1}),
    )
    for what, parameters in of_gptq:
        yield _case("gptq", f"{what}-3x5", NONSENSE, layer, **parameters)
    yield _case(
        "watersic", "threshold-negative-3x5", "τ = -1", layer, spacing=0.5, dead_threshold=-1.0
    )
    square = sigma.copy()
    for what, extra in (
        ("drift-without-cross", {"covariance_quantized": square}),
        ("cross-without-drift", {"cross_covariance": square}),
        ("residual-shape", {"residual_covariance": W[:, :4].copy()}),
    ):
        yield _case(
            "watersic", f"{what}-3x5", "moments that do not go together", {**layer, **extra},
            spacing=0.5,
        )  # fmt: skip
    for what, V in (
        ("rotation-shape", np.eye(N + 1)),
        ("rotation-not-orthogonal", np.tril(np.ones((N, N)))),
        ("rotation-nan", np.where(np.eye(N) == 1, np.nan, turns(N, "float64"))),
    ):
        yield _case("gptq", f"{what}-3x5", "no orthogonal matrix", {**layer, "rotation": V}, bits=4)
    covariance, spectrum, V = exact_eigensystem(4, [4.0, 2.0, 1.0, 0.5], "float64")
    given = {"weight": weight(832, 3, 4, "float64"), "covariance": covariance}
    for what, eigenvalues, eigenvectors in (
        ("eigenvalues-shape", spectrum[:3].copy(), V),
        ("eigenvalues-nan", np.where(spectrum == 1, np.nan, spectrum), V),
        ("eigenvectors-not-orthogonal", spectrum, V + 0.125),
    ):
        yield _case(
            "waterfilling",
            f"{what}-3x4",
            "no eigensystem",
            {**given, "eigenvalues": eigenvalues, "eigenvectors": eigenvectors},
            spacing=0.5,
        )


def _scalars() -> Iterator[Definition]:
    for value in (0.0, -1.0, np.inf, np.nan):
        yield _case("log2", f"of-{value}", "no logarithm", {"x": np.array([value])})
    yield _case("exp2", "of-nan", "no power", {"x": np.array([np.nan])})
    variances = np.array([1.0, -1.0])
    yield _case("allocate_rate", "negative-variance", "-1", {"variances": variances}, rate=1.0)
    yield _case(
        "allocate_distortion", "negative-distortion", "-1", {"variances": np.ones(2)},
        distortion=-1.0,
    )  # fmt: skip
    yield _case(
        "rotate",
        "no-hadamard-of-7",
        "7 is not m·2^p",
        {"matrix": np.ones((1, 7))},
        direction="columns",
        hadamard_seed=1,
    )
    yield _case("code_lengths", "count-of-0", "a symbol never seen", {"counts": np.array([2, 0])})
    yield _case(
        "rate_budget",
        "overdrawn",
        "the first layer leaves nothing",
        {"sizes": np.array([100, 100], np.int64), "spent": np.array([6.0, 1.0])},
        rate=3.0,
    )
    attention = np.array([[[1.0, 0.0], [1.5, -0.5]]])
    yield _case("token_importance", "negative-attention", "-0.5", {"attention": attention})
    tokens = np.ones((2, 3))
    for what, weights in (("negative", [1.0, -1.0]), ("zero", [0.0, 0.0]), ("nan", [1.0, np.nan])):
        yield _case(
            "moment",
            f"weights-{what}",
            "weights that make no mean",
            {"left": tokens, "right": tokens, "weights": np.array(weights)},
            batches=[2],
            moment_dtype="float64",
        )
    yield _case(
        "moment",
        "token-nan",
        "a NaN among the activations",
        {"left": np.array([[1.0, np.nan]]), "right": np.ones((1, 2))},
        batches=[1],
        moment_dtype="float64",
    )
    yield _case(
        "mix_moments",
        "share-above-1",
        "a share of 1.5",
        {"weighted_covariance": np.eye(2), "unweighted_covariance": np.eye(2)},
        drift_share=0.0,
        weighting_share=1.5,
    )
