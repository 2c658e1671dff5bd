"""Command line: python -m waterlevel.validate.real_layers, see --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ...data import LAYERS
from ...reference.errors import BadInput, WaterlevelError
from .calibration import text
from .generation import BUNDLED, Entry, first_windows, generate, write_manifest
from .minilm import MiniLM
from .models import Model
from .smollm import SmolLM2

COMMAND = "python -m waterlevel.validate.real_layers"
MODELS: dict[str, type[MiniLM] | type[SmolLM2]] = {"minilm": MiniLM, "smollm2": SmolLM2}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on standard error."""
    options = parser().parse_args(arguments)
    try:
        entries = run(options)
    except (WaterlevelError, OSError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    size = sum(entry["bytes"] for entry in entries) / 1e6
    print(f"{len(entries)} layers, {size:.1f} MB, in {options.output or LAYERS}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options, as README and --help show them."""
    description = (
        "Makes layer files from two small language models that are installed as packages: the "
        "weights, and the second moments of each layer's inputs over a text of the standard "
        "library."
    )
    parser = argparse.ArgumentParser(prog=COMMAND, description=description)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: the bundled layers)"
    )
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument(
        "--tokens", type=int, default=65536, help="length of the calibration text (%(default)s)"
    )
    parser.add_argument(
        "--full", action="store_true", help="every layer of the model, whole; needs --output"
    )
    return parser


def run(options: argparse.Namespace) -> list[Entry]:
    """Writes layer files and manifest, one model after the other; returns the new entries."""
    if options.full and (options.output is None or options.output.resolve() == LAYERS):
        raise BadInput("--full needs --output DIR, a folder other than the bundled layers'")
    output = options.output or LAYERS
    keys = list(MODELS) if options.model == "all" else [options.model]
    models: list[Model] = [MODELS[key]() for key in keys]
    corpus = text()
    windows = [first_windows(model, corpus, options.tokens) for model in models]
    made = []
    for model, chosen in zip(models, windows, strict=True):
        choices = None if options.full else BUNDLED[model.key]
        last = model.blocks if choices is None else 1 + max(choice.block for choice in choices)
        # disable=None: no bar where standard error is not a terminal.
        with tqdm(
            total=last * options.tokens, desc=model.key, unit="token", unit_scale=True, disable=None
        ) as bar:
            entries = generate(model, choices, corpus, chosen, output, bar.update)
        full = " --full --output DIR" if options.full else ""
        command = f"{COMMAND} --model {model.key} --tokens {options.tokens}{full}"
        write_manifest(output, entries, command)
        made += entries
    return made


if __name__ == "__main__":
    sys.exit(main())
