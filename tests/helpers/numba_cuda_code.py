"""Compiles every kernel of the backend numba-cuda for a GPU, without one, and inspects the code.

As a program it prints JSON: kernel → what is wrong with it (nothing, if all is well); the name
"planted" belongs to a kernel whose product and difference nobody keeps apart.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import tempfile
from pathlib import Path

import waterlevel.backends.numba_cuda

from .cuda_machine_code import Toolkit, contracted_sections, find_toolkit

ARCHITECTURE = (9, 0)
OPERATION = r"^\s*(?:@!?%p\d+\s+)?"
FORBIDDEN = re.compile(
    OPERATION + r"((?:fma|mad)\.[\w.]*f\d\d"  # a product and a sum, rounded once
    r"|\w+\.(?:[\w]+\.)*ftz\S*"  # subnormal numbers lost
    r"|\w+\.(?:approx|full)\S*|(?:ex2|lg2|sin|cos|tanh|rsqrt)\.\S+"  # not rounded correctly
    r"|\w+\.(?:\w+\.)*sat\.f\S*"
    r"|(?:div|sqrt|rcp)\.(?!rn\.)[\w.]*f\d\d"  # rounded another way
    r"|(?:add|sub|mul)\.r[zmp]\.f\d\d)",
    re.MULTILINE,
)
# Without ".rn" the assembler may make one fused operation of these two.
FREE_PRODUCT = re.compile(OPERATION + r"mul\.f\d\d", re.MULTILINE)
FREE_SUM = re.compile(OPERATION + r"(?:add|sub)\.f\d\d", re.MULTILINE)
FUNCTION = re.compile(r"\.(?:entry|func)\b.*?^\}", re.DOTALL | re.MULTILINE)


def faults_of(ptx: str) -> list[str]:
    """What the text of the code says against it."""
    functions = FUNCTION.findall(ptx)
    if not functions:
        return ["no function found"]
    faults = sorted({found for function in functions for found in FORBIDDEN.findall(function)})
    for function in functions:
        if FREE_PRODUCT.search(function) and FREE_SUM.search(function):
            faults.append("a product and a sum that may be fused")
    return faults


def fused_by_assembler(toolkit: Toolkit, ptx: str) -> bool:
    """Whether the machine code changes where the assembler is allowed to fuse."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        return contracted_sections(toolkit, source, Path(folder)) != []


def compiled(function, types) -> str:
    from numba import cuda

    ptx, _ = cuda.compile(function, types, device=False, abi="numba", cc=ARCHITECTURE)
    return ptx


def planted(out, a, b):
    out[0] = out[0] - a[0] * b[0]


def import_kernels() -> None:
    """Every module that declares kernels, so that `FACTORIES` is complete."""
    folder = Path(waterlevel.backends.numba_cuda.__file__).parent
    for path in sorted(folder.glob("*.py")):
        importlib.import_module(f"waterlevel.backends.numba_cuda.{path.stem}")


def main() -> int:
    from waterlevel.backends.numba_cuda import launch

    import_kernels()
    toolkit = find_toolkit()
    kernels = {
        f"{factory.__module__.rpartition('.')[2]} {name} {dtype.__name__}": (
            kernel.function,
            kernel.types,
        )
        for factory, dtypes in launch.FACTORIES
        for dtype in dtypes
        for name, kernel in vars(factory(dtype)).items()
    }
    for dtype in launch.FLOATS:
        kernels[f"planted {dtype.__name__}"] = (planted, (launch.types_of(dtype).vector,) * 3)
    found = {}
    for name, (function, types) in kernels.items():
        ptx = compiled(function, types)
        found[name] = {
            "faults": faults_of(ptx),
            "arithmetic": len(re.findall(r"(?:mul|add|sub|div)\.rn\.f\d\d", ptx)),
            "fused": None if toolkit is None else fused_by_assembler(toolkit, ptx),
        }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
