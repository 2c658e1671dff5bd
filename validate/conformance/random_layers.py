"""Does a backend give the bits of another one on large random layers?

The committed golden cases are few where they are large. Here both backends compute every operation
that costs time on layers of any size, in this process, and everything that comes out is compared.
The layers are recipes from raw integers (`golden.recipes`), so a report can be held against that of
another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.bases.hadamard import base_matrix, base_order
from ...reference.errors import WaterlevelError
from ...reference.grids.codebooks import (
    AffineGrid,
    Codebook,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from ...reference.grids.float_formats import FORMATS
from ...reference.operations import Operations
from ..golden.case import sha256
from ..golden.recipes import bell, integers, structured_covariance
from ..support.comparison import compare_bits
from ..support.console import one_line

SHAPES = ((1024, 1024), (333, 896), (700, 4096))
DTYPES = ("float64", "float32")
SPACING = 0.5
# The contracts under which these outputs have the same bits: 2 moved the grids of GPTQ's groups,
# and no operation.
SAME_BITS = frozenset({"1", "2"})
MAXIMUM = 15


@dataclass(frozen=True)
class Compared:
    """One output of one layer.

    Attributes:
        case: rows×columns, dtype and output. sha256: of what came out, None if nothing did.
        difference: from the other backend, in one line; None if there is none.
    """

    case: str
    sha256: str | None
    difference: str | None


@dataclass(frozen=True)
class RandomLayers:
    """All layers, or why there are none.

    Attributes:
        against: the other backend. compared: in order. reason: why nothing was compared.
    """

    against: str
    compared: tuple[Compared, ...] = ()
    reason: str | None = None

    @property
    def differing(self) -> list[Compared]:
        """What is not as it should be."""
        return [one for one in self.compared if one.difference is not None]

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "against": self.against,
            "reason": self.reason,
            "results": [
                {"case": one.case, "sha256": one.sha256, "difference": one.difference}
                for one in self.compared
            ],
        }


def compare(
    backend: Operations,
    other: Operations,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    announce: Callable[[str], None] = lambda what: None,
) -> list[Compared]:
    """Every output of every layer. A layer ends where the backend fails; it raises nothing itself.

    Args:
        announce: is told what is going on.
    """
    found = []
    for dtype in DTYPES:
        for rows, columns in shapes:
            layer = f"{rows}×{columns} {dtype}"
            announce(f"random layer {layer}")
            ours, theirs = (outputs(b, rows, columns, dtype) for b in (backend, other))
            found += _compare_layer(layer, ours, theirs)
    return found


def _compare_layer(
    layer: str, ours: Iterator[tuple[str, NDArray]], theirs: Iterator[tuple[str, NDArray]]
) -> Iterator[Compared]:
    for name, expected in theirs:
        case = f"{layer} {name}"
        try:
            _, actual = next(ours)
        except Exception as error:  # a backend that is being validated may do anything
            kind = "" if isinstance(error, WaterlevelError) else f"{type(error).__name__}: "
            yield Compared(case, None, f"{case}: no output: {kind}{one_line(error)}")
            return
        difference = compare_bits(expected, actual)
        message = None if difference is None else difference.message(layer, name)
        yield Compared(case, sha256(actual), message)


def outputs(
    operations: Operations, rows: int, columns: int, dtype: str
) -> Iterator[tuple[str, NDArray]]:
    """Name and host array of everything that is computed on one layer."""
    number, to_host = np.dtype(dtype).type, operations.to_host

    def place(array: NDArray) -> Any:
        return operations.from_host(array, array.dtype)

    weight = place(bell(1, [rows, columns], dtype=dtype))
    moment = place(structured_covariance(2, columns, 3, dtype))
    L = operations.cholesky(moment)
    yield "cholesky", to_host(L)
    target = operations.matmul(weight, L)
    yield "matmul", to_host(target)
    scale = np.abs(bell(3, [rows, 4], dtype=dtype)) + number(0.0625)
    zero = integers(4, [rows, 4], 0, MAXIMUM, dtype="int32")
    group = np.arange(columns) * 4 // columns
    codebooks: dict[str, Codebook] = {
        "gains": ScaledLattice(SPACING, number(SPACING) / operations.diagonal(L), lmmse=True),
        "uniform": UniformLattice(SPACING),
        "affine": AffineGrid(scale, zero, group, MAXIMUM),
        "float": FloatGrid(scale, group, FORMATS["fp4-e2m1"]),
    }
    for name, codebook in codebooks.items():
        values = operations.take(target, None, None)
        codes = operations.zeros(rows, columns, np.int32)
        yield f"sic {name}, gains", operations.sic(values, codes, L, codebook, 0, columns)
        yield f"sic {name}, codes", to_host(codes)
        yield f"sic {name}, values", to_host(values)
        histograms = operations.column_histograms(codes)
        yield f"sic {name}, counts", histograms.counts
        yield f"sic {name}, symbols", histograms.symbols
    yield "solve", to_host(operations.solve(weight, L))
    yield "solve_reversed", to_host(operations.solve_reversed(target, L, 0, columns))
    yield "row_inner", operations.row_inner(weight, target)
    yield "column_inner", operations.column_inner(weight, target)
    low, high = operations.row_extrema(target, 0, columns)
    yield "row_extrema", np.stack([low, high])
    yield (
        "grid_error",
        operations.grid_error(weight, scale[:, 0].copy(), zero[:, 0].copy(), MAXIMUM),
    )
    mixed = operations.hadamard(weight, base_matrix(base_order(columns)))
    yield "hadamard", to_host(mixed)
    total = operations.take(moment, None, None)
    operations.accumulate(total, weight, weight, scale[:, 1].copy())
    yield "accumulate", to_host(total)
    yield "symmetrize", to_host(operations.symmetrize(total))
    yield "matmul_transposed", to_host(operations.matmul_transposed(weight, target))
