"""What must a backend be able to do?

This is the one page that somebody who writes a backend needs. An *algorithm* (GPTQ, WaterSIC, …) is
written once, on the operations below, and takes them as its argument `backend`. Swapping the
backend swaps the operations and nothing else. Every operation fixes every bit of its result, so two
backends that follow this page give the same codes, gains and scales, whatever they run on.

**What lives where.** A `Matrix` (a×n or n×n) is whatever the backend makes of one: an array on a
device, a padded or tiled buffer. Algorithms never look inside; they hand it from one operation to
the next. Vectors of O(a + n) numbers and scalars are NumPy arrays and numbers on the host.

**Numbers.** float64 or float32, IEEE 754, round to nearest even, gradual underflow; codes int32.
All matrices and vectors of one call have the same float dtype, except where a line says otherwise;
host scalars are float64 and are rounded once to that dtype when they enter. Only + - * / √, rint
(half to even), comparison, selection, |x|, min, max, integers and moves touch the numbers. Never a
fused multiply-add, a reciprocal in place of a division, a reordered sum, flushing to zero.

**Orders.** A *chain* performs its steps for k in the order given, one rounding for each product and
one for each sum or difference. Σ over data is `sums.tree_sum`. Steps on structural zeros may be
skipped. An infinity or a NaN is a result like any other; algorithms look for them with
`find_nonfinite` before anything is quantised.

**Arguments** are not changed, except by `accumulate` and `sic`, which say so.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..coding.histogram import ColumnHistograms
from ..grids.codebooks import Codebook

Matrix = Any


@runtime_checkable
class Operations(Protocol):
    """The operations; shapes are a×n for A, B, n×n for H, L; [i,j] is row i, column j."""

    name: str

    # Moves -------------------------------------------------------------------------------------

    def from_host(self, array: NDArray, dtype: DTypeLike) -> Matrix:
        """The two-dimensional host array on this backend, in `dtype` as by `convert`."""
        ...

    def to_host(self, matrix: Matrix) -> NDArray:
        """A C-contiguous host copy."""
        ...

    def shape(self, matrix: Matrix) -> tuple[int, int]:
        """(rows, columns)."""
        ...

    def dtype(self, matrix: Matrix) -> np.dtype:
        """float64, float32 or int32."""
        ...

    def zeros(self, rows: int, columns: int, dtype: DTypeLike) -> Matrix:
        """A matrix of +0.0, or of int32 zeros."""
        ...

    def convert(self, matrix: Matrix, dtype: DTypeLike) -> Matrix:
        """A copy in another dtype; a value that does not fit is rounded once, to nearest even."""
        ...

    def transpose(self, matrix: Matrix) -> Matrix:
        """Aᵀ."""
        ...

    def take(
        self,
        matrix: Matrix,
        rows: NDArray[np.int64] | None,
        columns: NDArray[np.int64] | None,
    ) -> Matrix:
        """The rows and columns at these indices, in this order; None stands for all of them."""
        ...

    def scatter_columns(self, matrix: Matrix, columns: NDArray[np.int64], total: int) -> Matrix:
        """A matrix of `total` columns that has column j of A at columns[j], zeros elsewhere."""
        ...

    def diagonal(self, matrix: Matrix) -> NDArray:
        """The diagonal of H as a host vector."""
        ...

    def with_diagonal(self, matrix: Matrix, diagonal: NDArray) -> Matrix:
        """H with another diagonal."""
        ...

    # Checks ------------------------------------------------------------------------------------

    def find_nonfinite(self, matrix: Matrix) -> tuple[int, int, float] | None:
        """(row, column, value) of the first NaN or infinity in row-major order, or None."""
        ...

    def find_asymmetry(self, matrix: Matrix) -> tuple[int, int, float]:
        """(row, column, |h_ij - h_ji|) where that is largest; the first of equals, row-major."""
        ...

    def largest_magnitude(self, matrix: Matrix) -> float:
        """max |a_ij|."""
        ...

    # Element by element ------------------------------------------------------------------------

    def symmetrize(self, matrix: Matrix) -> Matrix:
        """(h_ij + h_ji) / 2."""
        ...

    def combine(
        self, left_factor: float, left: Matrix, right_factor: float, right: Matrix
    ) -> Matrix:
        """f·a_ij + g·b_ij: two products, one sum."""
        ...

    def multiply(self, left: Matrix, right: Matrix) -> Matrix:
        """a_ij·b_ij."""
        ...

    def divide(self, matrix: Matrix, divisor: float) -> Matrix:
        """a_ij / d."""
        ...

    def scale_rows(self, matrix: Matrix, factors: NDArray) -> Matrix:
        """f_i·a_ij."""
        ...

    def scale_columns(self, matrix: Matrix, factors: NDArray) -> Matrix:
        """a_ij·f_j."""
        ...

    # Sums --------------------------------------------------------------------------------------

    def row_inner(self, left: Matrix, right: Matrix) -> NDArray:
        """Σ_j a_ij·b_ij for each row, by `tree_sum`; a host vector."""
        ...

    def column_inner(self, left: Matrix, right: Matrix) -> NDArray:
        """Σ_i a_ij·b_ij for each column, by `tree_sum`; a host vector."""
        ...

    def row_extrema(self, matrix: Matrix, start: int, stop: int) -> tuple[NDArray, NDArray]:
        """Least and largest value of each row over the columns start … stop-1 (at least one).

        A zero is +0.0.
        """
        ...

    def column_histograms(self, codes: Matrix) -> ColumnHistograms:
        """Which codes occur in each column, and how often; exact."""
        ...

    # Linear algebra ----------------------------------------------------------------------------

    def matmul(self, left: Matrix, right: Matrix) -> Matrix:
        """A B: the chain c = +0.0, then c = c + a_ik·b_kj for k = 0, 1, 2, …"""
        ...

    def matmul_transposed(self, left: Matrix, right: Matrix) -> Matrix:
        """Aᵀ B: the chain c = +0.0, then c = c + a_ki·b_kj for k = 0, 1, 2, …"""
        ...

    def accumulate(
        self, total: Matrix, left: Matrix, right: Matrix, weights: NDArray | None
    ) -> None:
        """total_ij ← total_ij + w_t·(x_ti·y_tj) for t = 0, 1, 2, …, in place; None for w = 1.

        The chain goes on where it stopped, so tokens may arrive in batches of any size.
        """
        ...

    def cholesky(self, matrix: Matrix) -> Matrix:
        """Lower L with L Lᵀ = H: `triangular.cholesky`. Raises NotPositiveDefinite."""
        ...

    def solve(self, target: Matrix, factor: Matrix) -> Matrix:
        """X with X Lᵀ = T: `triangular.solve`."""
        ...

    def solve_reversed(self, target: Matrix, factor: Matrix, start: int, stop: int) -> Matrix:
        """X, a×(stop-start), with X L = T on those columns alone: `triangular.solve_reversed`."""
        ...

    def hadamard(self, matrix: Matrix, base: NDArray[np.int8]) -> Matrix:
        """A·(H_m ⊗ H_(2^p)), n = m·2^p, without the factor 1/√n: `hadamard.hadamard`."""
        ...

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
        """Successive interference cancellation on a range of columns: `sic.sic`.

        Overwrites `target` and `codes`; returns the gains. Raises CodeOverflow.
        """
        ...

    def grid_error(
        self, matrix: Matrix, scale: NDArray, zero: NDArray[np.int32], maximum: int
    ) -> NDArray:
        """Σ_j d·d·√d, d = |s·(q - zero) - x|, of each row on its own affine grid; a host vector.

        q is the code of `codebooks.AffineGrid`; scale and zero have one number per row.
        """
        ...
