"""What a kernel of this backend calculates with: each operation rounded once, none fused.

The compiler of a GPU makes one fused multiply-add of `c - a*b` unless the operations say how they
round. So kernels write `sub(c, mul(a, b))` with the operations of libdevice that carry "_rn" (round
to nearest even). Numba's simulator has no libdevice; there the same names are NumPy's scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

numba: Any = import_module("numba")  # an optional package, which may bring no types
cuda: Any = import_module("numba.cuda")

SIMULATED = bool(numba.config.ENABLE_CUDASIM)


def device_function(function: Callable[..., Any]) -> Any:
    """A function for kernels to call."""
    if SIMULATED:
        return cuda.jit(device=True)(function)
    return cuda.jit(device=True, inline="always")(function)


class Arithmetic(NamedTuple):
    """The operations of one dtype, to be unpacked beside a kernel."""

    add: Any
    sub: Any
    mul: Any
    div: Any
    sqrt: Any
    rint: Any


@cache
def arithmetic(dtype: DTypeLike) -> Arithmetic:
    """Of float64 or float32."""
    if SIMULATED:
        return _of_numpy(np.dtype(dtype).type)
    libdevice = import_module("numba.cuda.libdevice")

    if np.dtype(dtype) == np.float32:
        return Arithmetic(
            libdevice.fadd_rn,
            libdevice.fsub_rn,
            libdevice.fmul_rn,
            libdevice.fdiv_rn,
            libdevice.fsqrt_rn,
            libdevice.rintf,
        )

    @device_function
    def subtract(a: Any, b: Any) -> Any:
        return libdevice.dadd_rn(a, -b)  # there is no dsub_rn, and -b is exact

    return Arithmetic(
        libdevice.dadd_rn,
        subtract,
        libdevice.dmul_rn,
        libdevice.ddiv_rn,
        libdevice.dsqrt_rn,
        libdevice.rint,
    )


def _of_numpy(number: Callable[[Any], Any]) -> Arithmetic:
    return Arithmetic(
        lambda a, b: number(a) + number(b),
        lambda a, b: number(a) - number(b),
        lambda a, b: number(a) * number(b),
        lambda a, b: number(a) / number(b),
        lambda a: np.sqrt(number(a)),
        lambda a: np.rint(number(a)),
    )
