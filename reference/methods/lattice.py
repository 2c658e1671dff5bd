"""How is a matrix quantised on a lattice of unlimited range, at a spacing or at a rate?

The four entropy-coded methods (RTN, GPTQ, WaterSIC, waterfilling) differ in their target Y, their
factor L and their lattice. What they share stands here: run the interference-cancellation loop at a
spacing, count the codes, measure their rate, and let `search` find the spacing if a rate was asked
for. Every evaluation quantises the whole matrix: a subset of the rows would give other gains.

Worked example: four weights in one column, RTN with the spacing 1. The codes are 1, 0, 1, 0, which
cost one bit each; class and spacing cost (4 + 16)/4 more.

>>> from ..grids.codebooks import UniformLattice
>>> from ..operations.numpy_operations import NUMPY
>>> trial, met = quantize_on_lattice(
...     NUMPY, np.array([[1.2], [0.1], [0.9], [-0.3]]), None, UniformLattice,
...     SpacingChoice(spacing=1.0), coarsest=2.4, weight=np.array([[1.2], [0.1], [0.9], [-0.3]]),
...     diagonal=np.ones(1), columns=1, side_information=SideInformation.one_spacing())
>>> trial.codes.codes[:, 0].tolist(), trial.rate
([1, 0, 1, 0], 6.0)

Exercise: from which spacing on is every code 0, and what does the file cost then? (Check: twice the
largest weight, 2.4, where 1.2/2.4 = ½ is a tie and goes to 0; class and spacing remain, 5 bits.)

>>> trial, met = quantize_on_lattice(
...     NUMPY, np.array([[1.2], [0.1], [0.9], [-0.3]]), None, UniformLattice,
...     SpacingChoice(spacing=2.4), coarsest=2.4, weight=np.array([[1.2], [0.1], [0.9], [-0.3]]),
...     diagonal=np.ones(1), columns=1, side_information=SideInformation.one_spacing())
>>> trial.codes.codes[:, 0].tolist(), trial.rate
([0, 0, 0, 0], 5.0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..coding.histogram import ColumnHistograms
from ..coding.rates import SideInformation, measure, overhead
from ..errors import BadInput
from ..grids.codebooks import Codebook
from ..operations import Matrix, Operations
from .rate_search import SpacingChoice, Trial, find_spacing, open_loop_spacing


@dataclass(frozen=True)
class LatticeCodes:
    """What a run on a lattice leaves: codes and values a×m on the backend, gains, and counts."""

    codes: Matrix
    values: Matrix
    gains: NDArray[np.float64]
    histograms: ColumnHistograms


def quantize_on_lattice(
    backend: Operations,
    target: Matrix,
    factor: Matrix | None,
    lattice: Callable[[float], Codebook],
    choice: SpacingChoice,
    *,
    coarsest: float,
    weight: Matrix,
    diagonal: NDArray,
    columns: int,
    side_information: SideInformation,
) -> tuple[Trial[LatticeCodes], bool]:
    """Run the loop with the spacing that the user's choice leads to.

    Args:
        target: Y, a×m (m live columns), kept. factor: L, m×m, or None for L = I.
        lattice: the codebook for a spacing. choice: a spacing, or a rate and how to reach it.
        coarsest: a spacing at which every code is 0.
        weight: W, a×m, and diagonal: m numbers, for `rate_search.open_loop_spacing`.
        columns: n, the columns of the whole matrix, removed ones included.

    Returns:
        (trial, met), as `rate_search.find_spacing`. A matrix of zeros meets no rate.

    Raises:
        BadInput: a spacing that overflows, a weight whose squares overflow or underflow.
        CodeOverflow: with the column in the numbering of Y.
    """
    rows, live = backend.shape(target)
    dtype = backend.dtype(target)

    def evaluate(spacing: float) -> Trial[LatticeCodes]:
        check_spacing(spacing, dtype)
        values = backend.convert(target, dtype)
        codes = backend.zeros(rows, live, np.int32)
        gains = backend.sic(values, codes, factor, lattice(spacing), 0, live)
        histograms = backend.column_histograms(codes)
        rate = measure(histograms, rows, columns, side_information, choice.rate_measure)
        return Trial(spacing, rate, LatticeCodes(codes, values, gains, histograms))

    nothing = backend.largest_magnitude(weight) == 0
    least = overhead(live, rows, columns, side_information, choice.rate_measure)
    return find_spacing(
        choice,
        evaluate,
        lambda rate: open_loop_spacing(column_mean_squares(backend, weight), diagonal, rate),
        coarsest=coarsest or 1.0,
        least_rate=np.inf if nothing else least,
    )


def check_spacing(spacing: float, dtype: np.dtype) -> None:
    """Raise BadInput if a spacing is no finite number in the working dtype."""
    if not abs(spacing) <= float(np.finfo(dtype).max):
        raise BadInput(f"the spacing {spacing:g} overflows {dtype}; use a smaller one, or float64")


def column_mean_squares(backend: Operations, weight: Matrix) -> NDArray[np.float64]:
    """The mean square of each column, summed in the dtype of W, divided in float64.

    Raises:
        BadInput: one that overflows, or nothing but zeros from a weight that is not zero.
    """
    rows, _ = backend.shape(weight)
    squares = backend.column_inner(weight, weight).astype(np.float64) / rows
    if not np.isfinite(squares).all():
        j = int(np.argmin(np.isfinite(squares)))
        dtype = backend.dtype(weight)
        raise BadInput(f"the mean square of weight column {j} overflows {dtype}; scale it down")
    if not squares.any() and backend.largest_magnitude(weight) > 0:
        dtype = backend.dtype(weight)
        raise BadInput(f"the squares of the weight underflow {dtype}; scale the weight up")
    return squares
