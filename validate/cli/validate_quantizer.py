"""`waterlevel validate --quantizer`: a whole quantiser, judged by what its parameters mean."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...reference.errors import BadInput
from ..field.adapters import ADAPTERS
from ..field.judge import judge_field, to_page
from ..golden.case import load_index
from ..quantizers.cases import METHODS, ROWS, questions_in_golden_cases, questions_on_layers
from ..quantizers.outcome import BITS, FAILED, LEVELS
from ..quantizers.report import to_text
from ..quantizers.run import SECONDS, validate_quantizer
from ..quantizers.subject import load_quantizer
from ..support.backend_choice import choose_backend
from ..support.environment import environment
from ..support.progress import Progress
from .json_option import check_json_target, give

KIND = "waterlevel validate --quantizer"


def add_quantizer_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that go with --quantizer."""
    group = parser.add_argument_group("with --quantizer")
    group.add_argument("--method", choices=METHODS, help="what it claims to be (default: gptq)")
    group.add_argument(
        "--layer",
        type=Path,
        action="append",
        metavar="FILE",
        help="a layer file to run it on, in place of the bundled ones and the golden cases",
    )
    group.add_argument(
        "--rows", type=int, metavar="N", help=f"of each layer, the first N; 0: all ({ROWS})"
    )
    group.add_argument(
        "--seconds", type=float, metavar="S", help=f"time for finding causes ({SECONDS:g})"
    )
    group.add_argument(
        "--level",
        choices=LEVELS[: LEVELS.index(FAILED)],
        help=f"exit code 0 if every case comes at least so far ({BITS})",
    )


def check_no_quantizer_arguments(arguments: argparse.Namespace) -> None:
    """Refuse them where there is no quantiser."""
    for name in ("method", "layer", "rows", "seconds", "level"):
        if getattr(arguments, name) is not None:
            raise BadInput(f"--{name} goes with --quantizer")


def run_quantizer(arguments: argparse.Namespace) -> int:
    """Ask, print, write. Exit code 0 if every case reaches the level, else 1."""
    check_json_target(arguments.json)
    for name in ("against", "junit", "cases", "size"):
        if getattr(arguments, name) is not None:
            raise BadInput(f"--{name} goes with a backend, not with --quantizer")
    rows = ROWS if arguments.rows is None else arguments.rows
    if rows < 0:
        raise BadInput(f"--rows is {rows}; it must be 0 (all) or more")
    quantizer = load_quantizer(arguments.quantizer)
    method = arguments.method or "gptq"
    choice = choose_backend(None)
    files = arguments.layer or []
    questions = list(questions_on_layers(files, method, rows, choice.backend))
    golden = [] if files else list(questions_in_golden_cases(load_index().cases, method))
    with Progress(quantizer.name) as progress:
        report = validate_quantizer(
            quantizer,
            [*questions, *golden],
            choice.backend,
            SECONDS if arguments.seconds is None else arguments.seconds,
            progress.stage,
        )
    content = {"kind": KIND, "environment": environment(), "method": method, **report.to_json()}
    text = to_text(report, {question.name for question in golden}, arguments.verbose)
    give(arguments.json, content, text)
    reached = report.judgements and report.reaches(arguments.level or BITS)
    return 0 if reached else 1


def run_field(arguments: argparse.Namespace) -> int:
    """Judge the published packages that are installed. Exit code 0 if one could be judged."""
    check_json_target(arguments.json)
    with Progress("field") as progress:
        entries = judge_field(list(ADAPTERS), announce=progress.stage)
    content = {"kind": "waterlevel validate --field", "environment": environment(),
               "entries": entries}  # fmt: skip
    give(arguments.json, content, to_page(entries))
    return 0 if any("report" in entry for entry in entries) else 1
