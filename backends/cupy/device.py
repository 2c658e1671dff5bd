"""An NVIDIA GPU as a `cuda.device.Device`, by CuPy: memory from its pool, copies, launches.

Nothing is computed with CuPy's own functions. Everything runs in the default stream, whichever is
CuPy's current one, so launches, copies and the reuse of memory keep the order in which they were
asked for. An upload waits until it has arrived: CuPy copies from the array itself, which the caller
may change or free as soon as it has the buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from ..cuda.device import COOPERATIVE, Values
from .compiler import cubin


class CupyDevice:
    """The device that is CuPy's current one now; it stays that device whatever is current later.

    Attributes:
        cupy: the module.

    Raises:
        WaterlevelError: CuPy is missing, or there is no device that its CUDA can use.
    """

    def __init__(self) -> None:
        try:
            cupy: Any = import_module("cupy")
            from cupy.cuda import nvrtc  # pyright: ignore
        except ImportError as error:
            raise WaterlevelError(
                f"backend cupy needs the package cupy ({_first_line(error)}): "
                "pip install 'waterlevel[cuda13]', or 'waterlevel[cuda12]' for an older driver"
            ) from error
        self.cupy = cupy
        self._nvrtc: Any = nvrtc
        try:
            count = cupy.cuda.runtime.getDeviceCount()
            if count == 0:
                raise WaterlevelError("backend cupy needs an NVIDIA GPU, and finds none")
            self._device: Any = cupy.cuda.Device()
            self._architecture = f"sm_{self._device.compute_capability}"
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise WaterlevelError(
                f"backend cupy finds no usable GPU ({_first_line(error)}); it needs an NVIDIA GPU "
                "and a driver for the CUDA of the installed cupy (cuda12 or cuda13)"
            ) from error
        try:
            nvrtc.getVersion()
        except (RuntimeError, OSError) as error:
            raise WaterlevelError(
                f"backend cupy finds no NVRTC, which compiles its kernels ({_first_line(error)}): "
                "pip install 'waterlevel[cuda13]', or 'waterlevel[cuda12]' for an older driver"
            ) from error
        self._modules: dict[tuple[str, str], Any] = {}
        self._kernels: dict[tuple[str, str], Any] = {}

    def allocate(self, size: int, clear: bool) -> tuple[Any, int]:
        """See `Device`."""
        with self._in_one_line(f"{size} bytes"):
            new = self.cupy.zeros if clear else self.cupy.empty
            buffer = new(size, np.uint8)
            return buffer, int(buffer.data.ptr)

    def upload(self, array: NDArray) -> tuple[Any, int]:
        """See `Device`."""
        with self._in_one_line(f"{array.nbytes} bytes"):
            buffer = self.cupy.empty(array.nbytes, np.uint8)
            buffer.set(array.reshape(-1).view(np.uint8))
            self.cupy.cuda.Stream.null.synchronize()
            return buffer, int(buffer.data.ptr)

    def download(self, buffer: Any, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        """See `Device`."""
        with self._in_one_line("a copy"):
            return buffer.get().view(dtype).reshape(shape)

    def resident_blocks(self, source: str, kernel: str, dtype: np.dtype, threads: int) -> int:
        """See `Device`."""
        with self._in_one_line(f"kernel {kernel}"):
            cuda, function = self.cupy.cuda, self._kernel(source, kernel, dtype).kernel.ptr
            each = cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(function, threads, 0)
            properties = cuda.runtime.getDeviceProperties(self._device.id)
            return int(each) * int(properties["multiProcessorCount"])

    def launch(
        self,
        source: str,
        kernel: str,
        dtype: np.dtype,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        series: Iterable[Values],
    ) -> None:
        """See `Device`. A source is compiled, or found compiled, at its first launch."""
        with self._in_one_line(f"kernel {kernel}"):
            enqueue = self._kernel(source, kernel, dtype)
            for arguments in series:
                enqueue(grid, block, arguments)

    def _kernel(self, source: str, kernel: str, dtype: np.dtype) -> Any:
        key = kernel, dtype.name
        if key not in self._kernels:
            place = source, dtype.name
            if place not in self._modules:
                path = cubin(self._nvrtc, source, dtype, self._architecture)
                self._modules[place] = self.cupy.RawModule(
                    path=str(path), enable_cooperative_groups=source in COOPERATIVE
                )
            self._kernels[key] = self._modules[place].get_function(kernel)
        return self._kernels[key]

    @contextmanager
    def _in_one_line(self, what: str) -> Iterator[None]:
        """On this device and in its default stream; turn what CUDA raises into one line.

        A launch may report what an earlier one did.
        """
        cuda = self.cupy.cuda
        try:
            with self._device, cuda.Stream.null:
                yield
        except cuda.memory.OutOfMemoryError as error:
            raise WaterlevelError(_out_of_memory(what, error)) from error
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
            text = str(error).replace("_", "").lower()
            if "outofmemory" in text or "memoryallocation" in text:
                raise WaterlevelError(_out_of_memory(what, error)) from error
            raise WaterlevelError(
                f"the GPU failed at {what} ({_first_line(error)}); nothing was written. Start "
                "again in a new process, or use another backend"
            ) from error


def _out_of_memory(what: str, error: Exception) -> str:
    return (
        f"the GPU has no memory left for {what} ({_first_line(error)}); "
        "use a smaller layer, float32, or a backend on the CPU"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
