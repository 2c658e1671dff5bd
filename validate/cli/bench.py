"""`waterlevel bench`: how fast is a backend, and how fast could this machine be?

Each row is an operation or algorithm on a layer of a×n weights, measured in a process of its own.
Columns, medians of repetitions that alternate with what they are compared with:

    ms         what it took
    Gpairs/s   products subtracted per second, 10⁹
    of peak    that as a share of the most that the machine did without fused multiply-add, in
               probes between the repetitions
    MB         memory at most, beyond its inputs
    × oracle   so many times as fast as the NumPy oracle, where that takes seconds; the bits agree
    × BLAS     so many times as fast as the inexact equivalent on BLAS and LAPACK (for cancellation
               and for the cores a block-updated version of the same: `block_updated`)

Whole methods (`--whole`) have a table of their own: ms, MB, and `× core`, so many times what their
core takes, which is factor, target and codes once.

A table of its own compares with published packages where they are installed (`peers`), up to 2048
columns. One that takes more than 5 s is measured once.

Of a backend on a device, times are by its events, memory and peak are the device's, and instead of
BLAS there are

    of copy    the least that must be read and written, per second, as a share of the bandwidth of
               a copy from the device to itself
    × eager    so many times as fast as the same as one would write it for arrays on a device, by
               CuPy (`eager`): the library's factor and products, a loop over columns on the host

Seconds depend on the machine and the minute; the ratios are what can be compared.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from tqdm import tqdm

from ...backends.cuda.meter import meter_of
from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import BadInput, WaterlevelError
from ..benchmark.rows import ROWS
from ..benchmark.whole import WHOLE
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.console import number, one_line, table
from ..support.environment import device_line, environment, environment_line
from .json_option import add_json_argument, check_json_target, give
from .study import at_least_one

SIZES = "1024,2048,4096"
QUICK_SIZES = "256,512"
DTYPES = ("float64", "float32")
REPETITIONS, QUICK_REPETITIONS = 5, 3
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One row of the table: what to measure."""

    row: str
    rows: int
    columns: int
    dtype: str
    backend: str
    threads: int
    repetitions: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "--sizes",
        metavar="N,…",
        help=f"columns of square layers ({SIZES}); the widest also with rows 1:4 and 4:1",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, help="only this one (both; with --quick float64)"
    )
    parser.add_argument("--only", metavar="TEXT", help="only rows with this in their name")
    parser.add_argument(
        "--whole", action="store_true", help="whole methods, in multiples of their cores"
    )
    parser.add_argument("--repetitions", type=int, metavar="N", help=f"({REPETITIONS})")
    parser.add_argument("--threads", type=int, metavar="N", help="of all that is compared (cores)")
    parser.add_argument("--quick", action="store_true", help=f"sizes {QUICK_SIZES}, float64")
    add_json_argument(parser)
    add_backend_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON; exit code 0, or 2 if a row could not be measured.

    An interruption ends the measuring. What was measured until then is printed and written.

    Raises:
        WaterlevelError, OSError: options that make no sense, a backend that is not there.
        KeyboardInterrupt: after an interruption, when all that is done.
    """
    sizes = parse_sizes(arguments.sizes or (QUICK_SIZES if arguments.quick else SIZES))
    repetitions = at_least_one("--repetitions", arguments.repetitions)
    repetitions = repetitions or (QUICK_REPETITIONS if arguments.quick else REPETITIONS)
    threads = at_least_one("--threads", arguments.threads) or _cores()
    measured = WHOLE if arguments.whole else ROWS
    names = [name for name in measured if (arguments.only or "").lower() in name.lower()]
    if not names:
        raise BadInput(
            f"--only: no row has {arguments.only!r} in it; there are {', '.join(measured)}"
        )
    check_json_target(arguments.json)
    choice = choose_backend(arguments.backend)
    backend = arguments.backend or choice.backend.name
    dtypes = [arguments.dtype] if arguments.dtype else list(DTYPES[: 1 if arguments.quick else 2])
    jobs = [
        Job(name, *shape, dtype, backend, threads, repetitions)
        for dtype in dtypes
        for name in names
        for shape in shapes(sizes, name in ROWS and ROWS[name].square)
    ]
    meter = meter_of(choice.backend)
    found, failed = measure_all(jobs)
    unmeasured = len(jobs) - len(found) - len(failed)
    report = {
        "kind": "waterlevel bench",
        "backend": choice.backend.name,
        "threads": threads,
        "repetitions": repetitions,
        "environment": environment(),
        "device": None if meter is None else meter.describe(),
        "contract": CONTRACT_VERSION,
        "version": version("waterlevel"),
        "rows": found,
        "failed": failed,
        "unmeasured": unmeasured,
        "growth": growth(found),
    }
    told = [text(report)] if found else []
    if choice.instead:
        told.append(f"Computed on {choice.backend.name}, because {one_line(choice.instead)}.")
    give(arguments.json, report, "\n".join(told))
    if unmeasured:
        print(f"interrupted: {unmeasured} of {len(jobs)} rows are not measured", file=sys.stderr)
    for job in failed:
        where = f"{job['row']}, {job['rows']}×{job['columns']} {job['dtype']}"
        print(f"{where} could not be measured: {job['reason']}", file=sys.stderr)
    if unmeasured:
        raise KeyboardInterrupt
    return 2 if failed else 0


def parse_sizes(given: str) -> list[int]:
    """The numbers of "1024,2048", in ascending order.

    >>> parse_sizes("512,256")
    [256, 512]
    """
    try:
        sizes = sorted({int(part) for part in given.split(",")})
    except ValueError:
        raise BadInput(f"--sizes: {given!r} is not a list of numbers; give it as {SIZES}") from None
    if sizes[0] < 4:
        raise BadInput(f"--sizes: {sizes[0]} is too small; 4 is the least")
    return sizes


def shapes(sizes: Sequence[int], square: bool) -> list[tuple[int, int]]:
    """(rows, columns): square ones, and for the largest size those of a feed-forward layer.

    >>> shapes([256, 512], square=False)
    [(256, 256), (512, 512), (128, 512), (512, 128)]
    """
    found = [(size, size) for size in sizes]
    largest = sizes[-1]
    return found if square else [*found, (largest // 4, largest), (largest, largest // 4)]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure_all(jobs: Sequence[Job]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Jobs with what was measured, and jobs with the reason why nothing was; progress is shown.

    After an interruption the other jobs are in neither list.
    """
    bar = tqdm(
        jobs, desc="bench", unit="row", leave=False, disable=None, file=sys.stderr
    )  # disable=None: no bar where standard error is not a terminal
    found, failed = [], []
    for job in bar:
        bar.set_description_str(f"bench: {job.row} {job.rows}×{job.columns} {job.dtype}")
        try:
            found.append({**asdict(job), **measure(job)})
        except WaterlevelError as error:
            failed.append({**asdict(job), "reason": str(error)})
        except KeyboardInterrupt:
            break
    return found, failed


