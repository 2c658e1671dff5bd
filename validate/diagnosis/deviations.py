"""Which other arithmetic could have given these bits?

When the bits of a kernel are not those of the oracle, they are nearly always the right bits of
another arithmetic: the compiler fused a multiplication with an addition, a library summed in
blocks, a division became a multiplication. Each `Deviation` is the oracle with one thing changed.
The one that reproduces the foreign bits names the mistake.

Most deviations are a method of `arithmetic.Arithmetic`, overridden in `rounding_deviations` or
`order_deviations`. A few belong to an algorithm and
not to an operation (which median, whose weights a group's scale comes from); there a deviation puts
another function into a module of `reference` while it is applied. So it must not be applied while
another thread uses `reference`.

>>> from ...reference import NUMPY
>>> x = 1.0 + 2.0**-30
>>> row, column = np.array([[-1.0 - 2.0**-29, x]]), np.array([[1.0], [x]])
>>> with named("fused-multiply-add").applied() as fused:
...     [float(backend.matmul(row, column)[0, 0]) * 2.0**60 for backend in (NUMPY, fused)]
[0.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.checks import check_parameter
from ...reference.methods.grid_fitting import GridFormat, find_grids
from ...reference.methods.one_scale import Grouping, Problem, _in_order_of_processing
from ...reference.operations import Matrix, Operations
from ...reference.operations.numpy_operations import NUMPY, NumpyOperations, ieee
from .deviating_operations import Arithmetic, ArithmeticOperations, InChains
from .order_deviations import (
    BlockedChains,
    BlockedSums,
    LargestDistanceFirst,
    LeftToRightSums,
    LibraryOperations,
    NumpyChains,
    NumpySums,
    OtherChunks,
    PairwiseChains,
    PairwiseSums,
    ReversedChains,
    ReversedSums,
    TreeChains,
)
from .rounding_deviations import (
    ClampedGain,
    Float32Accumulator,
    Float32Arithmetic,
    Float32Products,
    Float64Accumulator,
    FlushAll,
    FlushResults,
    FusedMultiplyAdd,
    HalfAway,
    HalfUp,
    ProductOfDivisors,
    Reciprocal,
    Truncation,
    UnitGain,
    ZeroInsideRounding,
    half_away,
)

# Methods of `Arithmetic` on which operations with chains of products rest.
IN_CHAINS = (
    "add", "subtract", "multiply", "multiply_add", "multiply_subtract", "add_products",
    "subtract_products",
)  # fmt: skip
DECISIONS = ("divide", "rint", "weight_level", "affine_level", "nearest", "gain", "total", "tree")
ELSEWHERE = {
    "cholesky": ("divide", "sqrt"),
    "solve": ("divide",),
    "solve_reversed": ("divide",),
    "sic": DECISIONS,
}


@dataclass(frozen=True, eq=False)
class Deviation:
    """One deviation that differs from the contract.

    Attributes:
        name: a short name. description: what is done in place of what, in words.
        operations: to run in place of the oracle's.
        patches: (module of `reference.methods`, attribute, what stands there meanwhile).
    """

    name: str
    description: str
    operations: Operations = NUMPY
    patches: tuple[tuple[str, str, Any], ...] = ()

    @contextmanager
    def applied(self) -> Iterator[Operations]:
        """Inside, the algorithms of `reference` deviate so if they run on what is yielded."""
        modules = [
            import_module(f"...reference.methods.{name}", __package__)
            for name, _, _ in self.patches
        ]
        before = [
            getattr(module, attribute)
            for module, (_, attribute, _) in zip(modules, self.patches, strict=True)
        ]
        try:
            for module, (_, attribute, replacement) in zip(modules, self.patches, strict=True):
                setattr(module, attribute, replacement)
            with np.errstate(all="ignore"):
                yield self.operations
        finally:
            for module, (_, attribute, _), original in zip(
                modules, self.patches, before, strict=True
            ):
                setattr(module, attribute, original)

    def concerns(self, operation: str) -> bool:
        """Whether an operation may give other bits with this deviation."""
        if isinstance(self.operations, ArithmeticOperations):
            arithmetic = type(self.operations.arithmetic)
            used = (*IN_CHAINS, *ELSEWHERE.get(operation, ()))
            return any(getattr(arithmetic, name) is not getattr(Arithmetic, name) for name in used)
        return operation in vars(type(self.operations))

    def only_in(self, operation: str) -> Deviation:
        """The same deviation in one operation alone."""
        mixed = _Mixed(NUMPY, self.operations, operation)
        return Deviation(f"{self.name} in {operation}", f"{self.description}, in {operation} alone",
                       mixed)  # fmt: skip


class _Mixed(NumpyOperations):
    def __init__(self, plain: Operations, special: Operations, operation: str) -> None:
        self.name = special.name
        setattr(self, operation, getattr(special, operation))


# Scales --------------------------------------------------------------------------------------


class _RowScaled(np.ndarray):
    """A matrix that knows of which matrix and factors it is the product."""

    parts: tuple[NDArray, NDArray]


class ScalesReordered(NumpyOperations):
    """(row_scale·codes)·column_scale with another order of the two products."""

    def __init__(self, name: str, product: Callable[[NDArray, NDArray, NDArray], NDArray]) -> None:
        self.name, self.product = name, product

    @ieee
    def scale_rows(self, matrix: NDArray, factors: NDArray) -> NDArray:
        scaled = (factors[:, None] * matrix).view(_RowScaled)
        scaled.parts = (matrix, factors)
        return scaled

    @ieee
    def scale_columns(self, matrix: NDArray, factors: NDArray) -> NDArray:
        parts = getattr(matrix, "parts", None)
        if parts is None:
            return np.asarray(matrix * factors)
        codes, rows = parts
        return np.asarray(self.product(codes, rows[:, None], factors))


SCALE_ORDERS: dict[str, tuple[str, Callable[[NDArray, NDArray, NDArray], NDArray]]] = {
    "columns-before-rows": (
        "codes are scaled by (codes·column_scale)·row_scale",
        lambda codes, rows, columns: (codes * columns) * rows,
    ),
    "scales-multiplied-first": (
        "codes are scaled by codes·(row_scale·column_scale)",
        lambda codes, rows, columns: codes * (rows * columns),
    ),
}


# What an algorithm does on the host ---------------------------------------------------------------


class _NumpyWith:
    """The module `numpy` with some functions replaced."""

    def __init__(self, **replaced: Any) -> None:
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _live_features(median: Callable[[NDArray], float]) -> Callable[..., NDArray]:
    def live_features(diagonal: NDArray, threshold: float) -> NDArray[np.int64]:
        check_parameter("dead_threshold", threshold, 0.0)
        return np.flatnonzero((diagonal > 0) & (diagonal >= threshold * median(diagonal)))

    return live_features


def _upper_median(diagonal: NDArray) -> float:
    return float(np.sort(diagonal)[len(diagonal) // 2])


def _middle_median(diagonal: NDArray) -> float:
    return float(np.median(diagonal))


def _fresh_grids(size: int | None, static: bool, block_size: int) -> Grouping:
    return Grouping(size, static, block_size=1)


def _stale_grids(
    problem: Problem, values: Matrix, codes: Matrix, form: GridFormat, grouping: Grouping
) -> tuple[NDArray, NDArray[np.int32], NDArray[np.int64]]:
    backend = problem.layer.backend
    original = backend.take(problem.zeroed, None, problem.permutation[::-1])
    scale, zero, group = find_grids(backend, original, grouping.size, form)
    codebook = form.codebook(scale, zero, group[::-1])
    backend.sic(values, codes, problem.factor, codebook, 0, len(group))
    return scale, zero, group[::-1]


def _rebuilt_grids(
    problem: Problem, values: Matrix, codes: Matrix, form: GridFormat, grouping: Grouping
) -> tuple[NDArray, NDArray[np.int32], NDArray[np.int64]]:
    def rebuilt(problem: Problem, decided: object, start: int, stop: int) -> Matrix:
        return problem.layer.backend.solve_reversed(values, problem.factor, start, stop)

    inner = Deviation("", "", patches=(("one_scale", "_updated_weight", rebuilt),))
    with inner.applied():
        return _in_order_of_processing(problem, values, codes, form, grouping)


def _last_of_equals_first(values: NDArray, kind: str | None = None) -> NDArray[np.int64]:
    return np.lexsort((-np.arange(len(values)), values))


def _unstable(values: NDArray, kind: str | None = None) -> NDArray[np.int64]:
    return np.argsort(values, kind="quicksort")


# The lists -----------------------------------------------------------------------------------

SIZES = (32, 64, 128)


def _using(name: str, description: str, arithmetic: Arithmetic) -> Deviation:
    return Deviation(name, description, ArithmeticOperations(arithmetic, name))


@cache
def operation_deviations() -> tuple[Deviation, ...]:
    """Deviations that show in a single operation, the likeliest first."""
    by_chunk = (256, 1024, 2**62)
    return (
        _using("fused-multiply-add", "x·y + z is rounded once, not twice", FusedMultiplyAdd()),
        _using("reversed-chain", "products are summed from the last to the first",
               ReversedChains()),
        _using("dot-product-first", "all products are summed from +0.0 and then subtracted",
               BlockedChains(None)),
        *(_using(f"blocked-chain-{n}", f"products are summed in blocks of {n}, then the sums",
                 BlockedChains(n)) for n in SIZES),
        *(_using(f"panel-chain-{n}", f"full panels of {n} products are summed by themselves, the "
                 "rest one by one", BlockedChains(n, panels=True)) for n in SIZES),
        _using("numpy-chain", "products are summed as by np.sum (pairwise)", NumpyChains()),
        _using("pairwise-chain", "products are summed in neighbouring pairs", PairwiseChains()),
        _using("tree-chain", "products are summed by tree_sum and not as a chain", TreeChains()),
        _using("left-to-right-sum", "sums run from the first to the last and not as a tree",
               LeftToRightSums()),
        _using("reversed-sum", "sums run from the last to the first and not as a tree",
               ReversedSums()),
        _using("numpy-sum", "sums are those of np.sum (pairwise)", NumpySums()),
        _using("pairwise-sum", "sums add neighbouring pairs", PairwiseSums()),
        *(_using(f"blocked-sum-{n}", f"sums run through blocks of {n}, then over the blocks",
                 BlockedSums(n)) for n in SIZES),
        *(_using(f"tree-chunk-{n}" if n < 2**62 else "tree-without-chunks",
                 f"the tree has chunks of {n}, not 512" if n < 2**62 else
                 "the tree is not cut into chunks of 512", OtherChunks(n)) for n in by_chunk),
        _using("reciprocal-division", "x/d is computed as x·(1/d)", Reciprocal()),
        _using("product-of-divisors", "(y/l)/s is computed as y/(l·s)", ProductOfDivisors()),
        _using("half-away", "half is rounded away from zero, not to even", HalfAway()),
        _using("half-up", "rounding is floor(x + 0.5)", HalfUp()),
        _using("truncation", "values are truncated, not rounded", Truncation()),
        _using("zero-inside-rounding", "rint(v/s) + zero is computed as rint(v/s + zero)",
               ZeroInsideRounding()),
        _using("flush-results", "subnormal results are flushed to zero", FlushResults()),
        _using("flush-to-zero", "subnormal operands and results are flushed to zero", FlushAll()),
        _using("float32-accumulation", "sums are kept in float32, products in float64",
               Float32Accumulator()),
        _using("float32-products", "products and sums are rounded to float32",
               Float32Products()),
        _using("float32-arithmetic", "operands are rounded to float32 and all is computed in it",
               Float32Arithmetic()),
        _using("float64-accumulation", "float32 numbers are summed in float64 and rounded once",
               Float64Accumulator()),
        _using("clamped-gain-0-1", "the gain γ is clipped to [0, 1]", ClampedGain(0, 1)),
        _using("unit-gain", "the gain γ is 1", UnitGain(everywhere=True)),
        _using("unit-gain-of-zeros", "the gain γ of a column of zeros is 1, not 0",
               UnitGain(everywhere=False)),
        _using("largest-distance-first", "Hadamard butterflies start with the largest distance",
               LargestDistanceFirst()),
        Deviation("library", "BLAS, LAPACK and np.sum in place of the fixed orders",
                LibraryOperations()),
    )  # fmt: skip


def _both(name: str, description: str, *arithmetic: type[Arithmetic]) -> Deviation:
    return _using(name, description, type(name, arithmetic, {})())


@cache
def combined_deviations() -> tuple[Deviation, ...]:
    """One order in chains and in sums, or a deviation in chains alone: for `sic` and algorithms."""

    class _Blocked(BlockedChains):
        def total(self, values: NDArray) -> NDArray:
            return BlockedSums(self.size or len(values)).total(values)

    return (
        _both("reversed", "products and sums run from the last to the first",
              ReversedChains, ReversedSums),
        _both("numpy-sums", "products and sums are added as by np.sum", NumpyChains, NumpySums),
        _both("pairwise", "products and sums are added in pairs", PairwiseChains, PairwiseSums),
        *(_using(f"blocked-{n}", f"products and sums are added in blocks of {n}", _Blocked(n))
          for n in SIZES),
        *(_using(f"{name}-in-chains", f"{description}, in chains of products alone",
                 InChains(arithmetic)) for name, description, arithmetic in (
            ("fused-multiply-add", "x·y + z is rounded once", FusedMultiplyAdd()),
            ("float32-accumulation", "sums are kept in float32", Float32Accumulator()),
            ("float32-products", "products and sums are in float32", Float32Products()),
            ("float32-arithmetic", "all is rounded to float32", Float32Arithmetic()),
            ("float64-accumulation", "float32 is summed in float64", Float64Accumulator()),
            ("flush-results", "subnormal results become zero", FlushResults()),
            ("flush-to-zero", "subnormal numbers become zero", FlushAll()),
        )),
    )  # fmt: skip


@cache
def algorithm_deviations() -> tuple[Deviation, ...]:
    """Deviations that show only in an algorithm."""
    upper, middle = _live_features(_upper_median), _live_features(_middle_median)
    last_first = _NumpyWith(argsort=_last_of_equals_first)
    everywhere = ArithmeticOperations(HalfAway(), "half-away")
    orders = (
        Deviation(name, description, ScalesReordered(name, product))
        for name, (description, product) in SCALE_ORDERS.items()
    )
    return (
        Deviation("fresh-group-scales", "a group's scale comes from the weights as updated when "
                  "the group begins, not its block", patches=(("gptq", "Grouping", _fresh_grids),)),
        Deviation("stale-group-scales", "a group's scale comes from the original weights beyond "
                "the first block, not the updated ones",
                patches=(("one_scale", "_in_order_of_processing", _stale_grids),)),
        Deviation("rebuilt-group-scales", "a group's scale comes from weights rebuilt from Y by a "
                "triangular solve, even where nothing was updated",
                patches=(("one_scale", "_in_order_of_processing", _rebuilt_grids),)),
        Deviation("upper-median", "dead features are found with the upper median",
                patches=(("watersic", "live_features", upper),)),
        Deviation("mean-of-medians", "dead features are found with the mean of both medians",
                patches=(("watersic", "live_features", middle),)),
        Deviation("activation-order-reversed-ties", "of columns with equal diagonals the last goes "
                "first", patches=(("gptq", "np", last_first),)),
        Deviation("activation-order-unstable", "activation order by an unstable sort (quicksort)",
                patches=(("gptq", "np", _NumpyWith(argsort=_unstable)),)),
        Deviation("half-away-everywhere", "half is rounded away from zero, in zero points too",
                everywhere, (("grid_fitting", "np", _NumpyWith(rint=half_away)),)),
        Deviation("truncated-zero-point", "zero points are truncated, not rounded",
                patches=(("grid_fitting", "np", _NumpyWith(rint=np.trunc)),)),
        Deviation("rescaler-gains-unclipped", "the rescalers' column gains are not clipped",
                patches=(("rescalers", "LEAST_GAIN", -np.inf),
                         ("rescalers", "GREATEST_GAIN", np.inf))),
        Deviation("rescaler-gains-positive", "the rescalers' column gains are clipped to [0, 1.5]",
                patches=(("rescalers", "LEAST_GAIN", 0.0),)),
        *orders,
    )  # fmt: skip


def clamp_seen_in(gains: NDArray) -> tuple[Deviation, ...]:
    """Clipping the gain γ to the range that these gains have; none if they have none.

    A gain lies between 0.5 and 1.5 if it is not 0, so many ranges clip nothing, and one that does
    shows its ends.
    """
    if gains.size == 0 or not np.isfinite(gains).all() or gains.min() == gains.max():
        return ()
    least, greatest = float(gains.min()), float(gains.max())
    range_ = f"[{least!r}, {greatest!r}], or to a range with one of these ends"
    return (
        _using("clamped-gain", f"the gain γ is clipped to {range_}", ClampedGain(least, greatest)),
    )


def all_deviations() -> tuple[Deviation, ...]:
    """Every deviation once."""
    return (*operation_deviations(), *combined_deviations(), *algorithm_deviations())


def named(name: str) -> Deviation:
    """The deviation of this name; KeyError if there is none."""
    return {deviation.name: deviation for deviation in all_deviations()}[name]
