"""What do the CUDA kernels need of a device, and how are they launched?

A `Device` is the thin layer between the operations and a GPU: memory, copies, launches. Everything
above it (which kernels run in which order, on which parts of which matrices) is plain Python that
runs with any device, so the tests replace this layer alone and run the rest on a CPU.

**Arguments.** Kernels take pointers, `long long` for every whole number, and numbers of their own
dtype; `Session.run` hands them nothing else. So a call fits its kernel if the order is right.

**Waiting.** Launches and frees happen in order. Only copies between host and device wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

ELEMENTS = 256  # threads of a block that works element by element
TILE = 64  # rows and columns of C that a block of `products.cu` owns
PANEL = 32  # columns that `panels.cu`, `gains.cu` and `gain_panels.cu` work on together
PANEL_ROWS = 64  # rows of a block of `panels.cu`
CHUNK = 512  # numbers that `trees.cuh` folds together
MOVED = 32  # rows and columns of a tile of `transpose`

# Source file → kernel → threads of a block.
SOURCES: dict[str, dict[str, tuple[int, ...]]] = {
    "products": {
        "add_products": (16, 16),
        "add_weighted_products": (16, 16),
        "subtract_products": (16, 16),
    },
    "panels": {
        "solve_panel": (PANEL_ROWS,),
        "uniform_panel": (PANEL_ROWS,),
        "scaled_panel": (PANEL_ROWS,),
        "affine_panel": (PANEL_ROWS,),
        "float_panel": (PANEL_ROWS,),
        "factor_block": (PANEL, PANEL),
    },
    "gains": {"gain_column": (CHUNK,)},
    "gain_panels": {"gain_panel": (CHUNK,)},
    "sums": {
        "row_inner": (CHUNK,),
        "grid_error": (CHUNK,),
        "fold_column_products": (32, 16),
        "fold_column_sums": (32, 16),
    },
    "elements": {
        "symmetrize": (ELEMENTS,),
        "combine": (ELEMENTS,),
        "multiply_elements": (ELEMENTS,),
        "divide_elements": (ELEMENTS,),
        "scale_rows": (ELEMENTS,),
        "scale_columns": (ELEMENTS,),
        "convert_float": (ELEMENTS,),
        "convert_from_int": (ELEMENTS,),
        "convert_to_int": (ELEMENTS,),
    },
    "moves": {
        "copy": (ELEMENTS,),
        "gather": (ELEMENTS,),
        "lower_triangle": (ELEMENTS,),
        "transpose": (MOVED, 8),
    },
    "checks": {
        "first_nonfinite": (256,),
        "nonzero_steps": (256,),
        "row_extrema": (256,),
        "row_asymmetry": (256,),
    },
    "hadamard": {"butterflies": (ELEMENTS,), "mix_runs": (ELEMENTS,)},
    "histogram": {
        "fill_columns": (ELEMENTS,),
        "exchange": (ELEMENTS,),
        "count_runs": (256,),
        "list_runs": (256,),
    },
    "peak": {"subtract_in_registers": (ELEMENTS,)},
}

# Sources whose blocks wait for each other: all of them must be on the device at the same time.
COOPERATIVE = frozenset({"gain_panels"})

_PLACES = {
    kernel: (source, block)
    for source, kernels in SOURCES.items()
    for kernel, block in kernels.items()
}


Values = tuple[np.generic, ...]  # the arguments of a launch, as the device gets them


class Device(Protocol):
    """Memory, copies and launches of one device, all in one order.

    A buffer is whatever the device makes of one; it is freed when nothing refers to it any more,
    and not before the launches that were enqueued until then have used it.

    Raises:
        WaterlevelError: the device has no memory left, or does not answer.
    """

    def allocate(self, size: int, clear: bool) -> tuple[Any, int]:
        """A buffer of this many bytes, all 0 if `clear`, and its address."""
        ...

    def upload(self, array: NDArray) -> tuple[Any, int]:
        """A buffer that holds a C-contiguous array, and its address."""
        ...

    def download(self, buffer: Any, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        """The whole of a buffer as a new host array; waits for all that was enqueued."""
        ...

    def resident_blocks(self, source: str, kernel: str, dtype: np.dtype, threads: int) -> int:
        """How many blocks of so many threads the device has room for at the same time."""
        ...

    def launch(
        self,
        source: str,
        kernel: str,
        dtype: np.dtype,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        series: Iterable[Values],
    ) -> None:
        """Enqueue a kernel of `<source>.cu` compiled for float64 or float32.

        What is in COOPERATIVE is launched so that all its blocks are on the device together.

        Args:
            series: the arguments of one launch after the other. The loop over columns lies in the
                device, so that it costs the host no more than the launches themselves.
        """
        ...


@dataclass(frozen=True)
class Pointer:
    """The address of one element on a device."""

    address: int


NULL = Pointer(0)


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A C-contiguous array on a device."""

    buffer: Any
    address: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def at(self, *index: int) -> Pointer:
        """The address of one element (which need not exist, as for an end)."""
        flat = 0
        for i, length in zip(index, self.shape, strict=True):
            flat = flat * length + i
        return Pointer(self.address + flat * self.dtype.itemsize)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size