def measure(job: Job) -> dict[str, Any]:
    """What `benchmark_child` finds, with all libraries on the same number of threads.

    Raises:
        WaterlevelError: it finds nothing; with its reason.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "waterlevel.validate.benchmark.child"],
        input=json.dumps(asdict(job)),
        env={**os.environ, **dict.fromkeys(THREADS, str(job.threads))},
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        reason = one_line((ran.stderr.strip() or "no reason given").splitlines()[-1])
        raise WaterlevelError(reason)
    return json.loads(ran.stdout)


def growth(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """p of time ~ n^p for the square sizes of each row, by least squares on logarithms.

    >>> sizes = [{"rows": n, "columns": n, "seconds": n**3} for n in (2, 8)]
    >>> growth([{"row": "a", "dtype": "f", **size} for size in sizes])
    [{'row': 'a', 'dtype': 'f', 'exponent': 3.0}]
    """
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in found:
        if row["rows"] == row["columns"]:
            point = math.log(row["columns"]), math.log(row["seconds"])
            points.setdefault((row["row"], row["dtype"]), []).append(point)
    exponents = []
    for (name, dtype), pairs in points.items():
        if len(pairs) > 1:
            x, y = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
            slope = sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)
            exponents.append({"row": name, "dtype": dtype, "exponent": round(slope, 2)})
    return exponents


def text(report: dict[str, Any]) -> str:
    """The tables for a terminal."""
    device, whole = report["device"], report["rows"][0]["row"] in WHOLE
    library = "× BLAS" if device is None else "× eager"
    columns = {
        "": lambda row: row["row"],
        "rows×columns": lambda row: f"{row['rows']}×{row['columns']}",
        "dtype": lambda row: row["dtype"],
        "ms": lambda row: number(1e3 * row["seconds"], 1),
        "Gpairs/s": lambda row: number(row["pairs_per_second"] / 1e9, 1),
        "of peak": lambda row: number(row["share_of_peak"], 2),
        "of copy": lambda row: number(row["share_of_copy"], 2),
        "MB": lambda row: number(row["memory"], 0),
        "× oracle": lambda row: number(row["times_oracle"], 0),
        library: lambda row: number(row["times_library"], 2),
    }
    if device is None:
        del columns["of copy"]
    if whole:
        columns = {name: columns[name] for name in ("", "rows×columns", "dtype", "ms", "MB")}
        columns["× core"] = lambda row: number(row["times_core"], 2)
    lines = [[cell(row) for cell in columns.values()] for row in report["rows"]]
    grown = [(row["row"], row["dtype"], number(row["exponent"], 2)) for row in report["growth"]]
    compared = "" if whole else _peers_table(report["rows"])
    threads = f"{report['threads']} thread" + ("s" if report["threads"] > 1 else "")
    return "\n".join(
        (
            environment_line(report["environment"]),
            *(() if device is None else (device_line(device),)),
            f"backend {report['backend']}, {threads}, "
            f"medians of {report['repetitions']} alternating repetitions",
            "",
            table(lines, list(columns)),
            *(("", compared) if compared else ()),
            *(("", table(grown, ("", "dtype", "time grows with n to the power"))) if grown else ()),
        )
    )


def _peers_table(rows: Sequence[dict[str, Any]]) -> str:
    """So many times as fast as each package; empty where none is installed."""
    names = list(dict.fromkeys(name for row in rows for name in row["times_peers"]))
    lines = [
        (
            *(row["row"], f"{row['rows']}×{row['columns']}", row["dtype"]),
            *(number(row["times_peers"].get(name), 2) for name in names),
        )
        for row in rows
        if row["times_peers"]
    ]
    headers = ("", "rows×columns", "dtype", *(f"× {name}" for name in names))
    return table(lines, headers) if lines else ""
