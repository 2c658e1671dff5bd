"""Products subtracted as fast as a device can, to be timed: four chains a thread, in registers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .arithmetic import arithmetic, cuda
from .launch import FLOATS, THREADS, integer, kernel, kernels_for, new, types_of

CHAINS = 4  # of a thread
FACTOR = 2.0**-12  # a chain of 4096 turns ends at a third of where it began


@kernels_for(*FLOATS)
def _kernels(dtype: Any) -> SimpleNamespace:
    number, vector, _ = types_of(dtype)
    add, sub, mul, _, _, _ = arithmetic(dtype)
    one, two, three, four = dtype(1), dtype(2), dtype(3), dtype(4)

    @kernel(vector, number, integer)
    def subtract(out: Any, factor: Any, turns: int) -> None:
        """c ← c - c·f; the sum only keeps the chains from being left out."""
        a, b, c, d = one, two, three, four
        for _ in range(turns):
            a = sub(a, mul(a, factor))
            b = sub(b, mul(b, factor))
            c = sub(c, mul(c, factor))
            d = sub(d, mul(d, factor))
        out[cuda.grid(1)] = add(add(a, b), add(c, d))

    return SimpleNamespace(subtract=subtract)


def subtract_in_registers(dtype: DTypeLike, blocks: int, turns: int) -> tuple[Any, int]:
    """Enqueue it; what comes out (of no use but to a test), and how many products were taken."""
    number: Any = np.dtype(dtype).type
    out = new(blocks * THREADS, dtype)
    _kernels(dtype).subtract(blocks, THREADS, out, number(FACTOR), turns)
    return out, blocks * THREADS * CHAINS * turns
