"""What can a backend tell of its device, and measure on it?

A backend on a device has a `meter` beside its operations. Validation writes down what the meter
tells; the benchmark takes its clock, because a launch returns before the device is done, and asks
what the device can do at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from numpy.typing import DTypeLike

from ...reference.operations import Operations

Result = TypeVar("Result")

COPIED = 2**28  # bytes that are copied to measure a bandwidth
COPIES = 10


class DeviceMeter(Protocol):
    """One device, as the backend uses it."""

    def describe(self) -> dict[str, Any]:
        """Name, compute capability and versions, ready for JSON."""
        ...

    def seconds(self, run: Callable[[], object]) -> float:
        """Between an event of the device before and one after what `run` enqueues."""
        ...

    def enqueueing(self, run: Callable[[], object]) -> float:
        """Seconds until the last launch of `run` had returned to the host.

        If that is nearly as long as the device takes, the device waits for the host.
        """
        ...

    def memory(self, run: Callable[[], Result]) -> tuple[Result, float | None]:
        """What it returns, and how many bytes of the device it needed; None if nobody can tell."""
        ...

    def copy_rate(self) -> float:
        """Bytes per second, read and written, of a copy from the device to itself."""
        ...

    def subtraction_rate(self, dtype: DTypeLike) -> float:
        """Products subtracted per second from numbers in registers, each rounded, none fused."""
        ...

    def arrays(self) -> Any | None:
        """A module of arrays on the device with NumPy's names; None if none is installed."""
        ...


def meter_of(backend: Operations | None) -> DeviceMeter | None:
    """The meter of a backend; None if it computes on the CPU."""
    return getattr(backend, "meter", None)
