"""The operations on an NVIDIA GPU by CuPy and CUDA C++ kernels: the bits of the NumPy oracle.

Before the backend is handed out the device has to show on a few numbers that it keeps the contract:
no fused multiply-add, subnormals kept, in float64 and float32.
"""

from __future__ import annotations

import numpy as np

from ...reference.errors import WaterlevelError
from ...reference.operations.numpy_operations import NUMPY
from ..cuda.operations import CudaOperations
from .device import CupyDevice
from .meter import CupyMeter


class CupyOperations(CudaOperations):
    """`operations.Operations` on the current device of CuPy.

    Raises:
        WaterlevelError: CuPy or a GPU is missing, or the GPU does not give the right bits.
    """

    name = "cupy"

    def __init__(self) -> None:
        device = CupyDevice()
        super().__init__(device)
        self.meter = CupyMeter(device.cupy, self._session)
        for dtype in (np.float64, np.float32):
            check_bits(self, np.dtype(dtype))


def check_bits(operations: CudaOperations, dtype: np.dtype) -> None:
    """One product whose result tells how it was computed.

    In row 0, (1 + ε)² - (1 + 2ε) with ε² below the last bit of the square: +0.0, or ε² if fused. In
    row 1, half of the smallest normal number: +0.0 if flushed.

    Raises:
        WaterlevelError: another result than the oracle's.
    """
    epsilon = 2.0 ** -((np.finfo(dtype).nmant + 5) // 2)
    x, square = 1.0 + epsilon, 1.0 + 2 * epsilon
    left = np.array([[-square, x], [0.0, np.finfo(dtype).smallest_normal]], dtype)
    right = np.array([[1.0, 0.0], [x, 0.5]], dtype)
    expected = NUMPY.matmul(left, right)
    product = operations.matmul(
        operations.from_host(left, dtype), operations.from_host(right, dtype)
    )
    found = operations.to_host(product)
    if found.tobytes() != expected.tobytes():
        raise WaterlevelError(
            f"the GPU does not keep the arithmetic of the contract: a {dtype.name} product is "
            f"{found.tolist()} instead of {expected.tolist()}"
        )
