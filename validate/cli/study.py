"""`waterlevel study`: how far from the limit do the methods stay on real layers?

Every method quantises every layer at the same `rate`, what a file costs, entropy coded: only so can
their distortions be compared. The spacing that meets the rate is searched for.

Methods that theory sets side by side:

    RTN             rounding, blind to the covariance
    GPTQ natural    columns in the order in which they stand
    GPTQ actorder   columns by descending energy of their input (activation order)
    GPTQ rotated    natural order after a randomised Hadamard rotation
    waterfilling    in the eigenbasis of Σ, which somebody would have to store and multiply with
    WaterSIC        a spacing per column

GPTQ stands there in natural and in activation order, because the natural order alone flatters
WaterSIC.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from ...backends import get
from ...data import LAYERS
from ...reference import Quantized, gptq, rtn, waterfilling, watersic
from ...reference.bases.haar import haar
from ...reference.bases.hadamard import base_order
from ...reference.bases.rotation import HadamardRotation, Rotation
from ...reference.errors import BadInput, WaterlevelError
from ...reference.limits.gaussian_limit import eigenbasis
from ...reference.methods.rate_search import TOLERANCE
from ...reference.operations import CONTRACT_VERSION, Operations
from ...reference.operations.layer import prepare
from ..layers import study_tables as tables
from ..layers.layer_files import LayerFile, check_target, covariance_of, read_layer, to_json
from ..layers.remarks import side_information_rate
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.console import fail, one_line
from ..support.whole_files import write_whole
from ..support.workers import end_at_once_when_interrupted, one_thread_each

SUMMARY = "every method on real layers: rates, distortion, limit and gap in one table"
RATES = "2,3,4"
WIDE = 1024  # a bundled layer with more inputs takes as long as all the others together
MOST_WORKERS = 8
SEED = 0
USED = ("weight", "covariance", "covariance_factor")


@dataclass(frozen=True, eq=False)
class Subject:
    """What the methods share: one layer, its rotation and its spectrum."""

    weight: NDArray
    covariance: NDArray
    eigenvalues: NDArray
    eigenvectors: NDArray
    rotation: Rotation
    backend: Operations


def _with_gptq(subject: Subject, rate: float, **options: Any) -> Quantized:
    return gptq(
        subject.weight,
        subject.covariance,
        rate=rate,
        eigenvalues=subject.eigenvalues,
        backend=subject.backend,
        **options,
    )


METHODS: dict[str, Callable[[Subject, float], Quantized]] = {
    "RTN": lambda s, rate: rtn(
        s.weight, s.covariance, rate=rate, eigenvalues=s.eigenvalues, backend=s.backend
    ),
    "GPTQ natural": _with_gptq,
    "GPTQ actorder": lambda s, rate: _with_gptq(s, rate, actorder=True),
    "GPTQ rotated": lambda s, rate: _with_gptq(s, rate, rotation=s.rotation),
    "waterfilling": lambda s, rate: waterfilling(
        s.weight, s.covariance, s.eigenvalues, s.eigenvectors, rate=rate, backend=s.backend
    ),
    "WaterSIC": lambda s, rate: watersic(
        s.weight, s.covariance, rate=rate, eigenvalues=s.eigenvalues, backend=s.backend
    ),
}


@dataclass(frozen=True)
class Result:
    """One method on one layer at one rate; all rates in bits per weight.

    Attributes:
        method: a key of METHODS. target: the `rate` searched for. rate_met: within
            `search.TOLERANCE`.
        rate … gap: see `reference.coding.rates` and `reference.methods.results`.
        parameters: every parameter of the method.
    """

    method: str
    target: float
    rate_met: bool
    rate: float
    rate_column: float
    rate_pooled: float
    rate_huffman: float
    distortion: float
    limit: float
    gap: float
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """All methods on the first `rows` rows (None: all) of a layer file at every rate."""

    path: Path
    rows: int | None
    rates: tuple[float, ...]
    backend: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE.safetensors",
        help="layer files (default: those that come with the package)",
    )
    parser.add_argument(
        "--rates",
        default=RATES,
        metavar="R,…",
        help=f"bits per weight to search for, all side information included ({RATES})",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"the bundled layers of more than {WIDE} inputs, too (several times as long)",
    )
    parser.add_argument("--rows", type=int, metavar="N", help="only the first N rows of each layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON, too")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes side by side on numpy (one per core, up to {MOST_WORKERS})",
    )
    add_backend_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Study, print the table, write the JSON. Exit code 0, or 1 if a rate was not met.

    Raises:
        WaterlevelError, OSError: a file that is no layer, options that make no sense. Nothing is
            printed or written then.
    """
    rates = parse_rates(arguments.rates)
    rows = at_least_one("--rows", arguments.rows)
    workers = at_least_one("--workers", arguments.workers)
    if arguments.json is not None:
        check_target(arguments.json)
    paths, left_out = choose_files(arguments.files, arguments.all)
    layers = [describe_layer(read_layer(path), rows) for path in paths]
    choice = choose_backend(arguments.backend)
    backend = arguments.backend or choice.backend.name
    jobs = [Job(path, rows, tuple(rates), backend) for path in paths]
    workers = 1 if choice.backend.name != "numpy" else min(workers or cores(), len(jobs))
    found = iter(measure_all(jobs, workers))
    for layer in layers:
        layer["results"] = [asdict(result) for result in next(found)]

    report = {
        "methods": list(METHODS),
        "rates": rates,
        "layers": layers,
        "left_out": [path.stem for path in left_out],
        "summary": tables.summarize(layers, list(METHODS), rates),
        "limit": "for Gaussian weights of one variance",
        "backend": choice.backend.name,
        "contract": CONTRACT_VERSION,
        "version": version("waterlevel"),
    }
    if arguments.json is not None:
        write_whole(arguments.json, (to_json(report, indent=2) + "\n").encode())
    print(tables.text(report, WIDE))
    processes = f"{workers} process" + ("es" if workers > 1 else "")
    instead = f", because {one_line(choice.instead)}" if choice.instead else ""
    print(f"Computed on {choice.backend.name} in {processes}{instead}.")
    if arguments.json is not None:
        print(f"Everything, with all parameters, is in {arguments.json}.")
    return warn_of_missed_rates(layers)


