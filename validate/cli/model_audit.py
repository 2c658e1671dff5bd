"""`waterlevel model audit`: what a quantised model is worth, and what went wrong in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checkpoints.audit import Audit, audit
from ..checkpoints.reading import open_checkpoint
from ..layers.layer_files import to_json
from ..support.console import number, table
from ..support.whole_files import write_whole

EXAMPLES = """\
examples:
  waterlevel model audit Llama-GPTQ --against Llama
  waterlevel model audit Llama-GPTQ --against Llama --json audit.json

Exit code 0: nothing found; 1: something found; 2: a file that cannot be read."""
HEADERS = ("layer", "format", "bits/weight", "entropy", "error", "rule", "D", "limit", "gap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = EXAMPLES
    parser.add_argument("quantized", type=Path, metavar="QUANTISED", help="directory or .gguf file")
    parser.add_argument(
        "--against", type=Path, required=True, metavar="ORIGINAL", help="before quantisation"
    )
    parser.add_argument(
        "--moments", type=Path, metavar="DIR", help="layer files with Σ, NAME-OF-WEIGHT.safetensors"
    )
    parser.add_argument("--json", type=Path, metavar="F", help="the audit as JSON, in a file")


def run(arguments: argparse.Namespace) -> int:
    """Print the table and the findings; exit code 1 if there are any."""
    found = audit(
        open_checkpoint(arguments.quantized),
        open_checkpoint(arguments.against),
        arguments.moments,
    )
    if arguments.json is not None:
        write_whole(arguments.json, (to_json(found.to_dict(), indent=2) + "\n").encode())
    print(text(found))
    return 0 if found.ok else 1


def text(found: Audit) -> str:
    """The audit for a terminal."""
    rows = [
        (
            row.name,
            row.format,
            number(row.bits_per_weight),
            number(row.entropy),
            number(row.relative_error),
            row.scale_rule,
            number(row.distortion),
            number(row.limit),
            number(row.gap),
        )
        for row in found.rows
    ]
    total = (
        "all", found.format, number(found.total("bits_per_weight")), "",
        number(found.total("relative_error")), "", "", "", "",
    )  # fmt: skip
    lines = [table([*rows, total], HEADERS), "", *found.remarks]
    lines += [f"{item.name}: {item.where}: {item.evidence}" for item in found.findings]
    return "\n".join([*lines, "" if found.findings else "nothing found"]).rstrip()
