"""The summary of reports from several machines, and the one that is committed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from waterlevel.data import DIRECTORY
from waterlevel.validate.cli.main import main as waterlevel
from waterlevel.validate.conformance.other_processors import disagreements, main


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("report") / "report.json"
    command = [
        "validate",
        "--backend",
        "numpy",
        "--cases",
        "transpose/*",
        "--cases",
        "cholesky/inv*",
    ]
    assert waterlevel([*command, "--json", str(path)]) == 0
    return json.loads(path.read_text("utf-8"))


def test_equal_reports_make_a_summary(report: dict, tmp_path: Path, capsys):
    for name in ("one", "other"):
        (tmp_path / name).write_text(json.dumps(report))
    arguments = [f"{name}={tmp_path / name}" for name in ("one", "other")]
    assert main([*arguments, "--output", str(tmp_path / "summary.json")]) == 0
    assert "2 runs on 2 machines: all equal" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert summary["equal"] is True
    digests = {m["backends"]["numpy"]["digest"] for m in summary["machines"].values()}
    assert len(digests) == 1


def changed(report: dict, change) -> dict:
    other = copy.deepcopy(report)
    change(other)
    return other


def another_output(report: dict) -> None:
    report["backends"][0]["results"][0]["outputs"]["transposed"] = "0" * 64


def another_error(report: dict) -> None:
    report["backends"][0]["results"][-1]["error"] = "BadInput()"


def fewer_cases(report: dict) -> None:
    report["backends"][0]["results"].pop()


@pytest.mark.parametrize("change", [another_output, another_error, fewer_cases])
def test_one_difference_is_enough(report: dict, change, tmp_path: Path, capsys):
    (tmp_path / "one").write_text(json.dumps(report))
    (tmp_path / "other").write_text(json.dumps(changed(report, change)))
    arguments = [f"{name}={tmp_path / name}" for name in ("one", "other")]
    assert main([*arguments, "--output", str(tmp_path / "summary.json")]) == 1
    assert "other, numpy: another digest than one, numpy" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text("utf-8"))["equal"] is False


def test_failures_and_other_cases_are_told(report: dict):
    failed = changed(report, lambda r: r["backends"][0].update(passed=False))
    assert disagreements({"one": failed}) == ["one, numpy: differs from the golden cases"]
    foreign = changed(report, lambda r: r.update(cases="0" * 64))
    (line,) = disagreements({"one": report, "other": foreign})
    assert "other golden cases" in line


def test_the_committed_summary_is_of_contract_1():
    summary = json.loads((DIRECTORY / "reports" / "other-processors.json").read_text("utf-8"))
    assert summary["equal"] is True
    assert summary["contract"] == "1"  # CHANGELOG.md says what has moved since
    machines = summary["machines"]
    assert {m["environment"]["architecture"] for m in machines.values()} == {"x86_64", "aarch64"}
    assert machines["x86-64-baseline"]["environment"]["settings"]["NPY_DISABLE_CPU_FEATURES"]
    runs = [backend for machine in machines.values() for backend in machine["backends"].values()]
    assert len({backend["digest"] for backend in runs}) == 1
    assert all(backend["passed"] and backend["cases"]["passed"] > 1000 for backend in runs)
