"""How does GPTQ on a finite grid feed back weights that are no integers, and still not round?

A scale times a code is no small integer. But what is fed back may be *written* as one, on a grid of
the row, and L on a grid of its column. With p bits a slice, 2^(e_i) above the largest weight of row
i and 2^(d_j) above the largest element of column j of L,

    ŵ_ik ≈ 2^(e_i)·(E₁·2^(-p) + E₂·2^(-2p))         L_kj ≈ 2^(d_j)·(M₁·2^(-p) + M₂·2^(-2p))
    y_ij ≈ 2^(e_i+d_j-2p)·(Y₁ + Y₂·2^(-p))          Y₁ -= E₁M₁,   Y₂ -= E₁M₂ + E₂M₁

E₂M₂ lies below the last slice of Y and is left out. `cancellation` proves that no sum rounds; p
starts at 23, and one bit less is tried where its bound fails. The decision rounds as the ordered
contract does, each operation by itself and in this order (v is the updated weight):

    v = ((Y₁ + Y₂·2^(-p))·2^(e_i+d_k-2p)) / L_kk,    code = nearest(v / s),    ŵ = s·(code - zero)

**Bound.** Each ŵ and L is kept to 2p+1 bits below 2^(e_i) and 2^(d_j), E₂M₂ is at most 2^(-2p-2).
So column j is off by at most 2^(e_i+d_j)·(n·(m_i·2^(-2p-1) + 2^(-2p-1) + 2^(-2p-2)) + 2^(-3p-1) +
product_error), m_i the largest |ŵ|·2^(-e_i), and only a v that lies this close to a tie (over
L_kk) gets another code than in the ordered contract: with p = 20 a tie of the fortieth bit.

**Groups that are fitted on the way** need the updated weights of their columns, a triangular solve.
It is the same loop with a finer quantiser: feed back v itself, to 2p bits of its row. The first
block, which no decision has touched, takes W as it is.

Worked example: the corner of `one_scale`, three columns on 2 bits, groups of two, L = I.

>>> import numpy as np
>>> W = np.array([[3.0, -1.0, 0.3]])
>>> result = order_free_grid(W, None, bits=2, group_size=2)
>>> result.codes, result.scale
(array([[3, 2, 3]], dtype=int32), array([[2. , 0.1]]))

Exercise: H = (1 0.8; 0.8 1) and W = (0.4 0.4) with spacing 1, the example of `gptq`, on a grid of 4
bits with s = 1? (Check: a third column of weight 7 fits such a grid; codes 0 and 1 are 8 and 9.)

>>> L = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.8, 0.6]])      # columns 2, 1, 0
>>> W = np.array([[0.4, 0.4, -7.5]])
>>> order_free_grid(W, L, bits=4, order=[0, 1, 2]).codes
array([[8, 9, 0]], dtype=int32)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BadInput
from ..grids.float_formats import FORMATS
from ..methods.grid_fitting import (
    INTEGER,
    GridFormat,
    find_grid,
    find_grids,
    grid_format,
    group_of_column,
    group_starts,
)
from ..methods.one_scale import Grouping
from ..operations.numpy_operations import NUMPY
from .arrays import Array, Library, checked_matrix, library_of, to_host
from .cancellation import Cancellation, Decide, GridTooFine
from .lattice import arrangement, checked_factor
from .slices import exponents, powers, product_error, product_transposed, slices

WIDEST, NARROWEST = 23, 13


@dataclass(frozen=True, eq=False)
class OrderFreeGrid:
    """Codes on finite grids; arrays of the caller's library.

    Attributes:
        codes: a×n int32. scale: a×groups float64, zero: a×groups int32, group: n, on the host.
        dequantized: Ŵ = scale·(codes - zero), or scale·value(codes); a×n float64, one rounding.
        slice_bits: p, of the grids that were used; None without a factor.
    """

    codes: Array
    scale: Array
    zero: Array
    group: NDArray[np.int64]
    dequantized: Array
    slice_bits: int | None


def order_free_grid(
    weight: Array,
    factor: Array | None,
    bits: int | None = None,
    *,
    format: str = INTEGER,
    asymmetric: bool = False,
    mse: bool = False,
    group_size: int | None = None,
    static_groups: bool = False,
    block_size: int = 128,
    order: ArrayLike | None = None,
) -> OrderFreeGrid:
    """GPTQ, or RTN without a factor, on a finite grid; the same bits from every array library.

    Args:
        weight: W, a×n, of any library, float64 or narrower.
        factor: L, n×n, the lower Cholesky factor of the damped moment of the columns order[::-1].
            None: RTN.
        bits, format, asymmetric, mse: see `grid_fitting.GridFormat`.
        group_size, static_groups, block_size: see `one_scale.Grouping`.
        order: the columns in the order in which they are decided; GPTQ's own is 0, 1, …, n-1, which
            is the default here.

    Returns:
        Codes and grids, columns in the order of `weight`.

    Raises:
        BadInput: as `order_free`, a row or column that no grid holds, a grid without finite scale.

    Exactness: bits, on every library and for every order of every sum.
    """
    form = grid_format(bits, format, asymmetric, mse)
    if form is None:
        raise BadInput("give bits or a float format for a finite grid")
    grouping = Grouping(
        group_size, static_groups or (factor is None and group_size is not None), block_size
    )
    library, W = library_of(weight), checked_matrix("weight", weight)
    columns = W.shape[1]
    arranged = arrangement(np.arange(columns) if order is None else order, columns)
    L = None if factor is None else checked_factor(factor, columns)
    problem = GridProblem(library, W, L, arranged, form, grouping)
    run = problem.run()
    back = np.argsort(arranged)
    indices = library.functions.astype(library.put(back), library.functions.int64, copy=True)
    codes = library.functions.take(run.codes, indices, axis=0).T
    return OrderFreeGrid(
        codes=library.integers(codes),
        scale=library.put(run.scale),
        zero=library.integers(library.put(run.zero)),
        group=run.group[back],
        dequantized=library.functions.take(run.values, indices, axis=0).T,
        slice_bits=run.slice_bits,
    )


@dataclass(frozen=True)
class _Run:
    """Codes and Ŵ, n×a on the device in the order of the loop, and the grids on the host."""

    codes: Array
    values: Array
    scale: NDArray[np.float64]
    zero: NDArray[np.int32]
    group: NDArray[np.int64]
    slice_bits: int | None


class GridProblem:
    """W (its columns as they were given) and L (in the order of the loop)."""

    def __init__(
        self,
        library: Library,
        weight: NDArray,
        factor: NDArray | None,
        arranged: NDArray[np.int64],
        form: GridFormat,
        grouping: Grouping,
    ) -> None:
        self.library, self.weight, self.factor = library, weight, factor
        self.arranged, self.form, self.grouping = arranged, form, grouping
        self.row = exponents(weight, 1, "weight row")
        if factor is not None:
            self.diagonal = np.diag(factor)
            self.target = product_transposed(library, weight[:, arranged], factor)

    def run(self) -> _Run:
        """All columns, with the widest slices that the sums allow."""
        if self.factor is None:
            return self._round_to_nearest()
        for p in range(WIDEST, NARROWEST - 1, -1):
            try:
                return _Attempt(self, p).run()
            except GridTooFine:
                continue
        row = int(np.argmax(self.row))
        raise BadInput(
            f"no grid holds weight row {row} with this factor: sums over {len(self.diagonal)} "
            f"columns exceed 2^53 even in slices of {NARROWEST} bits; raise the damping"
        )

    def fixed_grids(self) -> tuple[NDArray, NDArray[np.int32], NDArray[np.int64]]:
        """Row grids or static groups, from the original weights; groups in the order of Y."""
        scale, zero, group = find_grids(NUMPY, self.weight, self.grouping.size, self.form)
        return scale, zero, group[self.arranged]

    def _round_to_nearest(self) -> _Run:
        xp = self.library.functions
        scale, zero, group = self.fixed_grids()
        decide = _Quantiser(self.library, self.form, scale, zero, group)
        W = self.library.put(self.weight[:, self.arranged].T)
        pairs = [decide(k, W[k, :]) for k in range(len(group))]
        codes, values = (xp.stack(list(parts), axis=0) for parts in zip(*pairs, strict=True))
        return _Run(codes, values, scale, zero, group, None)


class _Quantiser:
    """The decision of one column: (codes, values), whole numbers and numbers in float64."""

    def __init__(
        self,
        library: Library,
        form: GridFormat,
        scale: NDArray,
        zero: NDArray[np.int32],
        group: NDArray[np.int64],
    ) -> None:
        self.library, self.form, self.group = library, form, group
        self.scale, self.zero = library.put(scale.T), library.put(zero.T)

    def __call__(self, k: int, v: Array) -> tuple[Array, Array]:
        xp, g = self.library.functions, int(self.group[k])
        scale, zero = self.scale[g, :], self.zero[g, :]
        level = v / scale
        if self.form.name == INTEGER:
            code = xp.clip(xp.round(level) + zero, 0.0, float(self.form.maximum))
            return code, scale * (code - zero)
        code, value = self._nearest_float(level)
        return code, scale * value

    def _nearest_float(self, level: Array) -> tuple[Array, Array]:
        """`FloatFormat.nearest` and `.values`: above how many midpoints, ties to even."""
        xp = self.library.functions
        magnitudes, midpoints = self._tables
        size, last = xp.abs(level), FORMATS[self.form.name].largest_code
        above = xp.searchsorted(midpoints, size, side="left")
        nearest_even = above + above % 2
        tie = xp.take(midpoints, xp.clip(above, 0, last - 1), axis=0) == size
        above = xp.where(tie & (above < last), nearest_even, above)
        value, negative = xp.take(magnitudes, above, axis=0), level < 0.0
        code = xp.astype(above, xp.float64, copy=True)
        return xp.where(negative, 0.0 - code, code), xp.where(negative, 0.0 - value, value)

    @cached_property
    def _tables(self) -> tuple[Array, Array]:
        form = FORMATS[self.form.name]
        return self.library.put(form.magnitudes), self.library.put(form.midpoints)


class _Attempt:
    """One run of the loop in slices of p bits."""

    def __init__(self, problem: GridProblem, p: int) -> None:
        assert problem.factor is not None
        self.problem, self.p = problem, p
        library = self.library = problem.library
        xp, target = library.functions, problem.target
        L, self.column = problem.factor, target.column_exponent
        self.coupling = slices(np, L * powers(-self.column)[None, :], p, 2)
        whole = target.value * 2.0 ** (2 * p)
        high = xp.round(whole)
        self.open = [high, xp.round((whole - high) * 2.0**p)]
        self.to_row = library.put(powers(-problem.row))
        self.from_row = library.put(powers(problem.row))
        self.codes: dict[int, Array] = {}
        self.values: dict[int, Array] = {}

    def updated(self, k: int, y: list[Array]) -> Array:
        """v, the weight that column k should now come close to."""
        problem, p = self.problem, self.p
        rows = problem.weight.shape[0]
        sum_ = (y[0] + y[1] * 2.0**-p) * float(powers(self.column[k : k + 1] - 2 * p)[0])
        return (sum_ * self.from_row) / self.library.put(np.full(rows, problem.diagonal[k]))

    def fed_back(self, value: Array) -> list[Array]:
        """Ŵ as whole numbers on the grid of its row."""
        return slices(self.library.functions, value * self.to_row, self.p, 2)

    def run(self) -> _Run:
        problem = self.problem
        columns = len(problem.diagonal)
        if problem.grouping.size is None or problem.grouping.static:
            scale, zero, group = problem.fixed_grids()
            self._loop(self._decider(scale, zero, group), self.open).run(self.open, 0)
        else:
            scale, zero, group = self._fit_on_the_way()
        stack = self.library.functions.stack
        return _Run(
            stack([self.codes[k] for k in range(columns)], axis=0),
            stack([self.values[k] for k in range(columns)], axis=0),
            scale, zero, group, self.p,
        )  # fmt: skip

    def _decider(self, scale: NDArray, zero: NDArray[np.int32], group: NDArray) -> Decide:
        quantise = _Quantiser(self.library, self.problem.form, scale, zero, group)

        def decide(k: int, y: list[Array]) -> list[Array]:
            self.codes[k], self.values[k] = quantise(k, self.updated(k, y))
            return self.fed_back(self.values[k])

        return decide

    def _loop(self, decide: Decide, open_: list[Array]) -> Cancellation:
        return Cancellation(self.library, self.coupling, decide, open_)

    def _fit_on_the_way(self) -> tuple[NDArray, NDArray[np.int32], NDArray[np.int64]]:
        """Block by block; place q in the order of processing is column n-1-q of Y."""
        problem, open_ = self.problem, self.open
        rows, n = problem.weight.shape
        groups = group_starts(n, problem.grouping.size)
        group = group_of_column(groups)[::-1]
        scale, zero = np.ones((rows, len(groups))), np.zeros((rows, len(groups)), np.int32)
        loop = self._loop(self._decider(scale, zero, group), open_)
        for first in range(0, n, problem.grouping.block_size):
            end = min(first + problem.grouping.block_size, n)
            begun = [g for g, (start, _) in enumerate(groups) if first <= start < end]
            if begun:
                last = groups[begun[-1]][1]
                weights = self._weights_now(open_, n - last, n - first)[:, ::-1]
                for g in begun:
                    start, stop = (place - first for place in groups[g])
                    fitted = find_grid(NUMPY, weights, start, stop, problem.form)
                    scale[:, g], zero[:, g] = fitted
            loop.decide = self._decider(scale, zero, group)
            decided = loop.run([y[n - end : n - first, :] for y in open_], n - end)
            if end < n:
                rest = [y[: n - end, :] for y in open_]
                open_ = loop.subtract(rest, 0, decided, n - end)
        return scale, zero, group

    def _weights_now(self, open_: list[Array], start: int, stop: int) -> NDArray[np.float64]:
        """The updated weights of the columns start … stop-1 of Y, a×(stop - start)."""
        problem = self.problem
        if stop == len(problem.diagonal):
            return problem.weight[:, problem.arranged[start:stop]]
        found: dict[int, Array] = {}

        def decide(k: int, y: list[Array]) -> list[Array]:
            found[k] = self.updated(k, y)
            return self.fed_back(found[k])

        columns = [y[start:stop, :] for y in open_]
        self._loop(decide, open_).run(columns, start)
        return np.stack([to_host(found[k]) for k in range(start, stop)], axis=1)


def grid_deviation_bound(
    slice_bits: int, dequantized: NDArray, target_exponents: tuple[NDArray, NDArray]
) -> NDArray[np.float64]:
    """The bound of this module on the error of y, a×n, in the order of Y."""
    row, column = target_exponents
    p, n = slice_bits, len(column)
    largest = np.maximum(np.abs(dequantized).max(axis=1) * powers(-row), 1.0)
    each = n * ((largest + 1) * 2.0 ** -(2 * p + 1) + 2.0 ** -(2 * p + 2))
    each += 2.0 ** -(3 * p + 1) + product_error(n)
    return each[:, None] * powers(row)[:, None] * powers(column)[None, :]
