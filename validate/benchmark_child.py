"""Measures one row of `waterlevel bench` in a process of its own, so that its memory is its own.

`python -m waterlevel.validate.benchmark_child` reads a job from standard input and prints what it
found, both as JSON. Runs to be compared alternate: whatever slows the machine down hits all alike.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from ..backends import get
from ..reference.errors import WaterlevelError
from ..reference.numpy_operations import NUMPY
from ..reference.operations import Operations
from .benchmark_rows import ROWS, Inputs, Row

SMALL = 40  # of the layer on which everything is compiled
ORACLE_PAIRS = 1.2e9  # beyond, the oracle takes minutes
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
        from ..backends.numba_peak import peak
    except ImportError:
        return None
    return peak(dtype, threads)


def _same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times, rates and memory of a row; see `benchmark.Measured`.

    Raises:
        WaterlevelError: the backend is not there, or gives other bits than the oracle.
    """
    row, operations = ROWS[job["row"]], get(job["backend"])
    rows, columns, dtype, threads = job["rows"], job["columns"], job["dtype"], job["threads"]
    row.ours(operations, Inputs(SMALL, SMALL, dtype))  # compiles
    _probe(dtype, threads)
    inputs = Inputs(rows, columns, dtype)
    for need in row.needs:
        getattr(inputs, need)
    found, memory = memory_of(lambda: row.ours(operations, inputs))
    times: dict[str, list[float]] = {"ours": [], "library": []}
    probes = [_probe(dtype, threads)]
    row.library(inputs)
    for _ in range(job["repetitions"]):
        times["ours"].append(seconds(lambda: row.ours(operations, inputs)))
        probes.append(_probe(dtype, threads))
        times["library"].append(seconds(lambda: row.library(inputs)))
    pairs = row.pairs(rows, columns)
    time_taken = median(times["ours"])
    shares = [
        pairs / taken / ((one + other) / 2)
        for taken, one, other in zip(times["ours"], probes, probes[1:], strict=False)
        if one and other
    ]
    return {
        "seconds": time_taken,
        "pairs_per_second": pairs / time_taken,
        "share_of_peak": median(shares) if shares else None,
        "memory": memory / MEGABYTE,
        "times_library": median(
            other / own for own, other in zip(times["ours"], times["library"], strict=True)
        ),
        "times_oracle": _against_oracle(row, operations, inputs, found, time_taken, pairs),
        "all_seconds": times,
    }


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
    start = time.perf_counter()
    expected = row.ours(NUMPY, inputs)
    taken = time.perf_counter() - start
    if not _same(found, expected):
        raise WaterlevelError(f"{operations.name} gives other bits than the oracle")
    return taken / own


def main() -> int:
    """Answers one job; exit code 1 and one line if it cannot be done."""
    try:
        found = measure(json.load(sys.stdin))
    except (WaterlevelError, MemoryError) as error:
        print(str(error) or type(error).__name__, file=sys.stderr)
        return 1
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
