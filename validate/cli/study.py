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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.linalg import LinAlgError
from numpy.typing import NDArray

from ...backends import get
from ...data import LAYERS
from ...reference import Quantized, gptq, rtn, waterfilling, watersic
from ...reference.bases.haar import haar
from ...reference.bases.hadamard import base_order
from ...reference.bases.rotation import HadamardRotation, Rotation
from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import BadInput, WaterlevelError
from ...reference.limits.gaussian_limit import eigenbasis
from ...reference.methods.rate_search import TOLERANCE
from ...reference.operations import Operations
from ...reference.operations.layer import Layer, prepare
from ..layers import study_tables as tables
from ..layers.layer_files import LayerFile, covariance_of, read_layer
from ..layers.remarks import (
    on_covariance,
    output_energy,
    relative_error,
    side_information_rate,
    tokens_of,
)
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.console import describe, fail, one_line
from ..support.workers import map_in_processes
from .json_option import STANDARD_OUTPUT, add_json_argument, check_json_target, give

RATES = "2,3,4"
WIDE = 1024  # a bundled layer with more inputs takes as long as all the others together
MOST_WORKERS = 8
SEED = 0
USED = ("weight", "covariance", "covariance_factor")
# What a layer can bring about and the other layers need not suffer from.
OF_A_LAYER = (WaterlevelError, OSError, MemoryError, LinAlgError)


@dataclass(frozen=True, eq=False)
class Subject:
    """What the methods share: one prepared layer, its rotation and its spectrum.

    Attributes:
        energy: of the output, per weight. remarks: what somebody should know of Σ, a line each.
    """

    layer: Layer
    energy: float
    remarks: tuple[str, ...]
    eigenvalues: NDArray
    eigenvectors: NDArray
    rotation: Rotation


def _with_gptq(subject: Subject, rate: float, **options: Any) -> Quantized:
    return gptq(subject.layer, rate=rate, eigenvalues=subject.eigenvalues, **options)


METHODS: dict[str, Callable[[Subject, float], Quantized]] = {
    "RTN": lambda s, rate: rtn(s.layer, rate=rate, eigenvalues=s.eigenvalues),
    "GPTQ natural": _with_gptq,
    "GPTQ actorder": lambda s, rate: _with_gptq(s, rate, actorder=True),
    "GPTQ rotated": lambda s, rate: _with_gptq(s, rate, rotation=s.rotation),
    "waterfilling": lambda s, rate: waterfilling(
        s.layer, rate=rate, eigenvalues=s.eigenvalues, eigenvectors=s.eigenvectors
    ),
    "WaterSIC": lambda s, rate: watersic(s.layer, rate=rate, eigenvalues=s.eigenvalues),
}


