"""`waterlevel model evaluate`: models on a text, and against the first of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.evaluation import Estimate, Evaluation, evaluate, evaluation_windows
from ..models.loading import load_decoder
from ..models.output import read_rate
from ..models.token_files import read_tokens
from ..support.console import UNDEFINED, number, table
from ..support.progress import Progress
from .json_option import add_json_argument, check_json_target, give
from .method_options import count
from .model_quantize import (
    BUNDLED,
    add_library_arguments,
    add_text_arguments,
    default_library,
    length_of,
    text_of,
)

EXAMPLES = """\
examples:
  waterlevel model evaluate OUT
  waterlevel model evaluate OUT OTHER --against SmolLM2-135M --text wiki.txt

The original is --against; without it, the model of the package. Bits of every token are the same on
every machine; means, errors and divergences of them to twelve digits."""
HEADERS = ("model", "rate", "bits/byte", "±", "more", "±", "KL", "±", "same top")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "models", nargs="*", type=Path, metavar="DIRECTORY", help="quantised models"
    )
    parser.add_argument(
        "--against", type=Path, default=BUNDLED, metavar="ORIGINAL", dest="directory",
        help="the original (the model of the package)",
    )  # fmt: skip
    add_text_arguments(parser, "to predict")
    parser.add_argument(
        "--sequences", type=count, metavar="N", help="the first windows of the text (all)"
    )
    add_json_argument(parser)
    add_library_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    check_json_target(arguments.json)
    library = arguments.library or default_library()
    original = load_decoder(arguments.directory, library)
    files, length = text_of(arguments, "held-out.txt"), length_of(arguments)
    tokens = read_tokens(arguments.directory, files, original.configuration.vocabulary)
    windows = evaluation_windows(tokens, length, arguments.sequences)
    decoders = [original, *(load_decoder(path, library) for path in arguments.models)]
    with Progress("evaluate") as progress:
        measured = evaluate(decoders, windows, tokens, progress.stage)
    names = [arguments.directory, *arguments.models]
    rates = [None, *(read_rate(path) for path in arguments.models)]
    found = list(zip(names, rates, measured, strict=True))
    give(arguments.json, figures(found), text(found, windows.shape))
    return 0


def text(found: Sequence[tuple[Path, float | None, Evaluation]], shape: tuple[int, ...]) -> str:
    """A row for each model; `more` is in bits a byte (or a token) above the first."""
    rows, base = [], found[0][2]
    scale = base.tokens_per_byte or 1.0
    for path, rate, each in found:
        cost = each.bits_per_byte or Estimate.of(each.bits)
        row = [path.name, number(rate), number(cost.mean), number(cost.error)]
        if each is not base:
            above, kl = each.above(base), Estimate.of(each.divergence)  # pyright: ignore
            row += [number(above.mean * scale), number(above.error * scale)]
            row += [number(kl.mean), number(kl.error), number(each.same_top)]
        rows.append(row + [UNDEFINED] * (len(HEADERS) - len(row)))
    headers: list[str] = list(HEADERS)
    if base.tokens_per_byte is None:
        headers[2] = "bits/token"
    below = f"{shape[0]} windows of {shape[1] - 1} tokens; KL in bits a token; ± one standard error"
    return f"{table(rows, headers)}\n\n{below}"


def figures(found: Sequence[tuple[Path, float | None, Evaluation]]) -> list[dict[str, Any]]:
    """The same for JSON, with perplexities."""
    base = found[0][2]
    return [
        {"model": str(path), "rate": rate, **each.figures(None if each is base else base)}
        for path, rate, each in found
    ]
