"""The operations once more, with every arithmetic deviation in a place of its own.

`reference.operations.numpy_operations` says what the bits are. A diagnosis asks what they would be
if one thing were done another way: a fused multiply-add, a sum from the other end, a reciprocal in
place of a division. Here the same operations are put together from an `Arithmetic`, whose methods
say how each is done; `deviations` overrides one at a time. With `Arithmetic` itself the bits are
those of the oracle, which a test proves.

Slow: one column at a time, one product at a time. Only what fails is ever looked at this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...reference.arithmetic.sums import CHUNK, next_power_of_two
from ...reference.errors import NotPositiveDefinite
from ...reference.grids.codebooks import AffineGrid, Codebook, FloatGrid, UniformLattice, to_codes
from ...reference.grids.float_formats import FloatFormat
from ...reference.operations.numpy_operations import NumpyOperations, ieee

Pairs = Sequence[tuple[NDArray, NDArray]]

TILE = 2**22  # products of a chain that are looked at together


class Arithmetic:
    """The deviations of `operations.Operations`, each as a method."""

    # One number and another --------------------------------------------------------------------

    def add(self, x: NDArray, y: NDArray) -> NDArray:
        """x + y."""
        return x + y

    def subtract(self, x: NDArray, y: NDArray) -> NDArray:
        """x - y."""
        return x - y

    def multiply(self, x: NDArray, y: NDArray) -> NDArray:
        """x·y."""
        return x * y

    def divide(self, x: NDArray, divisor: NDArray) -> NDArray:
        """x / d, where d divides many numbers."""
        return x / divisor

    def sqrt(self, x: NDArray) -> NDArray:
        """√x."""
        return np.sqrt(x)

    def rint(self, x: NDArray) -> NDArray:
        """To a whole number; half to even."""
        return np.rint(x)

    def convert(self, x: NDArray, dtype: DTypeLike) -> NDArray:
        """To another dtype, rounded once."""
        return np.array(x, dtype, order="C")

    def multiply_add(self, c: NDArray, a: NDArray, b: NDArray) -> NDArray:
        """c + a·b: two roundings."""
        return self.add(c, self.multiply(a, b))

    def multiply_subtract(self, c: NDArray, a: NDArray, b: NDArray) -> NDArray:
        """c - a·b: two roundings."""
        return self.subtract(c, self.multiply(a, b))

    # Many numbers ------------------------------------------------------------------------------

    def add_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        """c + Σ a·b, one product after the other."""
        for a, b in pairs:
            c = self.multiply_add(c, a, b)
        return c

    def subtract_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        """c - Σ a·b, one product after the other."""
        for a, b in pairs:
            c = self.multiply_subtract(c, a, b)
        return c

    def total(self, values: NDArray) -> NDArray:
        """Σ over the first axis: `sums.tree_sum`."""
        return self.add(self.tree(values, CHUNK), values.dtype.type(0))

    def tree(self, values: NDArray, chunk: int) -> NDArray:
        """The tree of `sums`, with chunks of this power of two."""
        length = len(values)
        if length == 0:
            return np.zeros(values.shape[1:], values.dtype)
        while length > 1:
            width = min(chunk, next_power_of_two(length))
            chunks = -(-length // width)
            folded = np.zeros((chunks * width, *values.shape[1:]), values.dtype)
            folded[:length] = values
            folded = folded.reshape(chunks, width, *values.shape[1:])
            while width > 1:
                width //= 2
                folded = self.add(folded[:, :width], folded[:, width:])
            values, length = folded[:, 0], chunks
        return values[0]

    def butterfly_distances(self, length: int) -> list[int]:
        """In which order a Hadamard transform pairs its numbers: 1, 2, 4, …"""
        return [1 << i for i in range(length.bit_length() - 1)]

    # Decisions ---------------------------------------------------------------------------------

    def weight_level(self, y: NDArray, diagonal: NDArray, spacing: NDArray) -> NDArray:
        """(y/l)/s."""
        return self.divide(self.divide(y, diagonal), spacing)

    def affine_level(self, level: NDArray, zero: NDArray) -> NDArray:
        """rint(v/s) + zero."""
        return self.rint(level) + zero

    def nearest(self, form: FloatFormat, level: NDArray) -> NDArray[np.int32]:
        """The code of the nearest value of a float format; a tie to the even one."""
        return form.nearest(level)

    def gain(self, z: NDArray, y: NDArray, step: NDArray) -> NDArray:
        """γ = Σ z·y / Σ z² / c; 0 where every z is 0."""
        energy = self.total(self.multiply(z, z))
        if not energy > 0:
            return y.dtype.type(0)
        return self.total(self.multiply(z, y)) / energy / step


class InChains(Arithmetic):
    """Other deviations in chains of products alone."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic

    def add_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return self.arithmetic.add_products(c, pairs)

    def subtract_products(self, c: NDArray, pairs: Pairs) -> NDArray:
        return self.arithmetic.subtract_products(c, pairs)


