"""Every operation of numba-cuda through the real package, on a driver that never runs a kernel.

As a program, under the driver of `driver_without_device.c`, it prints JSON: what the device is,
which kernels were never launched, and what a failure of launches and of memory is told as. Nothing
here looks at a result: there are none.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

import numpy as np

from waterlevel.backends.numba_cuda import (
    launch as numba_cuda_launch,
    operations as numba_cuda_operations,
)
from waterlevel.reference.errors import WaterlevelError

from ..backends.cupy.test_kernels import every_operation
from .numba_cuda_cases import check_launches


def told(run) -> str:
    """The one line of an error."""
    try:
        run()
    except WaterlevelError as error:
        return str(error)
    return "no error"


def without_cuda_core(launch) -> dict[str, object]:
    """What is told where cuda.core cannot be imported."""
    kernels = [
        launch.Kernel(kernel.function, kernel.types)
        for factory, dtypes in launch.FACTORIES
        if np.float64 in dtypes
        for name, kernel in vars(factory(np.float64)).items()
        if name in ("combine", "transpose")
    ]
    known, sys.modules["cuda.core"] = sys.modules["cuda.core"], None  # its import fails
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            enqueuing = [kernel._enqueue for kernel in kernels]
    finally:
        sys.modules["cuda.core"] = known
    return {
        "compiled without cuda.core": len(enqueuing),
        "warnings": [str(warning.message) for warning in caught],
    }


def main() -> int:
    numba_cuda_operations.check_device = lambda backend: None  # asks for results
    backend = numba_cuda_operations.NumbaCudaOperations()
    check_launches()  # the package hands a kernel whatever it gets
    launched = set()
    start = numba_cuda_launch.Kernel.__call__

    def noted(kernel, blocks, threads, *arguments):
        start(kernel, blocks, threads, *arguments)
        launched.add(id(kernel))

    numba_cuda_launch.Kernel.__call__ = noted
    for dtype in (np.float64, np.float32):
        every_operation(backend, dtype)
        backend.meter.subtraction_rate(dtype)
    never = [
        f"{factory.__module__} {name} {dtype.__name__}"
        for factory, dtypes in numba_cuda_launch.FACTORIES
        for dtype in dtypes
        for name, kernel in vars(factory(dtype)).items()
        if id(kernel) not in launched
    ]
    matrix = backend.from_host(np.arange(6.0).reshape(2, 3), np.float64)
    found = {
        "device": backend.meter.describe(),
        "seconds": backend.meter.seconds(lambda: None),
        "copied": backend.meter.copy_rate(),
        "there and back": backend.to_host(matrix).tolist(),
        "launched": len(launched),
        "never": never,
        "memory": told(lambda: backend.zeros(2**20, 2**20, np.float64)),
    }
    found |= without_cuda_core(numba_cuda_launch)
    for name, error in {"lost": "719", "full": "2"}.items():
        os.environ["LAUNCHES_FAIL"] = error
        found[name] = told(lambda: backend.matmul(matrix, backend.transpose(matrix)))
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
