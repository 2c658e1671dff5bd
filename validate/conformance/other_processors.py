"""Did all processors find the same bits? A summary of reports of `waterlevel validate --json`.

    python -m waterlevel.validate.conformance.other_processors \
        --output SUMMARY.json NAME=REPORT.json …

For each report the summary says on what it was made, and for each backend how many cases passed and
one digest of everything: the SHA-256 of the lines "case output sha256", in the order of the index.
Backends that ran the same cases must have the same digest. Exit code 1 says that one has not, that
a case failed, or that the reports are not of the same cases.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..layers.layer_files import to_json
from ..support.whole_files import write_whole
from .reports import KIND


def digest_of_everything(results: Sequence[Mapping[str, Any]]) -> str:
    """One SHA-256 for all outputs and errors of a backend."""
    lines = []
    for result in results:
        outputs = result["outputs"] or {"error": result["error"]}
        lines += [f"{result['case']} {name} {found}\n" for name, found in sorted(outputs.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def summarize(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of reports by name."""
    made = {}
    for name, report in reports.items():
        backends = {
            backend["name"]: {
                "passed": backend["passed"],
                "cases": backend["counts"],
                "probes": len(backend["probes"]),
                "digest": digest_of_everything(backend["results"]),
            }
            for backend in report["backends"]
        }
        made[name] = {"environment": report["environment"], "backends": backends}
    first = next(iter(reports.values()))
    return {
        "kind": f"{KIND}, other processors",
        "version": first["version"],
        "contract": first["contract"],
        "cases": first["cases"],
        "equal": not disagreements(reports),
        "machines": made,
    }


def disagreements(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is not as it should be, one line each."""
    lines = []
    first = next(iter(reports.values()))
    expected: tuple[str, str] | None = None
    for name, report in reports.items():
        if (report["contract"], report["cases"]) != (first["contract"], first["cases"]):
            lines.append(f"{name}: was made with another contract or other golden cases")
        for backend in report["backends"]:
            title = f"{name}, {backend['name']}"
            if not backend["passed"]:
                lines.append(f"{title}: differs from the golden cases")
            found = digest_of_everything(backend["results"])
            expected = expected or (title, found)
            if found != expected[1]:
                lines.append(f"{title}: another digest than {expected[0]}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the reports, write the summary. Exit code 0 if all agree, else 1."""
    parser = argparse.ArgumentParser(prog="other_processors")
    parser.add_argument("reports", nargs="+", metavar="NAME=REPORT.json")
    parser.add_argument("--output", required=True, type=Path, metavar="SUMMARY.json")
    options = parser.parse_args(arguments)
    reports = {}
    for named in options.reports:
        name, _, path = named.partition("=")
        reports[name] = json.loads(Path(path).read_text("utf-8"))
    lines = disagreements(reports)
    write_whole(options.output, (to_json(summarize(reports), indent=1) + "\n").encode())
    for line in lines:
        print(line)
    ran = sum(len(report["backends"]) for report in reports.values())
    print(f"{ran} runs on {len(reports)} machines: {'NOT equal' if lines else 'all equal'}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
