"""`waterlevel claims`: is what theory says true, and from which rate on?

Every claim is an experiment with the claimed number, the measured one, its uncertainty and a
verdict. A claim that fails is a result and no error: the exit code is 0 whatever the verdicts are.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...data import LAYERS
from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import BadInput, WaterlevelError
from .. import plots
from ..claims import report
from ..claims.experiments import find_all
from ..claims.measurements import measure_plan
from ..claims.moments import Layer, layer_of
from ..claims.plan import full_plan, quick_plan
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.console import describe, fail, one_line
from ..support.environment import environment
from .json_option import STANDARD_OUTPUT, add_json_argument, check_json_target, give
from .study import WIDE, at_least_one, cores

ON_CPU = ("numpy", "numba")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_json_argument(parser)
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw the figures there, SVG and PNG"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"all rates on all layers, those of more than {WIDE} inputs too; more spectra, wider "
        "ones, more rows and repetitions (19 minutes of one core in place of one)",
    )
    parser.add_argument(
        "--layers",
        type=Path,
        metavar="DIR",
        help="layer files to take in place of the bundled ones, as `python -m "
        "waterlevel.validate.real_layers --full` makes them of the models",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes side by side on numpy or numba (one per core)",
    )
    add_backend_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the findings, write JSON and figures.

    Returns:
        0, or 2 if a layer failed; it is said in a line, and the findings are without it.

    Raises:
        WaterlevelError, OSError: no layers, a place that cannot be written to, no
            matplotlib for --plots. Nothing is printed or written then.
    """
    workers = at_least_one("--workers", arguments.workers)
    check_json_target(arguments.json)
    if arguments.plots is not None:
        plots.check(arguments.plots)
    layers, left_out, failed = find_layers(arguments.layers or LAYERS, arguments.full)
    plan = (full_plan if arguments.full else quick_plan)(tuple(layer for layer, _ in layers))
    choice = choose_backend(arguments.backend)
    workers = (workers or cores()) if choice.backend.name in ON_CPU else 1
    measurements = measure_plan(plan, arguments.backend or choice.backend.name, workers)
    failed = [*failed, *measurements.failed]
    for line in failed:
        fail("waterlevel claims", line)
    kept = measurements.plan.layers
    if failed and not kept:
        return 2
    findings = find_all(measurements)
    described = {
        **report.to_dict(findings, measurements),
        "set": "full" if arguments.full else "quick",
        "layers": [_describe(layer, digests) for layer, digests in layers if layer in kept],
        "failed": failed,
        "left_out": left_out,
        "limit": "for Gaussian weights of one variance",
        "backend": choice.backend.name,
        "contract": CONTRACT_VERSION,
        "version": version("waterlevel"),
        "environment": environment(),
    }
    processes = f"{workers} process" + ("es" if workers > 1 else "")
    instead = f", because {one_line(choice.instead)}" if choice.instead else ""
    measured = len(measurements.by_case)
    computed = f"{measured} measurements on {choice.backend.name} in {processes}{instead}."
    told = report.text(findings, kept, left_out, WIDE)
    give(arguments.json, described, f"{told}\n\n{computed}", indent=1)
    if arguments.json not in (None, STANDARD_OUTPUT):
        print(f"Everything is in {arguments.json}.")
    if arguments.plots is not None:
        drawn = plots.draw(arguments.plots, measurements)
        if arguments.json != STANDARD_OUTPUT:
            print(f"{len(drawn)} figures and their captions are in {arguments.plots}.")
    return 2 if failed else 0


def find_layers(
    directory: Path, wide_too: bool
) -> tuple[list[tuple[Layer, dict[str, str]]], list[str], list[str]]:
    """(layers with the digests of their tensors, names of those left out, lines for bad files).

    Raises:
        BadInput: no such directory, no layer file in it.
    """
    if not directory.is_dir():
        raise BadInput(f"--layers: there is no directory {directory}")
    found, failed = [], []
    paths = sorted(directory.glob("*.safetensors"))
    for path in paths:
        try:
            found.append(layer_of(path))
        except (WaterlevelError, OSError) as error:
            failed.append(describe(error))
    if not paths:
        raise BadInput(f"--layers: {directory} holds no layer file (*.safetensors)")
    kept = [(layer, digests) for layer, digests in found if wide_too or layer.n <= WIDE]
    left_out = [layer.name for layer, _ in found if not wide_too and layer.n > WIDE]
    return kept, left_out, failed


def _describe(layer: Layer, digests: dict[str, str]) -> dict[str, Any]:
    return {
        "name": layer.name,
        "family": layer.family,
        "type": layer.type,
        "shape": list(layer.shape),
        "remarks": list(layer.remarks),
        "input": digests,
    }
