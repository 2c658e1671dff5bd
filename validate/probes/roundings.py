"""How does a backend round to whole numbers and to narrower types? Questions of `probes`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.grids.codebooks import (
    AffineGrid,
    Codebook,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from ...reference.grids.float_formats import FORMATS
from .elementary_operations import Bench, Question

HALF_EVEN = "to nearest, ties to even"
TIES = np.array([0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, -3.5, 0.75, -0.75, 1.25, -1.25, 0.0, 0.0])
ROUNDINGS: dict[str, Callable[[NDArray], NDArray]] = {
    HALF_EVEN: np.rint,
    "floor(x + ½)": lambda x: np.floor(x + x.dtype.type(0.5)),
    "to nearest, ties away from zero": lambda x: np.copysign(_ties_up(np.abs(x)), x),
    "to nearest, ties up": lambda x: _ties_up(x),
    "to nearest, ties towards zero": lambda x: np.copysign(-_ties_up(-np.abs(x)), x),
    "truncated": np.trunc,
    "floor": np.floor,
    "ceiling": np.ceil,
}


def _ties_up(x: NDArray) -> NDArray:
    floor = np.floor(x)
    return floor + (x - floor >= x.dtype.type(0.5))


def rint_questions(bench: Bench) -> Iterator[Question]:
    """How each codebook rounds."""
    number = bench.dtype.type
    ties = bench.vector(TIES)
    ties[-2:] = np.nextafter(number(0.5), number(0)), -np.nextafter(number(0.5), number(0))
    ones, zero = np.ones((len(ties), 1), bench.dtype), np.full((len(ties), 1), 8, np.int32)
    one_group = np.zeros(1, np.int64)
    codebooks: dict[str, tuple[Codebook, int]] = {
        "UniformLattice": (UniformLattice(spacing=1.0), 0),
        "ScaledLattice": (ScaledLattice(step=1.0, spacing=ones[0], lmmse=False), 0),
        "AffineGrid": (AffineGrid(ones, zero, one_group, 15), 8),
    }

    def ask(codebook: Codebook, offset: int) -> Callable[[], str]:
        def find() -> str:
            target, codes = bench.matrix(ties[:, None]), bench.backend.zeros(len(ties), 1, np.int32)
            bench.backend.sic(target, codes, None, codebook, 0, 1)
            found = bench.host(codes)[:, 0] - offset
            for name, rounding in ROUNDINGS.items():
                if (rounding(ties) == found).all():
                    return name
            return "in a way that has no name: " + ", ".join(
                f"{x:g} → {z}" for x, z in zip(ties[:4], found, strict=False)
            )

        return find

    for name, (codebook, offset) in codebooks.items():
        yield f"sic on {name}", HALF_EVEN, ask(codebook, offset)
    yield "sic on FloatGrid", HALF_EVEN, lambda: _float_grid_ties(bench)


def _float_grid_ties(bench: Bench) -> str:
    form = FORMATS["fp4-e2m1"]
    middle = bench.vector(form.midpoints)
    grid = FloatGrid(np.ones((len(middle), 1), bench.dtype), np.zeros(1, np.int64), form)
    target, codes = bench.matrix(middle[:, None]), bench.backend.zeros(len(middle), 1, np.int32)
    bench.backend.sic(target, codes, None, grid, 0, 1)
    found, below = bench.host(codes)[:, 0], np.arange(len(middle))
    if (found == below + below % 2).all():
        return HALF_EVEN
    if (found == below + 1).all():
        return "to nearest, ties away from zero"
    return "to nearest, ties towards zero" if (found == below).all() else "not to nearest"


def conversion_questions(bench: Bench) -> Iterator[Question]:
    """How what does not fit is rounded when the dtype changes."""
    if bench.dtype == np.float64:
        # Steps of float32 above 1 are 2⁻²³; overflow and the largest float32 stand beside them.
        steps = [0.5, 1.5, 0.5 + 2.0**-20, 0.5 - 2.0**-20, 0.75, 1.0]
        values = np.array([1.0 + s * 2.0**-23 for s in steps])
        even = np.array([1.0 + s * 2.0**-23 for s in (0, 2, 1, 0, 1, 1)])
        down = np.array([1.0 + s * 2.0**-23 for s in (0, 1, 0, 0, 0, 1)])
        away = np.array([1.0 + s * 2.0**-23 for s in (1, 2, 1, 0, 1, 1)])
        yield (
            "convert to float32", HALF_EVEN,
            lambda: _converted(bench, values, np.float32, even, down, away),
        )  # fmt: skip
    else:
        codes = np.array([2**24 + 1, 2**24 + 3, 2**25 + 3, 2**31 - 1], np.int32)
        even = np.array([2.0**24, 2.0**24 + 4, 2.0**25 + 4, 2.0**31])
        down = np.array([2.0**24, 2.0**24 + 2, 2.0**25, 2.0**31 - 128])
        away = np.array([2.0**24 + 2, 2.0**24 + 4, 2.0**25 + 4, 2.0**31])
        yield (
            "convert from int32", HALF_EVEN,
            lambda: _converted(bench, codes, np.float32, even, down, away),
        )  # fmt: skip


def _converted(
    bench: Bench, values: NDArray, dtype: Any, even: NDArray, down: NDArray, away: NDArray
) -> str:
    matrix = bench.backend.from_host(values[None, :], values.dtype)
    found = bench.host(bench.backend.convert(matrix, dtype))[0].astype(np.float64)
    for name, expected in (
        (HALF_EVEN, even),
        ("truncated", down),
        ("to nearest, ties away from zero", away),
    ):
        if (found == expected).all():
            return name
    return "not to nearest"
