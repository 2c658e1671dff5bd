"""How kernels are declared, compiled and launched, and how large their blocks are.

A kernel states the types of its arguments, so it is compiled once, at its first launch, and what
the tests compile and inspect without a device is what runs on one. Launches return at once; only
a copy to the host waits.

The simulator runs each thread of a GPU as a thread of Python. Its blocks are small, which changes
no bit: tiles and panels only say who does the work.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import cache, cached_property
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .arithmetic import SIMULATED, cuda, numba

TILE = 4 if SIMULATED else 16  # rows and columns of a block of a product
PANEL = 4 if SIMULATED else 64  # columns that are worked on together
GROUP = 2 if SIMULATED else 4  # rows that share a block of a panel
THREADS = 16 if SIMULATED else 256  # of a block without any structure
LANES = 2 if SIMULATED else 8  # sums that share a block
FOLDERS = 4 if SIMULATED else 32  # threads that work on one of them

FLOATS = (np.float64, np.float32)
NUMBERS = (*FLOATS, np.int32)

integer = numba.int64

# Small layers make small grids. That is as it should be, and no reason for a warning.
numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


class Types(NamedTuple):
    """The types of arguments of one dtype."""

    number: Any
    vector: Any
    matrix: Any


def types_of(dtype: DTypeLike) -> Types:
    """Scalars, vectors and matrices; all contiguous."""
    number = getattr(numba, np.dtype(dtype).name)
    return Types(number, number[::1], number[:, ::1])


Blocks = int | tuple[int, ...]


def _direct(compiled: Any) -> Callable[[Blocks, Blocks, tuple[Any, ...]], None]:
    """Launches what Numba has compiled, without what Numba does before a launch.

    That takes five times as long as the launch itself, and a column of WaterSIC has three launches.
    Where cuda.core is not to be reached, Numba launches, which is told once: the same bits, later.
    """
    (overload,) = compiled.overloads.values()
    try:
        core = import_module("cuda.core")
        kernel = overload._codelibrary.get_cufunc().kernel
        stream = core.Stream.from_handle(int(cuda.default_stream()))
    except (ImportError, AttributeError) as missing:  # another numba-cuda keeps them elsewhere
        warn_of_slow_launches(str(missing).partition("\n")[0])
        return lambda blocks, threads, arguments: compiled[blocks, threads](*arguments)

    def enqueue(blocks: Blocks, threads: Blocks, arguments: tuple[Any, ...]) -> None:
        config = core.LaunchConfig(grid=blocks, block=threads)
        core.launch(stream, config, kernel, *words_of(arguments))

    return enqueue


@cache
def warn_of_slow_launches(reason: str) -> None:
    """One line of warning, once for each reason."""
    warnings.warn(
        f"backend numba-cuda launches its kernels through Numba, some 70 µs each in place of 10, "
        f"because cuda.core cannot be used with this numba-cuda ({reason}); no bit depends on it",
        RuntimeWarning,
        stacklevel=1,
    )


def words_of(arguments: tuple[Any, ...]) -> list[Any]:
    """What the compiled kernel takes, each array in the words of Numba's own layout."""
    words: list[Any] = []
    for argument in arguments:
        if isinstance(argument, int | np.generic):
            words.append(argument)
        else:
            address = argument.device_ctypes_pointer.value or 0
            words += (0, 0, argument.size, argument.dtype.itemsize, address)
            words += (*argument.shape, *argument.strides)
    return words


class Kernel:
    """A kernel that is compiled when it is launched for the first time.

    Attributes:
        enqueued: when the last launch of any kernel returned, by `time.perf_counter`.
    """

    enqueued: ClassVar[float] = 0.0

    def __init__(self, function: Callable[..., None], types: tuple[Any, ...]) -> None:
        self.function = function
        self.types = types

    @cached_property
    def _enqueue(self) -> Callable[[Blocks, Blocks, tuple[Any, ...]], None]:
        if SIMULATED:
            simulated = cuda.jit(self.function)
            return lambda blocks, threads, arguments: simulated[blocks, threads](*arguments)
        # Without link-time optimisation, which might fuse again what was checked.
        compiled = cuda.jit(numba.void(*self.types), lto=False)(self.function)
        return _direct(compiled)

    def __call__(self, blocks: Blocks, threads: Blocks, *arguments: Any) -> None:
        """Launch; a grid without blocks has nothing to do."""
        if 0 not in (blocks if isinstance(blocks, tuple) else (blocks,)):
            self._enqueue(blocks, threads, arguments)
            Kernel.enqueued = time.perf_counter()

    def over(self, count: int, *arguments: Any) -> None:
        """Launch one thread for each of `count` elements."""
        self(blocks_of(count, THREADS), THREADS, *arguments)


def kernel(*types: Any) -> Callable[[Callable[..., None]], Kernel]:
    """Declares a kernel with arguments of these types."""
    return lambda function: Kernel(function, types)


# Every factory of kernels and the dtypes that it makes them for.
FACTORIES: list[tuple[Callable[[Any], SimpleNamespace], tuple[Any, ...]]] = []


def kernels_for(*dtypes: Any) -> Callable[[Callable[[Any], SimpleNamespace]], Any]:
    """Declares a function that makes the kernels of one dtype; it is called once for each."""

    def declare(factory: Callable[[Any], SimpleNamespace]) -> Callable[[Any], SimpleNamespace]:
        once = cache(factory)
        FACTORIES.append((once, dtypes))
        return lambda dtype: once(np.dtype(dtype).type)

    return declare


def blocks_of(count: int, size: int) -> int:
    """How many blocks of this size hold as many elements."""
    return -(-count // size)


def upload(array: NDArray) -> Any:
    """A copy on the device."""
    return cuda.to_device(np.ascontiguousarray(array))


def new(shape: int | tuple[int, ...], dtype: DTypeLike) -> Any:
    """An array on the device that holds anything."""
    return cuda.device_array(shape, np.dtype(dtype))
