"""`waterlevel validate`: is a kernel right, and if not, where and why?

Probes ask how a backend computes (`probes`), golden cases what it computes (`golden`). What differs
is explained (`diagnosis`), and for every algorithm the report tells which level it reaches
(`levels`). Without --backend every backend that is usable here is validated.

An own backend is named as module:attribute, or registered under the entry-point group
`waterlevel.backends` (`example_backend` shows one). A program in any language goes by files:
`waterlevel export DIR`, then `waterlevel validate --outputs DIR` (`export` says what they hold).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..backends import Availability, available, get
from ..data import GOLDEN
from ..reference.errors import BadInput
from . import reports
from .environment import environment
from .export import outputs_subject
from .golden.case import load_index
from .layer_files import check_target, to_json
from .progress import Progress
from .runner import Subject, backend_subject, validate
from .selection import add_selection_arguments, selection_of
from .whole_files import write_whole

SUMMARY = "probes and golden cases on every backend: what differs, and why"
EXAMPLES = """\
examples:
  waterlevel validate
  waterlevel validate --backend mypackage.kernels:Backend --cases 'cholesky/*'
  waterlevel validate --backend numba --size large --json report.json --junit report.xml
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
    add_selection_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON, too")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="… as JUnit XML")


def run(arguments: argparse.Namespace) -> int:
    """Validate, print, write. Exit code 0, or 1 if anything differs.

    Raises:
        BadInput, Unusable: a backend that is not there or cannot run here, a pattern without a
            case, no outputs. Nothing is printed or written then.
    """
    selection = selection_of(arguments)
    cases = load_index().cases
    selection.of(cases)  # refuses a pattern without a case
    for target in (arguments.json, arguments.junit):
        if target is not None:
            check_target(target)
    subjects, unusable = _subjects(arguments)
    found = []
    for subject in subjects:
        with Progress(subject.name) as progress:
            found.append(validate(subject, cases, selection, progress.stage))
    where = environment()
    if arguments.json is not None:
        digest = hashlib.sha256((GOLDEN / "index.json").read_bytes()).hexdigest()
        content = reports.to_report(found, unusable, where, digest)
        write_whole(arguments.json, (to_json(content, indent=1) + "\n").encode())
    if arguments.junit is not None:
        write_whole(arguments.junit, reports.to_junit(found))
    print(reports.to_text(found, unusable, where))
    return 0 if all(report.passed for report in found) else 1


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
