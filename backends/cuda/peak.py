"""Products subtracted as fast as a device can, to be timed: `cuda/peak.cu`."""

from __future__ import annotations

from numpy.typing import DTypeLike

from .device import ELEMENTS, DeviceArray, Session

CHAINS = 8  # of a thread
FACTOR = 2.0**-12  # a chain of 4096 turns ends at a third of where it began


def subtract_in_registers(
    session: Session, dtype: DTypeLike, grid: int, turns: int
) -> tuple[DeviceArray, int]:
    """Enqueue it; what comes out (of no use but to a test), and how many products were taken."""
    out = session.empty((grid * ELEMENTS,), dtype)
    session.run("subtract_in_registers", dtype, (grid,), out, FACTOR, turns)
    return out, grid * ELEMENTS * CHAINS * turns