def parse_rates(text: str) -> list[float]:
    """The numbers of "2,3,4".

    >>> parse_rates("2,2.5")
    [2.0, 2.5]
    """
    rates = []
    for part in text.split(","):
        try:
            rate = float(part)
        except ValueError:
            raise BadInput(f"--rates: {part!r} is not a number; give them as {RATES}") from None
        if not 0 < rate < math.inf:
            raise BadInput(f"--rates: {part} is not a rate; it must be above 0 and finite")
        if rate in rates:
            raise BadInput(f"--rates: {part} is there twice")
        rates.append(rate)
    return rates


def at_least_one(option: str, value: int | None) -> int | None:
    """The value of an option that counts something."""
    if value is not None and value < 1:
        raise BadInput(f"{option} is {value}; it must be at least 1")
    return value


def cores() -> int:
    """How many processes to run if nobody says."""
    return min(os.cpu_count() or 1, MOST_WORKERS)


def choose_files(files: Sequence[Path], wide_too: bool) -> tuple[list[Path], list[Path]]:
    """(layer files to study, bundled ones that are left out because they are wide)."""
    if files:
        if wide_too:
            raise BadInput(
                "--all is about the bundled layers; files that are named are taken whole"
            )
        return list(files), []
    bundled = sorted(LAYERS.glob("*.safetensors"))
    wide = [] if wide_too else [p for p in bundled if read_layer(p).weight.shape[-1] > WIDE]
    return [path for path in bundled if path not in wide], wide


