"""What do the compilers of CUDA make of the kernels? PTX and machine code, without a GPU.

That PTX has no `fma` proves nothing: the assembler `ptxas` fuses an unqualified `mul` with an
unqualified `add`. So there are two steps. In the PTX of a kernel nothing may be fused, flushed or
approximated, and no product and sum may both be left without a rounding. Then `ptxas` assembles it
twice, free to contract and forbidden to: the code must be the same, byte for byte.

nvcc and ptxas are taken from the pip packages of the CUDA toolkit, which are of the version that
numba-cuda and CuPy compile with, or from the PATH.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURE = "sm_90"
EXACT = ["-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true"]  # as NVRTC is asked to
INSTRUCTION = re.compile(r"^\s*(?:@!?%p\d+\s+)?([a-z]\w*(?:\.\w+)*)\s", re.M)
FUNCTION = re.compile(r"\.(?:entry|func)\b[^{;]*?(\w+)\s*\([^{]*\{(.*?)^\}", re.S | re.M)
REGISTERS = re.compile(r"entry function '(\w+)'.*?Used (\d+) registers", re.S)


@dataclass(frozen=True)
class Toolkit:
    """Where the compilers lie."""

    nvcc: str
    ptxas: str


def find_toolkit() -> Toolkit | None:
    """The compilers of this machine, or None."""
    folders = []
    for package in ("nvidia", "nvidia.cu13"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for place in (found.submodule_search_locations or ()) if found else ():
            folders += [str(path) for path in (Path(place) / "bin", Path(place) / "cuda_nvcc/bin")]
    for folder in (*folders, None):  # None: the PATH
        nvcc, ptxas = (shutil.which(tool, path=folder) for tool in ("nvcc", "ptxas"))
        if nvcc and ptxas:
            return Toolkit(nvcc, ptxas)
    return None


def to_ptx(toolkit: Toolkit, source: Path, options: list[str], target: Path) -> str:
    """Compile a .cu file."""
    fixed = ["-std=c++17", f"-arch={ARCHITECTURE}", "-ptx", str(source), "-o", str(target)]
    _run(toolkit.nvcc, *options, *fixed)
    return target.read_text("utf-8")


def _is_float(instruction: str) -> bool:
    return re.search(r"\.f(16|32|64)\b", instruction) is not None


def _is_forbidden(instruction: str) -> bool:
    name, *qualifiers = instruction.split(".")
    if not _is_float(instruction):
        return False
    if name in ("fma", "mad", "ex2", "lg2", "sin", "cos", "tanh", "rsqrt"):
        return True
    if {"ftz", "approx", "full", "sat"} & set(qualifiers):
        return True
    return name in ("div", "sqrt", "rcp") and "rn" not in qualifiers


def faults_in_ptx(ptx: str) -> list[str]:
    """What breaks the contract, one line each. Raises ValueError where there is no function."""
    functions = FUNCTION.findall(ptx)
    if not functions:
        raise ValueError("no function in this PTX")
    faults = []
    for name, text in functions:
        found = set(INSTRUCTION.findall(text))
        faults += [f"{name}: {instruction}" for instruction in found if _is_forbidden(instruction)]
        plain = {i.split(".")[0] for i in found if re.fullmatch(r"(mul|add|sub)\.f\d\d", i)}
        if "mul" in plain and plain & {"add", "sub"}:
            faults.append(f"{name}: a product and a sum without a rounding, which may be fused")
    return faults


def contracted_sections(toolkit: Toolkit, ptx: Path, folder: Path) -> list[str]:
    """The sections of machine code that differ if ptxas is free to contract.

    Raises ValueError where there is no machine code.
    """
    codes = []
    for contract in ("true", "false"):
        cubin = folder / f"{ptx.stem}-{contract}.cubin"
        _run(
            toolkit.ptxas, f"-arch={ARCHITECTURE}", f"--fmad={contract}", str(ptx), "-o", str(cubin)
        )
        codes.append(code_sections(cubin.read_bytes()))
    free, forbidden = codes
    if not free or free.keys() != forbidden.keys():
        raise ValueError("no machine code, or other kernels")
    return [name for name in free if free[name] != forbidden[name]]


def registers(toolkit: Toolkit, ptx: Path, folder: Path) -> dict[str, int]:
    """Kernel → 32-bit registers that each of its threads needs."""
    said = _run(
        toolkit.ptxas, "-v", f"-arch={ARCHITECTURE}", str(ptx), "-o", str(folder / "counted.cubin")
    )
    return {name: int(number) for name, number in REGISTERS.findall(said)}


def code_sections(elf: bytes) -> dict[str, bytes]:
    """The `.text.*` sections of a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    strings = headers[names][4]

    def name_of(header: tuple[int, ...]) -> str:
        start = strings + header[0]
        return elf[start : elf.index(b"\0", start)].decode()

    named = {name_of(header): elf[header[4] : header[4] + header[5]] for header in headers}
    return {name: code for name, code in named.items() if name.startswith(".text.")}


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr}")
    return done.stderr
