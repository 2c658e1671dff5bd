"""`waterlevel backends`: what is usable here, what is not, and why."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from ...backends import available
from ...backends.compiled_code import BACKENDS, kept
from ...reference.errors import WaterlevelError
from ..support.backend_choice import choose_backend
from ..support.console import one_line, table
from .json_option import add_json_argument, check_json_target, give


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
            "compiled_code": _compiled_code(entry.name),
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
    text = table(rows, ("backend", "usable", ""))
    give(arguments.json, entries, "\n\n".join((text, _where_compiled_code_is())))
    return 0


def _compiled_code(backend: str) -> dict[str, Any] | None:
    """What this backend keeps on disk; None if it keeps nothing, or has no place."""
    if backend not in BACKENDS:
        return None
    with suppress(WaterlevelError):
        found = kept(backend)
        return {"folder": str(found.folder), "files": found.files, "bytes": found.size}
    return None


def _where_compiled_code_is() -> str:
    """One line for each backend that compiles."""
    lines = []
    for backend in BACKENDS:
        try:
            found = kept(backend)
        except WaterlevelError as error:
            lines.append(f"compiled code of {backend}: {error}")
        else:
            size = f"{found.files} files, {found.size / 1e6:.1f} MB" if found.files else "nothing"
            lines.append(f"compiled code of {backend}: {size} in {found.folder}")
    return "\n".join((*lines, "(it may be deleted; what is missing is compiled again)"))
