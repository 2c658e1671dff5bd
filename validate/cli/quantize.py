"""`waterlevel quantize`: one layer by one method, written with all that is known of the result."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...reference.coding.rates import RATE_MEASURES
from ...reference.errors import BadInput
from ...reference.grids.float_formats import FORMATS
from ...reference.methods.grid_fitting import INTEGER
from ..layers import bitstream
from ..layers.layer_files import check_target, read_layer, to_json, write_tensors
from ..layers.quantize_layer import METHODS, quantize
from ..layers.remarks import decibels, side_information_rate
from ..support.backend_choice import Choice, add_backend_argument, choose_backend
from ..support.console import fail, number, one_line, table
from ..support.progress import Progress

SUMMARY = "quantise one layer and say what it costs"
EXAMPLES = """\
examples:
  waterlevel quantize layer.safetensors --method watersic --rate 3 -o out.safetensors
  waterlevel quantize layer.safetensors --method gptq --bits 4 --group-size 128 --actorder \\
      -o out.safetensors
  waterlevel quantize layer.safetensors --method rtn --entropy-coded --rate 3 --rotate hadamard \\
      -o out.safetensors --json

The layer file holds weight (outputs × inputs) and covariance (inputs × inputs). Rates are in bits
per weight. Exit code 1 says that a searched rate was not met: the closest result is written all the
same. Codes, scales and dequantized are the same bits on every machine and backend; limit and gap
rest on eigenvalues by LAPACK and are not."""

SPACING = ("rate", "spacing", "open_loop", "rate_measure")
GRID = ("bits", "format", "asymmetric", "mse", "group_size", "static_groups", "block_size")
# Options that are no parameter of the library, and the parameter that a method needs to have them.
STANDS_FOR = {"entropy_coded": "bits", "rotate": "rotation", "seed": "rotation"}

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

    def switch(group: argparse._ArgumentGroup, flag: str, help: str) -> None:
        negative = flag.startswith("--no-")
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        group.add_argument(flag, action="store_const", const=not negative, dest=name, help=help)

    spacing = parser.add_argument_group(
        "entropy-coded codes", "watersic, waterfilling; rtn and gptq with --entropy-coded"
    )
    switch(spacing, "--entropy-coded", "rtn, gptq: unlimited codes with one spacing, no grid")
    spacing.add_argument("--rate", type=float, metavar="R", help="search the spacing for this rate")
    spacing.add_argument(
        "--spacing", "--step", type=float, metavar="C", help="the spacing itself, no search"
    )
    switch(spacing, "--open-loop", "take the spacing from --rate by formula, no search")
    spacing.add_argument(
        "--rate-measure", choices=RATE_MEASURES, help="what the search aims at (rate)"
    )
    switch(spacing, "--no-lmmse", "watersic, waterfilling: no gains")
    switch(spacing, "--no-rescale", "watersic: no row and column rescaling")

    grid = parser.add_argument_group("finite grids", "rtn, gptq")
    grid.add_argument("--bits", type=count, metavar="B", help="2 to 8, for --format int")
    grid.add_argument("--format", choices=(INTEGER, *FORMATS), help="values of the grid (int)")
    grid.add_argument(
        "--group-size", type=count, metavar="G", help="columns that share a grid (the whole row)"
    )
    switch(grid, "--asymmetric", "int: with a zero point")
    switch(grid, "--mse", "int: search the range for the least error")
    switch(grid, "--static-groups", "gptq: groups from the original weight, by original place")
    grid.add_argument(
        "--block-size",
        type=count,
        metavar="N",
        help="gptq: columns between updates, which decides what the grids of groups see (128)",
    )

    layer = parser.add_argument_group("the layer")
    switch(layer, "--actorder", "gptq: columns by descending diagonal of the covariance")
    layer.add_argument(
        "--damping",
        type=float,
        metavar="δ",
        help="gptq (0.01), watersic (0.0001): in parts of the covariance's mean diagonal",
    )
    layer.add_argument(
        "--dead-threshold",
        type=float,
        metavar="τ",
        help="watersic: features with less than τ times the median energy are left out (0.001)",
    )
    layer.add_argument(
        "--rotate",
        choices=("hadamard", "haar", "given"),
        help="rtn, gptq, watersic: in another basis; given is the tensor `rotation` of the file",
    )
    layer.add_argument("--seed", type=int, metavar="N", help="of --rotate hadamard or haar (0)")

    run = parser.add_argument_group("run")
    run.add_argument("--dtype", choices=("float64", "float32"), help="working precision (float64)")
    add_backend_argument(run)
    run.add_argument(
        "--encode",
        action="store_true",
        help="also make a real bitstream of the codes, decode it, and report its size as "
        "rate_bytes (without the scales); the stream is not kept",
    )
    run.add_argument("--json", action="store_true", help="the report as JSON")


def count(text: str) -> int:
    """A number of bits or columns on the command line."""
    with suppress(ValueError):
        if 1 <= int(text) < 2**31:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {2**31 - 1}")


def run(arguments: argparse.Namespace) -> int:
    """Quantise, write, report. Exit code 0, or 1 if a rate was searched for and not met."""
    given = check_options(arguments)
    check_target(arguments.output, arguments.input)
    if arguments.encode:
        bitstream.encode(np.zeros((1, 1), np.int32))  # says at once if a package is missing
    choice = choose_backend(arguments.backend)
    with Progress(arguments.method) as progress:
        progress.stage("reading")
        outcome = quantize(
            read_layer(arguments.input),
            arguments.method,
            {name: value for name, value in given.items() if name not in STANDS_FOR},
            choice.backend,
            progress,
            rotate=arguments.rotate,
            seed=arguments.seed or 0,
        )
        if arguments.encode:
            progress.stage("bitstream")
            outcome = outcome.encoded()
        progress.stage("limit")
        description = outcome.description()
        progress.stage("writing")
        report = write_tensors(arguments.output, outcome.tensors(), description)
    if arguments.json:
        files = {"input_file": str(arguments.input), "output_file": str(arguments.output)}
        print(to_json({**report, **files}, indent=2))
    else:
        print(text(report, arguments, choice))
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


def check_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the method that were given, by name.

    Raises:
        BadInput: an option that the method, or what was asked of it, does not use; one that is
            missing.
    """
    names = {*SPACING, *GRID, *STANDS_FOR, "lmmse", "rescale", "actorder", "damping"}
    names |= {"dead_threshold", "dtype"}
    given = {n: value for n in names if (value := getattr(arguments, n)) is not None}
    method = arguments.method
    for name in sorted(given):
        users = [m for m in METHODS if _takes(m, name)]
        if method not in users:
            always = " (it always is)" if name == "entropy_coded" else ""
            raise BadInput(
                f"{_flag(name)} is not an option of {method}{always}; "
                f"it belongs to {' and '.join(users)}"
            )
    entropy_coded = given.get("entropy_coded", not _takes(method, "bits"))
    for name in GRID if entropy_coded else SPACING:
        if name in given:
            raise BadInput(
                f"{_flag(name)} belongs to finite grids, and --entropy-coded has none"
                if entropy_coded
                else f"{_flag(name)} needs --entropy-coded with {method}"
            )
    if entropy_coded and ("rate" in given) == ("spacing" in given):
        who = f"{method} --entropy-coded" if _takes(method, "bits") else method
        raise BadInput(f"{who} needs either --rate R or --spacing C")
    if not entropy_coded and "bits" not in given and given.get("format", INTEGER) == INTEGER:
        raise BadInput(
            f"{method} needs --bits B (2 to 8), a float --format, or --entropy-coded with --rate "
            "or --spacing"
        )
    if "rate_measure" in given and ("spacing" in given or "open_loop" in given):
        raise BadInput(
            "--rate-measure is what a search aims at; --spacing and --open-loop have none"
        )
    if "seed" in given and given.get("rotate") not in ("hadamard", "haar"):
        raise BadInput("--seed needs --rotate hadamard or --rotate haar")
    return given


def _takes(method: str, name: str) -> bool:
    return STANDS_FOR.get(name, name) in inspect.signature(METHODS[method]).parameters


def _flag(name: str) -> str:
    negative = "no-" if name in ("lmmse", "rescale") else ""
    return f"--{negative}{name.replace('_', '-')}"


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
    if report["unused"]:
        lines.append(f"not used by {report['method']}: {', '.join(report['unused'])}")
    if choice.instead:
        lines.append(f"computed on {report['backend']} because {one_line(choice.instead)}")
    return "\n".join(lines)
