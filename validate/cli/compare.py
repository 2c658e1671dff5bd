"""`waterlevel compare`: two files that should hold the same bits, and why they do not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from ...reference.errors import BadInput
from ..conformance.compare_reports import ReportComparison, compare_reports
from ..diagnosis.compare_layers import diagnose_file, notes
from ..diagnosis.explain import Diagnosis
from ..layers.any_tensors import TensorFile, read_tensors
from ..layers.layer_files import read_layer
from ..support.comparison import Difference, compare_outputs, describe_shape
from ..support.console import table
from ..support.progress import Progress
from .json_option import add_json_argument, check_json_target, give

EXAMPLES = """\
examples:
  waterlevel compare a.safetensors b.safetensors
  waterlevel compare a.safetensors b.safetensors --input layer.safetensors
  waterlevel compare one-machine.json another-machine.json

Two safetensors files (results of `quantize`, or any others), or two reports of `validate --json`.
With --input, the layer that both were made from, each file is compared with the oracle, and one
that differs is run again under deviations of the arithmetic until one gives its bits. Exit code 0:
equal; 1: different; 2: a file that cannot be read."""

SECONDS = 300.0
LINES = 20  # of a report's differences on a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = EXAMPLES
    parser.add_argument("one", type=Path, metavar="A", help="what is expected")
    parser.add_argument("other", type=Path, metavar="B", help="what came out elsewhere")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="LAYER.safetensors",
        help="the layer that was quantised: find the likely cause",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        metavar="S",
        help=f"time for finding the cause of one file's difference ({SECONDS:g})",
    )
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare and report. Exit code 0 if equal, 1 if not."""
    check_json_target(arguments.json)
    kinds = [_is_json(path) for path in (arguments.one, arguments.other)]
    if kinds[0] != kinds[1]:
        raise BadInput(
            f"{arguments.one} and {arguments.other} are not of a kind: one is JSON, the other is "
            "not; compare two safetensors files, or two reports of `waterlevel validate --json`"
        )
    if kinds[0]:
        if arguments.input is not None:
            raise BadInput("--input goes with two quantised layers, not with reports")
        return _run_reports(arguments)
    one, other = read_tensors(arguments.one), read_tensors(arguments.other)
    differences = compare_outputs(one.tensors, other.tensors)
    remarks = notes(one, other) if differences else []
    diagnoses: dict[str, Diagnosis] = {}
    if arguments.input is not None:
        layer = read_layer(arguments.input)
        with Progress("compare") as progress:
            for role, file, reference in (("A", one, other), ("B", other, one)):
                if role == "B" and not differences:
                    diagnoses[role] = diagnoses["A"]  # the same bits
                    continue
                progress.stage(f"{role} against the oracle")
                diagnoses[role] = diagnose_file(file, reference, layer, arguments.seconds)
    content = {
        "equal": not differences,
        "files": {"A": str(one.path), "B": str(other.path)},
        "tensors": {
            name: differences[name].to_json() if name in differences else None
            for name in {**one.tensors, **other.tensors}
        },
        "notes": remarks,
        "diagnosis": {role: found.to_json() for role, found in diagnoses.items()},
    }
    give(arguments.json, content, _text(one, other, differences, remarks, diagnoses))
    return 1 if differences else 0


def _is_json(path: Path) -> bool:
    if path.exists() and not path.is_file():
        return False  # what it is will be said where it is read
    with path.open("rb") as file:
        start = file.read(64)
    # The other kind begins with the length of its header, whose upper bytes are 0.
    return b"\0" not in start[:8] and start.lstrip()[:1] in (b"{", b"[")


def _text(
    one: TensorFile,
    other: TensorFile,
    differences: Mapping[str, Difference],
    remarks: list[str],
    diagnoses: Mapping[str, Diagnosis],
) -> str:
    rows = []
    for name in {**one.tensors, **other.tensors}:
        tensor = one.tensors.get(name, other.tensors.get(name))
        assert tensor is not None
        verdict = "DIFFERENT" if name in differences else "equal"
        rows.append((name, str(tensor.dtype), describe_shape(tensor.shape), verdict))
    lines = [f"A {one.path}", f"B {other.path}", "", table(rows), ""]
    lines += [difference.message("B", name) for name, difference in differences.items()]
    lines += remarks
    for role, found in diagnoses.items():
        heading = f"{role} against the oracle:"
        body = found.lines() or ["every bit is equal"]
        lines += ["", heading, *(f"  {line}" for line in body)]
    if not differences:
        lines.append("equal in every bit" if rows else "equal: both files are empty")
    return "\n".join(lines)


def _run_reports(arguments: argparse.Namespace) -> int:
    paths = (arguments.one, arguments.other)
    contents = []
    for path in paths:
        try:
            contents.append(json.loads(path.read_text("utf-8")))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}: not JSON ({error})") from None
    found = compare_reports(contents[0], contents[1], (str(paths[0]), str(paths[1])))
    content = {
        "equal": found.equal,
        "files": {"A": str(paths[0]), "B": str(paths[1])},
        "compared": found.compared,
        "different": found.different,
        "unmatched": found.unmatched,
        "notes": found.notes,
    }
    give(arguments.json, content, _report_text(found))
    return 0 if found.equal else 1


def _report_text(found: ReportComparison) -> str:
    lines = [*found.notes]
    for what, entries in (("differ", found.different), ("not compared", found.unmatched)):
        lines += entries[:LINES]
        if len(entries) > LINES:
            lines.append(f"… and {len(entries) - LINES} more ({what}); --json lists them all")
    equal = found.compared - len(found.different)
    return "\n".join([*lines, f"{equal} of {found.compared} cases are equal in every bit"])
