"""The options of the methods, as `quantize` and `model quantize` have them."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...reference.coding.rates import RATE_MEASURES
from ...reference.errors import BadInput
from ...reference.grids.float_formats import FORMATS
from ...reference.methods.grid_fitting import INTEGER
from ...reference.methods.preparation import UNSEEN
from ..layers.quantize_layer import METHODS

SPACING = ("rate", "spacing", "open_loop", "rate_measure")
GRID = ("bits", "format", "asymmetric", "mse", "group_size", "static_groups", "block_size")
# Options that are no parameter of the library, and the parameter that a method needs to have them.
STANDS_FOR = {"entropy_coded": "bits", "rotate": "rotation", "seed": "rotation"}


def add_method_arguments(parser: argparse.ArgumentParser, rotations: Sequence[str]) -> None:
    """Options of the methods; one that is not given is None, and the library's default."""

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
        "--unseen",
        choices=UNSEEN,
        help="rtn, gptq: weights of a feature that calibration never saw become 0 (the default), "
        "or are rounded to nearest",
    )
    layer.add_argument(
        "--rotate",
        choices=rotations,
        help="rtn, gptq, watersic: in another basis"
        + ("; given is the tensor `rotation` of the file" if "given" in rotations else ""),
    )
    layer.add_argument("--seed", type=int, metavar="N", help="of a random rotation (0)")
    layer.add_argument(
        "--dtype", choices=("float64", "float32"), help="working precision (float64)"
    )


def count(text: str) -> int:
    """A number of bits or columns on the command line."""
    with suppress(ValueError):
        if 1 <= int(text) < 2**31:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {2**31 - 1}")


def check_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the method that were given, by name.

    Raises:
        BadInput: an option that the method, or what was asked of it, does not use; one that is
            missing.
    """
    names = {*SPACING, *GRID, *STANDS_FOR, "lmmse", "rescale", "actorder", "damping"}
    names |= {"dead_threshold", "unseen", "dtype"}
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


def library_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are parameters of the method's function."""
    return {name: value for name, value in given.items() if name not in STANDS_FOR}


def _takes(method: str, name: str) -> bool:
    return STANDS_FOR.get(name, name) in inspect.signature(METHODS[method]).parameters


def _flag(name: str) -> str:
    negative = "no-" if name in ("lmmse", "rescale") else ""
    return f"--{negative}{name.replace('_', '-')}"
