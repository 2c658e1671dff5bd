"""The current device of CuPy as a `device_meter.DeviceMeter`: CUDA events, memory of the pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ..cuda.device import Session
from ..cuda.meter import COPIED, COPIES
from ..cuda.peak import subtract_in_registers

Result = TypeVar("Result")

BLOCKS, TURNS = 4096, 4096  # some milliseconds on a large GPU


class CupyMeter:
    """Of the device that the session works on."""

    def __init__(self, cupy: Any, session: Session) -> None:
        self._cupy, self._session = cupy, session

    def describe(self) -> dict[str, Any]:
        """See `DeviceMeter`."""
        runtime = self._cupy.cuda.runtime
        device = self._cupy.cuda.Device()
        properties = runtime.getDeviceProperties(device.id)
        return {
            "name": properties["name"].decode(),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "memory": int(properties["totalGlobalMem"]),
            "multiprocessors": int(properties["multiProcessorCount"]),
            "cuda_of_driver": _version(runtime.driverGetVersion()),
            "cuda_of_runtime": _version(runtime.runtimeGetVersion()),
            "nvrtc": ".".join(map(str, self._cupy.cuda.nvrtc.getVersion())),
        }

    def seconds(self, run: Callable[[], object]) -> float:
        """See `DeviceMeter`."""
        start, stop = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        start.record()
        run()
        stop.record()
        stop.synchronize()
        return 1e-3 * self._cupy.cuda.get_elapsed_time(start, stop)

    def enqueueing(self, run: Callable[[], object]) -> float:
        """See `DeviceMeter`."""
        start = time.perf_counter()
        run()
        return self._session.enqueued - start

    def memory(self, run: Callable[[], Result]) -> tuple[Result, float | None]:
        """What the pool had to take from the device, which it keeps until it is asked."""
        pool = self._cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        result = run()
        return result, float(pool.total_bytes() - before)

    def copy_rate(self) -> float:
        """See `DeviceMeter`."""
        source, target = (self._cupy.zeros(COPIED, np.uint8) for _ in range(2))

        def copies() -> None:
            for _ in range(COPIES):
                target.data.copy_from_device_async(source.data, COPIED)

        copies()
        return 2 * COPIED * COPIES / self.seconds(copies)

    def subtraction_rate(self, dtype: DTypeLike) -> float:
        """See `DeviceMeter`."""
        products = 0

        def run() -> None:
            nonlocal products
            _, products = subtract_in_registers(self._session, dtype, BLOCKS, TURNS)

        taken = self.seconds(run)
        return products / taken

    def arrays(self) -> Any | None:
        """CuPy."""
        return self._cupy


def _version(number: int) -> str:
    """1000·major + 10·minor, as CUDA writes versions.

    >>> _version(13020)
    '13.2'
    """
    return f"{number // 1000}.{number % 1000 // 10}"
