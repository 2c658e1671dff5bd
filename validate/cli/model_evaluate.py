"""`waterlevel model evaluate`: models on a text, and against the first of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...reference.decoder import Decoder
from ...reference.errors import BadInput
from ..models.comparison import METHODS, subjects
from ..models.evaluation import evaluate, evaluation_windows
from ..models.evaluation_report import text
from ..models.loading import load_decoder
from ..models.output import read_rates
from ..models.token_files import Tokens, read_tokens
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.console import fail
from ..support.progress import Progress
from .json_option import add_json_argument, check_json_target, give
from .method_options import count
from .model_quantize import (
    BUNDLED,
    DEFAULT_SEQUENCES,
    TOLERANCE,
    add_library_arguments,
    add_text_arguments,
    default_library,
    length_of,
    text_of,
)
from .study import parse_rates

EXAMPLES = """\
examples:
  waterlevel model evaluate OUT
  waterlevel model evaluate OUT OTHER --against SmolLM2-135M --text wiki.txt
  waterlevel model evaluate --methods rtn,gptq,watersic --rates 2,3,4

The original is --against; without it, the model of the package. With --methods it is quantised, in
memory and entropy coded, by each of them at each of --rates. Bits of every token are the same on
every machine; means, errors and divergences of them to twelve digits."""


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
    made = parser.add_argument_group("quantised for the table")
    made.add_argument("--methods", metavar="M,…", help=f"some of {', '.join(METHODS)}")
    made.add_argument("--rates", metavar="R,…", help="bits per weight, such as 2,2.5,3,4")
    made.add_argument(
        "--calibration", type=Path, nargs="+", metavar="FILE",
        help="text or tokens for the moments (that of the model of the package)",
    )  # fmt: skip
    made.add_argument(
        "--calibration-sequences", type=count, metavar="N",
        help=f"windows of it ({DEFAULT_SEQUENCES})",
    )  # fmt: skip
    add_backend_argument(made)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print. Exit code 0, or 1 if a rate was not met."""
    check_json_target(arguments.json)
    methods, rates = wanted(arguments)
    original = load_decoder(arguments.directory, arguments.library or default_library())
    tokens = read(arguments, original, text_of(arguments, "held-out.txt"))
    windows = evaluation_windows(tokens, length_of(arguments), arguments.sequences)
    rows: list[dict[str, Any]] = []
    with Progress("evaluate") as progress:

        def decoders() -> Iterator[Decoder]:
            """The models one after the other; each enters its row when its turn comes."""
            rows.append({"model": arguments.directory.name, "rates": None})
            yield original
            for path in arguments.models:
                rows.append({"model": path.name, "rates": read_rates(path)})
                yield load_decoder(path, arguments.library or default_library())
            if methods:
                yield from made(arguments, original, methods, rates, rows, progress)

        found = evaluate(decoders(), windows, tokens, arguments.batch, progress.stage)
        base = None
        for evaluation in found:
            rows[-1] |= evaluation.figures(base)
            base = base or evaluation
    report = {
        "windows": len(windows),
        "length": windows.shape[1] - 1,
        "text_sha256": tokens.sha256,
        "tokens_per_byte": None if base is None else base.tokens_per_byte,
        "calibration": calibration(arguments) if methods else None,
        "models": rows,
    }
    give(arguments.json, report, text(report))
    return warn_of_missed_rates(rows)


def wanted(arguments: argparse.Namespace) -> tuple[list[str], list[float]]:
    """The methods and rates of the table, or none. Raises BadInput for one without the other."""
    if arguments.methods is None:
        for name in ("rates", "calibration", "calibration_sequences", "backend"):
            if getattr(arguments, name) is not None:
                raise BadInput(f"--{name.replace('_', '-')} needs --methods")
        return [], []
    if arguments.rates is None:
        raise BadInput("--methods needs --rates, such as 2,3,4")
    methods = arguments.methods.split(",")
    for i, name in enumerate(methods):
        if name not in METHODS:
            raise BadInput(f"--methods: {name!r} is none of {', '.join(METHODS)}")
        if name in methods[:i]:
            raise BadInput(f"--methods: {name} is there twice")
    return methods, parse_rates(arguments.rates)


def read(arguments: argparse.Namespace, decoder: Decoder, files: list[Path]) -> Tokens:
    """What the model sees of some files."""
    return read_tokens(arguments.directory, files, decoder.configuration.vocabulary)


def calibration(arguments: argparse.Namespace) -> dict[str, int]:
    """Which windows the moments are from, as of `model quantize`."""
    sequences = arguments.calibration_sequences or DEFAULT_SEQUENCES
    return {"sequences": sequences, "length": length_of(arguments), "seed": 0}


def made(
    arguments: argparse.Namespace,
    original: Decoder,
    methods: list[str],
    rates: list[float],
    rows: list[dict[str, Any]],
    progress: Progress,
) -> Iterator[Decoder]:
    """The original, quantised by each method at each rate."""
    files = arguments.calibration
    if not files:
        if arguments.directory != BUNDLED:
            raise BadInput(f"{arguments.directory}: --methods needs --calibration FILE")
        files = [BUNDLED / "calibration.txt"]
    chosen = calibration(arguments)
    windows = read(arguments, original, files).windows(
        chosen["length"], chosen["sequences"], chosen["seed"]
    )
    backend = choose_backend(arguments.backend).backend
    found = subjects(
        original, windows, methods, rates, backend, batch=arguments.batch, told=progress.stage
    )
    for each in found:
        rows.append(
            {
                "model": f"{each.method} {each.target:g}",
                "target": each.target,
                "rates": each.rates,
                "weights_sha256": each.sha256,
            }
        )
        yield each.decoder


def warn_of_missed_rates(rows: list[dict[str, Any]]) -> int:
    """Exit code 0, or 1 with a line for the first rate that was not met."""
    for row in rows:
        if "target" in row and abs(row["rates"]["rate"] - row["target"]) > TOLERANCE:
            fail(
                "waterlevel model evaluate",
                f"{row['model']}: the rate was not met, the closest found is "
                f"{row['rates']['rate']:.4f}",
            )
            return 1
    return 0