def describe_layer(layer: LayerFile, rows: int | None) -> dict[str, Any]:
    """What table and JSON say about a layer, but for its results."""
    if layer.weight.ndim != 2:
        raise BadInput(f"{layer.path}: weight has {layer.weight.ndim} dimensions, expected 2")
    shape = list(layer.weight.shape)
    description = layer.description
    in_model = description.get("shape_in_model")
    known = isinstance(in_model, list) and len(in_model) == 2
    remarks = [str(remark) for remark in description.get("remarks") or ()]
    if rows is not None and rows < shape[0]:
        remarks.append(f"Only the first {rows} rows that the file holds (--rows {rows}).")
    if _haar_needed(shape[1]):
        remarks.append(
            "GPTQ rotated: by a Haar matrix (seed 0, LAPACK); Hadamard has no such order."
        )
    unused = [name for name in layer.digests if name not in USED]
    if unused:
        remarks.append(f"Not used here: {', '.join(unused)}.")
    return {
        "name": layer.path.stem,
        "file": str(layer.path),
        "model": str(description.get("model", "")).rpartition("/")[2],
        "type": str(description.get("type", "")),
        "shape": [min(rows or shape[0], shape[0]), shape[1]],
        "whole_shape": in_model if known else shape,
        "remarks": remarks,
        "input": dict(layer.digests),
    }


def measure_all(jobs: Sequence[Job], workers: int) -> list[list[Result]]:
    """`measure` for every job, in their order, with progress on a terminal."""
    # disable=None: no bar where standard error is not a terminal.
    bar = tqdm(
        total=len(jobs), desc="study", unit="layer", leave=False, disable=None, file=sys.stderr
    )
    results = []
    with bar, _mapped(jobs, workers) as measured:
        for found in measured:
            results.append(found)
            bar.update()
    return results


@contextmanager
def _mapped(jobs: Sequence[Job], workers: int) -> Iterator[Iterable[list[Result]]]:
    """`measure` mapped over the jobs; what has not begun when the context ends never will."""
    if workers == 1:
        yield map(measure, jobs)
        return
    # Fresh processes everywhere: a copy of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), end_at_once_when_interrupted)
    try:
        with one_thread_each():
            coming = pool.map(measure, jobs)  # starts the processes
        yield coming
    except BrokenProcessPool:
        raise WaterlevelError(
            "a worker process was ended from outside, perhaps for want of memory; try --workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def measure(job: Job) -> list[Result]:
    """Quantise at every rate by every method, in the order of METHODS.

    Raises:
        BadInput: whatever a method refuses, with the file in front.
    """
    layer = read_layer(job.path)
    try:
        subject = _subject(layer, job.rows, get(job.backend))
        return [
            _result(name, rate, method(subject, rate))
            for rate in job.rates
            for name, method in METHODS.items()
        ]
    except WaterlevelError as error:
        raise BadInput(f"{job.path}: {error}") from None


def _subject(layer: LayerFile, rows: int | None, backend: Operations) -> Subject:
    weight = layer.weight[:rows]
    covariance = covariance_of(layer, backend, "float64")
    # Everything is checked before LAPACK sees it.
    prepare(weight, covariance, dtype="float64", backend=backend)
    eigenvalues, eigenvectors = eigenbasis(covariance)
    rotation = _rotation(weight.shape[1])
    return Subject(weight, covariance, eigenvalues, eigenvectors, rotation, backend)


def _rotation(columns: int) -> Rotation:
    if _haar_needed(columns):
        return haar(columns, SEED)
    return HadamardRotation(columns, SEED)


def _haar_needed(columns: int) -> bool:
    try:
        base_order(columns)
    except BadInput:
        return True
    return False


def _result(method: str, target: float, quantized: Quantized) -> Result:
    rates = quantized.rates
    return Result(
        method,
        target,
        quantized.rate_met,
        rates.rate,
        rates.rate_column,
        rates.rate_pooled,
        rates.rate_huffman,
        quantized.distortion,
        quantized.limit,
        quantized.gap,
        quantized.parameters,
    )


def warn_of_missed_rates(layers: Iterable[dict[str, Any]]) -> int:
    """Exit code 0, or 1 with a line for the first rate that the search did not meet."""
    missed = [(layer, r) for layer in layers for r in layer["results"] if not r["rate_met"]]
    if not missed:
        return 0
    layer, result = missed[0]
    others = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
    method = result["method"].split()[0].lower()
    rows, columns = layer["shape"]
    least = side_information_rate(method, result["parameters"], rows, columns, "rate")
    fail(
        "waterlevel study",
        f"{layer['name']}, {result['method']}: no rate within {TOLERANCE} of {result['target']:g} "
        f"was found, the closest is {result['rate']:.3f} (side information alone "
        f"costs at least {least:.3f}){others}",
    )
    return 1
