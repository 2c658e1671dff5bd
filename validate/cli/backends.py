"""`waterlevel backends`: what is usable here, what is not, and why."""

from __future__ import annotations

import argparse

from ...backends import available
from ..layers.layer_files import to_json
from ..support.backend_choice import choose_backend
from ..support.console import one_line, table

SUMMARY = "what can compute here, what cannot, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--json", action="store_true", help="the table as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the table; exit code 0."""
    default = choose_backend(None).backend.name
    found = available()
    if arguments.json:
        entries = [
            {
                "name": entry.name,
                "usable": entry.reason is None,
                "reason": entry.reason,
                "default": entry.name == default,
            }
            for entry in found
        ]
        print(to_json(entries, indent=2))
        return 0
    rows = [
        (
            entry.name,
            "no" if entry.reason else "yes",
            one_line(entry.reason or ("the default" if entry.name == default else "")),
        )
        for entry in found
    ]
    print(table(rows, ("backend", "usable", "")))
    return 0
