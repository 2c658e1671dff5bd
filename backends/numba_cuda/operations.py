"""The operations on an NVIDIA GPU by kernels of `numba.cuda`: the bits of the NumPy oracle.

A matrix is a C-contiguous array on the device and stays there between operations; only vectors
pass to and from the host, and histograms, with an entry for each code that occurs in a column.

An operation launches its kernels one after the other on the default stream and waits for none of
them: neither for a column of a cancellation nor for a panel of a factorisation. Only what is
returned to the host is waited for, once. Cooperative kernels and graphs would need less time to
launch; plain launches are what every version of Numba has, and what can be tested without a device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...reference.coding.histogram import ColumnHistograms
from ...reference.grids.codebooks import Codebook
from ...reference.operations import Matrix
from .device import check_device, guarded, require_package


@guarded
class NumbaCudaOperations:
    """`operations.Operations` on the current CUDA device, or in Numba's simulator for tests.

    Raises:
        WaterlevelError: a package, the driver or a device is missing, or does not give the bits
            of the oracle; later, from any operation: out of memory, or the device was lost.
    """

    name = "numba-cuda"

    def __init__(self) -> None:
        require_package()
        from . import (
            checks as numba_cuda_checks,
            elements as numba_cuda_elements,
            hadamard as numba_cuda_hadamard,
            histogram as numba_cuda_histogram,
            launch as numba_cuda_launch,
            meter as numba_cuda_meter,
            moves as numba_cuda_moves,
            products as numba_cuda_products,
            sic as numba_cuda_sic,
            sums as numba_cuda_sums,
            triangular as numba_cuda_triangular,
        )

        self._checks = numba_cuda_checks
        self._elements = numba_cuda_elements
        self._hadamards = numba_cuda_hadamard
        self._histograms = numba_cuda_histogram
        self._launch = numba_cuda_launch
        self._moves = numba_cuda_moves
        self._products = numba_cuda_products
        self._cancellation = numba_cuda_sic
        self._sums = numba_cuda_sums
        self._triangular = numba_cuda_triangular
        self.meter = numba_cuda_meter.NumbaCudaMeter()
        check_device(self)

    # Moves -------------------------------------------------------------------------------------

    def from_host(self, array: NDArray, dtype: DTypeLike) -> Matrix:
        with np.errstate(all="ignore"):
            return self._launch.upload(np.array(array, dtype, order="C"))

    def to_host(self, matrix: Matrix) -> NDArray:
        return matrix.copy_to_host()

    def shape(self, matrix: Matrix) -> tuple[int, int]:
        rows, columns = matrix.shape
        return int(rows), int(columns)

    def dtype(self, matrix: Matrix) -> np.dtype:
        return np.dtype(matrix.dtype)

    def zeros(self, rows: int, columns: int, dtype: DTypeLike) -> Matrix:
        return self._moves.zeros(rows, columns, dtype)

    def convert(self, matrix: Matrix, dtype: DTypeLike) -> Matrix:
        return self._moves.convert(matrix, dtype)

    def transpose(self, matrix: Matrix) -> Matrix:
        return self._moves.transpose(matrix)

    def take(
        self,
        matrix: Matrix,
        rows: NDArray[np.int64] | None,
        columns: NDArray[np.int64] | None,
    ) -> Matrix:
        return self._moves.take(matrix, rows, columns)

    def scatter_columns(self, matrix: Matrix, columns: NDArray[np.int64], total: int) -> Matrix:
        return self._moves.scatter_columns(matrix, columns, total)

    def diagonal(self, matrix: Matrix) -> NDArray:
        return self._moves.diagonal(matrix)

    def with_diagonal(self, matrix: Matrix, diagonal: NDArray) -> Matrix:
        return self._moves.with_diagonal(matrix, diagonal)

    # Checks ------------------------------------------------------------------------------------

    def find_nonfinite(self, matrix: Matrix) -> tuple[int, int, float] | None:
        return self._checks.find_nonfinite(matrix)

    def find_asymmetry(self, matrix: Matrix) -> tuple[int, int, float]:
        return self._checks.find_asymmetry(matrix)

    def largest_magnitude(self, matrix: Matrix) -> float:
        return self._checks.largest_magnitude(matrix)

    # Element by element ------------------------------------------------------------------------

    def symmetrize(self, matrix: Matrix) -> Matrix:
        return self._elements.symmetrize(matrix)

    def combine(
        self, left_factor: float, left: Matrix, right_factor: float, right: Matrix
    ) -> Matrix:
        return self._elements.combine(left_factor, left, right_factor, right)

    def multiply(self, left: Matrix, right: Matrix) -> Matrix:
        return self._elements.multiply(left, right)

    def divide(self, matrix: Matrix, divisor: float) -> Matrix:
        return self._elements.divide(matrix, divisor)

    def scale_rows(self, matrix: Matrix, factors: NDArray) -> Matrix:
        return self._elements.scale_rows(matrix, factors)

    def scale_columns(self, matrix: Matrix, factors: NDArray) -> Matrix:
        return self._elements.scale_columns(matrix, factors)

    # Sums --------------------------------------------------------------------------------------

    def row_inner(self, left: Matrix, right: Matrix) -> NDArray:
        return self._sums.row_inner(left, right)

    def column_inner(self, left: Matrix, right: Matrix) -> NDArray:
        return self._sums.column_inner(left, right)

    def row_extrema(self, matrix: Matrix, start: int, stop: int) -> tuple[NDArray, NDArray]:
        return self._checks.row_extrema(matrix, start, stop)

    def column_histograms(self, codes: Matrix) -> ColumnHistograms:
        return self._histograms.column_histograms(codes)

    # Linear algebra ----------------------------------------------------------------------------

    def matmul(self, left: Matrix, right: Matrix) -> Matrix:
        return self._products.matmul(left, right)

    def matmul_transposed(self, left: Matrix, right: Matrix) -> Matrix:
        return self._products.matmul_transposed(left, right)

    def accumulate(
        self, total: Matrix, left: Matrix, right: Matrix, weights: NDArray | None
    ) -> None:
        self._products.accumulate(total, left, right, weights)

    def cholesky(self, matrix: Matrix) -> Matrix:
        return self._triangular.cholesky(matrix)

    def solve(self, target: Matrix, factor: Matrix) -> Matrix:
        return self._triangular.solve(target, factor)

    def solve_reversed(self, target: Matrix, factor: Matrix, start: int, stop: int) -> Matrix:
        return self._triangular.solve_reversed(target, factor, start, stop)

    def hadamard(self, matrix: Matrix, base: NDArray[np.int8]) -> Matrix:
        return self._hadamards.hadamard(matrix, base)

    # Quantisation ------------------------------------------------------------------------------

    def sic(
        self,
        target: Matrix,
        codes: Matrix,
        factor: Matrix | None,
        codebook: Codebook,
        start: int,
        stop: int,
    ) -> NDArray[np.float64]:
        return self._cancellation.sic(target, codes, factor, codebook, start, stop)

    def grid_error(
        self, matrix: Matrix, scale: NDArray, zero: NDArray[np.int32], maximum: int
    ) -> NDArray:
        return self._sums.grid_error(matrix, scale, zero, maximum)
