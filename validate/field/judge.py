"""The packages one by one, each in a process of its own, and what is said of them.

A package that is not installed, fails to start or takes too long is an entry with the reason, and
takes nothing from the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from ...reference.errors import BadInput
from ..layers.layer_files import to_json
from ..quantizers.cases import questions_on_layers
from ..quantizers.run import validate_quantizer
from ..quantizers.subject import as_quantizer
from ..support.backend_choice import choose_backend
from ..support.console import one_line
from .adapters import ADAPTERS

ROWS = 16
SECONDS = 600.0  # for one package, with its import
MARK = "waterlevel field: "


def judged(name: str, rows: int) -> str:
    """The report on one adapter as a line of JSON behind MARK."""
    warnings.simplefilter("ignore")
    function, _, method = ADAPTERS[name]
    backend = choose_backend(None).backend
    questions = list(questions_on_layers([], method, rows, backend))
    report = validate_quantizer(as_quantizer(name, function), questions, backend)
    return MARK + to_json(report.to_json())


def judge_field(
    names: Sequence[str], rows: int = ROWS, announce: Callable[[str], None] = lambda what: None
) -> list[dict[str, Any]]:
    """One entry for each adapter: name, package, version, function, and its report or a reason.

    `unmet` lists what the package requires and is installed here in another version.

    Raises:
        BadInput: the package packaging is not installed.
    """
    entries = []
    for name in names:
        function, package, method = ADAPTERS[name]
        announce(name)
        entry: dict[str, Any] = {
            "name": name,
            "package": package,
            "method": method,
            "function": one_line(function.__doc__ or ""),
            "rows": rows,
        }
        try:
            entry["version"] = version(package)
            entry["unmet"] = unmet_requirements(package)
            entry["report"] = _in_a_process(name, rows)
        except PackageNotFoundError:
            entry["reason"] = "not installed"
        except (subprocess.SubprocessError, ValueError) as error:
            entry["reason"] = one_line(error)
        entries.append(entry)
    return entries


def unmet_requirements(package: str) -> list[str]:
    """What a package asks for, without extras, and does not find here in such a version."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        raise BadInput("--field needs the package packaging: pip install packaging") from None
    unmet = []
    for text in sorted(requires(package) or ()):
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            installed = "not installed"
        if installed == "not installed" or not wanted.specifier.contains(installed, True):
            unmet.append(f"{wanted.name} {wanted.specifier} (here {installed})")
    return unmet


def _in_a_process(name: str, rows: int) -> dict[str, Any]:
    module = __package__ or ""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, name, str(rows)],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    line = next((x for x in done.stdout.splitlines() if x.startswith(MARK)), None)
    if line is None:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise ValueError(f"exit code {done.returncode}: {last}")
    return json.loads(line.removeprefix(MARK))


def to_page(entries: Sequence[dict[str, Any]]) -> str:
    """The page: what was run, how far each came, and the causes of what differs."""
    lines = [
        "# Published quantisers, judged",
        "",
        "Made by `waterlevel validate --field`. Each package runs on rows of a bundled layer and "
        "is held against this package with the same parameters. *Bits lost* is ½·log₂ of the ratio "
        "of the distortions: what the difference costs, in bits per weight; below 0 it gains. A "
        "cause is a change of meaning under which every weight is the package's, but for ties: "
        "another grid is a choice and no fault. One weight that it does not explain would refute "
        "it.",
    ]
    for entry in entries:
        lines += [
            "",
            f"## {entry['name']} ({entry['package']} {entry.get('version', '')})".rstrip(),
        ]
        lines += ["", entry["function"]]
        if entry.get("unmet"):
            lines += [
                "",
                f"Run outside its own requirements: {', '.join(entry['unmet'])}. What follows is "
                "said of these versions together, not of those that the package asks for.",
            ]
        if "reason" in entry:
            lines += ["", f"Not judged: {entry['reason']}."]
            continue
        report = entry["report"]
        lines += ["", "| setting | level | bits lost |", "|---|---|---|"]
        for case in report["cases"]:
            lost = case["bits_lost"]
            said = "" if lost is None else f"{lost:+.3f}"
            lines.append(f"| {case['case'].partition(', ')[2]} | {case['level']} | {said} |")
        for cause in report["causes"]:
            words = "; ".join(cause["causes"])
            settings = ", ".join(f"“{c.partition(', ')[2]}”" for c in cause["cases"])
            lines += ["", f"Cause for {settings}: **{' and '.join(cause['names'])}**: {words}."]
        for case in report["unexplained"]:
            setting = case["case"].partition(", ")[2]
            share = f"{case['share_as_asked']:.1%}"
            lines += ["", f"Not explained: “{setting}”; {share} of the weights are as asked for."]
        lacking = Counter(name for skip in report["skipped"] for name in skip["parameters"])
        if lacking:
            lines += ["", f"Not asked, for what it does not take: {', '.join(sorted(lacking))}."]
    return "\n".join(lines) + "\n"
