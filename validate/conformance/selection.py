"""Which golden cases are meant, and how is it said on a command line?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ...reference.errors import BadInput
from ..golden.case import SIZES, Case

SLOW = ("numpy",)  # takes minutes for each large case
DEFAULT_SIZE = SIZES[1]


@dataclass(frozen=True)
class Selection:
    """Which cases are to be run.

    Attributes:
        globs: patterns of which an id must match one. sizes: those that are wanted.
    """

    globs: tuple[str, ...] = ("*",)
    sizes: tuple[str, ...] = SIZES[:2]

    def of(self, cases: Iterable[Case]) -> list[Case]:
        """The cases whose id matches, of every size.

        Raises:
            BadInput: a pattern that matches none.
        """
        cases = list(cases)
        for glob in self.globs:
            if not any(fnmatchcase(case.id, glob) for case in cases):
                raise BadInput(
                    f"--cases {glob!r} matches none of {len(cases)} golden cases; ids are like "
                    f"{cases[0].id if cases else 'cholesky/order/…'}"
                )
        return [case for case in cases if any(fnmatchcase(case.id, g) for g in self.globs)]

    def reason_to_skip(self, case: Case, subject: str) -> str | None:
        """Why a case that matches is not run, or None."""
        if case.size not in self.sizes:
            return f"{case.size} cases need --size {case.size}"
        if case.size == SIZES[-1] and subject in SLOW:
            return f"{subject} takes minutes for a {case.size} case"
        return None


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """The options --cases and --size."""
    parser.add_argument(
        "--cases",
        action="append",
        metavar="GLOB",
        help="only cases whose id matches, as 'cholesky/*' or '*/rounding/*-float32' (repeatable)",
    )
    parser.add_argument(
        "--size",
        choices=SIZES,
        help=f"cases up to this size ({DEFAULT_SIZE}; for a backend on a device {SIZES[-1]})",
    )


def selection_of(arguments: argparse.Namespace, on_device: bool = False) -> Selection:
    """What these two options say."""
    largest = arguments.size or (SIZES[-1] if on_device else DEFAULT_SIZE)
    sizes = SIZES[: SIZES.index(largest) + 1]
    return Selection(tuple(arguments.cases or ("*",)), sizes)
