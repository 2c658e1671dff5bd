"""Measures one row of `waterlevel bench` in a process of its own, so that its memory is its own.

`python -m waterlevel.validate.benchmark.child` reads a job from standard input and prints what it
found, both as JSON. Runs to be compared alternate: whatever slows the machine down hits all alike.
A backend on a device is timed by events of the device and compared with what the device can do.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from ...backends import get
from ...backends.cuda.meter import DeviceMeter, meter_of
from ...reference.errors import WaterlevelError
from ...reference.operations import Operations
from ...reference.operations.numpy_operations import NUMPY
from .peers import peers
from .rows import ROWS, Inputs, Placed, Row
from .whole import WHOLE, measure_whole

SMALL = 40  # of the layer on which everything is compiled
ORACLE_PAIRS = 1.2e9  # beyond, the oracle takes minutes
PEER_COLUMNS = 2048  # and a loop over columns
PATIENCE = 5.0  # seconds; a peer that takes longer is measured once
MEGABYTE = 1e6

Result = TypeVar("Result")


def memory_of(run: Callable[[], Result]) -> tuple[Result, float]:
    """What it returns, and how many bytes more this process held meanwhile, at most.

    On Linux. Elsewhere the highest mark cannot be set back, so memory that was held before and
    given back does not count.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the mark, to what is held now
    before = _highest()
    result = run()
    return result, _highest() - before


def _highest() -> float:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * float(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def seconds(run: Callable[[], object]) -> float:
    """By the clock."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _probe(dtype: str, threads: int) -> float | None:
    """Pairs per second that this machine can do without fusing, or None without Numba."""
    try:
        from ...backends.numba_cpu.peak import peak
    except ImportError:
        return None
    return peak(dtype, threads)


def _bits(operations: Operations, found: tuple[Any, ...]) -> list[bytes]:
    """Of results, those on a device as well."""
    return [(m if isinstance(m, np.ndarray) else operations.to_host(m)).tobytes() for m in found]


def _placed(operations: Operations, inputs: Inputs) -> Placed:
    return Placed(inputs, lambda matrix: operations.from_host(matrix, matrix.dtype))


def _others(
    name: str, inputs: Inputs, meter: DeviceMeter | None, with_peers: bool
) -> dict[str, Callable[[], object]]:
    """What to compare with, on the same machine or device, as far as it is installed.

    "library" is the inexact equivalent, the others are peers.
    """
    row = ROWS[name]
    if meter is None:
        return {
            "library": lambda: row.library(inputs),
            **(peers(name, inputs) if with_peers else {}),
        }
    xp = meter.arrays()
    if xp is None:
        return {}
    placed = Placed(inputs, xp.asarray)
    return {"library": lambda: row.eager(xp, placed)}


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times, rates and memory of a row, ready for JSON.

    Raises:
        WaterlevelError: the backend is not there, or gives other bits than the oracle.
    """
    row, operations = ROWS[job["row"]], get(job["backend"])
    rows, columns, dtype, threads = job["rows"], job["columns"], job["dtype"], job["threads"]
    meter = meter_of(operations)
    clock = seconds if meter is None else meter.seconds

    def probe() -> float | None:
        return _probe(dtype, threads) if meter is None else meter.subtraction_rate(dtype)

    small, with_peers = Inputs(SMALL, SMALL, dtype), columns <= PEER_COLUMNS
    row.ours(operations, _placed(operations, small))  # compiles
    for other in _others(job["row"], small, meter, with_peers).values():
        other()  # so does an array module on a device
    probe()
    inputs = Inputs(rows, columns, dtype)
    placed = _placed(operations, inputs)
    for need in row.needs:
        getattr(placed, need)

    def run() -> tuple[Any, ...]:
        return row.ours(operations, placed)

    found, memory = memory_of(run) if meter is None else meter.memory(run)
    pairs = row.pairs(rows, columns)
    others = _others(job["row"], inputs, meter, with_peers)
    times: dict[str, list[float]] = {"ours": [], **{name: [] for name in others}}
    for name, other in list(others.items()):
        first = clock(other)
        if name != "library" and first > PATIENCE:
            times[name].append(first)
            del others[name]
    probes = [probe()]
    for _ in range(job["repetitions"]):
        times["ours"].append(clock(run))
        probes.append(probe())
        for name, other in others.items():
            times[name].append(clock(other))
    peaks = [peak for peak in probes if peak is not None]
    own = times.pop("ours")
    time_taken = median(own)
    ratios = {
        name: median(b / a for a, b in zip(own, cycle(taken), strict=False))
        for name, taken in times.items()
    }
    traffic = row.numbers(rows, columns) * np.dtype(dtype).itemsize / time_taken
    return {
        "seconds": time_taken,
        "pairs_per_second": pairs / time_taken,
        "share_of_peak": pairs / time_taken / max(peaks) if peaks else None,
        "share_of_copy": None if meter is None else traffic / meter.copy_rate(),
        "memory": None if memory is None else memory / MEGABYTE,
        "times_library": ratios.pop("library", None),
        "times_peers": ratios,
        "times_oracle": _against_oracle(row, operations, inputs, found, time_taken, pairs),
        "all_seconds": {"ours": own, **times},
        "probes": probes,
    }


def measure_method(job: dict[str, Any]) -> dict[str, Any]:
    """Times of a whole method and of its core, and the memory of the former, ready for JSON.

    Raises:
        WaterlevelError: the backend is not there, or the method refuses.
    """
    whole, operations = WHOLE[job["row"]], get(job["backend"])
    meter = meter_of(operations)
    small = Inputs(SMALL, SMALL, job["dtype"])
    whole.run(small, operations)  # compiles
    ROWS[whole.core].ours(operations, _placed(operations, small))
    inputs = Inputs(job["rows"], job["columns"], job["dtype"])
    placed = _placed(operations, inputs)
    for need in ROWS[whole.core].needs:
        getattr(placed, need)

    def run() -> object:
        return whole.run(inputs, operations)

    _, memory = memory_of(run) if meter is None else meter.memory(run)
    clock = seconds if meter is None else meter.seconds
    found = measure_whole(whole, inputs, operations, placed, clock, job["repetitions"])
    return {**found, "memory": None if memory is None else memory / MEGABYTE}


def _against_oracle(
    row: Row,
    operations: Operations,
    inputs: Inputs,
    found: tuple[Any, ...],
    own: float,
    pairs: float,
) -> float | None:
    if pairs > ORACLE_PAIRS or operations is NUMPY:
        return None
    placed = _placed(NUMPY, inputs)
    for need in row.needs:
        getattr(placed, need)
    start = time.perf_counter()
    expected = row.ours(NUMPY, placed)
    taken = time.perf_counter() - start
    if _bits(operations, found) != _bits(NUMPY, expected):
        raise WaterlevelError(f"{operations.name} gives other bits than the oracle")
    return taken / own


def main() -> int:
    """Answers one job; exit code 1 and one line if it cannot be done."""
    try:
        with redirect_stdout(sys.stderr):  # some packages greet
            job = json.load(sys.stdin)
            found = (measure_method if job["row"] in WHOLE else measure)(job)
    except (WaterlevelError, MemoryError) as error:
        print(str(error) or type(error).__name__, file=sys.stderr)
        return 1
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
