"""`waterlevel model audit`: what a quantised model is worth, and what went wrong in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checkpoints.audit import audit
from ..checkpoints.audit_report import page, text
from ..checkpoints.reading import open_checkpoint
from ..checkpoints.under_covariance import moments_in, no_moments
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.console import BadUsage
from ..support.progress import Progress
from ..support.whole_files import write_whole
from .json_option import add_json_argument, check_json_target, give

EXAMPLES = """\
examples:
  waterlevel model audit Llama-GPTQ --against Llama
  waterlevel model audit Llama-GPTQ --against Llama --moments layers --oracle --html audit.html

Exit code 0: nothing found; 1: something found; 2: a file that cannot be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = EXAMPLES
    parser.add_argument("quantized", type=Path, metavar="QUANTISED", help="directory or .gguf file")
    parser.add_argument(
        "--against", type=Path, required=True, metavar="ORIGINAL", help="before quantisation"
    )
    parser.add_argument(
        "--moments",
        type=Path,
        metavar="DIR",
        help="layer files with Σ, NAME-OF-WEIGHT.safetensors: distortion, limit, gap, and which "
        "GPTQ made the codes",
    )
    parser.add_argument(
        "--oracle",
        action="store_true",
        help="what RTN, GPTQ and WaterSIC reach at the same bits per weight; needs --moments",
    )
    add_backend_argument(parser)
    add_json_argument(parser)
    parser.add_argument("--html", type=Path, metavar="F", help="the audit as one file of HTML")


def run(arguments: argparse.Namespace) -> int:
    """Print the table and the findings; exit code 1 if there are any."""
    check_json_target(arguments.json)
    if arguments.oracle and arguments.moments is None:
        raise BadUsage("waterlevel model audit", "--oracle needs --moments")
    moments = no_moments if arguments.moments is None else moments_in(arguments.moments)
    quantized = open_checkpoint(arguments.quantized)
    original = open_checkpoint(arguments.against)
    backend = choose_backend(arguments.backend).backend
    with Progress("model audit") as progress:
        found = audit(quantized, original, backend, moments, arguments.oracle, progress.stage)
    give(arguments.json, found.to_dict(), text(found))
    if arguments.html is not None:
        write_whole(arguments.html, page(found, f"Audit of {quantized.path.name}").encode())
    return 0 if found.ok else 1
