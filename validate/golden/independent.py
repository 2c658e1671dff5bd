"""What does a second implementation say, one that shares nothing with the first?

`independent.c` has the costly operations as scalar loops. It is compiled here by the C compiler of
the machine and put behind the interface of a backend, so that any case can be run on it. Only what
it does not have (moves, and O(a·n) products) is the oracle's.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput, CodeOverflow, NotPositiveDefinite
from ...reference.grids.codebooks import AffineGrid, Codebook, ScaledLattice
from ...reference.operations.numpy_operations import NumpyOperations
from .order_free_c import OrderFreeC, compiled

SOURCE = Path(__file__).with_name("independent.c")


class IndependentOperations(OrderFreeC, NumpyOperations):
    """`operations.Operations` with products, factors, solves and cancellation from C.

    Raises:
        Unusable: there is no C compiler, or it fails.
    """

    name = "c"

    def __init__(self) -> None:
        OrderFreeC.__init__(self)
        self._loops = compiled(SOURCE)

    def matmul(self, left: NDArray, right: NDArray) -> NDArray:
        product = np.empty((left.shape[0], right.shape[1]), left.dtype)
        self._call("matmul", left, right, product, *left.shape, right.shape[1])
        return product

    def matmul_transposed(self, left: NDArray, right: NDArray) -> NDArray:
        return self.matmul(np.ascontiguousarray(left.T), right)

    def cholesky(self, matrix: NDArray) -> NDArray:
        L, value = matrix.copy(), ctypes.c_double()
        pivot = self._call("cholesky", L, len(L), ctypes.byref(value))
        if pivot >= 0:
            raise NotPositiveDefinite(pivot, value.value, "matrix")
        return L

    def solve(self, target: NDArray, factor: NDArray) -> NDArray:
        X = target.copy()
        self._call("solve", X, factor, *X.shape)
        return X

    def solve_reversed(self, target: NDArray, factor: NDArray, start: int, stop: int) -> NDArray:
        X = np.array(target[:, start:stop], order="C")
        self._call("solve_reversed", X, factor, *X.shape, start, len(factor))
        return X

    def sic(
        self,
        target: NDArray,
        codes: NDArray[np.int32],
        factor: NDArray | None,
        codebook: Codebook,
        start: int,
        stop: int,
    ) -> NDArray[np.float64]:
        rows, n = target.shape
        gains = np.ones(stop - start)
        if factor is None:
            factor = np.eye(n, dtype=target.dtype)
        if isinstance(codebook, ScaledLattice):
            room = np.empty(2 * rows, target.dtype)
            number = {"float64": ctypes.c_double, "float32": ctypes.c_float}[target.dtype.name]
            failed = self._call(
                "sic_scaled", target, codes, factor, codebook.spacing,
                number(target.dtype.type(codebook.step)), ctypes.c_int(codebook.lmmse),
                gains, room, rows, n, start, stop,
            )  # fmt: skip
        elif isinstance(codebook, AffineGrid):
            failed = self._call(
                "sic_affine", target, codes, factor, codebook.scale, codebook.zero,
                np.asarray(codebook.group, np.int64), codebook.scale.shape[1], codebook.maximum,
                rows, n, start, stop,
            )  # fmt: skip
        else:
            raise BadInput("implementation c has scaled lattices and affine grids alone")
        if failed >= 0:
            column, row = divmod(failed, rows)
            raise CodeOverflow(row, column, float("nan"))
        return gains

    def _call(self, name: str, *arguments: Any) -> int:
        dtype = next(a for a in arguments if isinstance(a, np.ndarray)).dtype.name
        function = getattr(self._loops, f"{name}_{dtype}")
        function.restype = ctypes.c_int64
        contiguous = [
            np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in arguments
        ]
        return function(*map(_argument, contiguous))


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_int64(value) if isinstance(value, int) else value
