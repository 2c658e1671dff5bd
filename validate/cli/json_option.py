"""The option --json: everything as JSON, in a file, or by `-` on standard output.

It means the same for every command. A file comes beside the text on the terminal; standard output
has the JSON in place of it. The text is printed first, so that a file that can't be written takes
no result away.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...reference.errors import BadInput
from ..layers.layer_files import check_target, to_json
from ..support.whole_files import write_whole

STANDARD_OUTPUT = Path("-")


def add_json_argument(parser: argparse._ActionsContainer) -> None:
    """The option."""
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write everything as JSON, too; - writes it on standard output, in place of the text",
    )


def check_json_target(target: Path | None) -> None:
    """Refuse a place that can't be written to, or that looks like a layer, before any work.

    Raises:
        BadInput: the target is of that kind.
    """
    if target is None or target == STANDARD_OUTPUT:
        return
    if target.suffix == ".safetensors":
        raise BadInput(f"--json {target}: a report is no layer; give it another name")
    check_target(target)


def give(target: Path | None, content: object, text: str, indent: int = 2) -> None:
    """Print the text, or the JSON where the target is `-`; write the JSON where it is a file.

    Raises:
        OSError: the file can't be written; the text is printed then.
    """
    if target == STANDARD_OUTPUT:
        print(to_json(content, indent))
        return
    if text:
        print(text, flush=True)
    if target is not None:
        write_whole(target, (to_json(content, indent) + "\n").encode())
