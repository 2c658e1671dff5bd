"""How do WaterSIC, GPTQ and RTN give the same codes on any library, with any matrix product?

In units in which the spacing is one a code is z = rint(y): an integer, and what is fed back is that
integer times a coupling. Column j of Y = W L is divided by α_j·L_jj:

    WaterSIC, α_k = c/L_kk:    y_ij = (W L)_ij·(1/c)            M_kj = γ_k·(L_kj/L_kk)
    GPTQ, one spacing α:       y_ij = (W L)_ij·(1/(α·L_jj))     M_kj = L_kj/L_jj
    both                       z_ik = rint(y_ik),   y_ij -= z_ik·M_kj  for j < k

Put y and M on the grid 2^(-f), y ← rint(2^f·y), M ← rint(2^f·M): then y and z·M are integers, and
`cancellation` subtracts them without rounding as long as its bound holds. f starts at 36; if the
bound reaches 2⁵³ all is done again with f - 8. W L itself comes from slices (`slices`).

**The gain** γ_k = Σ z·y / Σ z² is a quotient of integers. y and z are cut into digits so short that
a·max|z|·2^(w-1) < 2⁵³: every sum of products of digits is exact, Python's integers put them
together, and the division of two integers rounds once.

**How far from the exact loop?** For the codes z and gains γ that were found, let y* be the exact
real target less Σ_k z_ik·γ_k·(exact coupling). Then

    |y - y*| ≤ 2^(-f-1)·(1 + Σ_k |z_ik|) + 4u·Σ_k |z_ik·M_kj| + product_error·2^(e_i+e_j)/unit_j
               + 4u·|target|,                                                        u = 2⁻⁵³

from rint of Y and of M, the roundings in M, the slices, and the reciprocals. (`deviation_bound`.)
So a code differs from that of the ordered contract only where the exact y* lies this close to a
tie, or by as much as the ordered sums round; and from there on in the same row. If the part
2^(-f-1)·Σ_k |z_ik| exceeds ½ the codes of row i say nothing any more, and it is refused.

**RTN** has no sums: z = rint(w/α), the bits of the ordered contract.

Worked example: the one of `watersic`, L = diag(2, 1), c = 1, W = (0.8, 0.8): y = (1.6, 0.8).

>>> import numpy as np
>>> W, L = np.array([[0.8, 0.8]]), np.diag([2.0, 1.0])
>>> result = order_free(W, L, 1.0, lmmse=False)
>>> result.codes, result.spacing, result.fraction_bits
(array([[2, 1]], dtype=int32), array([0.5, 1. ]), 36)

Exercise: which Ŵ with gains? (Check: one row, so γ·z = y, and Ŵ is W up to the grid.)

>>> bool((abs(order_free(W, L, 1.0).dequantized - W) < 2.0**-37).all())
True
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_parameter
from ..coding.histogram import column_histograms
from ..coding.rates import Rates, SideInformation, lattice_rates, measure, overhead
from ..errors import BadInput, CodeOverflow
from ..methods.lattice import column_mean_squares
from ..methods.rate_search import SpacingChoice, Trial, find_spacing, open_loop_spacing
from ..operations.numpy_operations import NUMPY
from .arrays import Array, Library, checked_matrix, library_of, to_host
from .cancellation import Cancellation, GridTooFine
from .slices import (
    FARTHEST_EXPONENT,
    Scaled,
    length_bits,
    powers,
    product_error,
    product_transposed,
)

FINEST, COARSER = 36, 8
METHODS = ("watersic", "gptq", "rtn")


class NoGrid(CodeOverflow):
    """Codes so large that sums of them are exact on no grid that would tell them apart."""

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(row, column, value)
        self.args = (
            f"no grid holds weight row {row}: its target reaches {value:g} spacings at column "
            f"{column}; use a larger spacing (a lower rate), or scale the row down",
        )


@dataclass(frozen=True, eq=False)
class OrderFreeCodes:
    """Codes on the integer lattice; arrays of the caller's library unless it says host.

    Attributes:
        codes: a×n int32. column_scale: γ·α, n float64: Ŵ = codes·column_scale.
        spacing: α, gains: γ, n float64 each on the host. Exact.
        fraction_bits: f, of the grid that was used; None for RTN, which needs none.
        rate_met: False if a rate was searched for and not found.
        side_information: what has to be sent besides the codes.
        host_codes: a×n int32 in NumPy, columns in the order of the loop.
    """

    codes: Array
    column_scale: Array
    spacing: NDArray[np.float64]
    gains: NDArray[np.float64]
    fraction_bits: int | None
    rate_met: bool
    side_information: SideInformation
    host_codes: NDArray[np.int32] = field(repr=False)

    @property
    def dequantized(self) -> Array:
        """Ŵ, a×n float64: one rounding each."""
        return self.codes * self.column_scale

    @cached_property
    def rates(self) -> Rates:
        """Bits per weight, see `rates`. Exact."""
        rows, columns = self.host_codes.shape
        counts = column_histograms(self.host_codes)
        return lattice_rates(counts, rows, columns, self.side_information)


def order_free(
    weight: Array,
    factor: Array | None,
    spacing: float | None = None,
    *,
    method: str = "watersic",
    rate: float | None = None,
    open_loop: bool = False,
    rate_measure: str = "rate",
    lmmse: bool = True,
    order: ArrayLike | None = None,
) -> OrderFreeCodes:
    """Quantise on the integer lattice; the same bits from every array library.

    Args:
        weight: W, a×n, an array of NumPy, PyTorch, JAX, CuPy or any other library of the array API
            standard; float64 or narrower.
        factor: L, n×n lower Cholesky factor of the (damped) moment, of any library; see
            `order_free_cholesky` or the ordered contract. None for RTN.
        spacing: c for WaterSIC (α_k = c/L_kk), α otherwise, in the unit of L times W or of W.
        method: "watersic", "gptq" or "rtn".
        rate, open_loop, rate_measure: bits per weight in place of a spacing, see
            `rate_search.SpacingChoice`.
        lmmse: WaterSIC only: use the gains γ.
        order: the columns in the order in which they are decided (by default the last one first).
            `factor` then belongs to the columns order[::-1], the codes to the columns of `weight`.

    Returns:
        Codes, scales and rates, on the library and device of `weight`.

    Raises:
        BadInput: wrong shapes, numbers that are not finite, a library without float64.
        NoGrid: a row that no grid holds. CodeOverflow: a code that does not fit in int32.

    Exactness: bits, on every library and for every order of every sum.
    Source: this module; WaterSIC 2026 and GPTQ 2023 for what is computed.
    """
    problem = _problem(weight, factor, method, lmmse, order)
    choice = SpacingChoice(rate, spacing, open_loop, rate_measure)
    rows, columns = problem.weight.shape
    side = (
        SideInformation.watersic(row_scales=False)
        if method == "watersic"
        else SideInformation.one_spacing()
    )

    def evaluate(candidate: float) -> Trial[_Run]:
        run = problem.run(candidate)
        if choice.spacing is not None or open_loop:  # nobody looks at the rate
            return Trial(candidate, np.nan, run)
        counts = column_histograms(run.codes)
        return Trial(candidate, measure(counts, rows, columns, side, rate_measure), run)

    trial, met = find_spacing(
        choice,
        evaluate,
        lambda wanted: open_loop_spacing(
            column_mean_squares(NUMPY, problem.weight), problem.open_loop_diagonal, wanted
        ),
        coarsest=problem.coarsest(),
        least_rate=overhead(columns, rows, columns, side, rate_measure)
        if problem.weight.any()
        else np.inf,
    )
    run, back = trial.codes, np.argsort(problem.arranged)
    spacings = problem.spacings(trial.spacing)
    library = problem.library
    device_codes = library.functions.take(run.fed, _indices(library, back), axis=0).T
    return OrderFreeCodes(
        codes=library.integers(device_codes),
        column_scale=library.put((run.gains * spacings)[back]),
        spacing=spacings[back],
        gains=run.gains[back],
        fraction_bits=run.fraction_bits,
        rate_met=met,
        side_information=side,
        host_codes=run.codes,
    )


def _indices(library: Library, order: NDArray) -> Array:
    return library.functions.astype(library.put(order), library.functions.int64, copy=True)


@dataclass(frozen=True)
class _Run:
    """Codes n×a on the device as whole float64, a×n int32 on the host, and the gains."""

    fed: Array
    codes: NDArray[np.int32]
    gains: NDArray[np.float64]
    fraction_bits: int | None


def _problem(
    weight: Array, factor: Array | None, method: str, lmmse: bool, order: ArrayLike | None
) -> LatticeProblem:
    if method not in METHODS:
        raise BadInput(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    if (factor is None) != (method == "rtn"):
        raise BadInput("method rtn has no factor, the others need one")
    library, W = library_of(weight), checked_matrix("weight", weight)
    arranged = arrangement(order, W.shape[1])
    L = None if factor is None else checked_factor(factor, W.shape[1])
    return LatticeProblem(library, W[:, arranged], L, arranged, method == "watersic", lmmse)


def arrangement(order: ArrayLike | None, columns: int) -> NDArray[np.int64]:
    """For each place of Y its column of W; the loop decides the last place first."""
    if order is None:
        return np.arange(columns)
    found = np.asarray(order)
    if found.shape != (columns,) or not np.array_equal(np.sort(found), np.arange(columns)):
        raise BadInput(f"order must name each of the {columns} columns once")
    return found[::-1].astype(np.int64)


def checked_factor(factor: Array, columns: int) -> NDArray[np.float64]:
    """L on the host, its lower triangle; raises BadInput for a wrong shape or diagonal."""
    L = np.tril(checked_matrix("factor", factor))
    if L.shape != (columns, columns):
        raise BadInput(f"factor has shape {L.shape}, expected ({columns}, {columns})")
    diagonal = np.diag(L)
    if not (diagonal > 0).all():
        k = int(np.argmin(diagonal > 0))
        raise BadInput(f"factor[{k}, {k}] is {diagonal[k]:g}; a Cholesky diagonal is positive")
    return L


class LatticeProblem:
    """W and L in the order of the loop; the product W L is computed once, for any spacing."""

    def __init__(
        self,
        library: Library,
        weight: NDArray,
        factor: NDArray | None,
        arranged: NDArray[np.int64],
        watersic: bool,
        lmmse: bool,
    ) -> None:
        self.library, self.weight, self.factor, self.arranged = library, weight, factor, arranged
        self.watersic, self.lmmse = watersic, lmmse and watersic
        self.diagonal = np.ones(weight.shape[1]) if factor is None else np.diag(factor).copy()
        self.open_loop_diagonal = self.diagonal if watersic else np.ones(weight.shape[1])
        if factor is not None:
            self.target: Scaled = product_transposed(library, weight, factor)
            by = self.diagonal[:, None] if watersic else self.diagonal[None, :]
            self.ratio = factor / by

    def spacings(self, spacing: float) -> NDArray[np.float64]:
        """α of each column, from c or α."""
        return spacing / self.diagonal if self.watersic else np.full(len(self.diagonal), spacing)

    def coarsest(self) -> float:
        """A spacing at which every code is 0."""
        if self.factor is None:
            return 2.0 * float(np.abs(self.weight).max()) or 1.0
        largest = float(np.abs(self.target.host()).max())
        return 2.0 * (largest if self.watersic else largest / float(self.diagonal.min())) or 1.0

    def run(self, spacing: float) -> _Run:
        """Codes and gains at a spacing, on the finest grid that holds them."""
        check_parameter("spacing", spacing, 2.0**-FARTHEST_EXPONENT, 2.0**FARTHEST_EXPONENT)
        if self.factor is None:
            xp = self.library.functions
            alpha = self.library.put([[spacing]])
            fed = xp.round(self.library.put(self.weight.T) / alpha)
            return _Run(fed, self._int32(fed), np.ones(len(self.diagonal)), None)
        for f in range(FINEST, 0, -COARSER):
            try:
                return self._run(spacing, f)
            except GridTooFine:
                continue
        raise self._no_grid(self.in_spacings(spacing, 0))

    def in_spacings(self, spacing: float, f: int) -> Array:
        """2^f·y before it is rounded: one product by a reciprocal that the host rounded once."""
        unit = np.full(len(self.diagonal), spacing) if self.watersic else spacing * self.diagonal
        mantissa, exponent = np.frexp(1.0 / unit)
        by_column = powers(self.target.column_exponent + exponent + f)
        by_row = self.library.put(powers(self.target.row_exponent)[None, :])
        scaled = self.target.value * self.library.put(mantissa[:, None])
        scaled *= by_row
        scaled *= self.library.put(by_column[:, None])
        return scaled

    def _run(self, spacing: float, f: int) -> _Run:
        library, xp = self.library, self.library.functions
        n = len(self.diagonal)
        Y = [xp.round(self.in_spacings(spacing, f))]
        gains = np.ones(n)
        coupling = np.rint(np.ldexp(self.ratio, f)) if not self.lmmse else np.zeros((n, n))

        def decide(k: int, y: list[Array]) -> list[Array]:
            z = xp.round(y[0] * 2.0**-f)
            if self.lmmse:
                gains[k] = exact_gain(library, z, y[0], f)
                coupling[k, :k] = np.rint(np.ldexp(gains[k] * self.ratio[k, :k], f))
            return [z]

        (fed,) = Cancellation(library, [coupling], decide, Y).run(Y, 0)
        self._check_meaning(fed, f)
        return _Run(fed, self._int32(fed), gains, f)

    def _check_meaning(self, fed: Array, f: int) -> None:
        """Refuse a row whose coupling may be off by half a spacing through rint(2^f·M)."""
        xp = self.library.functions
        weightiest = to_host(xp.sum(xp.abs(fed), axis=0))
        if weightiest.max() * 2.0 ** -(f + 1) > 0.5:
            raise self._no_grid(fed)

    def _no_grid(self, columns: Array) -> NoGrid:
        host = np.abs(to_host(columns)).T
        row, place = np.unravel_index(int(np.argmax(host)), host.shape)
        return NoGrid(int(row), int(self.arranged[place]), float(host[row, place]))

    def _int32(self, fed: Array) -> NDArray[np.int32]:
        host = to_host(fed).T
        fits = (host >= -(2.0**31)) & (host < 2.0**31)
        if not fits.all():
            row, place = (int(i) for i in np.argwhere(~fits)[0])
            raise CodeOverflow(row, int(self.arranged[place]), float(host[row, place]))
        return host.astype(np.int32)

    def deviation_bound(
        self, spacing: float, f: int, codes: NDArray, gains: NDArray
    ) -> NDArray[np.float64]:
        """The bound of this module on |y - y*|, a×n, for codes and gains in the order of Y."""
        assert self.factor is not None
        u = 2.0**-53
        unit = spacing if self.watersic else spacing * self.diagonal
        row, column = self.target.row_exponent, self.target.column_exponent
        scale = powers(row)[:, None] * powers(column)[None, :] / unit
        size = np.abs(codes).astype(np.float64)
        later = np.cumsum(size[:, ::-1], axis=1)[:, ::-1] - size  # Σ_{k>j} |z_ik|
        fed_back = size @ np.tril(np.abs(gains[:, None] * self.ratio), -1)
        bound = 2.0 ** -(f + 1) * (1 + later) + 4 * u * fed_back
        bound += product_error(len(self.diagonal)) * scale
        return (bound + 4 * u * np.abs(self.target.host().T / unit)) * (1 + 1e-6)


def digits(functions: Any, whole: Array, width: int, count: int) -> list[Array]:
    """Whole numbers as Σ d_p·2^(p·width) with |d_p| ≤ ½·2^width; the last digit takes the rest."""
    found = []
    for _ in range(count - 1):
        above = functions.round(whole * 2.0**-width)
        found.append(whole - above * 2.0**width)
        whole = above
    return [*found, whole]


def exact_gain(library: Library, z: Array, y: Array, f: int) -> float:
    """γ = Σ z·y·2^(-f) / Σ z², rounded once; 0 if all z are 0.

    Args:
        z: codes, y: their targets times 2^f, whole numbers below 2⁵³.

    >>> import numpy as np
    >>> z, y = np.array([1.0, 2.0, 0.0]), np.array([0.9, 2.2, -0.2])
    >>> round(exact_gain(library_of(z), z, np.rint(y * 2.0**36), 36), 9)
    1.06
    """
    xp = library.functions
    largest = int(xp.max(xp.abs(z)))
    if largest == 0:
        return 0.0
    width = 53 - length_bits(z.shape[0]) - largest.bit_length()
    if width < 1:
        raise GridTooFine("codes too large for the sums of a gain")
    of_y = digits(xp, y, width, -(-54 // width))
    of_z = digits(xp, z, width, -(-(largest.bit_length() + 1) // width))
    sums = [int(s) for s in to_host(xp.stack(of_y + of_z, axis=0) @ z)]
    zy = sum(s << (width * p) for p, s in enumerate(sums[: len(of_y)]))
    zz = sum(s << (width * p) for p, s in enumerate(sums[len(of_y) :]))
    return float(np.ldexp(zy / zz, -f))
