"""What do RTN and GPTQ have in common?

Both put one scale under all columns of a row, or of a group of columns in a row: on a finite grid,
or with one spacing for the whole matrix and an entropy coder behind it. They differ in the factor:
RTN has L = I, GPTQ the Cholesky factor of H on reversed columns. This module is given Y and L and
does the rest: it finds the grids or the spacing, runs the loop of `sic`, puts the columns back in
their original order and measures the result.

**Three ways to group.** One grid for the whole row is found from the original weights. *Static*
groups of g neighbouring columns are too, by their original place. Otherwise the groups count places
in the order of processing, and their grids come from the weights as the loop has updated them by
then. "By then" hides a choice: published GPTQ code updates the weights outside the current block of
128 columns only when a block ends, so a group's grid comes from the weights as they were when *the
block that holds the group's first column* began. The result depends on the block size for no other
reason, and `block_size` is a parameter of the grid, here and there.

The updated weights are not at hand, because the loop keeps Y and not W. Let D be the columns that
are decided when the block begins and O the others. What is left of Y on O is the target of the
weights W' as updated so far, Y_O = W'_O L_OO; it began as W_O L_OO + W_D L_DO, and Ŵ_D L_DO was
taken off. So

    W'_O = W_O + F,    F L_OO = (W - Ŵ)_D L_DO

a product and a triangular solve (`solve_reversed`) from the block's first column to the last one of
the groups that begin in it. In the first block D is empty and F = 0: a column that nothing has
updated has its very own weight. W' = Y_O L_OO⁻¹ is the same matrix on paper, but brings even an
untouched W back with an error of some units in its last place, and later weights with an error of
W's own size times that; here it is only the correction F that is rounded. In float32, with 4 bits
and the group sizes 32 and 128 on two layers of this package, 33 to 42 % of the scales after the
first block are equal to those of the published loop in every bit (and all of the first block),
against 5 to 6 % (and 52 to 67 %) with the solve from Y.

**Ties by construction.** On a symmetric grid the weight of largest magnitude gives the scale, so it
lies at v/s = ±(2ᵇ - 1)/2, half-way between two codes. If it is positive, both round to the largest
code, which clamps. If it is negative, it is code 0 or 1, with the same error s/2 on either side; v
is Y/L_kk and not w itself, so its last bit decides. (That is so wherever nothing is fed back from
the finding of the grid to the decision: with RTN, and for the first column of a block.) The code of
this package is that of rint on this v/s, like every other one; another arithmetic may give the
other one, and is not wrong. From there on the row goes its own way. `waterlevel compare` counts the
rows that part at such a place.

Worked example: three columns on 2 symmetric bits, groups of two. Columns 0 and 1 share a grid of
the range ±3, s = 6/3 = 2; column 2 has its own.

>>> from .rtn import rtn
>>> result = rtn(np.array([[3.0, -1.0, 0.3]]), np.eye(3), bits=2, group_size=2)
>>> result.scales.scale, result.scales.group
(array([[2. , 0.1]]), array([0, 0, 1], dtype=int32))
>>> result.codes, result.dequantized
(array([[3, 2, 3]], dtype=int32), array([[2. , 0. , 0.1]]))

Exercise: why is the last one 0.1 and not 0.3? (Check: nothing in its group is negative, so xmin
stays 0, s = 0.3/3 = 0.1, and with zero = 2 the grid holds -0.2 … 0.1: the corner that
`grid_fitting` warns of. The asymmetric grid would be exact.)

>>> rtn(np.array([[3.0, -1.0, 0.3]]), np.eye(3), bits=2, group_size=2,
...     asymmetric=True).dequantized
array([[ 2.66666667, -1.33333333,  0.3       ]])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bases.rotation import Rotation
from ..checks import check_count
from ..coding.rates import SideInformation, grid_rates, lattice_rates
from ..errors import BadInput
from ..grids.codebooks import UniformLattice
from ..operations import Matrix
from ..operations.layer import Layer, check_finite
from .grid_fitting import GridFormat, find_grid, find_grids, group_of_column, group_starts
from .lattice import quantize_on_lattice
from .preparation import original_columns
from .rate_search import SpacingChoice
from .results import GridScales, LatticeScales, Quantized, finish


@dataclass(frozen=True)
class Grouping:
    """Which columns share a grid.

    Attributes:
        size: columns of a group; None for one grid per row.
        static: grids from the original weights, by original place.
        block_size: see the text above; without effect on static groups and whole rows.
    """

    size: int | None = None
    static: bool = False
    block_size: int = 128

    def __post_init__(self) -> None:
        if self.size is not None:
            check_count("group_size", self.size)
        check_count("block_size", self.block_size)
        if self.static and self.size is None:
            raise BadInput("static_groups needs a group_size")

    def parameters(self) -> dict[str, Any]:
        """For the record of a result, by the names that the user knows."""
        return {
            "group_size": self.size,
            "static_groups": self.static,
            "block_size": self.block_size,
        }


@dataclass(frozen=True)
class Problem:
    """A layer, ready for one run with one scale.

    Attributes:
        layer: the original layer; rotation: the one to undo at the end, or None.
        weight: W in the rotated basis, columns in their original order; it has the row grids.
        zeroed: W with zeros in the columns of features that are always 0; it has the group grids.
        target: Y, a×n, and factor: L, n×n or None for L = I; both in the order of the loop.
        permutation: for each column of Y its original number. The loop decides the last one first.
        eigenvalues: of Σ, or None if they are not known.
    """

    layer: Layer
    rotation: Rotation | None
    weight: Matrix
    zeroed: Matrix
    target: Matrix
    factor: Matrix | None
    permutation: NDArray[np.int64]
    eigenvalues: NDArray | None

    @property
    def original(self) -> NDArray[np.int64]:
        """For each original column its place in Y: the inverse of `permutation`."""
        inverse = np.empty_like(self.permutation)
        inverse[self.permutation] = np.arange(len(self.permutation))
        return inverse


def quantize_with_one_scale(
    problem: Problem,
    method: str,
    parameters: dict[str, Any],
    form: GridFormat | None,
    grouping: Grouping,
    choice: SpacingChoice | None,
) -> Quantized:
    """Run on a finite grid (`form`, `grouping`) or on the unlimited lattice (`choice`)."""
    if (form is None) == (choice is None):
        raise BadInput(
            "give either bits (or a float format) for a finite grid, or a rate or spacing for the "
            "entropy-coded lattice, not both or neither"
        )
    with original_columns(problem.permutation):
        if choice is not None:
            if grouping.size is not None:
                raise BadInput("group_size belongs to finite grids; the lattice has one spacing")
            return _on_lattice(problem, method, parameters, choice)
        assert form is not None
        return _on_grid(problem, method, parameters, form, grouping)


def _on_lattice(
    problem: Problem, method: str, parameters: dict[str, Any], choice: SpacingChoice
) -> Quantized:
    layer, backend = problem.layer, problem.layer.backend
    rows, columns = layer.shape
    number = backend.dtype(problem.target).type
    smallest = 1.0
    if problem.factor is not None:
        smallest = float(backend.diagonal(problem.factor).min())
    side_information = SideInformation.one_spacing()
    trial, rate_met = quantize_on_lattice(
        backend,
        problem.target,
        problem.factor,
        UniformLattice,
        choice,
        coarsest=2.0 * backend.largest_magnitude(problem.target) / smallest,
        weight=problem.zeroed,
        diagonal=np.ones(columns),
        columns=columns,
        side_information=side_information,
    )
    return finish(
        layer,
        problem.rotation,
        method=method,
        parameters={**parameters, **choice.parameters(), "spacing": trial.spacing},
        codes=backend.take(trial.codes.codes, None, problem.original),
        scales=LatticeScales(np.ones(rows, number), np.full(columns, trial.spacing, number)),
        dequantized=backend.take(trial.codes.values, None, problem.original),
        rates=lattice_rates(trial.codes.histograms, rows, columns, side_information),
        rate_met=rate_met,
        eigenvalues=problem.eigenvalues,
    )


def _on_grid(
    problem: Problem,
    method: str,
    parameters: dict[str, Any],
    form: GridFormat,
    grouping: Grouping,
) -> Quantized:
    layer, backend = problem.layer, problem.layer.backend
    rows, columns = layer.shape
    values = backend.convert(problem.target, backend.dtype(problem.target))
    codes = backend.zeros(rows, columns, np.int32)
    if grouping.size is None or grouping.static:
        source = problem.weight if grouping.size is None else problem.zeroed
        scale, zero, group = find_grids(backend, source, grouping.size, form)
        codebook = form.codebook(scale, zero, group[problem.permutation])
        backend.sic(values, codes, problem.factor, codebook, 0, columns)
    else:
        scale, zero, group = _in_order_of_processing(problem, values, codes, form, grouping)
        group = group[problem.original]
    side_information = SideInformation.grid(
        form.bits_per_code, scale.size, zero.size if form.asymmetric else 0
    )
    codes = backend.take(codes, None, problem.original)
    return finish(
        layer,
        problem.rotation,
        method=method,
        parameters={**parameters, **form.parameters(), **grouping.parameters()},
        codes=codes,
        scales=GridScales(scale, zero, group.astype(np.int32)),
        dequantized=backend.take(values, None, problem.original),
        rates=grid_rates(
            backend.column_histograms(codes), rows, columns, side_information, form.bits_per_code
        ),
        rate_met=True,
        eigenvalues=problem.eigenvalues,
    )


def _in_order_of_processing(
    problem: Problem, values: Matrix, codes: Matrix, form: GridFormat, grouping: Grouping
) -> tuple[NDArray, NDArray[np.int32], NDArray[np.int64]]:
    """Run the loop block by block, finding the grids of the groups that begin in each block.

    Place p in the order of processing is column n-1-p of Y.

    Returns:
        (scale, zero, group): a×groups, a×groups int32, the group of each column of Y.
    """
    backend = problem.layer.backend
    rows, n = backend.shape(values)
    groups = group_starts(n, grouping.size)
    group = group_of_column(groups)[::-1]
    scale = np.ones((rows, len(groups)), backend.dtype(values))
    zero = np.zeros((rows, len(groups)), np.int32)
    decided: list[tuple[NDArray[np.int64], Matrix]] = []
    for first in range(0, n, grouping.block_size):
        end = min(first + grouping.block_size, n)
        begun = [g for g, (start, _) in enumerate(groups) if first <= start < end]
        if begun:
            last = groups[begun[-1]][1]
            updated = _updated_weight(problem, decided, n - last, n - first)
            updated = backend.take(updated, None, np.arange(last - first)[::-1])
            for g in begun:
                start, stop = groups[g]
                scale[:, g], zero[:, g] = find_grid(
                    backend, updated, start - first, stop - first, form
                )
        codebook = form.codebook(scale, zero, group)
        backend.sic(values, codes, problem.factor, codebook, n - end, n - first)
        block = np.arange(n - end, n - first)
        decided.insert(0, (block, _errors(problem, values, block)))
    return scale, zero, group


def _errors(problem: Problem, values: Matrix, block: NDArray[np.int64]) -> Matrix:
    """(W - Ŵ)ᵀ on the columns of Y that have just been decided."""
    backend = problem.layer.backend
    weight = backend.take(problem.zeroed, None, problem.permutation[block])
    dequantized = backend.take(values, None, block)
    return backend.transpose(backend.combine(1.0, weight, -1.0, dequantized))


def _updated_weight(
    problem: Problem, decided: list[tuple[NDArray[np.int64], Matrix]], start: int, stop: int
) -> Matrix:
    """W' on the columns start … stop-1 of Y, when those from `stop` on are decided.

    Args:
        decided: the columns of each block that is decided, ascending, and their (W - Ŵ)ᵀ. The chain
            of E L goes through them in this order, so no block of E is ever moved.
    """
    backend = problem.layer.backend
    weight = backend.take(problem.zeroed, None, problem.permutation[start:stop])
    if not decided or problem.factor is None:
        return weight
    open_ = np.arange(start, stop)
    rows, _ = backend.shape(weight)
    fed_back = backend.zeros(rows, stop - start, backend.dtype(weight))
    for columns, errors in decided:
        backend.accumulate(fed_back, errors, backend.take(problem.factor, columns, open_), None)
    correction = backend.solve_reversed(
        fed_back, backend.take(problem.factor, open_, open_), 0, stop - start
    )
    updated = backend.combine(1.0, weight, 1.0, correction)
    check_finite(backend, updated, "the updated weight")
    return updated
