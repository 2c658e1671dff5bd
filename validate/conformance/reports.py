"""What `waterlevel validate` says: on a terminal, as JSON, and as JUnit for a build server.

The JSON has no times in it, so that two machines that agree write the same results:

    kind          "waterlevel validate"
    version, contract, cases    of the package, its contract, and SHA-256 of the index of cases
    environment   machine, system, libraries, settings
    unusable      [{name, reason}]    backends that cannot run here
    backends      [{name, passed, counts, device, probes, levels, results, random_layers}]
      probes      [{probe, operation, dtype, found, expected, passed}]
      levels      [{algorithm, level, cases, why}]
      results     [{case, status, outputs, error, differences, diagnosis, reason}], in the order of
                  the index; `outputs` maps each exact output to the SHA-256 of its little-endian
                  bytes in C order
      device      name, versions … of a backend on a device, else null
      random_layers   {against, reason, results: [{case, sha256, difference}]}, or null
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

from ...backends import Availability
from ...reference.contract import CONTRACT_VERSION
from ..support.console import one_line, table
from ..support.environment import device_line, environment_line
from .runner import FAILED, PASSED, SKIPPED, Result, SubjectReport

KIND = "waterlevel validate"
STATUSES = (PASSED, FAILED, SKIPPED)
NAMED_FAILURES = 8  # of one function; the report names all
NAMED_SKIPS = 3  # for one reason


def counts(report: SubjectReport) -> dict[str, int]:
    """How many cases passed, failed and were skipped."""
    return {status: len(report.of_status(status)) for status in STATUSES}


def to_report(
    reports: Sequence[SubjectReport],
    unusable: Sequence[Availability],
    environment: dict[str, Any],
    cases_digest: str,
) -> dict[str, Any]:
    """Everything, ready for JSON."""
    return {
        "kind": KIND,
        "version": version("waterlevel"),
        "contract": CONTRACT_VERSION,
        "cases": cases_digest,
        "environment": environment,
        "unusable": [asdict(entry) for entry in unusable],
        "backends": [
            {
                "name": report.name,
                "passed": report.passed,
                "counts": counts(report),
                "probes": [{**asdict(f), "passed": f.passed} for f in report.findings],
                "levels": [level.to_json() for level in report.levels],
                "results": [result.to_json() for result in report.results],
                "device": report.device,
                "random_layers": None if report.layers is None else report.layers.to_json(),
            }
            for report in reports
        ],
    }


# Terminal ---------------------------------------------------------------------------------------


def to_text(
    reports: Sequence[SubjectReport],
    unusable: Sequence[Availability],
    environment: dict[str, Any],
    verbose: bool = False,
) -> str:
    """Everything for somebody who reads it: a table, then what failed and why.

    Args:
        verbose: name all that was skipped, and not only the first few.
    """
    about = [f"Contract {CONTRACT_VERSION}; {environment_line(environment)}"]
    about += [f"{r.name}: {device_line(r.device)}" for r in reports if r.device is not None]
    parts = ["\n".join(about), _case_table(reports)]
    parts += [part for report in reports if (part := _failed_probes(report))]
    parts += [part for report in reports if (part := _failures(report))]
    parts += [part for report in reports if (part := _layer_differences(report))]
    parts += [part for report in reports if (part := _skips(report, verbose))]
    if any(report.levels for report in reports):
        parts.append(_level_table(reports))
    if unusable:
        parts.append("\n".join(f"not usable: {u.name}: {one_line(u.reason)}" for u in unusable))
    parts.append("\n".join(_verdict(report) for report in reports))
    return "\n\n".join(parts)


def _case_table(reports: Sequence[SubjectReport]) -> str:
    functions = list(dict.fromkeys(r.case.function for r in reports[0].results))
    rows = []
    if any(report.findings for report in reports):
        rows.append(("probes", *(_cell(*_probe_counts(report)) for report in reports)))
    for function in functions:
        rows.append((function, *(_cell(*_counts_of(report, function)) for report in reports)))
    if any(report.layers for report in reports):
        rows.append(("random layers", *(_cell(*_layer_counts(report)) for report in reports)))
    return table(rows, ("", *(report.name for report in reports)))


def _layer_counts(report: SubjectReport) -> tuple[int, int, int]:
    if report.layers is None:
        return 0, 0, 0
    differing = len(report.layers.differing)
    return len(report.layers.compared) - differing, differing, 0


def _layer_differences(report: SubjectReport) -> str:
    if report.layers is None:
        return ""
    if report.layers.reason is not None:
        reason = one_line(report.layers.reason)
        return f"{report.name}: random layers were not compared: {reason}"
    return "\n".join(
        f"{report.name}, not as {report.layers.against}: {one.difference}"
        for one in report.layers.differing
    )


def _probe_counts(report: SubjectReport) -> tuple[int, int, int]:
    passed = sum(finding.passed for finding in report.findings)
    return passed, len(report.findings) - passed, 0


def _counts_of(report: SubjectReport, function: str) -> tuple[int, int, int]:
    statuses = [r.status for r in report.results if r.case.function == function]
    passed, failed, skipped = (statuses.count(status) for status in STATUSES)
    return passed, failed, skipped


def _cell(passed: int, failed: int, skipped: int) -> str:
    parts = [f"{failed} of {passed + failed} FAILED"] if failed else []
    parts += [f"{passed} passed"] if passed and not failed else []
    parts += [f"{skipped} skipped"] if skipped else []
    return ", ".join(parts) or "—"


def _failed_probes(report: SubjectReport) -> str:
    failed = [finding for finding in report.findings if not finding.passed]
    return "\n".join(f"{report.name}: probe: {finding.message}" for finding in failed)


def _failures(report: SubjectReport) -> str:
    blocks = []
    for function, results in _by_function(report.of_status(FAILED)):
        first, *others = results
        lines = [f"{report.name}: {line}" for line in first.differences]
        lines += [f"    {line}" for line in first.diagnosis]
        if others:
            named = ", ".join(result.case.id for result in others[:NAMED_FAILURES])
            more = f", and {len(others) - NAMED_FAILURES} more"
            rest = more if len(others) > NAMED_FAILURES else ""
            lines.append(f"    {function} also fails: {named}{rest}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _by_function(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    ordered = sorted(results, key=lambda r: r.case.function)  # stable: the index's order within
    return [(name, list(some)) for name, some in groupby(ordered, lambda r: r.case.function)]


def _skips(report: SubjectReport, verbose: bool) -> str:
    by_reason: dict[str, list[str]] = {}
    for result in report.of_status(SKIPPED):
        by_reason.setdefault(result.reason or "", []).append(result.case.id)
    lines = []
    for reason, ids in by_reason.items():
        named = ids if verbose else ids[:NAMED_SKIPS]
        more = f" and {len(ids) - len(named)} more (--verbose)" if len(ids) > len(named) else ""
        lines.append(f"{report.name}: {len(ids)} skipped ({reason}): {', '.join(named)}{more}")
    return "\n".join(lines)


def _level_table(reports: Sequence[SubjectReport]) -> str:
    algorithms = list(dict.fromkeys(lv.algorithm for r in reports for lv in r.levels))
    rows, notes = [], []
    for algorithm in algorithms:
        cells = []
        for report in reports:
            found = next((lv for lv in report.levels if lv.algorithm == algorithm), None)
            cells.append(found.level if found else "—")
            if found and found.why:
                notes.append(f"{report.name}: {algorithm} is not better because {found.why}")
        rows.append((algorithm, *cells))
    return "\n".join([table(rows, ("level", *(report.name for report in reports))), *notes])


def _verdict(report: SubjectReport) -> str:
    found = counts(report)
    verdict = "keeps the contract" if report.passed else "DIFFERS"
    if report.passed and not found[PASSED]:
        verdict = "was not tried"
    probes = f"{len(report.findings)} probes, " if report.findings else ""
    layers = ""
    if report.layers is not None and report.layers.reason is None:
        same, differing, _ = _layer_counts(report)
        layers = f", {same} of {same + differing} random outputs as {report.layers.against}"
    return (
        f"{report.name} {verdict}: {probes}{found[PASSED]} cases passed, {found[FAILED]} failed, "
        f"{found[SKIPPED]} skipped, {report.seconds:.0f} s{layers}"
    )


# JUnit ------------------------------------------------------------------------------------------


def to_junit(reports: Sequence[SubjectReport]) -> bytes:
    """The XML that build servers read: a suite for each backend, a test for each probe and case."""
    root = ElementTree.Element("testsuites", name=KIND)
    for report in reports:
        failed_probes = sum(not finding.passed for finding in report.findings)
        same, differing, _ = _layer_counts(report)
        found = counts(report)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=report.name,
            tests=str(len(report.findings) + same + differing + len(report.results)),
            failures=str(failed_probes + differing + found[FAILED]),
            errors="0",
            skipped=str(found[SKIPPED]),
            time=f"{report.seconds:.3f}",
        )
        for finding in report.findings:
            name = f"{finding.probe}: {finding.operation} {finding.dtype}"
            test = ElementTree.SubElement(
                suite, "testcase", classname=f"{report.name}.probes", name=name, time="0"
            )
            if not finding.passed:
                ElementTree.SubElement(test, "failure", message=finding.message)
        for one in report.layers.compared if report.layers else ():
            test = ElementTree.SubElement(
                suite, "testcase", classname=f"{report.name}.random_layers", name=one.case, time="0"
            )
            if one.difference is not None:
                ElementTree.SubElement(test, "failure", message=one.difference)
        for result in report.results:
            test = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"{report.name}.{result.case.function}",
                name=result.case.id,
                time=f"{result.seconds:.3f}",
            )
            if result.status == FAILED:
                failure = ElementTree.SubElement(test, "failure", message=result.differences[0])
                failure.text = "\n".join((*result.differences, *result.diagnosis))
            elif result.status == SKIPPED:
                ElementTree.SubElement(test, "skipped", message=result.reason or "")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
