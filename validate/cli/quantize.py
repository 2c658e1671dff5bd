"""`waterlevel quantize`: one layer by one method, written with all that is known of the result."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...reference.errors import BadInput, WaterlevelError
from ..layers import bitstream
from ..layers.layer_files import check_target, read_layer, write_tensors
from ..layers.quantize_layer import METHODS, quantize
from ..layers.remarks import decibels, side_information_rate
from ..support.backend_choice import Choice, add_backend_argument, choose_backend
from ..support.console import fail, number, one_line, table
from ..support.progress import Progress
from .json_option import add_json_argument, check_json_target, give
from .method_options import add_method_arguments, check_options, library_options

EXAMPLES = """\
examples:
  waterlevel quantize layer.safetensors --method watersic --rate 3 -o out.safetensors
  waterlevel quantize layer.safetensors --method gptq --bits 4 --group-size 128 --actorder \\
      -o out.safetensors
  waterlevel quantize layer.safetensors --method rtn --entropy-coded --rate 3 --rotate hadamard \\
      -o out.safetensors --json -

The layer file holds weight (outputs × inputs) and covariance (inputs × inputs). Rates are in bits
per weight. Exit code 1 says that a searched rate was not met: the closest result is written all the
same. Codes, scales and dequantized are the same bits on every machine and backend. Limit and gap
rest on eigenvalues by LAPACK and are not, nor is a basis that LAPACK finds (--rotate haar;
waterfilling without eigenvectors in the file); it is stored, and exact from there on."""

RATE = "bits per weight in a file, side information included"
MEANINGS = {
    "rate_column": "each column's own entropy, no side information",
    "rate_pooled": "one table for all codes, and 16 bits per row and column",
    "rate_huffman": "Huffman codes for 16 classes of columns, and side information",
    "rate_bytes": "a real bitstream of the codes, decoded again; scales not counted",
    "limit": "limit for Gaussian weights at this distortion",
    "gap": "rate_column - limit",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command; one that is not given is None, and the library's default."""
    parser.epilog = EXAMPLES
    parser.usage = f"{parser.prog} IN.safetensors --method M [options] -o OUT.safetensors"
    parser.add_argument("input", type=Path, metavar="IN.safetensors", help="the layer file")
    parser.add_argument("--method", required=True, choices=METHODS)
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT.safetensors", help="the result"
    )

    add_method_arguments(parser, ("hadamard", "haar", "given"))
    run = parser.add_argument_group("run")
    add_backend_argument(run)
    run.add_argument(
        "--encode",
        action="store_true",
        help="also make a real bitstream of the codes, decode it, and report its size as "
        "rate_bytes (without the scales); the stream is not kept",
    )
    add_json_argument(run)


def run(arguments: argparse.Namespace) -> int:
    """Quantise, write, report. Exit code 0, or 1 if a rate was searched for and not met."""
    given = check_options(arguments)
    check_target(arguments.output, arguments.input)
    check_json_target(arguments.json)
    if arguments.encode:
        bitstream.encode(np.zeros((1, 1), np.int32))  # says at once if a package is missing
    choice = choose_backend(arguments.backend)
    with Progress(arguments.method) as progress:
        progress.stage("reading")
        layer = read_layer(arguments.input)
        try:
            outcome = quantize(
                layer,
                arguments.method,
                library_options(given),
                choice.backend,
                progress,
                rotate=arguments.rotate,
                seed=arguments.seed or 0,
            )
        except WaterlevelError as error:
            raise BadInput(f"{arguments.input}: {error}") from None
        if arguments.encode:
            progress.stage("bitstream")
            outcome = outcome.encoded()
        progress.stage("limit")
        description = outcome.description()
        progress.stage("writing")
        report = write_tensors(arguments.output, outcome.tensors(), description)
    files = {"input_file": str(arguments.input), "output_file": str(arguments.output)}
    give(arguments.json, {**report, **files}, text(report, arguments, choice))
    program = f"waterlevel {arguments.command}"
    for line in outcome.remarks:
        fail(program, f"{arguments.input}: {line}")
    if not outcome.result.rate_met:
        parameters = outcome.result.parameters
        measure = parameters["rate_measure"]
        shape = (report["rows"], report["columns"])
        least = side_information_rate(arguments.method, parameters, *shape, measure)
        fail(
            program,
            f"the {measure} of {given['rate']:g} was not met: the closest found is "
            f"{report['rates'][measure]:.4f} (side information alone costs at least {least:.4f}); "
            f"{arguments.output} was written all the same",
        )
        return 1
    return 0


def text(report: Mapping[str, Any], arguments: argparse.Namespace, choice: Choice) -> str:
    """The report for somebody who reads it at a terminal."""
    parameters, rates = report["parameters"], report["rates"]
    heading = (
        f"{arguments.input}: {report['method']}, {report['rows']}×{report['columns']}, "
        f"{parameters['dtype']} on {report['backend']}"
    )
    meanings = {"rate": RATE, **MEANINGS}
    if report["limit_undefined"]:
        meanings["limit"] = report["limit_undefined"]
    if parameters.get("rate") is not None and not parameters["open_loop"]:
        verdict = "met" if report["rate_met"] else "NOT met"
        meanings[parameters["rate_measure"]] += f"; searched {parameters['rate']:g}: {verdict}"
    if rates["rate_bytes"] is None:
        del meanings["rate_bytes"]
    numbers = {**rates, "limit": report["limit"], "gap": report["gap"]}
    rows = [(name, number(numbers[name]), meaning) for name, meaning in meanings.items()]
    relative = report["relative_error"]
    share = "" if relative is None else f"; {relative:.3g} of its energy, {decibels(relative)}"
    rows.append(
        (
            "distortion",
            f"{report['distortion']:.6g}",
            f"squared error of the output, per weight{share}",
        )
    )
    if grid := report["grid"]:
        weights = report["rows"] * report["columns"]
        ends, unused, levels = (grid[key] for key in ("codes_at_ends", "unused_levels", "levels"))
        rows.append(
            ("at the ends", f"{ends / weights:.2%}", "of the codes are at an end of the grid")
        )
        rows.append(("unused", f"{unused} of {levels}", "levels that no weight uses"))
    if "spacing" in parameters:
        rows.append(("spacing", f"{parameters['spacing']:.6g}", ""))
    lines = [heading, "", table(rows), "", f"written to {arguments.output}"]
    group = parameters.get("group_size")
    if group and group < report["columns"] and (last := report["columns"] % group):
        lines.append(f"the last group has {last} columns in place of {group}")
    if report["unused"]:
        lines.append(f"not used by {report['method']}: {', '.join(report['unused'])}")
    if choice.instead:
        lines.append(f"computed on {report['backend']} because {one_line(choice.instead)}")
    return "\n".join(lines)