class ArithmeticOperations(NumpyOperations):
    """`operations.Operations` on NumPy arrays with the deviations of an `Arithmetic`."""

    def __init__(self, arithmetic: Arithmetic, name: str = "arithmetic") -> None:
        self.arithmetic = arithmetic
        self.name = name

    @ieee
    def convert(self, matrix: NDArray, dtype: DTypeLike) -> NDArray:
        return self.arithmetic.convert(matrix, dtype)

    @ieee
    def symmetrize(self, matrix: NDArray) -> NDArray:
        return self.arithmetic.divide(self.arithmetic.add(matrix, matrix.T), matrix.dtype.type(2))

    @ieee
    def combine(
        self, left_factor: float, left: NDArray, right_factor: float, right: NDArray
    ) -> NDArray:
        number = left.dtype.type
        other = self.arithmetic.multiply(number(right_factor), right)
        return self.arithmetic.multiply_add(other, number(left_factor), left)

    @ieee
    def multiply(self, left: NDArray, right: NDArray) -> NDArray:
        return self.arithmetic.multiply(left, right)

    @ieee
    def divide(self, matrix: NDArray, divisor: float) -> NDArray:
        return self.arithmetic.divide(matrix, matrix.dtype.type(divisor))

    @ieee
    def scale_rows(self, matrix: NDArray, factors: NDArray) -> NDArray:
        return self.arithmetic.multiply(factors[:, None], matrix)

    @ieee
    def scale_columns(self, matrix: NDArray, factors: NDArray) -> NDArray:
        return self.arithmetic.multiply(matrix, factors)

    @ieee
    def row_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return self.arithmetic.total(self.arithmetic.multiply(left, right).T)

    @ieee
    def column_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return self.arithmetic.total(self.arithmetic.multiply(left, right))

    @ieee
    def matmul(self, left: NDArray, right: NDArray) -> NDArray:
        product = np.zeros((len(left), right.shape[1]), left.dtype)
        height = max(1, TILE // max(1, right.size))
        for first in range(0, len(left), height):
            rows = slice(first, first + height)
            product[rows] = self.arithmetic.add_products(product[rows], _pairs(left[rows], right))
        return product

    def matmul_transposed(self, left: NDArray, right: NDArray) -> NDArray:
        return self.matmul(left.T, right)

    @ieee
    def accumulate(
        self, total: NDArray, left: NDArray, right: NDArray, weights: NDArray | None
    ) -> None:
        pairs = _pairs(left.T, right)
        if weights is not None:
            pairs = [(weights[t], self.arithmetic.multiply(x, y)) for t, (x, y) in enumerate(pairs)]
        total[...] = self.arithmetic.add_products(total, pairs)

    @ieee
    def cholesky(self, matrix: NDArray) -> NDArray:
        L = np.zeros_like(matrix)
        for j in range(len(L)):
            column = self._cancelled(matrix[j:, j], L[j:, :j], L[j, :j])
            if not 0.0 < column[0] < np.inf:
                raise NotPositiveDefinite(j, float(column[0]), "matrix")
            L[j, j] = self.arithmetic.sqrt(column[0])
            L[j + 1 :, j] = self.arithmetic.divide(column[1:], L[j, j])
        return L

    @ieee
    def solve(self, target: NDArray, factor: NDArray) -> NDArray:
        X = target.copy()
        for j in range(len(factor)):
            column = self._cancelled(X[:, j], X[:, :j], factor[j, :j])
            X[:, j] = self.arithmetic.divide(column, factor[j, j])
        return X

    @ieee
    def solve_reversed(self, target: NDArray, factor: NDArray, start: int, stop: int) -> NDArray:
        X = target[:, start:stop].copy()
        L = factor[start:stop, start:stop]
        for j in reversed(range(len(L))):
            done = slice(None, j, -1)
            column = self._cancelled(X[:, j], X[:, done], L[done, j])
            X[:, j] = self.arithmetic.divide(column, L[j, j])
        return X

    @ieee
    def hadamard(self, matrix: NDArray, base: NDArray[np.int8]) -> NDArray:
        rows, n = matrix.shape
        m = len(base)
        mixed = matrix.reshape(rows, m, n // m).copy()
        for distance in self.arithmetic.butterfly_distances(n // m):
            pairs = mixed.reshape(rows, -1, 2, distance)
            x, y = pairs[:, :, 0].copy(), pairs[:, :, 1].copy()
            pairs[:, :, 0] = self.arithmetic.add(x, y)
            pairs[:, :, 1] = self.arithmetic.subtract(x, y)
        if m == 1:
            return mixed.reshape(rows, n)
        based = np.zeros_like(mixed)
        for j in range(m):
            signs = base[:, j].astype(matrix.dtype)
            based[:, j] = self.arithmetic.add_products(
                based[:, j], [(mixed[:, k], signs[k]) for k in range(m)]
            )
        return based.reshape(rows, n)

    @ieee
    def sic(
        self,
        target: NDArray,
        codes: NDArray[np.int32],
        factor: NDArray | None,
        codebook: Codebook,
        start: int,
        stop: int,
    ) -> NDArray[np.float64]:
        gains = np.ones(stop - start)
        for k in reversed(range(stop)):
            if factor is not None:
                done = slice(stop - 1, max(k, start - 1), -1)
                target[:, k] = self._cancelled(target[:, k], target[:, done], factor[done, k])
            if k >= start:
                diagonal = target.dtype.type(1) if factor is None else factor[k, k]
                codes[:, k], target[:, k], gains[k - start] = self._decide(
                    codebook, target[:, k].copy(), diagonal, k
                )
            elif factor is None:
                break
        return gains

    @ieee
    def grid_error(
        self, matrix: NDArray, scale: NDArray, zero: NDArray[np.int32], maximum: int
    ) -> NDArray:
        s, z = scale[:, None], zero[:, None].astype(matrix.dtype)
        level = self._affine_level(self.arithmetic.divide(matrix, s), z, maximum)
        d = np.abs(self.arithmetic.multiply_add(-matrix, s, level - z))
        squared = self.arithmetic.multiply(d, d)
        return self.arithmetic.total(self.arithmetic.multiply(squared, self.arithmetic.sqrt(d)).T)

    def _cancelled(self, open_: NDArray, left: NDArray, right: NDArray) -> NDArray:
        """The vector open - Σ_k left[:, k]·right[k]."""
        return self.arithmetic.subtract_products(
            open_, [(left[:, k], right[k]) for k in range(len(right))]
        )

    def _affine_level(self, level: NDArray, zero: NDArray, maximum: int) -> NDArray:
        level = self.arithmetic.affine_level(level, zero)
        number = level.dtype.type
        clamped = np.minimum(np.maximum(level, number(0)), number(maximum))
        return np.where(np.isfinite(level), clamped, level)

    def _decide(
        self, codebook: Codebook, y: NDArray, diagonal: NDArray, column: int
    ) -> tuple[NDArray[np.int32], NDArray, float]:
        arithmetic, number = self.arithmetic, y.dtype.type
        if isinstance(codebook, UniformLattice):
            spacing = number(codebook.spacing)
            level = arithmetic.weight_level(y, diagonal, spacing)
            codes = to_codes(arithmetic.rint(level), column)
            return codes, arithmetic.multiply(codes.astype(y.dtype), spacing), 1.0
        if isinstance(codebook, AffineGrid):
            group = codebook.group[column]
            scale, zero = codebook.scale[:, group], codebook.zero[:, group].astype(y.dtype)
            level = arithmetic.weight_level(y, diagonal, scale)
            codes = to_codes(self._affine_level(level, zero, codebook.maximum), column)
            return codes, arithmetic.multiply(scale, codes.astype(y.dtype) - zero), 1.0
        if isinstance(codebook, FloatGrid):
            scale = codebook.scale[:, codebook.group[column]]
            level = arithmetic.weight_level(y, diagonal, scale)
            if not np.isfinite(level).all():
                to_codes(level, column)
            codes = arithmetic.nearest(codebook.form, level)
            return codes, arithmetic.multiply(scale, codebook.form.values(codes, y.dtype)), 1.0
        step = number(codebook.step)
        codes = to_codes(arithmetic.rint(arithmetic.divide(y, step)), column)
        z = codes.astype(y.dtype)
        gain = number(arithmetic.gain(z, y, step)) if codebook.lmmse else number(1)
        values = arithmetic.multiply(z, arithmetic.multiply(gain, codebook.spacing[column]))
        return codes, values, float(gain)


def _pairs(left: NDArray, right: NDArray) -> list[tuple[NDArray, NDArray]]:
    """For each k column k of the left matrix, upright, and row k of the right one."""
    return [(left[:, k, None], right[k]) for k in range(len(right))]
