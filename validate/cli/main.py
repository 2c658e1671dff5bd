"""The command `waterlevel`: a table of commands, and what an exit code means.

Exit codes: 0 fine; 1 a difference, or a searched rate that was not met; 2 bad usage or bad input,
said in one line on standard error; 70 a mistake in this program or a backend; 130 interrupted; 141
nobody reads the output any more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import WaterlevelError
from ..support.console import BadUsage, Parser, describe, fail, said_by_reports, settle_output
from .commands import add_commands, run

PROGRAM = "waterlevel"
COMMANDS = {
    "validate": ("validate", "probes and golden cases on every backend: what differs, and why"),
    "quantize": ("quantize", "quantise one layer and say what it costs"),
    "study": (
        "study",
        "every method on real layers: rates, distortion, limit and gap in one table",
    ),
    "model": ("model", "whole models: quantise, evaluate, audit a checkpoint"),
    "claims": ("claims", "the claims of theory, each with its measured number and a verdict"),
    "compare": ("compare", "compare two files bit by bit and say what differs, and why"),
    "export": ("export", "write golden cases as plain files, for programs in any language"),
    "golden": ("golden", "golden cases: compute them again and compare, or write them"),
    "backends": ("backends", "what can compute here, what cannot, and why"),
    "bench": ("bench", "time, memory and share of the machine's peak, beside NumPy and BLAS"),
}

FINE, BAD_INPUT, MISTAKE, INTERRUPTED, UNREAD = 0, 2, 70, 130, 141

DESCRIPTION = "A bit-exact oracle of post-training weight quantisation."
EPILOG = """\
examples:
  waterlevel quantize layer.safetensors --method watersic --rate 3 -o out.safetensors
  waterlevel study

`waterlevel COMMAND --help` tells the rest."""


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    top.add_argument(
        "--version",
        action="version",
        version=f"{PROGRAM} {version('waterlevel')} (arithmetic contract {CONTRACT_VERSION})",
    )
    add_commands(top, COMMANDS, "command")
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
        code = run(arguments)
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