@dataclass(frozen=True)
class Result:
    """One method on one layer at one rate; all rates in bits per weight.

    Attributes:
        method: a key of METHODS. target: the `rate` searched for. rate_met: within
            `rate_search.TOLERANCE`.
        rate … gap: see `reference.coding.rates` and `reference.methods.results`.
        relative_error: D over the energy of the layer's output; None without any.
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
    relative_error: float | None
    limit: float
    gap: float
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """What could not be computed, and why in one line.

    Attributes:
        layer: its name. file: where it is.
        method, target: None where nothing of the layer could be computed.
    """

    layer: str
    file: str
    method: str | None
    target: float | None
    reason: str

    def line(self) -> str:
        """For somebody who reads it."""
        where = "" if self.method is None else f", {self.method} at rate {self.target:g}"
        return f"{self.file}{where}: {self.reason}"


def _failed(
    path: Path, error: Exception | str, method: str | None = None, target: float | None = None
) -> Failed:
    reason = error if isinstance(error, str) else describe(error)
    return Failed(path.stem, str(path), method, target, reason.removeprefix(f"{path}: "))


@dataclass(frozen=True)
class Measured:
    """All of one layer.

    Attributes:
        energy: of its output, per weight; None where nothing could be computed.
        remarks: what somebody should know of its Σ, a line each.
    """

    results: list[Result]
    failed: list[Failed]
    energy: float | None = None
    remarks: tuple[str, ...] = ()


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
    add_json_argument(parser)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes side by side on numpy (one per core, up to {MOST_WORKERS})",
    )
    add_backend_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Study, print the table, write the JSON.

    A layer, method or rate that fails is said in a line, marked in the table, and takes nothing
    from the others.

    Returns:
        0; 1 if a rate was not met; 2 if anything failed.

    Raises:
        WaterlevelError, OSError: options that make no sense. Nothing is printed or written then.
    """
    rates = parse_rates(arguments.rates)
    rows = at_least_one("--rows", arguments.rows)
    workers = at_least_one("--workers", arguments.workers)
    check_json_target(arguments.json)
    paths, left_out = choose_files(arguments.files, arguments.all)
    layers, failed = [], []
    for path in paths:
        try:
            layers.append(describe_layer(read_layer(path), rows))
        except (WaterlevelError, OSError) as error:
            failed.append(_failed(path, error))
    choice = choose_backend(arguments.backend)
    backend = arguments.backend or choice.backend.name
    jobs = [Job(Path(layer["file"]), rows, tuple(rates), backend) for layer in layers]
    workers = 1 if choice.backend.name != "numpy" else max(1, min(workers or cores(), len(jobs)))
    measured = map_in_processes(measure, jobs, workers, "study", _lost, "layer")
    for layer, found in zip(layers, measured, strict=True):
        layer["results"] = [asdict(result) for result in found.results]
        layer["energy"] = found.energy
        layer["remarks"] += [f"{layer['name']}: {remark}." for remark in found.remarks]
        failed += found.failed
    layers = [layer for layer in layers if layer["results"]]

    report = {
        "methods": list(METHODS),
        "rates": rates,
        "layers": layers,
        "failed": [asdict(one) for one in failed],
        "left_out": [path.stem for path in left_out],
        "summary": tables.summarize(layers, list(METHODS), rates),
        "limit": "for Gaussian weights of one variance",
        "backend": choice.backend.name,
        "contract": CONTRACT_VERSION,
        "version": version("waterlevel"),
    }
    for one in failed:
        fail("waterlevel study", one.line())
    if layers:
        processes = f"{workers} process" + ("es" if workers > 1 else "")
        instead = f", because {one_line(choice.instead)}" if choice.instead else ""
        computed = f"Computed on {choice.backend.name} in {processes}{instead}."
        give(arguments.json, report, f"{tables.text(report, WIDE)}\n{computed}")
        if arguments.json not in (None, STANDARD_OUTPUT):
            print(f"Everything, with all parameters, is in {arguments.json}.")
    missed = warn_of_missed_rates(layers)
    return 2 if failed else missed


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


def measure(job: Job) -> Measured:
    """Quantise at every rate by every method, in the order of METHODS; what failed stands apart."""
    try:
        subject = _subject(read_layer(job.path), job.rows, get(job.backend))
    except OF_A_LAYER as error:
        return Measured([], [_failed(job.path, error)])
    results, failed = [], []
    for rate in job.rates:
        for method, quantize in METHODS.items():
            try:
                results.append(_result(method, rate, quantize(subject, rate), subject.energy))
            except OF_A_LAYER as error:
                failed.append(_failed(job.path, error, method, rate))
    return Measured(results, failed, subject.energy, subject.remarks)


def _lost(job: Job, reason: str) -> Measured:
    return Measured([], [_failed(job.path, reason)])


def _subject(layer: LayerFile, rows: int | None, backend: Operations) -> Subject:
    weight = layer.weight[:rows]
    covariance = covariance_of(layer, backend, "float64")
    prepared = prepare(weight, covariance, backend=backend)  # checked before LAPACK sees it
    eigenvalues, eigenvectors = eigenbasis(covariance)
    said = on_covariance(covariance, eigenvalues, False, tokens_of(layer.description))
    energy = output_energy(weight, covariance)
    rotation = _rotation(weight.shape[1])
    return Subject(prepared, energy, tuple(said), eigenvalues, eigenvectors, rotation)


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


def _result(method: str, target: float, quantized: Quantized, energy: float) -> Result:
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
        relative_error(quantized.distortion, energy),
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
