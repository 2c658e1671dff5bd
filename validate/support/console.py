"""What commands say: results on standard output, and one line on standard error if they fail."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import isfinite
from typing import NoReturn

from tabulate import tabulate

from ...reference.errors import WaterlevelError

UNDEFINED = "—"


class BadUsage(WaterlevelError):
    """A command line that cannot be understood.

    Attributes:
        program: what was called, as "waterlevel quantize".
    """

    def __init__(self, program: str, message: str) -> None:
        super().__init__(message)
        self.program = program


class Parser(argparse.ArgumentParser):
    """A parser whose error is an exception and not an end of the process; no abbreviations."""

    def __init__(self, **settings: object) -> None:
        defaults = {
            "allow_abbrev": False,
            "formatter_class": argparse.RawDescriptionHelpFormatter,
        }
        super().__init__(**{**defaults, **settings})  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> NoReturn:
        raise BadUsage(self.prog, f"{message} (see {self.prog} --help)")


def one_line(text: object) -> str:
    """The text without line breaks, so that one error is one line.

    >>> one_line("no such\\n  file")
    'no such file'
    """
    return " ".join(str(text).split())


def describe(error: BaseException) -> str:
    """An exception in one line, made for the user."""
    if isinstance(error, MemoryError):
        return one_line(f"out of memory: {error}".removesuffix(": "))
    if isinstance(error, OSError) and error.strerror:
        where = "standard output" if error.filename is None else error.filename
        return one_line(f"{where}: {error.strerror}")
    return one_line(error) or type(error).__name__


def fail(program: str, message: str) -> None:
    """One line on standard error."""
    with suppress(OSError, ValueError):  # nobody may be listening there
        print(f"{program}: {one_line(message)}", file=sys.stderr, flush=True)


def number(value: float | None, digits: int = 4) -> str:
    """A number of bits for a table, or a dash where it is not defined.

    >>> number(2.25), number(float("nan")), number(float("inf"))
    ('2.2500', '—', '∞')
    """
    if value is None or value != value:
        return UNDEFINED
    if not isfinite(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}f}"


def table(rows: Iterable[Sequence[str]], headers: Sequence[str] = ()) -> str:
    """Aligned columns of text as it stands."""
    return tabulate(list(rows), headers, tablefmt="plain", disable_numparse=True)


def settle_output() -> None:
    """Forget what standard output refuses to take, so that Python ends without a second error."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
