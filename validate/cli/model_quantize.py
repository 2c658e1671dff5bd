"""`waterlevel model quantize`: a model of the Llama family, quantised block by block."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ...data import MODELS
from ...reference.errors import BadInput
from ..layers.quantize_layer import METHODS
from ..models.directory import is_quantized, read_length
from ..models.loading import load_decoder
from ..models.output import DEQUANTIZED, STORES, directory_digest, unfinished, write_model
from ..models.pipeline import Plan, quantize_model
from ..models.token_files import read_tokens
from ..support.backend_choice import add_backend_argument, choose_backend
from ..support.console import fail, number, table
from ..support.progress import Progress
from .method_options import add_method_arguments, check_options, count, library_options

EXAMPLES = """\
examples:
  waterlevel model quantize -o OUT
  waterlevel model quantize SmolLM2-135M -o OUT --text wiki.txt --method gptq --bits 4 \\
      --group-size 64 --dtype float32 --store pack-quantized
  waterlevel model quantize Qwen3-0.6B -o OUT --text wiki.txt --rate 3 --drift --residual

The first quantises the model that comes with the package, by WaterSIC at 3 bits, on its own text.
The output is a directory that transformers loads, and waterlevel-manifest.json. Model, text and
options decide every bit of it: not the library, the threads, the batch or the backend. Exit code 1
says that the model's rate was not met."""

BUNDLED = MODELS / "pydoc-2m"
METHODS_OF_MODELS = tuple(name for name in METHODS if name != "waterfilling")
DEFAULT_METHOD, DEFAULT_RATE, DEFAULT_SEQUENCES, LONGEST = "watersic", 3.0, 64, 512
TOLERANCE = 0.005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = EXAMPLES
    parser.usage = f"{parser.prog} [DIRECTORY] -o OUT [--text FILE …] [--method M] [options]"
    parser.add_argument(
        "directory", nargs="?", type=Path, default=BUNDLED, metavar="DIRECTORY",
        help="a Hugging Face directory (the model of the package)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="a directory, made new"
    )
    parser.add_argument(
        "--method", choices=METHODS_OF_MODELS, default=DEFAULT_METHOD, help="(watersic, at 3 bits)"
    )
    text = parser.add_argument_group("calibration")
    add_text_arguments(text, "for the moments")
    text.add_argument(
        "--sequences", type=count, default=DEFAULT_SEQUENCES, metavar="N",
        help=f"windows of the text ({DEFAULT_SEQUENCES})",
    )  # fmt: skip
    text.add_argument(
        "--text-seed", type=int, default=0, metavar="S", help="which windows are taken (0)"
    )
    text.add_argument(
        "--drift", action="store_true", help="watersic: moments of both models, x and x̂"
    )
    text.add_argument(
        "--residual", action="store_true", help="with --drift: make up for the residual stream"
    )
    add_method_arguments(parser, ("hadamard",))
    parser.add_argument(
        "--store", choices=STORES, default=DEQUANTIZED,
        help="how the weights are written: in float32, or, for finite grids with --dtype float32, "
        "in a published format (float32)",
    )  # fmt: skip
    run = parser.add_argument_group("run")
    add_library_arguments(run)
    add_backend_argument(run)


def add_text_arguments(group: argparse._ActionsContainer, purpose: str) -> None:
    """Which text, and how long its windows are."""
    group.add_argument(
        "--text", type=Path, nargs="+", metavar="FILE",
        help=f"text, or .npy files of tokens, {purpose} (that of the model of the package)",
    )  # fmt: skip
    group.add_argument(
        "--length", type=count, metavar="L",
        help=f"tokens of a window (the model's own, at most {LONGEST})",
    )  # fmt: skip


def add_library_arguments(group: argparse._ActionsContainer) -> None:
    """What computes the forward pass."""
    group.add_argument(
        "--library", choices=("numba", "numpy", "torch", "jax", "cupy"),
        help="of the forward pass (numba where it is installed, else numpy)",
    )  # fmt: skip
    group.add_argument(
        "--batch", type=count, default=4, metavar="B", help="sequences computed together (4)"
    )


