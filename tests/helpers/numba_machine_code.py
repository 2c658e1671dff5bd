"""Compiles every kernel of the backend numba and reports what its machine code is made of.

A program of its own, `python -m tests.helpers.numba_machine_code float64`, to be run with an empty
NUMBA_CACHE_DIR: Numba shows no code that comes from its cache. It prints a JSON object: for each
kernel the fused multiply-adds that were found (none), and whether anything is multiplied in it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from waterlevel.backends.numba_cpu.operations import NumbaOperations
from waterlevel.reference.bases import hadamard

from .codebooks import codebooks
from .inputs import bell, positive_definite

FUSED = re.compile(r"\b(?:vfn?m(?:add|sub)\w+|fn?m(?:add|sub|la|ls)\b)")  # x86-64, arm64
MULTIPLIED = re.compile(r"\bv?mul[ps][sd]\b|\bfmul\b")


def call_every_operation(dtype: Any) -> None:
    """So that every kernel is compiled."""
    n, operations = 40, NumbaOperations()
    H, A = positive_definite(1, n, dtype), bell(1, (n, n), dtype)
    L = operations.cholesky(H)
    operations.solve(A, L)
    operations.solve_reversed(A, L, 0, n)
    operations.matmul(A, L)
    operations.matmul_transposed(A, L)
    operations.accumulate(A.copy(), A, A, None)
    operations.accumulate(A.copy(), A, A, A[0].copy())
    operations.row_inner(A, A)
    operations.column_inner(A, A)
    operations.grid_error(A, np.ones(n, dtype), np.zeros(n, np.int32), 15)
    operations.hadamard(A, hadamard.base_matrix(20))
    operations.column_histograms(np.zeros((n, n), np.int32))
    for codebook, _ in codebooks(1, n, np.diag(L)).values():
        operations.sic(A.copy(), np.zeros((n, n), np.int32), L, codebook, 0, n)


def kernels() -> Iterator[tuple[str, Any]]:
    """Every function that Numba compiles for the backend."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("waterlevel.backends.numba_cpu."):
            for function in vars(module).values():
                if hasattr(function, "inspect_asm") and function.py_func.__module__ == name:
                    yield function.py_func.__name__, function


@numba.njit(fastmath={"contract"})
def planted(a, b, c):
    """A product and a difference, with leave to fuse them."""
    for i in range(len(a)):
        c[i] -= a[i] * b[i]


def report(function: Any) -> dict[str, Any]:
    """What the machine code of all specialisations of a kernel is made of."""
    code = "\n".join(function.inspect_asm(signature) for signature in function.signatures)
    return {
        "specialisations": len(function.signatures),
        "fused": sorted(set(FUSED.findall(code))),
        "multiplies": bool(MULTIPLIED.search(code)),
    }


def main() -> None:
    """Prints the report."""
    call_every_operation(np.dtype(sys.argv[1]).type)
    planted(np.ones(64), np.ones(64), np.ones(64))
    found = {name: report(function) for name, function in kernels()}
    json.dump({**found, "planted": report(planted)}, sys.stdout)


if __name__ == "__main__":
    main()
