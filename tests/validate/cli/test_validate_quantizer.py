"""`waterlevel validate --quantizer`: levels, causes, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from waterlevel.validate.cli.main import main

SUBJECTS = """
import waterlevel.reference as reference

def right(weight, covariance, **parameters):
    return reference.gptq(weight, covariance, **parameters)

def negative_zeros(weight, covariance, bits, damping=0.01):
    made = reference.gptq(weight, covariance, bits=bits, damping=damping).dequantized
    made[made == 0] = -0.0
    return made

def five_fold(weight, covariance, bits, group_size=None, damping=0.01):
    if group_size is not None and weight.shape[1] % group_size:
        raise NotImplementedError("ragged groups")
    return reference.gptq(
        weight, covariance, bits=bits, group_size=group_size, damping=5 * damping
    ).dequantized

def forgets(weight, covariance, bits):
    "return"

def breaks(weight, covariance, bits):
    raise KeyError("a\\nb")
"""


@pytest.fixture
def subjects(tmp_path: Path) -> Path:
    path = tmp_path / "subjects.py"
    path.write_text(SUBJECTS)
    generator = np.random.default_rng(1)
    features = generator.standard_normal((300, 64)) @ generator.standard_normal((64, 64))
    layer = {
        "weight": generator.standard_normal((24, 64)).astype(np.float32),
        "covariance": (features.T @ features / 300).astype(np.float32),
    }
    save_file(layer, tmp_path / "layer.safetensors")
    return path


def report(subjects: Path, function: str, *options: str) -> tuple[int, dict]:
    target = subjects.parent / "report.json"
    layer = str(subjects.parent / "layer.safetensors")
    named = ["validate", "--quantizer", f"{subjects}:{function}", "--layer", layer]
    code = main([*named, "--json", str(target), *options])
    return code, json.loads(target.read_text())


def test_the_oracle_itself(subjects: Path, capsys: pytest.CaptureFixture[str]):
    code, found = report(subjects, "right")
    assert code == 0
    assert {case["level"] for case in found["cases"]} == {"bits"}
    assert found["causes"] == []
    assert "12 bits" in capsys.readouterr().out


def test_signs_of_zeros(subjects: Path):
    code, found = report(subjects, "negative_zeros")
    assert code == 1
    assert {case["level"] for case in found["cases"]} == {"bits but for signs of zeros"}
    level = ("--level", "bits but for signs of zeros")
    assert report(subjects, "negative_zeros", *level)[0] == 0


def test_a_cause_and_what_was_skipped(subjects: Path, capsys: pytest.CaptureFixture[str]):
    code, found = report(subjects, "five_fold")
    assert code == 1
    assert [cause["names"] for cause in found["causes"]] == [["damping × 5"]]
    levels = {case["level"] for case in found["cases"]}
    assert levels <= {"rate-distortion", "none"}
    assert len(found["causes"][0]["cases"]) == len(found["cases"])
    out = capsys.readouterr().out
    assert "5 times the damping" in out
    assert "ragged groups (1)" in out
    assert "actorder" in out


@pytest.mark.parametrize(
    ("function", "says"), [("forgets", "returned None"), ("breaks", "failed with KeyError")]
)
def test_no_answer_is_an_outcome(function: str, says: str, subjects: Path):
    code, found = report(subjects, function)
    assert code == 1
    assert {case["level"] for case in found["cases"]} == {"failed"}
    assert all(says in case["why"] and "\n" not in case["why"] for case in found["cases"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--quantizer", "nothing"], "module:function"),
        (["--quantizer", "math:pi"], "expected a function"),
        (["--quantizer", "operator:matmul", "--cases", "gptq/*"], "--cases goes with a backend"),
        (["--quantizer", "operator:matmul", "--rows", "-1"], "--rows is -1"),
        (["--quantizer", "operator:matmul", "--layer", "missing"], "missing"),
        (["--rows", "3"], "--rows goes with --quantizer"),
        (["--level", "codes"], "--level goes with --quantizer"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_golden_cases_of_rtn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "one.py"
    path.write_text("from waterlevel.reference import rtn\ndef f(w, c, **p): return rtn(w, c, **p)")
    assert main(["validate", "--quantizer", f"{path}:f", "--method", "rtn", "--rows", "4"]) == 0
    assert "golden cases: " in capsys.readouterr().out
