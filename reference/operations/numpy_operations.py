"""The operations in plain NumPy: the oracle that every other backend is compared with.

Most of the arithmetic stands in the modules that explain it (`sums`, `products`, `triangular`,
`sic`, `hadamard`, `histogram`); this one gives it the shape that `operations` asks for. A matrix is
simply a NumPy array. The docstrings are those of `operations.Operations`.

>>> import numpy as np
>>> A = NUMPY.from_host(np.array([[1.0, 2.0], [3.0, 4.0]]), np.float64)
>>> NUMPY.row_inner(A, A)
array([ 5., 25.])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arithmetic import butterflies, products, triangular
from ..arithmetic.sums import tree_sum
from ..coding import histogram
from ..coding.histogram import ColumnHistograms
from ..grids.codebooks import Codebook, affine_levels
from . import Operations, sic as cancellation

# Infinities and NaNs are results like any other: the algorithms look for them.
ieee = np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")


class NumpyOperations:
    """`operations.Operations` on NumPy arrays."""

    name = "numpy"

    # Moves -------------------------------------------------------------------------------------

    def from_host(self, array: NDArray, dtype: DTypeLike) -> NDArray:
        return self.convert(array, dtype)

    def to_host(self, matrix: NDArray) -> NDArray:
        return np.array(matrix, order="C")

    def shape(self, matrix: NDArray) -> tuple[int, int]:
        rows, columns = matrix.shape
        return rows, columns

    def dtype(self, matrix: NDArray) -> np.dtype:
        return matrix.dtype

    def zeros(self, rows: int, columns: int, dtype: DTypeLike) -> NDArray:
        return np.zeros((rows, columns), dtype)

    @ieee
    def convert(self, matrix: NDArray, dtype: DTypeLike) -> NDArray:
        return np.array(matrix, dtype, order="C")

    def transpose(self, matrix: NDArray) -> NDArray:
        return np.array(matrix.T, order="C")

    def take(
        self,
        matrix: NDArray,
        rows: NDArray[np.int64] | None,
        columns: NDArray[np.int64] | None,
    ) -> NDArray:
        if rows is None:
            return matrix.copy() if columns is None else np.take(matrix, columns, axis=1)
        return matrix[rows] if columns is None else matrix[np.ix_(rows, columns)]

    def scatter_columns(self, matrix: NDArray, columns: NDArray[np.int64], total: int) -> NDArray:
        scattered = np.zeros((len(matrix), total), matrix.dtype)
        scattered[:, columns] = matrix
        return scattered

    def diagonal(self, matrix: NDArray) -> NDArray:
        return matrix.diagonal().copy()

    def with_diagonal(self, matrix: NDArray, diagonal: NDArray) -> NDArray:
        replaced = matrix.copy()
        np.fill_diagonal(replaced, diagonal)
        return replaced

    # Checks ------------------------------------------------------------------------------------

    def find_nonfinite(self, matrix: NDArray) -> tuple[int, int, float] | None:
        finite = np.isfinite(matrix)
        if finite.all():
            return None
        row, column = divmod(int(np.argmin(finite)), matrix.shape[1])
        return row, column, float(matrix[row, column])

    @ieee
    def find_asymmetry(self, matrix: NDArray) -> tuple[int, int, float]:
        difference = np.abs(matrix - matrix.T)
        row, column = divmod(int(np.argmax(difference)), len(matrix))
        return row, column, float(difference[row, column])

    def largest_magnitude(self, matrix: NDArray) -> float:
        return float(np.max(np.abs(matrix)))

    # Element by element ------------------------------------------------------------------------

    @ieee
    def symmetrize(self, matrix: NDArray) -> NDArray:
        return (matrix + matrix.T) / matrix.dtype.type(2)

    @ieee
    def combine(
        self, left_factor: float, left: NDArray, right_factor: float, right: NDArray
    ) -> NDArray:
        number = left.dtype.type
        return number(left_factor) * left + number(right_factor) * right

    @ieee
    def multiply(self, left: NDArray, right: NDArray) -> NDArray:
        return left * right

    @ieee
    def divide(self, matrix: NDArray, divisor: float) -> NDArray:
        return matrix / matrix.dtype.type(divisor)

    @ieee
    def scale_rows(self, matrix: NDArray, factors: NDArray) -> NDArray:
        return factors[:, None] * matrix

    @ieee
    def scale_columns(self, matrix: NDArray, factors: NDArray) -> NDArray:
        return matrix * factors

    # Sums --------------------------------------------------------------------------------------

    @ieee
    def row_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return tree_sum((left * right).T)

    @ieee
    def column_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return tree_sum(left * right)

    def row_extrema(self, matrix: NDArray, start: int, stop: int) -> tuple[NDArray, NDArray]:
        columns = matrix[:, start:stop]
        zero = matrix.dtype.type(0)
        return columns.min(axis=1) + zero, columns.max(axis=1) + zero

    def column_histograms(self, codes: NDArray[np.int32]) -> ColumnHistograms:
        return histogram.column_histograms(codes)

    # Linear algebra ----------------------------------------------------------------------------

    @ieee
    def matmul(self, left: NDArray, right: NDArray) -> NDArray:
        return products.matmul(left, right)

    @ieee
    def matmul_transposed(self, left: NDArray, right: NDArray) -> NDArray:
        return products.matmul(left.T, right)

    @ieee
    def accumulate(
        self, total: NDArray, left: NDArray, right: NDArray, weights: NDArray | None
    ) -> None:
        for t in range(len(left)):
            term = left[t, :, None] * right[t]
            total += term if weights is None else weights[t] * term

    @ieee
    def cholesky(self, matrix: NDArray) -> NDArray:
        return triangular.cholesky(matrix)

    @ieee
    def solve(self, target: NDArray, factor: NDArray) -> NDArray:
        return triangular.solve(target, factor)

    @ieee
    def solve_reversed(self, target: NDArray, factor: NDArray, start: int, stop: int) -> NDArray:
        return triangular.solve_reversed(target, factor, start, stop)

    @ieee
    def hadamard(self, matrix: NDArray, base: NDArray[np.int8]) -> NDArray:
        return butterflies.hadamard(matrix, base)

    # Quantisation ------------------------------------------------------------------------------

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
        return cancellation.sic(target, codes, factor, codebook, start, stop)

    @ieee
    def grid_error(
        self, matrix: NDArray, scale: NDArray, zero: NDArray[np.int32], maximum: int
    ) -> NDArray:
        level = affine_levels(matrix, scale[:, None], zero[:, None], maximum)
        value = scale[:, None] * (level - zero[:, None].astype(matrix.dtype))
        d = np.abs(value - matrix)
        return tree_sum((d * d * np.sqrt(d)).T)


NUMPY: Operations = NumpyOperations()
