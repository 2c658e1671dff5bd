"""How does GPTQ on a finite grid feed back weights that are no integers, and still not round?

A scale times a code is no small integer. But what is fed back may be *written* as one. It is the
error e = w - ŵ, for the loop of `sic` in terms of errors needs no product W L: with Y = W L, what
is left of column k after all later ones are cancelled, over L_kk, is

    v_k = w_k + G_k/L_kk,        G_kj = Σ_{k>j} e_k·L_kj,        e_k = w_k - ŵ_k

G begins at 0: a column that nothing has updated has its very own weight. With p bits a slice,
2^(x_i) above the largest weight of row i and 2^(d_j) above the largest element of column j of L,

    e_ik ≈ 2^(x_i)·(E₁·2^(-p) + E₂·2^(-2p))         L_kj ≈ 2^(d_j)·(M₁·2^(-p) + M₂·2^(-2p))
    g_ij ≈ 2^(x_i+d_j-2p)·(G₁ + G₂·2^(-p))          G₁ += E₁M₁,   G₂ += E₁M₂ + E₂M₁

E₂M₂ lies below the last slice of G and is left out. `cancellation` proves that no sum rounds. p
starts at ⌊(56 - ⌈log2 n⌉)/2⌋, but not above 23 (an error is some bits smaller than a weight), and
one bit less is tried where its bound fails. All else is rounded element by element, each operation
by itself and in this order:

    u = ((G₁ + G₂·2^(-p))·2^(x_i+d_k-2p)) / L_kk,     v = w + u
    code = nearest(v / s),     ŵ = s·(code - zero),     e = w - ŵ

**Bound.** Each e and L is kept to 2p+1 bits below 2^(x_i) and 2^(d_j), E₂M₂ is at most 2^(-2p-2).
With m_i the largest |e|·2^(-x_i), at least 1, and 2⁻⁵¹ for the roundings of e, of the sum and of u,
v·L_jj is off by at most n·2^(x_i+d_j)·(m_i·2^(-2p) + 2^(-2p-2) + m_i·2⁻⁵¹), and only a v this close
to a tie (over L_jj) gets another code than in the ordered contract: with p = 22 a tie of the 44th
bit, and the ties by construction of `one_scale`.

**Groups that are fitted on the way** need the updated weights of their columns as they are when a
block begins, W' = W + F with F L = G (`one_scale` says why F alone is solved for). That is the same
loop with a finer quantiser: v = u, and u itself is fed back, -u in place of e, to 2p bits of its
row. While G is 0, W' is W.

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
from .slices import exponents, length_bits, powers, slices

WIDEST, NARROWEST = 23, 13


def widest_slice(columns: int) -> int:
    """The p that is tried first."""
    return min(WIDEST, (56 - length_bits(columns)) // 2)


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
        self.in_order = library.put(weight[:, arranged].T)
        if factor is not None:
            self.diagonal = np.diag(factor)
            self.column = exponents(factor, 0, "factor column")

    def run(self) -> _Run:
        """All columns, with the widest slices that the sums allow."""
        if self.factor is None:
            return self._round_to_nearest()
        for p in range(widest_slice(len(self.diagonal)), NARROWEST - 1, -1):
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
        pairs = [decide(k, self.in_order[k, :]) for k in range(len(group))]
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
    """One run of the loop in slices of p bits.

    Attributes:
        fed: blocks of decided columns: (first column, the slices of ŵ - w).
        codes, values: of each decided column, a numbers each.
    """

    def __init__(self, problem: GridProblem, p: int) -> None:
        assert problem.factor is not None
        self.problem, self.p = problem, p
        library = self.library = problem.library
        self.coupling = slices(np, problem.factor * powers(-problem.column)[None, :], p, 2)
        self.to_row = library.put(powers(-problem.row))
        self.from_row = library.put(powers(problem.row))
        self.fed: list[tuple[int, list[Array]]] = []
        self.codes: dict[int, Array] = {}
        self.values: dict[int, Array] = {}

    def run(self) -> _Run:
        """Block by block; place q in the order of processing is column n-1-q of Y."""
        problem, grouping = self.problem, self.problem.grouping
        rows, n = problem.weight.shape
        if grouping.size is None or grouping.static:
            begins: list[tuple[int, int]] = []
            scale, zero, group = problem.fixed_grids()
        else:
            begins = group_starts(n, grouping.size)
            group = group_of_column(begins)[::-1]
            scale, zero = np.ones((rows, len(begins))), np.zeros((rows, len(begins)), np.int32)
        loop = self._loop()
        for first in range(0, n, grouping.block_size):
            end = min(first + grouping.block_size, n)
            open_ = self._open(loop, n - end, n - first)
            begun = [g for g, (start, _) in enumerate(begins) if first <= start < end]
            if begun:
                last = begins[begun[-1]][1]
                weights = self._weights_now(loop, open_, n - last, n - first)[:, ::-1]
                for g in begun:
                    start, stop = (place - first for place in begins[g])
                    fitted = find_grid(NUMPY, weights, start, stop, problem.form)
                    scale[:, g], zero[:, g] = fitted
            loop.decide = self._decider(scale, zero, group)
            self._keep(n - end, loop.run(open_, n - end))
        stack = self.library.functions.stack
        return _Run(
            stack([self.codes[k] for k in range(n)], axis=0),
            stack([self.values[k] for k in range(n)], axis=0),
            scale, zero, group, self.p,
        )  # fmt: skip

    def _loop(self) -> Cancellation:
        nothing = self.library.put(np.zeros((len(self.problem.diagonal), 1)))
        return Cancellation(self.library, self.coupling, lambda k, g: g, [nothing, nothing])

    def _open(self, loop: Cancellation, start: int, stop: int) -> list[Array]:
        """G on the columns start … stop-1, from all that are decided so far."""
        shape = stop - start, self.problem.weight.shape[0]
        open_ = [self.library.put(np.zeros(shape)) for _ in self.coupling]
        for begin, fed in self.fed:
            open_ = loop.subtract(open_, start, fed, begin)
        return open_

    def _keep(self, begin: int, fed: list[Array]) -> None:
        """Remember decided columns, in few large blocks."""
        concat = self.library.functions.concat
        while self.fed and self.fed[-1][1][0].shape[0] == fed[0].shape[0]:
            fed = [concat([a, b], axis=0) for a, b in zip(fed, self.fed.pop()[1], strict=True)]
        self.fed.append((begin, fed))

    def _update(self, k: int, g: list[Array]) -> Array:
        """u, by which column k is to make up for what the later ones left."""
        problem, p = self.problem, self.p
        rows = problem.weight.shape[0]
        sum_ = (g[0] + g[1] * 2.0**-p) * float(powers(problem.column[k : k + 1] - 2 * p)[0])
        return (sum_ * self.from_row) / self.library.put(np.full(rows, problem.diagonal[k]))

    def _cut(self, error: Array) -> list[Array]:
        """ŵ - w as whole numbers on the grid of its row."""
        return slices(self.library.functions, error * self.to_row, self.p, 2)

    def _decider(self, scale: NDArray, zero: NDArray[np.int32], group: NDArray) -> Decide:
        quantise = _Quantiser(self.library, self.problem.form, scale, zero, group)

        def decide(k: int, g: list[Array]) -> list[Array]:
            w = self.problem.in_order[k, :]
            self.codes[k], self.values[k] = quantise(k, w + self._update(k, g))
            return self._cut(self.values[k] - w)

        return decide

    def _weights_now(
        self, loop: Cancellation, open_: list[Array], start: int, stop: int
    ) -> NDArray[np.float64]:
        """W + F on the columns start … stop-1 of Y, a×(stop - start).

        Args:
            open_: G on the columns of the block, which end with stop-1.
        """
        problem = self.problem
        weight = problem.weight[:, problem.arranged[start:stop]]
        if not self.fed:
            return weight
        found: dict[int, Array] = {}

        def decide(k: int, g: list[Array]) -> list[Array]:
            found[k] = self._update(k, g)
            return self._cut(found[k])

        solve = self._loop()
        solve.decide, solve.bound = decide, [bound.copy() for bound in loop.bound]
        begin = stop - open_[0].shape[0]
        columns = [g[max(start - begin, 0) :, :] * 1.0 for g in open_]
        if start < begin:  # a group ends beyond the block
            beyond = self._open(solve, start, begin)
            concat = self.library.functions.concat
            columns = [concat([a, b], axis=0) for a, b in zip(beyond, columns, strict=True)]
        solve.run(columns, start)
        return weight + np.stack([to_host(found[k]) for k in range(start, stop)], axis=1)


def grid_deviation_bound(
    slice_bits: int, errors: NDArray, exponents_: tuple[NDArray, NDArray]
) -> NDArray[np.float64]:
    """The bound of this module on the error of v·L_jj, a×n, in the order of Y.

    Args:
        errors: W - Ŵ. exponents_: those of the rows of W and of the columns of L.
    """
    row, column = exponents_
    p, n = slice_bits, len(column)
    largest = np.maximum(np.abs(errors).max(axis=1) * powers(-row), 1.0)
    each = n * (largest * (2.0 ** (-2 * p) + 2.0**-51) + 2.0 ** (-2 * p - 2))
    return each[:, None] * powers(row)[:, None] * powers(column)[None, :]
