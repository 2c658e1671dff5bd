"""Cases of WaterSIC and waterfilling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import flags
from ..case import DTYPES
from ..definition import Definition, Inputs, Outputs, Purpose
from ..ingredients import drift, exact_eigensystem, layer, positive_definite, turns, weight
from ..recipes import integers

ROWS = 40


def lattice_cases() -> Iterator[Definition]:
    """WaterSIC and waterfilling."""
    for dtype in DTYPES:
        yield from _watersic(dtype)
        yield from _watersic_dead(dtype)
        yield from _watersic_moments(dtype)
        yield from _watersic_rotated(dtype)
        yield from _waterfilling(dtype)


def _watersic(dtype: str) -> Iterator[Definition]:
    inputs = layer(500, 12, dtype, ROWS)
    wide = dtype == "float64"  # the rescalers are, and what they find is rounded to float32

    def case(what: str, comment: str, flagged: tuple[str, ...], *, tier: str = "semantics",
             changed_by: tuple[str, ...] = (), purposes: tuple[Purpose, ...] = (),
             given: dict[str, Any] | None = None, **parameters: Any) -> Definition:  # fmt: skip
        return Definition(
            "watersic", tier, what, dtype, comment, given or inputs, parameters, flagged,
            changed_by=changed_by, purposes=purposes,
        )  # fmt: skip

    whole = {
        "weight": integers(501, [5, 7], -7, 7, -2, dtype),
        "covariance": np.diag(integers(502, [7], 0, 1, 0, dtype) * 3 + 1),
    }
    yield case(
        "quarters-5x7",
        "Σ diagonal with squares, no damping, no gain: nothing is lost anywhere",
        (flags.EXACT, flags.TIE),
        tier="order-free",
        given=whole,
        spacing=0.5,
        damping=0.0,
        lmmse=False,
        rescale=False,
    )
    yield case(
        "everything-40x12",
        "gains and rescalers, at a given spacing",
        (flags.ORDER, flags.FUSED, flags.GAIN, flags.RESCALERS),
        tier="order",
        changed_by=("fused-multiply-add", "reversed", "pairwise") if wide else (),
        spacing=0.25,
    )
    yield case(
        "everything-600x6",
        "more rows than a chunk of a sum",
        (flags.ORDER, flags.CHUNK),
        tier="order",
        changed_by=("left-to-right-sum", "tree-without-chunks") if wide else (),
        given=layer(503, 6, dtype, 600),
        spacing=0.25,
    )
    yield case(
        "without-rescalers-40x12",
        "row scales are 1, column scales γ·α",
        (flags.GAIN, flags.SCALES),
        changed_by=("unit-gain",),
        spacing=0.5,
        rescale=False,
    )
    yield case(
        "without-gains-40x12",
        "γ = 1 in the loop, rescalers afterwards",
        (flags.RESCALERS, flags.SCALES),
        changed_by=("columns-before-rows", "scales-multiplied-first"),
        spacing=0.5,
        lmmse=False,
    )
    yield case(
        "plain-40x12",
        "neither gains nor rescalers",
        (flags.SCALES,),
        spacing=0.5,
        lmmse=False,
        rescale=False,
    )
    coarse = {"given": layer(504, 12, dtype, 7), "spacing": 2.25}
    yield case(
        "columns-of-zero-codes-7x12",
        "a coarse spacing: some columns have no code but 0, and the gain 0",
        (flags.GAIN, flags.EMPTY),
        changed_by=("unit-gain-of-zeros",),
        purposes=(
            Purpose(
                "a column of zeros and a column that is not",
                lambda i, o: {bool(c.any()) for c in o["codes"].T} == {True, False},
            ),
        ),
        **coarse,
        rescale=False,
    )
    yield case(
        "clipped-rescalers-3x12",
        "few codes in a column: its gain is clipped, at both ends",
        (flags.RESCALERS,),
        changed_by=("rescaler-gains-unclipped", "rescaler-gains-positive"),
        given=layer(631, 12, dtype, 3),
        spacing=1.0,
        lmmse=False,
    )
    yield case(
        "every-code-zero-40x12",
        "a spacing so coarse that no code is left: rescalers are left out",
        (flags.GAIN, flags.EMPTY, flags.RESCALERS),
        purposes=(all_zero("codes"), all_zero("dequantized")),
        spacing=1000.0,
    )
    yield case(
        "open-loop-40x12",
        "the spacing by the formula that aims at the Shannon value",
        (flags.DECIMALS, flags.SEARCH),
        rate=3.0,
        open_loop=True,
    )
    for measure in ("rate", "rate_column", "rate_pooled"):
        yield case(
            f"search-{measure.replace('_', '-')}-40x12",
            f"the spacing is searched until `{measure}` is 3 bits",
            (flags.SEARCH, flags.RATES),
            rate=3.0 if measure != "rate" else 4.5,
            rate_measure=measure,
        )
    yield case(
        "rate-below-side-information-40x12",
        "a rate below the side information cannot be met",
        (flags.UNREACHABLE,),
        purposes=(Purpose("the rate is not met", lambda i, o: not o["rate_met"]),),
        rate=0.5,
    )
    yield case(
        "rate-out-of-reach-1x2",
        "two codes cannot cost 3.3 bits: the best that was seen, not met",
        (flags.UNREACHABLE, flags.ONE),
        purposes=(Purpose("the rate is not met", lambda i, o: not o["rate_met"]),),
        given=layer(505, 2, dtype, 1),
        rate=3.3,
        rate_measure="rate_column",
    )
    zeros = {**inputs, "weight": np.zeros_like(inputs["weight"])}
    yield case(
        "zero-weight-40x12", "W = 0", (flags.EMPTY, flags.UNREACHABLE), given=zeros, rate=3.0
    )
    for shape, given in (("1x1", layer(506, 1, dtype, 1)), ("1x9", layer(507, 9, dtype, 1))):
        yield case(shape, "one row", (flags.ONE,), given=given, spacing=0.125)
    yield case(
        "damping-40x12",
        "δ = 0.1 of the mean of diag Σ",
        (flags.DAMPING,),
        spacing=0.25,
        damping=0.1,
    )
    given = {**inputs, "eigenvalues": np.arange(12.0)}
    yield case(
        "eigenvalues-given-40x12", "they change the limit alone", (flags.EXACT,), given=given,
        spacing=0.25,
    )  # fmt: skip


def _watersic_dead(dtype: str) -> Iterator[Definition]:
    n = 8
    covariance = positive_definite(510, n, dtype)
    for feature, size in enumerate((0, 0, 0, 0, 6, 6, 6, 6)):
        covariance[feature] = np.ldexp(covariance[feature], size)
        covariance[:, feature] = np.ldexp(covariance[:, feature], size)
    two_sizes = {"weight": weight(511, 6, n, dtype), "covariance": covariance}
    yield Definition(
        "watersic",
        "semantics",
        "lower-median-6x8",
        dtype,
        "half of the features are 4096 times as strong: by the lower median none is dead",
        two_sizes,
        {"spacing": 0.25},
        (flags.MEDIAN, flags.DEAD),
        changed_by=("upper-median", "mean-of-medians"),
        purposes=(Purpose("no column is silent", lambda i, o: bool(o["column_scale"].all())),),
    )
    yield Definition(
        "watersic",
        "semantics",
        "dead-threshold-6x8",
        dtype,
        "τ = 2: what is weaker than twice the lower median is dead",
        two_sizes,
        {"spacing": 0.25, "dead_threshold": 2.0},
        (flags.MEDIAN, flags.DEAD),
        purposes=(
            Purpose(
                "a weak column is silent, a strong one is not",
                lambda i, o: not o["column_scale"][:4].all() and bool(o["column_scale"][4:].all()),
            ),
        ),
    )
    given = layer(512, 12, dtype, 6)
    for feature, size in ((2, 0.0), (5, 2.0**-14), (9, 2.0**-14)):
        factor = np.dtype(dtype).type(size)
        given["covariance"][feature] *= factor
        given["covariance"][:, feature] *= factor
    for what, threshold, silent in (("", 1e-3, [2, 5, 9]), ("zero-threshold-", 0.0, [2])):
        # Without gains, which are 0 where every code is, a silent column is a dead one.
        yield Definition(
            "watersic",
            "semantics",
            f"dead-{what}6x12",
            dtype,
            "feature 2 is always 0, features 5 and 9 nearly so; zero columns are put back",
            given,
            {"spacing": 0.25, "dead_threshold": threshold, "lmmse": False, "rescale": False},
            (flags.DEAD,),
            purposes=(
                Purpose(
                    "these and no others are silent",
                    lambda i, o, silent=silent: (
                        np.flatnonzero(o["column_scale"] == 0).tolist() == silent
                    ),
                ),
            ),
        )
    nothing = {"weight": weight(513, 4, 5, dtype), "covariance": np.zeros((5, 5), dtype)}
    for what, parameters in (("step", {"spacing": 0.5}), ("rate", {"rate": 2.0})):
        yield Definition(
            "watersic",
            "semantics",
            f"all-dead-{what}-4x5",
            dtype,
            "every feature is dead: codes and values are 0",
            nothing,
            parameters,
            (flags.DEAD, flags.EMPTY),
            purposes=(all_zero("codes"), all_zero("dequantized")),
        )


def _watersic_moments(dtype: str) -> Iterator[Definition]:
    everything = drift(520, 10, dtype, ROWS)
    plain = {name: everything[name] for name in ("weight", "covariance")}
    moments = {name: everything[name] for name in ("covariance_quantized", "cross_covariance")}
    residual = {"residual_covariance": everything["residual_covariance"]}
    for what, given, flagged in (
        ("drift", {**plain, **moments}, (flags.DRIFT,)),
        ("residual", {**plain, **residual}, (flags.RESIDUAL,)),
        ("drift-and-residual", everything, (flags.DRIFT, flags.RESIDUAL)),
    ):
        for rescale in (True, False):
            yield Definition(
                "watersic",
                "semantics",
                f"{what}{'' if rescale else '-without-rescalers'}-40x10",
                dtype,
                "moments of a model that is quantised already",
                given,
                {"spacing": 0.125, "rescale": rescale},
                flagged,
            )
    yield Definition(
        "watersic",
        "semantics",
        "drift-and-residual-search-40x10",
        dtype,
        "the rate search with all moments",
        everything,
        {"rate": 2.5, "rate_measure": "rate_column"},
        (flags.DRIFT, flags.RESIDUAL, flags.SEARCH),
    )
    yield Definition(
        "watersic",
        "semantics",
        "drift-hadamard-40x12",
        dtype,
        "all moments are rotated",
        drift(525, 12, dtype, ROWS),
        {"spacing": 0.125, "hadamard_seed": 3},
        (flags.DRIFT, flags.RESIDUAL, flags.ROTATION),
    )


def _watersic_rotated(dtype: str) -> Iterator[Definition]:
    yield Definition(
        "watersic",
        "semantics",
        "hadamard-8x20",
        dtype,
        "in the basis of a randomised Hadamard matrix",
        layer(530, 20, dtype, 8),
        {"spacing": 0.125, "hadamard_seed": 20},
        (flags.ROTATION,),
    )
    yield Definition(
        "watersic",
        "semantics",
        "given-rotation-8x9",
        dtype,
        "in a basis that somebody gives",
        {**layer(531, 9, dtype, 8), "rotation": turns(9, dtype)},
        {"spacing": 0.125},
        (flags.ROTATION,),
    )


def _waterfilling(dtype: str) -> Iterator[Definition]:
    variances = [
        16.0,
        9.0,
        4.0,
        4.0,
        1.0,
        1.0,
        0.5,
        0.25,
        0.25,
        0.0625,
        2.0**-6,
        2.0**-8,
        0,
        0,
        0,
        0,
    ]
    covariance, spectrum, V = exact_eigensystem(16, variances, dtype)
    given = {
        "weight": weight(540, ROWS, 16, dtype),
        "covariance": covariance,
        "eigenvalues": spectrum,
        "eigenvectors": V,
    }

    def case(what: str, comment: str, **parameters: Any) -> Definition:
        return Definition(
            "waterfilling", "semantics", what, dtype, comment, given, parameters,
            (flags.WATER, flags.ROTATION),
        )  # fmt: skip

    yield case(
        "step-40x16", "spectrum with zeros; the small components are under water", spacing=0.5
    )
    yield case("without-gains-40x16", "γ = 1", spacing=0.5, lmmse=False)
    yield case("nothing-active-40x16", "a spacing that covers everything", spacing=50.0)
    yield case("open-loop-40x16", "c = √(12θ) for the level θ of 2 bits", rate=2.0, open_loop=True)
    for measure in ("rate", "rate_column", "rate_pooled"):
        yield case(
            f"search-{measure.replace('_', '-')}-40x16",
            f"searched until `{measure}` is 2 bits",
            rate=2.0,
            rate_measure=measure,
        )
    yield case("rate-below-side-information-40x16", "cannot be met", rate=0.1)
    negative = {**given, "eigenvalues": np.where(spectrum == 0, -1e-9, spectrum)}
    yield Definition(
        "waterfilling",
        "semantics",
        "negative-eigenvalues-40x16",
        dtype,
        "an eigenvalue below 0 is taken for 0",
        negative,
        {"spacing": 0.5},
        (flags.WATER,),
    )


def all_zero(name: str) -> Purpose:
    """The output of this name is 0 throughout."""

    def holds(inputs: Inputs, outputs: Outputs) -> bool:
        return not outputs[name].any()

    return Purpose(f"output {name} is 0 throughout", holds)
