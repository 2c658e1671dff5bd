"""Other deviations of summing: in which other order could the same numbers be added?

A *chain* is a sum of products, one after the other (`matmul`, `cholesky`, `solve`, `sic`); a *sum*
is a `tree_sum`. Each class is the contract with the order of one of them changed. `deviations`
gives them names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.arithmetic.sums import tree_sum
from ...reference.errors import NotPositiveDefinite
from ...reference.operations.numpy_operations import NumpyOperations, ieee
from .deviating_operations import Arithmetic, Pairs


class ReversedChains(Arithmetic):
    """Chains of products run from the last to the first."""

    def add_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return super().add_products(c, pairs[::-1])

    def subtract_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return super().subtract_products(c, pairs[::-1])


class _PartialSums(Arithmetic):
    """Runs of a chain are summed by themselves, from +0.0, and the sums join the chain."""

    def runs(self, pairs: Pairs) -> list[Pairs]:
        raise NotImplementedError

    def partial(self, c: NDArray, run: Pairs) -> NDArray:
        return super().add_products(np.zeros_like(c), run)

    def add_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        for run in self.runs(pairs):
            single = len(run) == 1
            c = self.multiply_add(c, *run[0]) if single else c + self.partial(c, run)
        return c

    def subtract_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        for run in self.runs(pairs):
            single = len(run) == 1
            c = self.multiply_subtract(c, *run[0]) if single else c - self.partial(c, run)
        return c


class BlockedChains(_PartialSums):
    """Runs of `size` products; with `panels` what does not fill a run is taken one by one."""

    def __init__(self, size: int | None, panels: bool = False) -> None:
        self.size, self.panels = size, panels

    def runs(self, pairs: Pairs) -> list[Pairs]:
        size = self.size or max(1, len(pairs))
        full = len(pairs) - len(pairs) % size if self.panels else len(pairs)
        runs = [pairs[i : min(i + size, full)] for i in range(0, full, size)]
        return runs + [pairs[i : i + 1] for i in range(full, len(pairs))]


class _ReducedChains(_PartialSums):
    """All products of a chain at once, added up by another rule."""

    def runs(self, pairs: Pairs) -> list[Pairs]:
        return [pairs] if len(pairs) else []

    def partial(self, c: NDArray, run: Pairs) -> NDArray:
        return self.reduced(np.stack([np.broadcast_to(a * b, c.shape) for a, b in run]))

    def reduced(self, products: NDArray) -> NDArray:
        raise NotImplementedError


class NumpyChains(_ReducedChains):
    """By `np.sum`: pairwise above 128 numbers, eight running sums below."""

    def reduced(self, products: NDArray) -> NDArray:
        return numpy_sum(products)


class PairwiseChains(_ReducedChains):
    """Neighbours are added, then neighbouring sums, and so on."""

    def reduced(self, products: NDArray) -> NDArray:
        return pairwise_sum(products)


class TreeChains(_ReducedChains):
    """By `tree_sum`."""

    def reduced(self, products: NDArray) -> NDArray:
        return tree_sum(products)


class LeftToRightSums(Arithmetic):
    """From the first to the last, in place of a tree."""

    def total(self, values: NDArray) -> NDArray:
        return running_sum(values)


class ReversedSums(Arithmetic):
    """From the last to the first, in place of a tree."""

    def total(self, values: NDArray) -> NDArray:
        return running_sum(values[::-1])


class NumpySums(Arithmetic):
    """By `np.sum`, in place of a tree."""

    def total(self, values: NDArray) -> NDArray:
        return numpy_sum(values)


class PairwiseSums(Arithmetic):
    """Neighbours are added, then neighbouring sums, and so on."""

    def total(self, values: NDArray) -> NDArray:
        return pairwise_sum(values)


class BlockedSums(Arithmetic):
    """Running sums of `size` numbers, then a running sum of those."""

    def __init__(self, size: int) -> None:
        self.size = size

    def total(self, values: NDArray) -> NDArray:
        starts = range(0, len(values), self.size)
        blocks = [running_sum(values[i : i + self.size]) for i in starts]
        return running_sum(np.array(blocks).reshape(len(blocks), *values.shape[1:]))


class OtherChunks(Arithmetic):
    """The tree of the contract with chunks of another size."""

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk

    def total(self, values: NDArray) -> NDArray:
        return self.tree(values, self.chunk) + values.dtype.type(0)


class LargestDistanceFirst(Arithmetic):
    """Hadamard butterflies with the distances …, 4, 2, 1."""

    def butterfly_distances(self, length: int) -> list[int]:
        return super().butterfly_distances(length)[::-1]


def running_sum(values: NDArray) -> NDArray:
    """From the first to the last, from +0.0; over the first axis."""
    total = np.zeros(values.shape[1:], values.dtype)
    for value in values:
        total = total + value
    return total


def numpy_sum(values: NDArray) -> NDArray:
    """`np.sum` over numbers that lie side by side; over the first axis."""
    return np.ascontiguousarray(np.moveaxis(values, 0, -1)).sum(axis=-1)


def pairwise_sum(values: NDArray) -> NDArray:
    """x₀+x₁, x₂+x₃, …, and again, an odd one left over going on as it is; over the first axis."""
    if len(values) == 0:
        return np.zeros(values.shape[1:], values.dtype)
    while len(values) > 1:
        even = len(values) - len(values) % 2
        values = np.concatenate([values[0:even:2] + values[1:even:2], values[even:]])
    return values[0]


class LibraryOperations(NumpyOperations):
    """BLAS, LAPACK and `np.sum`: whatever order the library at hand has."""

    name = "library"

    @ieee
    def matmul(self, left: NDArray, right: NDArray) -> NDArray:
        return np.matmul(left, right)

    @ieee
    def matmul_transposed(self, left: NDArray, right: NDArray) -> NDArray:
        return np.matmul(left.T, right)

    @ieee
    def cholesky(self, matrix: NDArray) -> NDArray:
        try:
            return np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            raise NotPositiveDefinite(0, float(matrix[0, 0]), "matrix") from None

    @ieee
    def solve(self, target: NDArray, factor: NDArray) -> NDArray:
        return np.ascontiguousarray(np.linalg.solve(factor, target.T).T)

    @ieee
    def solve_reversed(self, target: NDArray, factor: NDArray, start: int, stop: int) -> NDArray:
        block = slice(start, stop)
        return np.ascontiguousarray(np.linalg.solve(factor[block, block].T, target[:, block].T).T)

    @ieee
    def row_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return np.sum(left * right, axis=1)

    @ieee
    def column_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return np.sum(left * right, axis=0)
