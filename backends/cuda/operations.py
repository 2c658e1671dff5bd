"""The operations on a CUDA device, on any `cuda.device.Device`: the bits of the NumPy oracle.

A matrix is a `DeviceArray` and stays on the device between operations; vectors and scalars come and
go. Every number is computed by a kernel of `backends/cuda`. The docstrings are those of
`reference.operations.Operations`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...reference.coding.histogram import ColumnHistograms
from ...reference.grids.codebooks import Codebook
from ...reference.operations.numpy_operations import NUMPY
from . import linear_algebra as linear_algebra
from .device import CHUNK, ELEMENTS, MOVED, Device, DeviceArray, Pointer, Session, blocks, tiles_of
from .histogram import column_histograms
from .sic import sic


def _words(dtype: np.dtype) -> type[np.floating]:
    """The dtype for which `moves.cu` moves words of this width."""
    return np.float64 if dtype.itemsize == 8 else np.float32


class CudaOperations:
    """`operations.Operations` on a device.

    Attributes:
        meeting: whether blocks may meet inside a launch (`cuda_sic`); the bits are the same.

    Raises:
        WaterlevelError: from any operation, where the device has no memory left or does not answer.
            Arrays on the host are as they were.
    """

    name = "cuda"
    meeting = True

    def __init__(self, device: Device) -> None:
        self._session = Session(device)

    # Moves -------------------------------------------------------------------------------------

    def from_host(self, array: NDArray, dtype: DTypeLike) -> DeviceArray:
        return self._session.upload(NUMPY.from_host(array, dtype), dtype)

    def to_host(self, matrix: DeviceArray) -> NDArray:
        return self._session.download(matrix)

    def shape(self, matrix: DeviceArray) -> tuple[int, int]:
        rows, columns = matrix.shape
        return rows, columns

    def dtype(self, matrix: DeviceArray) -> np.dtype:
        return matrix.dtype

    def zeros(self, rows: int, columns: int, dtype: DTypeLike) -> DeviceArray:
        return self._session.zeros((rows, columns), dtype)

    def convert(self, matrix: DeviceArray, dtype: DTypeLike) -> DeviceArray:
        source, target = matrix.dtype, np.dtype(dtype)
        if source == target:
            return self._copy(matrix)
        out = self._session.empty(matrix.shape, target)
        if target.kind == "i":
            kernel, number = "convert_to_int", source
        else:
            kernel, number = ("convert_from_int" if source.kind == "i" else "convert_float"), target
        self._session.run_elements(kernel, number, matrix.size, out, matrix)
        return out

    def transpose(self, matrix: DeviceArray) -> DeviceArray:
        rows, columns = matrix.shape
        out = self._session.empty((columns, rows), matrix.dtype)
        grid = (tiles_of(rows, columns, MOVED),)
        self._session.run(
            "transpose", _words(matrix.dtype), grid, out, rows, matrix, columns, rows, columns
        )
        return out

    def take(
        self,
        matrix: DeviceArray,
        rows: NDArray[np.int64] | None,
        columns: NDArray[np.int64] | None,
    ) -> DeviceArray:
        from_rows, from_columns = (
            np.arange(length) if index is None else np.arange(length)[index]
            for length, index in zip(matrix.shape, (rows, columns), strict=True)
        )
        return self._gather(matrix, from_rows, from_columns)

    def scatter_columns(
        self, matrix: DeviceArray, columns: NDArray[np.int64], total: int
    ) -> DeviceArray:
        rows, width = matrix.shape
        source = np.full(total, -1)
        source[columns] = np.arange(width)
        return self._gather(matrix, np.arange(rows), source)

    def diagonal(self, matrix: DeviceArray) -> NDArray:
        n = min(matrix.shape)
        out = self._session.empty((n,), matrix.dtype)
        self._move(out, 1, 0, matrix, matrix.shape[1] + 1, 0, n, 1)
        return self._session.download(out)

    def with_diagonal(self, matrix: DeviceArray, diagonal: NDArray) -> DeviceArray:
        out, n = self._copy(matrix), min(matrix.shape)
        vector = self._session.upload(np.broadcast_to(diagonal, n), matrix.dtype)
        self._move(out, matrix.shape[1] + 1, 0, vector, 1, 0, n, 1)
        return out

    # Checks ------------------------------------------------------------------------------------

    def find_nonfinite(self, matrix: DeviceArray) -> tuple[int, int, float] | None:
        rows, columns = matrix.shape
        found = self._session.empty((rows,), np.int64)
        self._session.run("first_nonfinite", matrix.dtype, (rows,), found, matrix, columns)
        first = self._session.download(found)
        if (first == columns).all():
            return None
        row = int(np.argmax(first < columns))
        column = int(first[row])
        element = self._session.empty((1,), matrix.dtype)
        self._move(element, 1, 0, matrix.at(row, column), 1, 0, 1, 1)
        return row, column, float(self._session.download(element)[0])

    def find_asymmetry(self, matrix: DeviceArray) -> tuple[int, int, float]:
        n = matrix.shape[0]
        values = self._session.empty((n,), matrix.dtype)
        columns = self._session.empty((n,), np.int64)
        self._session.run("row_asymmetry", matrix.dtype, (n,), values, columns, matrix, n)
        largest = self._session.download(values)
        row = int(np.argmax(largest))
        return row, int(self._session.download(columns)[row]), float(largest[row])

    def largest_magnitude(self, matrix: DeviceArray) -> float:
        low, high = self.row_extrema(matrix, 0, matrix.shape[1])
        return float(np.max(np.maximum(np.abs(low), np.abs(high))))

    # Element by element ------------------------------------------------------------------------

    def symmetrize(self, matrix: DeviceArray) -> DeviceArray:
        out = self._like(matrix)
        self._session.run_elements(
            "symmetrize", matrix.dtype, matrix.size, out, matrix, matrix.shape[0]
        )
        return out

    def combine(
        self, left_factor: float, left: DeviceArray, right_factor: float, right: DeviceArray
    ) -> DeviceArray:
        out = self._like(left)
        self._session.run_elements(
            "combine", left.dtype, left.size,
            out, float(left_factor), left, float(right_factor), right,
        )  # fmt: skip
        return out

    def multiply(self, left: DeviceArray, right: DeviceArray) -> DeviceArray:
        out = self._like(left)
        self._session.run_elements("multiply_elements", left.dtype, left.size, out, left, right)
        return out

    def divide(self, matrix: DeviceArray, divisor: float) -> DeviceArray:
        out = self._like(matrix)
        self._session.run_elements(
            "divide_elements", matrix.dtype, matrix.size, out, matrix, float(divisor)
        )
        return out

    def scale_rows(self, matrix: DeviceArray, factors: NDArray) -> DeviceArray:
        out, vector = self._like(matrix), self._session.upload(factors, matrix.dtype)
        self._session.run_elements(
            "scale_rows", matrix.dtype, matrix.size, out, vector, matrix, matrix.shape[1]
        )
        return out

    def scale_columns(self, matrix: DeviceArray, factors: NDArray) -> DeviceArray:
        out, vector = self._like(matrix), self._session.upload(factors, matrix.dtype)
        self._session.run_elements(
            "scale_columns", matrix.dtype, matrix.size, out, matrix, vector, matrix.shape[1]
        )
        return out

    # Sums --------------------------------------------------------------------------------------

    def row_inner(self, left: DeviceArray, right: DeviceArray) -> NDArray:
        rows, columns = left.shape
        sums = self._session.empty((rows,), left.dtype)
        self._session.run("row_inner", left.dtype, (rows,), sums, left, right, columns)
        return self._session.download(sums)

    def column_inner(self, left: DeviceArray, right: DeviceArray) -> NDArray:
        (rows, columns), dtype = left.shape, left.dtype
        if rows == 0:
            return np.zeros(columns, dtype)
        sums = self._session.empty((blocks(rows, CHUNK), columns), dtype)
        grid = blocks(columns, 32), sums.shape[0]
        self._session.run("fold_column_products", dtype, grid, sums, left, right, rows, columns)
        while (rows := sums.shape[0]) > 1:
            values = sums
            sums = self._session.empty((blocks(rows, CHUNK), columns), dtype)
            grid = blocks(columns, 32), sums.shape[0]
            self._session.run("fold_column_sums", dtype, grid, sums, values, rows, columns)
        return self._session.download(sums)[0] + dtype.type(0)

    def row_extrema(self, matrix: DeviceArray, start: int, stop: int) -> tuple[NDArray, NDArray]:
        rows, columns = matrix.shape
        if not 0 <= start < stop <= columns:
            raise ValueError(f"columns {start} … {stop - 1} of {columns} have no extrema")
        low, high = (self._session.empty((rows,), matrix.dtype) for _ in range(2))
        self._session.run(
            "row_extrema", matrix.dtype, (rows,), low, high, matrix, columns, start, stop
        )
        zero = matrix.dtype.type(0)
        return self._session.download(low) + zero, self._session.download(high) + zero

    def column_histograms(self, codes: DeviceArray) -> ColumnHistograms:
        return column_histograms(self._session, codes)

    # Linear algebra ----------------------------------------------------------------------------

    def matmul(self, left: DeviceArray, right: DeviceArray) -> DeviceArray:
        return linear_algebra.matmul(self._session, left, right)

    def matmul_transposed(self, left: DeviceArray, right: DeviceArray) -> DeviceArray:
        product = self._session.zeros((left.shape[1], right.shape[1]), left.dtype)
        linear_algebra.add_products(self._session, product, left, right, transposed=True)
        return product

    def accumulate(
        self, total: DeviceArray, left: DeviceArray, right: DeviceArray, weights: NDArray | None
    ) -> None:
        linear_algebra.add_products(
            self._session, total, left, right, transposed=True, weights=weights
        )

    def cholesky(self, matrix: DeviceArray) -> DeviceArray:
        return linear_algebra.cholesky(self._session, matrix)

    def solve(self, target: DeviceArray, factor: DeviceArray) -> DeviceArray:
        X = self._copy(target)
        linear_algebra.solve(self._session, X, factor)
        return X

    def solve_reversed(
        self, target: DeviceArray, factor: DeviceArray, start: int, stop: int
    ) -> DeviceArray:
        (rows, columns), width = target.shape, stop - start
        X = self._session.empty((rows, width), target.dtype)
        self._move(X, width, 1, target.at(0, start), columns, 1, rows, width)
        linear_algebra.solve_reversed(self._session, X, factor, start)
        return X

    def hadamard(self, matrix: DeviceArray, base: NDArray[np.int8]) -> DeviceArray:
        mixed, dtype = self._copy(matrix), matrix.dtype
        m = len(base)
        length = matrix.shape[1] // m
        distance = 1
        while distance < length:
            self._session.run_elements("butterflies", dtype, matrix.size // 2, mixed, distance)
            distance *= 2
        if m == 1:
            return mixed
        out, signs = self._like(matrix), self._session.upload(base, np.int8)
        self._session.run_elements("mix_runs", dtype, matrix.size, out, mixed, signs, m, length)
        return out

    # Quantisation ------------------------------------------------------------------------------

    def sic(
        self,
        target: DeviceArray,
        codes: DeviceArray,
        factor: DeviceArray | None,
        codebook: Codebook,
        start: int,
        stop: int,
    ) -> NDArray[np.float64]:
        return sic(self._session, target, codes, factor, codebook, start, stop, self.meeting)

    def grid_error(
        self, matrix: DeviceArray, scale: NDArray, zero: NDArray[np.int32], maximum: int
    ) -> NDArray:
        rows, columns = matrix.shape
        sums = self._session.empty((rows,), matrix.dtype)
        scales = self._session.upload(scale, matrix.dtype)
        zeros = self._session.upload(zero, np.int32)
        self._session.run(
            "grid_error", matrix.dtype, (rows,),
            sums, matrix, columns, scales, zeros, int(maximum),
        )  # fmt: skip
        return self._session.download(sums)

    # Parts -------------------------------------------------------------------------------------

    def _like(self, matrix: DeviceArray) -> DeviceArray:
        return self._session.empty(matrix.shape, matrix.dtype)

    def _copy(self, matrix: DeviceArray) -> DeviceArray:
        (rows, columns), out = matrix.shape, self._like(matrix)
        self._move(out, columns, 1, matrix, columns, 1, rows, columns)
        return out

    def _move(
        self,
        out: DeviceArray,
        out_row: int,
        out_column: int,
        source: DeviceArray | Pointer,
        row: int,
        column: int,
        rows: int,
        columns: int,
    ) -> None:
        grid = (blocks(rows * columns, ELEMENTS),)
        self._session.run(
            "copy", _words(out.dtype), grid,
            out, out_row, out_column, source, row, column, rows, columns,
        )  # fmt: skip

    def _gather(
        self, matrix: DeviceArray, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> DeviceArray:
        shape = len(rows), len(columns)
        out = self._session.empty(shape, matrix.dtype)
        row_index, column_index = (self._session.upload(i, np.int64) for i in (rows, columns))
        self._session.run(
            "gather", _words(matrix.dtype), (blocks(out.size, ELEMENTS),),
            out, matrix, matrix.shape[1], row_index, column_index, *shape,
        )  # fmt: skip
        return out