def text_of(arguments: argparse.Namespace, bundled: str) -> list[Path]:
    """The files of --text, or the bundled one for the bundled model."""
    if arguments.text:
        return arguments.text
    if arguments.directory == BUNDLED:
        return [BUNDLED / bundled]
    raise BadInput(f"{arguments.directory}: --text FILE is needed, a text to measure on")


def length_of(arguments: argparse.Namespace) -> int:
    """The tokens of a window. Raises BadInput for more than the model is made for."""
    longest = read_length(arguments.directory)
    if arguments.length is None:
        return LONGEST if longest is None else min(longest, LONGEST)
    if longest is not None and arguments.length > longest:
        raise BadInput(
            f"--length {arguments.length}: {arguments.directory} is made for {longest} tokens"
        )
    return arguments.length


def run(arguments: argparse.Namespace) -> int:
    """Quantise, write, report. Exit code 0, or 1 if the model's rate was not met."""
    method = arguments.method
    if method == DEFAULT_METHOD and arguments.rate is None and arguments.spacing is None:
        arguments.rate = DEFAULT_RATE
    given = check_options(arguments)
    options = library_options(given)
    searched = None if given.get("open_loop") else options.pop("rate", None)
    seed = None if "rotate" not in given else given.get("seed", 0)
    plan = Plan(method, options, searched, seed, arguments.drift, arguments.residual)
    if arguments.store != DEQUANTIZED and not {"bits", "format"} & {*given}:
        raise BadInput(f"--store {arguments.store} is for finite grids: give --bits or --format")
    started = time.monotonic()
    with Progress(f"{method}") as progress, unfinished(arguments.output) as folder:
        decoder = load_decoder(arguments.directory, arguments.library or default_library())
        if is_quantized(arguments.directory):
            raise BadInput(f"{arguments.directory}: the model is quantised already")
        files, length = text_of(arguments, "calibration.txt"), length_of(arguments)
        tokens = read_tokens(arguments.directory, files, decoder.configuration.vocabulary)
        sequences = tokens.windows(length, arguments.sequences, arguments.text_seed)
        backend = choose_backend(arguments.backend).backend
        blocks = quantize_model(
            decoder, sequences, plan, backend, batch=arguments.batch, told=progress.stage
        )
        description = {
            "method": method,
            "options": {**given, "drift": plan.drift, "residual": plan.residual},
            "store": arguments.store,
            "calibration": {
                "tokens_sha256": tokens.sha256,
                "sequences": arguments.sequences,
                "length": length,
                "seed": arguments.text_seed,
            },
        }
        manifest = write_model(
            folder, arguments.directory, decoder, blocks, description, arguments.store
        )
    print(report(manifest, arguments.output))
    print(f"\nwritten to {arguments.output} in {time.monotonic() - started:.0f} s")
    print(f"digest of the directory {directory_digest(arguments.output)}")
    found = manifest["rates"][plan.measure]
    if searched is not None and abs(found - searched) > TOLERANCE:
        fail(
            "waterlevel model quantize",
            f"the {plan.measure} of {searched:g} was not met: the closest found is {found:.4f}; "
            f"{arguments.output} was written all the same",
        )
        return 1
    return 0


def default_library() -> str:
    """numba where it is installed, else numpy."""
    from importlib.util import find_spec

    return "numpy" if find_spec("numba") is None else "numba"


def report(manifest: dict[str, Any], output: Path) -> str:
    """One row for each kind of layer, and one for the model."""
    rows, kinds = [], {}
    for layer in manifest["layers"]:
        kinds.setdefault(layer["name"].split(".")[-2], []).append(layer)
    for kind, layers in kinds.items():
        weights = sum(layer["rows"] * layer["columns"] for layer in layers)
        mean = {
            name: sum(q["rows"] * q["columns"] * q["rates"][name] for q in layers) / weights
            for name in ("rate", "rate_column")
        }
        error = sum(q["distortion"] for q in layers) / len(layers)
        rows.append(
            (
                kind,
                f"{weights:,}",
                number(mean["rate"]),
                number(mean["rate_column"]),
                f"{error:.3g}",
            )
        )
    rates = manifest["rates"]
    rows.append(
        ("all", f"{manifest['weights']:,}", number(rates["rate"]), number(rates["rate_column"]), "")
    )
    return table(rows, ("layers", "weights", "rate", "column", "distortion"))
