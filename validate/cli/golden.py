"""`waterlevel golden`: make the golden cases, or look whether they still hold."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...data import GOLDEN
from ...reference.operations import Operations
from ..conformance.write_golden import write_golden
from ..golden.case import SIZES, Case, load_index
from ..golden.check import Checked, check_cases
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.progress import Progress

DEFAULT_SIZES = SIZES[:2]
FINE, DIFFERENT = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="compute the cases again and compare every bit")
    write = actions.add_parser("write", help="compute and write the files")
    for action in (check, write):
        action.add_argument(
            "--size",
            type=_sizes,
            default=DEFAULT_SIZES,
            metavar="SIZES",
            help=f"which of {','.join(SIZES)}, with commas (default: {','.join(DEFAULT_SIZES)})",
        )
        action.add_argument(
            "--directory",
            type=Path,
            default=GOLDEN,
            help="where the files lie (default: those of this package)",
        )
    add_backend_argument(check)
    check.add_argument("--names", action="store_true", help="name every digest, checked or not")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 1 if anything differs."""
    if arguments.action == "write":
        return _write(arguments)
    return _check(arguments)


def _write(arguments: argparse.Namespace) -> int:
    with Progress("golden write"):
        computed = write_golden(arguments.directory, arguments.size)
    print(f"{len(computed)} cases computed and written to {arguments.directory}")
    return FINE


def _check(arguments: argparse.Namespace) -> int:
    index = load_index(arguments.directory)
    oracle = choose_backend("numpy").backend
    chosen = choose_backend(arguments.backend).backend

    def backend(case: Case) -> Operations:
        # The oracle says what is right; large cases would take it too long.
        return chosen if arguments.backend or case.size == "large" else oracle

    with Progress("golden check") as progress:
        checked = check_cases(
            index.cases, arguments.size, backend, lambda case: progress.stage(case.id)
        )
    for line in checked.differences:
        print(line)
    if arguments.names:
        for title, names in (("computed", checked.digests), ("not computed", checked.left_out)):
            for name in names:
                print(f"digest {title}: {name}")
    print(_summary(checked, chosen.name if arguments.backend else oracle.name, chosen.name))
    return DIFFERENT if checked.differences else FINE


def _summary(checked: Checked, backend: str, of_large: str) -> str:
    verdict = (
        f"{len(checked.differences)} differences" if checked.differences else "all as expected"
    )
    on = backend if backend == of_large else f"{backend} (large ones on {of_large})"
    left_out = len(checked.left_out)
    rest = f"; {left_out} digests of larger cases not computed (--size)" if left_out else ""
    return (
        f"{checked.cases} cases computed on {on}, {verdict}; {len(checked.digests)} digests "
        f"computed{rest}"
    )


def _sizes(text: str) -> tuple[str, ...]:
    sizes = tuple(text.split(","))
    unknown = [size for size in sizes if size not in SIZES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"size {unknown[0]!r} is not known; there are {', '.join(SIZES)}"
        )
    return sizes
