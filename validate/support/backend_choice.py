"""Which backend does a command use, and how is it asked for?

The library's default is the oracle. A command's default is the fastest that runs on any CPU:
`numba` where it is installed, else `numpy`, and the command says which.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ...backends import get
from ...reference.errors import WaterlevelError
from ...reference.operations import Operations

DEFAULTS = ("numba", "numpy")  # the first that is usable


@dataclass(frozen=True)
class Choice:
    """A backend; and why not the default before it, in one line, if it stands in for that."""

    backend: Operations
    instead: str | None = None


def add_backend_argument(parser: argparse._ActionsContainer) -> None:
    """The option --backend."""
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="what computes: a name from `waterlevel backends`, module:attribute or "
        f"file.py:attribute (default: {DEFAULTS[0]} where it is installed, else {DEFAULTS[1]}; "
        "the bits are the same)",
    )


def choose_backend(name: str | None) -> Choice:
    """The backend of this name, or the default.

    Raises:
        BadInput, Unusable: a name was given and there is no such backend, or it cannot run here.
    """
    if name is not None:
        return Choice(get(name))
    reasons = []
    for candidate in DEFAULTS[:-1]:
        try:
            return Choice(get(candidate), "; ".join(reasons) or None)
        except WaterlevelError as reason:
            reasons.append(str(reason))
    return Choice(get(DEFAULTS[-1]), "; ".join(reasons))
