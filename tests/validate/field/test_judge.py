"""The field: what is not installed, what fails and what is judged, each an entry."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from waterlevel.validate.field import judge
from waterlevel.validate.quantizers.subject import as_quantizer

REPORTS = Path(__file__).resolve().parents[3] / "data" / "reports"


def test_every_adapter_is_a_subject():
    for name, (function, _, method) in judge.ADAPTERS.items():
        assert as_quantizer(name, function).takes("bits")
        assert method in ("gptq", "rtn")
        assert function.__doc__


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch):
    missing = (lambda weight, covariance: weight, "no-such-package-anywhere", "gptq")
    monkeypatch.setitem(judge.ADAPTERS, "missing", missing)
    (entry,) = judge.judge_field(["missing"])
    assert entry["reason"] == "not installed"
    assert "Not judged: not installed." in judge.to_page([entry])


def test_a_package_that_fails_takes_nothing_from_the_rest(monkeypatch: pytest.MonkeyPatch):
    """NumPy is installed, and the child does not know the name."""
    monkeypatch.setitem(judge.ADAPTERS, "unknown", (lambda w, c: w, "numpy", "gptq"))
    (entry,) = judge.judge_field(["unknown"])
    assert "KeyError" in entry["reason"]


def test_one_that_takes_too_long_is_said(monkeypatch: pytest.MonkeyPatch):
    def late(*arguments: object, **named: object) -> None:
        raise subprocess.TimeoutExpired("child", 1)

    monkeypatch.setattr(subprocess, "run", late)
    monkeypatch.setitem(judge.ADAPTERS, "late", (lambda w, c: w, "numpy", "gptq"))
    (entry,) = judge.judge_field(["late"])
    assert "timed out" in entry["reason"]


def test_what_a_package_requires_in_another_version_is_said(monkeypatch: pytest.MonkeyPatch):
    wanted = [
        "numpy<1",
        "no-such-package-anywhere>=2",
        "scipy>=1",
        "numpy<1; extra == 'more'",
        "numpy<1; python_version < '3'",
    ]
    monkeypatch.setattr(judge, "requires", lambda name: wanted)
    here = f"numpy <1 (here {version('numpy')})"
    absent = "no-such-package-anywhere >=2 (here not installed)"
    assert judge.unmet_requirements("any") == [absent, here]

    monkeypatch.setattr(judge, "_in_a_process", lambda name, rows: {"cases": [], "causes": [],
                        "unexplained": [], "skipped": []})  # fmt: skip
    monkeypatch.setitem(judge.ADAPTERS, "pinned", (lambda w, c: w, "numpy", "gptq"))
    page = judge.to_page(judge.judge_field(["pinned"]))
    assert f"Run outside its own requirements: {absent}, {here}." in page
    monkeypatch.setattr(judge, "requires", lambda name: None)
    assert "requirements" not in judge.to_page(judge.judge_field(["pinned"]))


def test_the_committed_page_is_that_of_the_committed_report():
    report = json.loads((REPORTS / "field.json").read_text("utf-8"))
    assert (REPORTS / "FIELD.md").read_text("utf-8") == judge.to_page(report["entries"])
    assert any("report" in entry for entry in report["entries"])
