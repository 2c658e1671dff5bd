"""How this backend compiles: the decorators of its kernels, and the loop that is shared by threads.

Division by zero follows IEEE 754, nothing may be reordered or fused, compiled code is kept on disk.
Numba compiles a kernel for the types of its arguments at its first call.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

# OpenMP's threads would wait by spinning, which takes the processor from the very thread they wait
# for as soon as another program runs: short parallel loops were seen to last 500 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_numba: Any = import_module("numba")
_options = {
    "cache": True,
    "error_model": "numpy",
    "fastmath": False,
    "nogil": True,
    "no_cfunc_wrapper": True,
}

serial = _numba.njit(**_options)
parallel = _numba.njit(parallel=True, **_options)
prange = _numba.prange
