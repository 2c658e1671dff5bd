"""Compiled CUDA kernels, run on this CPU from their PTX, with every access to memory watched.

The emulator runs the sources of one family of kernels; this runs what the compilers of CUDA made
of the kernels of both, at the real sizes of their blocks. What is left to trust is the assembler,
which makes machine code of PTX, and the device.
"""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import numpy as np

from waterlevel.backends.cuda.device import SOURCES
from waterlevel.backends.cupy.compiler import compile_kernels, options_of

from ..cuda_emulator import GUARD, HERE as EMULATOR, OPTIONS, CpuDevice, build
from ..cuda_machine_code import ARCHITECTURE
from .translator import Translated, translate

HEADERS = (EMULATOR / "cuda_on_cpu.h", Path(__file__).parent / "machine.h")


def program(kernels: list[Translated]) -> str:
    """C++ of all these kernels."""
    lines = [f'#include "{path}"' for path in HEADERS]
    return "\n".join([*lines, *(kernel.code for kernel in kernels)]) + "\n"


def build_programs(folder: Path, programs: dict[str, list[Translated]]) -> dict[str, ctypes.CDLL]:
    """A library for each of these, by name."""
    compiler = shutil.which("g++")
    assert compiler is not None
    commands = {}
    for name, kernels in programs.items():
        source = folder / f"{name}.cpp"
        source.write_text(program(kernels), "utf-8")
        command = [compiler, *OPTIONS.replace("-O2", "-O1").split(), "-w", str(source)]
        commands[folder / f"{name}.so"] = command
    return dict(zip(programs, build(commands), strict=True))


def translate_cuda(nvrtc: object, dtype: str) -> list[Translated]:
    """What NVRTC makes of the kernels of `backends/cupy/kernels`."""
    kernels: list[Translated] = []
    for source in SOURCES:
        options = options_of(np.dtype(dtype), ARCHITECTURE)
        ptx = compile_kernels(nvrtc, source, options, nvrtc.getPTX).rstrip(b"\0").decode()
        kernels += translate(ptx, kernels[-1].barriers.stop if kernels else 0)
    return kernels


class WatchedDevice(CpuDevice):
    """A `CpuDevice` whose launches may touch what lies in its buffers and nothing else."""

    def before_launch(self, library: ctypes.CDLL) -> None:
        places = [
            (memory.ctypes.data + GUARD, memory.size - 2 * GUARD)
            for memory in self._buffers.values()
        ]
        permit(library, places)


def permit(library: ctypes.CDLL, places: list[tuple[int, int]]) -> None:
    """Names the memory that launches may touch from now on: addresses and bytes."""
    numbers = ctypes.c_uint64 * len(places)
    starts, sizes = zip(*places, strict=True) if places else ((), ())
    library.permit(len(places), numbers(*starts), numbers(*sizes))
