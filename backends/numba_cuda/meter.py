"""The current device of `numba.cuda` as a `device_meter.DeviceMeter`, timed by CUDA events."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ..cuda.meter import COPIED, COPIES
from .arithmetic import cuda
from .launch import Kernel, new
from .peak import subtract_in_registers

Result = TypeVar("Result")

BLOCKS, TURNS = 4096, 8192  # some milliseconds on a large GPU


class NumbaCudaMeter:
    """Of the device that the backend's kernels run on."""

    def describe(self) -> dict[str, Any]:
        """See `DeviceMeter`."""
        device = cuda.get_current_device()
        driver = import_module("numba.cuda.cudadrv.driver").driver
        name = device.name
        return {
            "name": name.decode() if isinstance(name, bytes) else str(name),
            "compute_capability": ".".join(map(str, device.compute_capability)),
            "memory": int(cuda.current_context().get_memory_info()[1]),
            "multiprocessors": int(device.MULTIPROCESSOR_COUNT),
            "cuda_of_driver": ".".join(map(str, driver.get_version())),
            "nvrtc": ".".join(map(str, cuda.runtime.get_version())),
        }

    def seconds(self, run: Callable[[], object]) -> float:
        """See `DeviceMeter`."""
        start, stop = cuda.event(), cuda.event()
        start.record()
        run()
        stop.record()
        stop.synchronize()
        return 1e-3 * start.elapsed_time(stop)

    def enqueueing(self, run: Callable[[], object]) -> float:
        """See `DeviceMeter`."""
        start = time.perf_counter()
        run()
        return Kernel.enqueued - start

    def memory(self, run: Callable[[], Result]) -> tuple[Result, float | None]:
        """Nobody can tell: Numba keeps what is free for a while, and counts nothing."""
        return run(), None

    def copy_rate(self) -> float:
        """See `DeviceMeter`."""
        source, target = new(COPIED, np.uint8), new(COPIED, np.uint8)

        def copies() -> None:
            for _ in range(COPIES):
                target.copy_to_device(source)

        copies()
        return 2 * COPIED * COPIES / self.seconds(copies)

    def subtraction_rate(self, dtype: DTypeLike) -> float:
        """See `DeviceMeter`."""
        subtract_in_registers(dtype, 1, 1)  # compiles
        products = 0

        def run() -> None:
            nonlocal products
            _, products = subtract_in_registers(dtype, BLOCKS, TURNS)

        taken = self.seconds(run)
        return products / taken

    def arrays(self) -> Any | None:
        """CuPy, which works on the same device and in the same order."""
        try:
            return import_module("cupy")
        except ImportError:
            return None
