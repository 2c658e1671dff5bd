"""What commands say: results on standard output, and one line on standard error if they fail."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, NoReturn

from ...reference.errors import RateNotMet, WaterlevelError

UNDEFINED = "—"
# What published packages call options of this one.
ELSEWHERE = {
    "--desc-act": "--actorder",
    "--damp-percent": "--damping",
    "--percdamp": "--damping",
    "--sym": "--asymmetric",
    "--wbits": "--bits",
}


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

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """As the library does it, but an option that is misspelt is said before one is missed."""
        args = sys.argv[1:] if args is None else list(args)
        for word in args:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self.error(f"there is no option {name}{self._hint(name)}")
        return super().parse_known_args(args, namespace)

    def _hint(self, name: str) -> str:
        other = ELSEWHERE.get(name)
        if other in self._option_string_actions:
            symmetric = other == "--asymmetric"
            return f" ({'symmetric is the default, else' if symmetric else 'it is called'} {other})"
        return suggestion(name, self._option_string_actions)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action,
                f"invalid choice: {value!r}{suggestion(str(value), choices)}; there are: "
                f"{', '.join(choices)}",
            )


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, for the end of a message; or nothing.

    >>> suggestion("--groupsize", ["--bits", "--group-size"]), suggestion("abacus", ["numpy"])
    (' (did you mean --group-size?)', '')
    """
    plain = {one.lower().replace("-", "").replace("_", ""): one for one in known}
    wanted = name.lower().replace("-", "").replace("_", "")
    close = difflib.get_close_matches(wanted, plain, n=1)
    return f" (did you mean {plain[close[0]]}?)" if close else ""


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
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return one_line(f"{where}{error.strerror}")
    return one_line(error) or type(error).__name__


def fail(program: str, message: str) -> None:
    """One line on standard error; nowhere if that is closed."""
    if sys.stderr is None:  # `print` would take standard output then
        return
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
    from tabulate import tabulate  # not needed for a help or an error

    return tabulate(list(rows), headers, tablefmt="plain", disable_numparse=True)


def settle_output() -> bool:
    """Forget what standard output refuses to take, so that Python ends without a second error.

    Returns:
        Whether it refused anything.
    """
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def said_by_reports() -> None:
    """From here on no warning of what every report of the commands says in its own place."""
    warnings.simplefilter("ignore", RateNotMet)
