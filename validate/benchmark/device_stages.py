"""Where does the time of WaterSIC go on a device? Stage by stage, by events of the device.

    python -m waterlevel.validate.benchmark.device_stages BACKEND [--size 4096] […]

Beside each stage stands how long the host took to enqueue it: where that is nearly as long, the
device waited for the host. A line is printed, and the report written anew, as soon as a stage is
measured, so an interruption costs what was not yet measured and no more.

**Predicted, and measured by nobody yet**: milliseconds on an H100, float64, 4096×4096, from counted
products (8.4e12 a second, none fused), traffic and barriers (2 µs for a column's meeting, 10 µs for
a launch of numba-cuda, three of them a column):

| stage | cupy | numba-cuda |
|---|---|---|
| Cholesky | 5 | 12 |
| W·L | 5 | 15 to 18 |
| deciding alone, with gains | 8 to 9; column by column 25 to 38 | 120 |
| SIC, with gains | 14 to 15; column by column 31 to 44 | 135 |
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...backends import get
from ...backends.cuda.meter import DeviceMeter, meter_of
from ...reference.errors import BadInput, WaterlevelError
from ...reference.grids.codebooks import ScaledLattice
from ...reference.operations import Operations
from ..golden.recipes import bell, structured_covariance
from ..layers.layer_files import to_json
from ..support.environment import environment
from ..support.whole_files import write_whole

SPACING = 0.5
WARM_UP = 96  # columns: every kernel is compiled, and there are several panels
Stage = tuple[str, Callable[[], object]]


def stages(operations: Operations, rows: int, columns: int, dtype: str) -> Iterator[Stage]:
    """The parts of the core; each may be run again and again, and changes nothing that others read.

    Cancelling has no operation of its own: it is what SIC takes beyond deciding alone. Both begin
    with a copy of the target.
    """
    number = np.dtype(dtype).type
    weight = operations.from_host(bell(1, [rows, columns], dtype=dtype), dtype)
    moment = operations.from_host(structured_covariance(2, columns, 3, dtype), dtype)
    yield "Cholesky", lambda: operations.cholesky(moment)
    L = operations.cholesky(moment)
    yield "W·L", lambda: operations.matmul(weight, L)
    target = operations.matmul(weight, L)
    codes = operations.zeros(rows, columns, np.int32)
    spacing = number(SPACING) / operations.diagonal(L)
    for name, lmmse in (("with gains", True), ("without gains", False)):
        codebook = ScaledLattice(SPACING, spacing, lmmse=lmmse)
        for part, factor in (("SIC", L), ("deciding alone", None)):

            def run(book: ScaledLattice = codebook, l: Any = factor) -> object:
                values = operations.take(target, None, None)  # what is decided is overwritten
                return operations.sic(values, codes, l, book, 0, columns)

            yield f"{part}, {name}", run
            if lmmse and hasattr(operations, "meeting"):
                yield f"{part}, column by column", column_by_column(operations, run)
    yield "histograms", lambda: operations.column_histograms(codes)
    yield "transpose", lambda: operations.transpose(weight)
    yield "column sums", lambda: operations.column_inner(weight, weight)


def column_by_column(operations: Any, run: Callable[[], object]) -> Callable[[], object]:
    """The same with a launch for each column, as where the device has no room for all blocks."""

    def without_meeting() -> object:
        operations.meeting = False
        try:
            return run()
        finally:
            operations.meeting = True

    return without_meeting


def measured(meter: DeviceMeter, run: Callable[[], object], repetitions: int) -> dict[str, Any]:
    """Seconds of the device, each time; and of the host until all was enqueued."""
    run()
    device = [meter.seconds(run) for _ in range(repetitions)]
    return {"seconds": device, "enqueueing": meter.enqueueing(run)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; exit code 2 where the backend cannot run."""
    parser = argparse.ArgumentParser(description="Time of each stage of WaterSIC on a device.")
    parser.add_argument("backend", help="cupy or numba-cuda")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="the report")
    arguments = parser.parse_args(argv)
    try:
        _measure(arguments)
    except WaterlevelError as error:
        print(f"device_stages: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(arguments: argparse.Namespace) -> None:
    operations = get(arguments.backend)
    meter = meter_of(operations)
    if meter is None:
        raise BadInput(
            f"backend {arguments.backend} computes on no device; take cupy or numba-cuda"
        )
    report: dict[str, Any] = {
        "kind": "waterlevel device stages",
        "backend": arguments.backend,
        "size": arguments.size,
        "dtype": arguments.dtype,
        "device": meter.describe(),
        "environment": environment(),
        "stages": {},
    }

    def note(name: str, line: str, value: Any) -> None:
        print(f"{name:34} {line}", flush=True)
        report["stages"][name] = value
        if arguments.json:
            write_whole(arguments.json, (to_json(report, indent=1) + "\n").encode())

    for _, run in stages(operations, WARM_UP, WARM_UP, arguments.dtype):
        run()
    rate = meter.subtraction_rate(arguments.dtype)
    note("products subtracted", f"{rate / 1e12:8.2f} 10¹²/s", rate)
    rate = meter.copy_rate()
    note("copy", f"{rate / 1e12:8.2f} TB/s", rate)
    for name, run in stages(operations, arguments.size, arguments.size, arguments.dtype):
        found = measured(meter, run, arguments.repetitions)
        middle = 1e3 * statistics.median(found["seconds"])
        line = f"{middle:8.2f} ms   enqueued in {1e3 * found['enqueueing']:8.2f} ms"
        note(name, line, found)


if __name__ == "__main__":
    sys.exit(main())
