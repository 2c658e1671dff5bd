"""`waterlevel validate`: is a kernel right, and if not, where and why?

Probes ask how a backend computes (`probes`), golden cases what it computes (`golden`). What differs
is explained (`diagnosis`), and for every algorithm the report tells which level it reaches
(`levels`). Without --backend every backend that is usable here is validated. On large random layers
(`random_layers`) a backend can be held against another one.

An own backend is named as module:attribute, or registered under the entry-point group
`waterlevel.backends` (`example_backend` shows one). A program in any language goes by files:
`waterlevel export DIR`, then `waterlevel validate --outputs DIR` (`export` says what they hold).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...backends import Availability, available, get
from ...backends.cuda.meter import meter_of
from ...data import GOLDEN
from ...reference.errors import BadInput, WaterlevelError
from ...reference.operations import Operations
from ..conformance import random_layers, reports
from ..conformance.random_layers import RandomLayers
from ..conformance.runner import Subject, backend_subject, validate
from ..conformance.selection import add_selection_arguments, selection_of
from ..golden.case import load_index
from ..layers.layer_files import check_target
from ..support.environment import environment
from ..support.progress import Progress
from ..support.whole_files import write_whole
from .export import outputs_subject
from .json_option import add_json_argument, check_json_target, give
from .validate_quantizer import (
    add_quantizer_arguments,
    check_no_quantizer_arguments,
    run_field,
    run_quantizer,
)

AGAINST = "numba"
EXAMPLES = """\
examples:
  waterlevel validate
  waterlevel validate --backend mypackage.kernels:Backend --cases 'cholesky/*'
  waterlevel validate --backend numba --size large --json report.json --junit report.xml
  waterlevel validate --backend cupy --backend numba-cuda --against numba --json gpu.json
  waterlevel validate --quantizer ./mine.py:gptq
  waterlevel export DIR && ./my_kernel DIR && waterlevel validate --outputs DIR

Exit code 1 says that something differs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = EXAMPLES
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help="a name from `waterlevel backends`, or module:attribute (repeatable; default: every "
        "usable one)",
    )
    source.add_argument(
        "--outputs",
        type=Path,
        metavar="DIR",
        help="no backend, but what a program wrote beside the files of `waterlevel export`",
    )
    source.add_argument(
        "--field",
        action="store_true",
        help="the published packages that are installed here, each in a process of its own",
    )
    source.add_argument(
        "--quantizer",
        metavar="NAME",
        help="a whole quantiser, module:function or ./file.py:function: a callable (weight, "
        "covariance, **parameters of waterlevel.gptq) that returns Ŵ, or a mapping with what it "
        "has of dequantized, codes, scale, zero, group",
    )
    parser.add_argument(
        "--against",
        metavar="NAME",
        help="large random layers, too, bit for bit as this backend computes them (default: "
        f"{AGAINST} for a backend on a device, unless --cases picks some)",
    )
    add_selection_arguments(parser)
    add_json_argument(parser)
    parser.add_argument("--junit", type=Path, metavar="FILE", help="everything as JUnit XML")
    parser.add_argument("--verbose", action="store_true", help="name every case that was skipped")
    add_quantizer_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Validate, print, write. Exit code 0, or 1 if anything differs.

    Raises:
        BadInput, Unusable: a backend that is not there or cannot run here, a pattern without a
            case, no outputs. Nothing is printed or written then.
    """
    if arguments.quantizer is not None:
        return run_quantizer(arguments)
    check_no_quantizer_arguments(arguments)
    if arguments.field:
        return run_field(arguments)
    cases = load_index().cases
    selection_of(arguments).of(cases)  # refuses a pattern without a case
    check_json_target(arguments.json)
    if arguments.junit is not None:
        check_target(arguments.junit)
    if arguments.against is not None and arguments.outputs is not None:
        raise BadInput("--against compares backends; --outputs has none")
    other = None if arguments.against is None else get(arguments.against)
    subjects, unusable = _subjects(arguments)
    found = []
    for subject in subjects:
        meter = meter_of(subject.backend)
        device = None if meter is None else meter.describe()
        selection = selection_of(arguments, on_device=meter is not None)
        with Progress(subject.name) as progress:
            report = validate(subject, cases, selection, progress.stage)
            if other is not None or (meter is not None and not arguments.cases):
                layers = _random_layers(subject, arguments.against, other, progress)
                report = replace(report, layers=layers)
        found.append(replace(report, device=device))
    where = environment()
    digest = hashlib.sha256((GOLDEN / "index.json").read_bytes()).hexdigest()
    content = reports.to_report(found, unusable, where, digest)
    text = reports.to_text(found, unusable, where, arguments.verbose)
    give(arguments.json, content, text, indent=1)
    if arguments.junit is not None:
        write_whole(arguments.junit, reports.to_junit(found))
    return 0 if all(report.passed for report in found) else 1


def _random_layers(
    subject: Subject, name: str | None, other: Operations | None, progress: Progress
) -> RandomLayers:
    """Against the backend that was named; else against the default, if that can run here."""
    if other is None:
        name = AGAINST
        try:
            other = get(name)
        except WaterlevelError as reason:
            return RandomLayers(name, reason=str(reason))
    assert subject.backend is not None
    compared = random_layers.compare(subject.backend, other, random_layers.SHAPES, progress.stage)
    return RandomLayers(name or other.name, tuple(compared))


def _subjects(arguments: argparse.Namespace) -> tuple[list[Subject], Sequence[Availability]]:
    if arguments.outputs is not None:
        return [outputs_subject(arguments.outputs)], ()
    if arguments.backend:
        names = list(dict.fromkeys(arguments.backend))
        return [backend_subject(name, get(name)) for name in names], ()
    everything = available()
    usable = [entry.name for entry in everything if entry.reason is None]
    if not usable:
        raise BadInput("no backend is usable here; `waterlevel backends` says why")
    unusable = [entry for entry in everything if entry.reason is not None]
    return [backend_subject(name, get(name)) for name in usable], unusable
