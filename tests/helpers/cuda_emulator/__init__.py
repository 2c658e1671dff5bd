"""A device that runs the CUDA kernels on this CPU: the same sources, the same host code above it.

Kernels are compiled by g++ with `cuda_on_cpu.h` in place of CUDA, once for each float dtype. What a
real device leaves open is made unfriendly here: new memory is filled with NaNs, every buffer has
guards on both sides that a launch must leave alone, a launch checks the number and the sizes of its
arguments, and every second one runs the threads of a block in descending order.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import waterlevel.backends
from waterlevel.backends.cuda.device import COOPERATIVE, SOURCES
from waterlevel.backends.cuda.operations import CudaOperations

HERE = Path(__file__).parent
KERNELS = Path(waterlevel.backends.__file__).parent / "cupy" / "kernels"
DTYPES = {"float64": [], "float32": ["-DWATERLEVEL_FLOAT32"]}
GUARD = 64  # bytes on each side of a buffer
POISON = 0xFF  # as a float this is a NaN, as an integer -1
OPTIONS = "-std=c++17 -O2 -ffp-contract=off -shared -fPIC -U_FORTIFY_SOURCE -Wno-unknown-pragmas"


def fits_any_device(grid: tuple[int, ...], block: tuple[int, ...]) -> bool:
    """Whether a launch keeps to the limits of every compute capability: 1024 threads, 2³¹-1 blocks
    in the first dimension of the grid, 65535 in the others."""
    threads = np.prod(block, dtype=np.int64)
    return 0 < threads <= 1024 and 0 < grid[0] < 2**31 and all(0 < n < 65536 for n in grid[1:])


def kernel_names(path: Path) -> list[str]:
    """The kernels that a .cu file defines."""
    return re.findall(r'extern "C" __global__ .*?void (\w+)\(', path.read_text("utf-8"))


def program(sources: list[Path], headers: list[Path]) -> str:
    """All kernels as one C++ program, each file in a namespace of its own.

    Nothing in them is seen from outside, so that all shared memory may lie in one section.
    """
    lines = [f'#include "{HERE / "cuda_on_cpu.h"}"', "namespace {"]
    lines += [*(f'#include "{path}"' for path in headers), "}"]
    for path in sources:
        kernels = kernel_names(path)
        lines += [f"namespace {path.stem} {{ namespace {{", f'#include "{path}"', "}"]
        lines += [*(f"OFFER({name})" for name in kernels), "}"]
    return "\n".join(lines) + "\n"


def compile_kernels(folder: Path, sources: list[Path]) -> dict[str, ctypes.CDLL]:
    """A library for each float dtype; skips the test where g++ is missing."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is missing: the CUDA kernels are not run on a CPU")
    source = folder / "kernels.cpp"
    source.write_text(program(sources, sorted(KERNELS.glob("*.cuh"))), "utf-8")
    commands = {
        folder / f"{dtype}.so": [compiler, *OPTIONS.split(), *defines, str(source)]
        for dtype, defines in DTYPES.items()
    }
    return dict(zip(DTYPES, build(commands), strict=True))


def build(commands: dict[Path, list[str]]) -> list[ctypes.CDLL]:
    """The libraries that these commands make, all at the same time."""
    running = [
        subprocess.Popen([*command, "-o", str(target)], stderr=subprocess.PIPE, text=True)
        for target, command in commands.items()
    ]
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said
    return [ctypes.CDLL(str(target)) for target in commands]


def complaint(library: ctypes.CDLL) -> str:
    """Why its last launch failed."""
    library.complaint.restype = ctypes.c_char_p
    return library.complaint().decode()


class CpuDevice:
    """`backends.cuda.device.Device` on the libraries of `compile_kernels`.

    Attributes:
        libraries: for each float dtype.
        launched: the kernels that have run, as (source, kernel, dtype).
        waits: how often the host has waited for the device, by the number of launches until then.
        held: bytes in buffers, now; peak: at most.
        resident: how many blocks may be on it together.
    """

    resident = 16

    def __init__(self, libraries: dict[str, ctypes.CDLL]) -> None:
        self.libraries = libraries
        self._buffers: dict[int, np.ndarray] = {}
        self.launched: list[tuple[str, str, str]] = []
        self.waits: list[int] = []
        self.peak = 0

    def allocate(self, size: int, clear: bool) -> tuple[np.ndarray, int]:
        buffer = Buffer(self, size)
        if clear:
            buffer.content[:] = 0
        return buffer, buffer.address

    def upload(self, array: np.ndarray) -> tuple[np.ndarray, int]:
        assert array.flags.c_contiguous
        self.waits.append(len(self.launched))
        buffer = Buffer(self, array.nbytes)
        buffer.content[:] = array.reshape(-1).view(np.uint8)
        return buffer, buffer.address

    def download(self, buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        self.waits.append(len(self.launched))
        return buffer.content.view(dtype).reshape(shape).copy()

    def resident_blocks(self, source, kernel, dtype, threads) -> int:
        return self.resident

    def launch(self, source, kernel, dtype, grid, block, series) -> None:
        for arguments in series:
            self._launch_once(source, kernel, dtype, grid, block, arguments)

    def _launch_once(self, source, kernel, dtype, grid, block, arguments) -> None:
        assert fits_any_device(grid, block), f"{kernel}: no device has {grid} blocks of {block}"
        library, together = self.libraries[dtype.name], source in COOPERATIVE
        sizes = (ctypes.c_int * 64)()
        count = getattr(library, f"describe_{kernel}")(sizes)
        given = [argument.dtype.itemsize for argument in arguments]
        assert given == list(sizes[:count]), f"{kernel} takes {list(sizes[:count])}, not {given}"
        cells = [np.array(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * count)(*(cell.ctypes.data for cell in cells))
        shape = [(ctypes.c_uint * 3)(*(*part, 1, 1)[:3]) for part in (grid, block)]
        self.before_launch(library)
        launch, turn = getattr(library, f"launch_{kernel}"), len(self.launched) % 2
        failed = launch(*shape, pointers, turn, together)
        assert not failed, f"{kernel}: {complaint(library)}"
        self.launched.append((source, kernel, dtype.name))
        for memory in self._buffers.values():
            guards = np.concatenate([memory[:GUARD], memory[-GUARD:]])
            assert (guards == POISON).all(), f"{kernel} wrote outside a buffer"

    def before_launch(self, library: ctypes.CDLL) -> None:
        """For a device that has to know more."""

    @property
    def held(self) -> int:
        return sum(memory.size - 2 * GUARD for memory in self._buffers.values())


class Buffer:
    """Memory between two guards, which the device watches as long as the buffer lives."""

    def __init__(self, device: CpuDevice, size: int) -> None:
        self._device = device
        memory = np.full(size + 2 * GUARD, POISON, np.uint8)
        self.content = memory[GUARD : GUARD + size]
        self.address = self.content.ctypes.data
        device._buffers[id(self)] = memory
        device.peak = max(device.peak, device.held)

    def __del__(self) -> None:
        self._device._buffers.pop(id(self), None)


_libraries: dict[str, ctypes.CDLL] = {}


def operations_on_cpu(folder: Path) -> tuple[CudaOperations, CpuDevice]:
    """The complete CUDA backend on a new device of this kind; compiled once for a session."""
    if not _libraries:
        sources = [KERNELS / f"{name}.cu" for name in SOURCES]
        _libraries.update(compile_kernels(folder, sources))
    device = CpuDevice(_libraries)
    return CudaOperations(device), device
