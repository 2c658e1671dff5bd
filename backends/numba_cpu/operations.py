"""The operations on all cores of a CPU, compiled by Numba: the bits of the NumPy oracle, fast.

A matrix is a NumPy array, as in the oracle, and what does no more than move numbers or look at each
of them once is the oracle's own: memory is the limit there, whoever computes. Compiled is what
costs n³ (products, factorisation, solves, cancellation) or is looked at for every candidate of a
search (sums, histograms, grid errors, Hadamard transforms).

The number of threads is Numba's: NUMBA_NUM_THREADS, or `numba.set_num_threads`. It changes no bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.coding.histogram import ColumnHistograms
from ...reference.errors import WaterlevelError
from ...reference.grids.codebooks import Codebook
from ...reference.operations.numpy_operations import NumpyOperations


class NumbaOperations(NumpyOperations):
    """`operations.Operations`, compiled. Each operation is compiled at its first call, and kept.

    Raises:
        WaterlevelError: Numba is missing, or too old.
    """

    name = "numba"

    def __init__(self) -> None:
        try:
            from . import hadamard, histogram, products, sic, sums, triangular
        except ImportError as error:
            raise WaterlevelError(
                f"backend numba needs the package numba ({error}): pip install 'waterlevel[numba]'"
            ) from error
        self._products = products
        self._triangular = triangular
        self._cancellation = sic
        self._sums = sums
        self._hadamards = hadamard
        self._histograms = histogram

    # Sums --------------------------------------------------------------------------------------

    def row_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return self._sums.row_inner(left, right)

    def column_inner(self, left: NDArray, right: NDArray) -> NDArray:
        return self._sums.column_inner(left, right)

    def column_histograms(self, codes: NDArray[np.int32]) -> ColumnHistograms:
        return self._histograms.column_histograms(codes)

    # Linear algebra ----------------------------------------------------------------------------

    def matmul(self, left: NDArray, right: NDArray) -> NDArray:
        return self._products.matmul(left, right)

    def matmul_transposed(self, left: NDArray, right: NDArray) -> NDArray:
        return self._products.matmul_transposed(left, right)

    def accumulate(
        self, total: NDArray, left: NDArray, right: NDArray, weights: NDArray | None
    ) -> None:
        self._products.accumulate(total, left, right, weights)

    def cholesky(self, matrix: NDArray) -> NDArray:
        return self._triangular.cholesky(matrix)

    def solve(self, target: NDArray, factor: NDArray) -> NDArray:
        return self._triangular.solve(target, factor)

    def solve_reversed(self, target: NDArray, factor: NDArray, start: int, stop: int) -> NDArray:
        return self._triangular.solve_reversed(target, factor, start, stop)

    def hadamard(self, matrix: NDArray, base: NDArray[np.int8]) -> NDArray:
        return self._hadamards.hadamard(matrix, base)

    # Quantisation ------------------------------------------------------------------------------

    def sic(
        self,
        target: NDArray,
        codes: NDArray[np.int32],
        factor: NDArray | None,
        codebook: Codebook,
        start: int,
        stop: int,
    ) -> NDArray[np.float64]:
        return self._cancellation.sic(target, codes, factor, codebook, start, stop)

    def grid_error(
        self, matrix: NDArray, scale: NDArray, zero: NDArray[np.int32], maximum: int
    ) -> NDArray:
        return self._sums.grid_error(matrix, scale, zero, maximum)
