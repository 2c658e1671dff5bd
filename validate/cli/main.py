"""The command `waterlevel`: a table of commands, and what an exit code means.

Exit codes: 0 fine; 1 a difference, or a searched rate that was not met; 2 bad usage or bad input,
said in one line on standard error; 70 a mistake in this program or a backend; 130 interrupted; 141
nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from ...reference.errors import WaterlevelError
from ...reference.operations import CONTRACT_VERSION
from ..support.console import BadUsage, Parser, describe, fail, settle_output
from ..support.workers import said_by_reports
from . import (
    backends as list_backends,
    bench as benchmark,
    claims as claims,
    compare,
    export,
    golden as golden,
    model,
    quantize,
    study,
    validate,
)

PROGRAM = "waterlevel"
COMMANDS = {
    "validate": validate,
    "quantize": quantize,
    "study": study,
    "model": model,
    "claims": claims,
    "compare": compare,
    "export": export,
    "golden": golden,
    "backends": list_backends,
    "bench": benchmark,
}

FINE, BAD_INPUT, MISTAKE, INTERRUPTED, UNREAD = 0, 2, 70, 130, 141

DESCRIPTION = "A bit-exact oracle of post-training weight quantisation."
EPILOG = """\
examples:
  waterlevel quantize layer.safetensors --method watersic --rate 3 -o out.safetensors
  waterlevel study

`waterlevel COMMAND --help` tells the rest."""


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    top.add_argument(
        "--version",
        action="version",
        version=f"{PROGRAM} {version('waterlevel')} (arithmetic contract {CONTRACT_VERSION})",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = module.SUMMARY
        module.add_arguments(commands.add_parser(name, help=summary, description=f"{summary}."))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; those of the process if not given.

    Returns:
        The exit code, see above. No exception leaves this function.
    """
    program = PROGRAM
    said_by_reports()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a terminal that cannot show Σ gets an escape instead
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore
    try:
        arguments, unknown = parser().parse_known_args(argv)
        program = f"{PROGRAM} {arguments.command}"
        if unknown:
            raise BadUsage(
                program, f"unknown arguments: {' '.join(unknown)} (see {program} --help)"
            )
        code = COMMANDS[arguments.command].run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except SystemExit as done:  # --help, --version
        return int(done.code or FINE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        settle_output()
        return UNREAD
    except BadUsage as error:
        fail(error.program, describe(error))
    except (WaterlevelError, OSError, MemoryError) as error:
        refused = settle_output() and getattr(error, "filename", None) is None
        fail(program, f"standard output: {describe(error)}" if refused else describe(error))
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        fail(
            program,
            f"internal error, {type(error).__name__}: {error}; this is a mistake in {PROGRAM} or a "
            f"backend (python -X dev -m {PROGRAM}.validate … shows where)",
        )
        return MISTAKE
    return BAD_INPUT
