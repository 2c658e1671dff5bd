"""`waterlevel backends`: what is usable here, what is not, and why."""

from __future__ import annotations

import argparse

from ...backends import available
from ..support.backend_choice import choose_backend
from ..support.console import one_line, table
from .json_option import add_json_argument, check_json_target, give

SUMMARY = "what can compute here, what cannot, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table; exit code 0."""
    check_json_target(arguments.json)
    default = choose_backend(None).backend.name
    found = available()
    entries = [
        {
            "name": entry.name,
            "usable": entry.reason is None,
            "reason": entry.reason,
            "default": entry.name == default,
        }
        for entry in found
    ]
    rows = [
        (
            entry.name,
            "no" if entry.reason else "yes",
            one_line(entry.reason or ("the default" if entry.name == default else "")),
        )
        for entry in found
    ]
    give(arguments.json, entries, table(rows, ("backend", "usable", "")))
    return 0