Argument = DeviceArray | Pointer | int | float


class Session:
    """Arrays on a device, and kernels run on them.

    Attributes:
        enqueued: when the last launch returned to the host, by `time.perf_counter`.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.enqueued = time.perf_counter()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """An array with arbitrary content."""
        return self._new(shape, dtype, clear=False)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """An array of +0.0 or 0."""
        return self._new(shape, dtype, clear=True)

    def upload(self, array: NDArray, dtype: DTypeLike) -> DeviceArray:
        """A host array in this dtype."""
        host = np.ascontiguousarray(array, dtype).reshape(np.shape(array))
        buffer, address = self._device.upload(host)
        return DeviceArray(buffer, address, host.shape, host.dtype)

    def download(self, array: DeviceArray) -> NDArray:
        """A host copy."""
        return self._device.download(array.buffer, array.shape, array.dtype)

    def run(
        self,
        kernel: str,
        dtype: DTypeLike,
        grid: tuple[int, ...],
        *arguments: Argument,
    ) -> None:
        """Enqueue a kernel on this many blocks; on none, nothing is to be done.

        Args:
            dtype: the float dtype it is compiled for; floats are rounded once to it.
        """
        self.run_series(kernel, dtype, grid, arguments[:-1], arguments[-1:])

    def run_series(
        self,
        kernel: str,
        dtype: DTypeLike,
        grid: tuple[int, ...],
        arguments: tuple[Argument, ...],
        last: Iterable[Argument],
    ) -> None:
        """The same launch for each of these last arguments, one after the other.

        What is the same is made ready once: a column loop must not be held up by the host.
        """
        if 0 not in grid:
            number = np.dtype(dtype)
            source, block = _PLACES[kernel]
            fixed = [_argument(value, number) for value in arguments]
            series = ((*fixed, _argument(value, number)) for value in last)
            self._device.launch(source, kernel, number, grid, block, series)
            self.enqueued = time.perf_counter()

    def has_room_for(self, blocks: int, kernel: str, dtype: DTypeLike) -> bool:
        """Whether so many blocks of a kernel can wait for each other."""
        source, block = _PLACES[kernel]
        threads = int(np.prod(block))
        return blocks <= self._device.resident_blocks(source, kernel, np.dtype(dtype), threads)

    def run_elements(
        self,
        kernel: str,
        dtype: DTypeLike,
        count: int,
        *arguments: Argument,
    ) -> None:
        """The same with a thread for each of `count` elements; the count is the last argument."""
        self.run(kernel, dtype, (blocks(count, ELEMENTS),), *arguments, count)

    def _new(self, shape: tuple[int, ...], dtype: DTypeLike, clear: bool) -> DeviceArray:
        array = DeviceArray(None, 0, shape, np.dtype(dtype))
        buffer, address = self._device.allocate(array.size * array.dtype.itemsize, clear)
        return DeviceArray(buffer, address, array.shape, array.dtype)


def blocks(count: int, each: int) -> int:
    """How many blocks of `each` cover `count`."""
    return -(-count // each)


def tiles_of(rows: int, columns: int, side: int) -> int:
    """How many square tiles cover a matrix. Row after row of them makes a grid of one dimension,
    which may have 2³¹-1 blocks; in another dimension 65535 is the most."""
    return blocks(rows, side) * blocks(columns, side)


def _argument(value: Argument, dtype: np.dtype) -> np.generic:
    if isinstance(value, int | np.integer):
        return np.int64(value)
    if isinstance(value, DeviceArray | Pointer):
        return np.uint64(value.address)
    with np.errstate(over="ignore", under="ignore"):
        return dtype.type(value)
