"""What does a program in C, written from the page for other languages, find for a layer?

`order_free.c` has 64-bit integers and scalar loops where `reference.order_free` has products of
matrices in float64. Its three functions are called here by the names, arguments and outputs of the
golden cases (`execute_order_free`).
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...backends import Unusable
from ...reference.errors import BadInput, NotPositiveDefinite

SOURCE = Path(__file__).with_name("order_free.c")
FLAGS = ("-O2", "-ffp-contract=off", "-fno-fast-math", "-shared", "-fPIC")

Outputs = dict[str, NDArray]


def compiled(source: Path) -> ctypes.CDLL:
    """The functions of a file in C. Raises `Unusable` without a compiler that takes it."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "compiled.so"
        command = ["cc", *FLAGS, "-o", str(library), str(source), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise Unusable("implementation c needs a C compiler named cc") from None
        except subprocess.CalledProcessError as error:
            raise Unusable(f"implementation c cannot be compiled: {error.stderr}") from None
        return ctypes.CDLL(str(library))  # stays loaded when the file is gone


class OrderFreeC:
    """The order-free functions from C. Raises `Unusable` without a C compiler."""

    def __init__(self, source: Path = SOURCE) -> None:
        self._library = compiled(source)

    def order_free_cholesky(self, matrix: NDArray) -> Outputs:
        """L of a matrix."""
        H, L, value = _float64(matrix), np.empty(matrix.shape), ctypes.c_double()
        function = self._library.order_free_factor
        function.restype = ctypes.c_int64
        pivot = function(ctypes.c_int64(len(H)), _place(H), _place(L), ctypes.byref(value))
        if pivot >= 0:
            raise NotPositiveDefinite(pivot, value.value, "matrix")
        return {"factor": L}

    def order_free_lattice(
        self,
        weight: NDArray,
        factor: NDArray,
        spacing: float,
        method: str = "watersic",
        lmmse: bool = True,
    ) -> Outputs:
        """Codes of WaterSIC or GPTQ on the integer lattice."""
        W, L = _float64(weight), _float64(factor)
        codes, gains = np.zeros(W.shape, np.int32), np.zeros(len(L))
        watersic = method == "watersic"
        f = self._library.order_free_lattice(
            *(ctypes.c_int64(length) for length in W.shape), _place(W), _place(L),
            ctypes.c_double(spacing), int(watersic), int(lmmse), _place(codes), _place(gains),
        )  # fmt: skip
        if f == 0:
            raise BadInput("no grid holds the layer")
        alpha = spacing / np.diag(L) if watersic else np.full(len(L), float(spacing))
        return {
            "codes": codes,
            "gains": gains,
            "column_scale": gains * alpha,
            "fraction_bits": np.array(f, np.int32),
        }

    def order_free_grid(
        self,
        weight: NDArray,
        factor: NDArray,
        bits: int,
        order: NDArray[np.int64] | None = None,
        asymmetric: bool = False,
        group_size: int | None = None,
        block_size: int = 128,
    ) -> Outputs:
        """GPTQ on an integer grid for each row, or with groups that are fitted on the way."""
        n = len(factor)
        arranged = (np.arange(n) if order is None else order)[::-1]
        W, L = _float64(weight[:, arranged]), _float64(factor)
        size = group_size or n
        codes, values = np.zeros(W.shape, np.int32), np.zeros(W.shape)
        scale = np.zeros((len(W), -(-n // size)))
        zero = np.zeros(scale.shape, np.int32)
        p = self._library.order_free_grids(
            *(ctypes.c_int64(length) for length in W.shape), _place(W), _place(L),
            bits, int(asymmetric), ctypes.c_int64(size),
            ctypes.c_int64(block_size if group_size else n),
            _place(codes), _place(values), _place(scale), _place(zero),
        )  # fmt: skip
        if p == 0:
            raise BadInput("no grid holds the layer")
        back = np.argsort(arranged)
        return {
            "codes": codes[:, back],
            "dequantized": values[:, back],
            "scale": scale,
            "zero": zero,
            "group": ((n - 1 - np.arange(n)) // size)[back],
            "slice_bits": np.array(p, np.int32),
        }


def _float64(matrix: NDArray) -> NDArray[np.float64]:
    return np.ascontiguousarray(matrix, np.float64)


def _place(array: NDArray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
