"""`waterlevel study`: its numbers are the library's, whoever computes them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from waterlevel.data import LAYERS
from waterlevel.reference import gptq, rtn, waterfilling, watersic
from waterlevel.reference.bases.rotation import HadamardRotation
from waterlevel.reference.errors import CodeOverflow
from waterlevel.validate.cli import json_option, study
from waterlevel.validate.cli.main import main
from waterlevel.validate.layers import study_tables

METHODS = [
    "RTN",
    "GPTQ natural",
    "GPTQ actorder",
    "GPTQ rotated",
    "waterfilling",
    "WaterSIC",
]
MEASURED = ("rate", "rate_column", "rate_pooled", "rate_huffman", "distortion", "limit", "gap")


def tensors(rows: int = 48, columns: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """A layer whose inputs differ in energy and are correlated, small enough for a test."""
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((4 * columns, columns)) * np.geomspace(3.0, 0.3, columns)
    inputs += generator.standard_normal((4 * columns, 1))
    return {
        "weight": generator.standard_normal((rows, columns)),
        "covariance": inputs.T @ inputs / len(inputs),
    }


def write(path: Path, content: dict[str, np.ndarray], **description: Any) -> Path:
    metadata = {"waterlevel": json.dumps(description)} if description else None
    save_file({name: np.ascontiguousarray(t) for name, t in content.items()}, path, metadata)
    return path


def run(*arguments: object, workers: int = 1) -> int:
    fixed = ("--backend", "numpy", "--workers", workers)
    return main(["study", *map(str, (*arguments, *fixed))])


def study_of(tmp_path: Path, *arguments: object, workers: int = 1) -> dict[str, Any]:
    """The JSON of a study, whose exit code must say whether every rate was met."""
    target = tmp_path / "study.json"
    code = run(*arguments, "--json", target, workers=workers)
    report = json.loads(target.read_text("utf-8"))
    results = [result for layer in report["layers"] for result in layer["results"]]
    assert results
    assert code == (0 if all(result["rate_met"] for result in results) else 1)
    return report


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    return write(tmp_path / "small.safetensors", tensors())


def test_numbers_are_those_of_the_library(tmp_path: Path, layer: Path):
    W, S = tensors()["weight"], tensors()["covariance"]
    by_hand = {
        "RTN": rtn(W, S, rate=3.0),
        "GPTQ natural": gptq(W, S, rate=3.0),
        "GPTQ actorder": gptq(W, S, rate=3.0, actorder=True),
        "GPTQ rotated": gptq(W, S, rate=3.0, rotation=HadamardRotation(8, 0)),
        "waterfilling": waterfilling(W, S, rate=3.0),
        "WaterSIC": watersic(W, S, rate=3.0),
    }
    (found,) = study_of(tmp_path, layer, "--rates", "3")["layers"]
    assert [result["method"] for result in found["results"]] == METHODS
    for result in found["results"]:
        expected = by_hand[result["method"]]
        for name in ("rate", "rate_column", "rate_pooled", "rate_huffman"):
            assert result[name] == getattr(expected.rates, name)
        assert result["distortion"] == expected.distortion
        assert result["rate_met"] == expected.rate_met
        # Eigenvalues with and without eigenvectors come from different LAPACK paths: the error of
        # n·2⁻⁵³·λ_max is far below the least eigenvalue here, so the limit moves by rounding alone.
        assert result["limit"] == pytest.approx(expected.limit, abs=1e-9)
        assert result["gap"] == result["rate_column"] - result["limit"]
        assert result["parameters"] == expected.parameters


def test_the_table_shows_the_numbers_of_the_json(
    tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str]
):
    report = study_of(tmp_path, layer, "--rates", "2,4")
    printed = capsys.readouterr().out.splitlines()
    missed = set()
    for method in METHODS:
        (line,) = (line for line in printed if line.startswith(f"{method} "))
        expected = []
        for rate in (2.0, 4.0):
            result = study_tables.find(report["layers"][0]["results"], method, rate)
            expected += [f"{result['rate_column']:.3f}", f"{result['distortion']:.2e}"]
            mark = "" if result["rate_met"] else "*"
            expected += [f"{result['limit']:.3f}", f"{result['gap']:.3f}{mark}"]
            missed |= {mark}
        assert line.removeprefix(method).split() == expected
    assert missed == {"", "*"}  # with few rows WaterSIC's side information alone costs more than 2
    assert study_tables.MISSED_LEGEND in printed


def test_json_is_complete(tmp_path: Path, layer: Path):
    second = write(tmp_path / "second.safetensors", tensors(rows=400, seed=1), type="query")
    report = study_of(tmp_path, second, layer, "--rates", "4,2.5")
    assert report["methods"] == METHODS == list(study.METHODS)
    assert report["rates"] == [4.0, 2.5]
    assert [found["name"] for found in report["layers"]] == ["second", "small"]
    assert report["layers"][0]["type"] == "query"
    for found in report["layers"]:
        assert set(found["input"]) == {"weight", "covariance"}
        cells = [(result["target"], result["method"]) for result in found["results"]]
        assert cells == [(rate, method) for rate in (4.0, 2.5) for method in METHODS]
        for result in found["results"]:
            assert all(math.isfinite(result[name]) for name in MEASURED)
            assert result["rate_met"] == (abs(result["rate"] - result["target"]) < 0.005)
            assert result["parameters"]["backend"] == "numpy"
    assert len(report["summary"]) == 2 * len(METHODS)


def test_distortion_is_told_relative_to_the_output(
    tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str]
):
    (found,) = study_of(tmp_path, layer, "--rates", "4")["layers"]
    W, S = tensors()["weight"], tensors()["covariance"]
    assert found["energy"] == pytest.approx(np.trace(W @ S @ W.T) / W.size, rel=1e-12)
    decibels = []
    for result in found["results"]:
        assert result["relative_error"] == result["distortion"] / found["energy"]
        decibels.append(f"{10 * math.log10(result['relative_error']):.1f}")
    printed = " ".join(capsys.readouterr().out.split())
    said = ", ".join(f"{method} {value}" for method, value in zip(METHODS, decibels, strict=True))
    assert f"dB at rate 4: {said}" in printed


def unseen(S: np.ndarray) -> np.ndarray:
    return S * np.outer(*2 * [np.arange(len(S)) != 3])


def low_rank(S: np.ndarray) -> np.ndarray:
    x = np.linalg.cholesky(S)[:, :3]
    return x @ x.T


SAID = {
    "never saw": ("calibration never saw 1 of 8 features (columns 3)", unseen, None),
    "tokens": ("calibration had 5 tokens for 8 inputs", lambda S: S, 5),
    "rank": ("covariance has rank 3 of 8", low_rank, None),
    "sum": ("covariance looks like a sum over tokens", lambda S: S * 65536, None),
}


@pytest.mark.parametrize("case", SAID)
def test_what_should_be_known_of_a_covariance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
):
    expected, change, tokens = SAID[case]
    content = tensors()
    content["covariance"] = change(content["covariance"])
    path = write(tmp_path / "odd.safetensors", content, calibration={"tokens": tokens})
    sound = write(tmp_path / "sound.safetensors", tensors())
    odd, well = study_of(tmp_path, path, sound, "--rates", "4")["layers"]
    (remark,) = odd["remarks"]
    assert remark.startswith(f"odd: {expected}")
    assert well["remarks"] == []
    printed = capsys.readouterr().out
    assert " ".join(f"[1] {remark}".split()) in " ".join(printed.split())
    assert "odd: 48×8[1]" in printed


def test_a_covariance_that_is_zero_takes_nothing_from_the_others(
    tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str]
):
    content = {**tensors(), "covariance": np.zeros((8, 8))}
    nothing = write(tmp_path / "nothing.safetensors", content)
    assert run(nothing, layer, "--rates", "4") == 2
    printed = capsys.readouterr()
    assert "small: 48×8" in printed.out
    (line,) = (line for line in printed.err.splitlines() if "nothing" in line)
    assert line.startswith(f"waterlevel study: {nothing}: covariance is zero: calibration saw no")


def test_summary(tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str]):
    second = write(tmp_path / "second.safetensors", tensors(rows=400, seed=1))
    report = study_of(tmp_path, layer, second, "--rates", "3")
    line = study_tables.find(report["summary"], "WaterSIC", 3.0)
    one, two = (study_tables.find(found["results"], "WaterSIC", 3.0) for found in report["layers"])
    assert line["gap_mean"] == pytest.approx((one["gap"] + two["gap"]) / 2, rel=1e-15)
    assert (line["gap_least"], line["gap_most"]) == tuple(sorted((one["gap"], two["gap"])))
    paid = (one["rate"] - one["limit"] + two["rate"] - two["limit"]) / 2
    assert line["paid_mean"] == pytest.approx(paid, rel=1e-14)
    printed = capsys.readouterr().out.partition("Over 2 layers")[2]
    assert f"{line['gap_mean']:.3f} [ {line['gap_least']:.3f}, {line['gap_most']:.3f}]" in printed


def test_processes_change_nothing(tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str]):
    second = write(tmp_path / "second.safetensors", tensors(rows=40, columns=5, seed=1))
    alone = study_of(tmp_path, second, layer, "--rates", "3,1.5")
    printed_alone = capsys.readouterr().out
    together = study_of(tmp_path, second, layer, "--rates", "3,1.5", workers=2)
    printed_together = capsys.readouterr().out
    assert together == alone
    assert "in 1 process." in printed_alone
    assert printed_alone.replace("in 1 process.", "in 2 processes.") == printed_together


def test_quiet_in_a_pipe(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write(tmp_path / "tall.safetensors", tensors(rows=2000))
    assert run(path, "--rates", "3") == 0
    assert capfd.readouterr().err == ""


def test_first_rows_are_labelled(tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str]):
    first = {**tensors(), "weight": tensors()["weight"][:20]}
    cut = write(tmp_path / "cut.safetensors", first)
    (expected,) = study_of(tmp_path, cut, "--rates", "3")["layers"]
    capsys.readouterr()
    (found,) = study_of(tmp_path, layer, "--rates", "3", "--rows", 20)["layers"]
    printed = capsys.readouterr().out
    assert found["results"] == expected["results"]
    assert (found["shape"], found["whole_shape"]) == ([20, 8], [48, 8])
    assert "small: 20×8 of 48×8[1]\n" in printed
    assert "[1] Only the first 20 rows that the file holds (--rows 20).\n" in printed


def test_more_rows_than_there_are_is_all_of_them(
    tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str]
):
    (found,) = study_of(tmp_path, layer, "--rates", "3", "--rows", 99)["layers"]
    assert found["shape"] == found["whole_shape"] == [48, 8]
    assert "small: 48×8\n" in capsys.readouterr().out


def test_what_a_file_says_of_itself_is_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    about = {"model": "maker/model", "type": "query", "shape_in_model": [96, 16]}
    remarks = ["The weights already lie on a 4-bit grid.", "Half of it."]
    paths = [
        write(tmp_path / f"{name}.safetensors", tensors(seed=seed), **about, remarks=remarks)
        for seed, name in enumerate("ab")
    ]
    run(*paths, "--rates", "3")
    printed = capsys.readouterr().out
    for name in "ab":
        assert f"\n{name}: query of model, 48×8 of 96×16[1,2]\n" in printed
    for number, remark in enumerate(remarks, 1):
        assert printed.count(f"[{number}] {remark}\n") == 1


def test_tensors_that_have_no_part_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    content = {**tensors(), "rotation": np.eye(8)}
    run(write(tmp_path / "more.safetensors", content), "--rates", "3")
    assert "[1] Not used here: rotation.\n" in capsys.readouterr().out


def test_order_without_hadamard_matrix(tmp_path: Path):
    path = write(tmp_path / "five.safetensors", tensors(columns=5))
    (found,) = study_of(tmp_path, path, "--rates", "3")["layers"]
    rotated = study_tables.find(found["results"], "GPTQ rotated", 3.0)
    assert rotated["parameters"]["rotation"] == {"kind": "haar", "seed": 0}
    assert any("Haar" in remark for remark in found["remarks"])


def test_a_packed_factor_is_its_product(tmp_path: Path):
    factor = np.tril(np.random.default_rng(2).standard_normal((8, 8))).astype(np.float32)
    np.fill_diagonal(factor, 1.0)
    # Products of float32 numbers are exact in float64, sums of 8 of them are not: hence the order.
    wide = factor.astype(np.float64)
    covariance = np.zeros((8, 8))
    for k in range(8):
        covariance += wide[:, k, None] * wide[:, k]
    weight = tensors()["weight"]
    packed = {"weight": weight, "covariance_factor": factor[np.tril_indices(8)]}
    reports = [
        study_of(tmp_path, write(tmp_path / "x.safetensors", content), "--rates", "3")
        for content in (packed, {"weight": weight, "covariance": covariance})
    ]
    one, two = (report["layers"][0]["results"] for report in reports)
    assert one == two


def test_a_rate_that_is_out_of_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    nothing = {**tensors(), "weight": np.zeros((48, 8))}
    path = write(tmp_path / "zero.safetensors", nothing)
    report = study_of(tmp_path, path, "--rates", "3")
    printed = capsys.readouterr()
    assert not any(result["rate_met"] for result in report["layers"][0]["results"])
    assert printed.err.startswith(
        "waterlevel study: zero, RTN: no rate within 0.005 of 3 was found"
    )
    least = (16 + 4 * 8) / (48 * 8)
    assert f"(side information alone costs at least {least:.3f}) (and 5 more)\n" in printed.err
    assert printed.err.count("\n") == 1
    assert "WaterSIC" in printed.out


def without(name: str) -> dict[str, np.ndarray]:
    return {other: tensor for other, tensor in tensors().items() if other != name}


def spoilt(name: str, change: Any) -> dict[str, np.ndarray]:
    content = tensors()
    change(content[name])
    return content


def set_nan(matrix: np.ndarray) -> None:
    matrix[1, 2] = np.nan


def make_indefinite(matrix: np.ndarray) -> None:
    matrix[0, 1] = matrix[1, 0] = 100.0


BAD_FILES = {
    "covariance is missing": without("covariance"),
    "weight is missing": without("weight"),
    "weight has 1 dimensions, expected 2": {**tensors(), "weight": np.ones(8)},
    "covariance has shape 8×8, expected 7×7": {**tensors(), "weight": np.ones((4, 7))},
    "covariance_factor has shape 35, expected 36": {
        **without("covariance"),
        "covariance_factor": np.ones(35),
    },
    "weight[1, 2] is nan": spoilt("weight", set_nan),
    "covariance with damping 0.01 is not positive definite": spoilt("covariance", make_indefinite),
}


def assert_failed(errors: str, path: Path, message: str) -> None:
    """Each line names the file; each method that was tried has its own."""
    lines = errors.splitlines()
    assert lines
    for line in lines:
        assert line.startswith(f"waterlevel study: {path}")
    assert any(message in line for line in lines)


@pytest.mark.parametrize("message", BAD_FILES)
def test_a_bad_file_takes_nothing_from_the_others(
    tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str], message: str
):
    target = tmp_path / "study.json"
    assert run(layer, "--rates", "3", "--json", target) == 0
    good, alone = capsys.readouterr(), json.loads(target.read_text("utf-8"))
    path = write(tmp_path / "bad.safetensors", BAD_FILES[message])
    assert run(path, layer, "--rates", "3", "--json", target) == 2
    printed, report = capsys.readouterr(), json.loads(target.read_text("utf-8"))
    assert_failed(printed.err, path, message)
    (entry,) = alone["layers"]
    assert entry in report["layers"]
    assert good.err == ""
    assert alone["failed"] == []
    assert {one["layer"] for one in report["failed"]} == {"bad"}
    for line in good.out.splitlines():
        if line.startswith("WaterSIC"):
            assert line in printed.out


def test_a_bad_file_in_another_process(
    tmp_path: Path, layer: Path, capfd: pytest.CaptureFixture[str]
):
    message = "covariance with damping 0.01 is not positive definite"
    path = write(tmp_path / "bad.safetensors", BAD_FILES[message])
    assert run(layer, path, "--rates", "3", workers=2) == 2
    printed = capfd.readouterr()
    assert_failed(printed.err, path, message)
    assert f"{path}, GPTQ natural at rate 3: " in printed.err
    assert "failed" in printed.out


def test_one_rate_of_one_method_that_fails(
    tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    target = tmp_path / "study.json"
    assert run(layer, "--rates", "3,4", "--json", target) == 0
    alone = json.loads(target.read_text("utf-8"))
    capsys.readouterr()

    def overflows(subject: Any, rate: float) -> Any:
        if rate == 4:
            raise CodeOverflow(1, 2, 2.0**31)
        return rtn_of(subject, rate)

    rtn_of = study.METHODS["RTN"]
    monkeypatch.setitem(study.METHODS, "RTN", overflows)
    assert run(layer, "--rates", "3,4", "--json", target) == 2
    report, printed = json.loads(target.read_text("utf-8")), capsys.readouterr()
    assert printed.err.startswith(f"waterlevel study: {layer}, RTN at rate 4: ")
    assert printed.err.count("\n") == 1
    (row,) = (line for line in printed.out.splitlines() if line.startswith("RTN"))
    assert row.endswith("failed")
    everything = alone["layers"][0]["results"]
    expected = [r for r in everything if (r["method"], r["target"]) != ("RTN", 4)]
    assert report["layers"][0]["results"] == expected
    (one,) = report["failed"]
    assert (one["layer"], one["method"], one["target"]) == ("small", "RTN", 4)


def test_the_table_is_printed_when_the_json_cannot_be_written(
    tmp_path: Path, layer: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(json_option, "write_whole", full)
    assert run(layer, "--rates", "3", "--json", tmp_path / "x.json") == 2
    printed = capsys.readouterr()
    assert "WaterSIC" in printed.out
    assert printed.err == f"waterlevel study: {tmp_path / 'x.json'}: No space left on device\n"


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    for path in (text, tmp_path, tmp_path / "missing.safetensors"):
        assert run(path) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert re.fullmatch(rf"waterlevel study: {re.escape(str(path))}: .+\n", printed.err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rates", "2,x"], "--rates: 'x' is not a number"),
        (["--rates", ""], "--rates: '' is not a number"),
        (["--rates", "0"], "--rates: 0 is not a rate"),
        (["--rates", "nan"], "--rates: nan is not a rate"),
        (["--rates", "inf"], "--rates: inf is not a rate"),
        (["--rates", "2,3,2.0"], "--rates: 2.0 is there twice"),
        (["--rows", "0"], "--rows is 0; it must be at least 1"),
        (["--all"], "--all is about the bundled layers"),
        (["--json", "no/such/folder/x.json"], "there is no directory"),
    ],
)
def test_bad_options(
    layer: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert run(layer, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_bundled_layers_are_the_default():
    everything, none_left = study.choose_files([], wide_too=True)
    chosen, left_out = study.choose_files([], wide_too=False)
    assert everything == sorted(LAYERS.glob("*.safetensors"))
    assert none_left == []
    assert sorted(chosen + left_out) == everything
    assert [path.stem for path in left_out] == ["minilm-02-feed-forward-out"]


def bundled_report(rates: list[float]) -> dict[str, Any]:
    """The bundled layers with made-up results, as long as they get below 10 bits."""
    paths, left_out = study.choose_files([], wide_too=False)
    layers = [study.describe_layer(study.read_layer(path), None) for path in paths]
    long = {**dict.fromkeys(MEASURED, 9.8765), "gap": -1.2345, "rate_met": False}
    long["relative_error"] = 1e-9
    for layer in layers:
        layer["results"] = [
            {**long, "method": method, "target": rate} for rate in rates for method in METHODS
        ]
    return {
        "layers": layers,
        "methods": METHODS,
        "rates": rates,
        "summary": study_tables.summarize(layers, METHODS, rates),
        "left_out": [path.stem for path in left_out],
    }


def test_the_table_fits_on_100_columns():
    lines = study_tables.text(bundled_report([2.0, 3.0, 4.0]), 1024).splitlines()
    assert max(map(len, lines)) == 100
    assert not any("SmolLM2" in line and not line.startswith("smollm2") for line in lines)


def test_more_rates_than_fit_side_by_side_go_below():
    lines = study_tables.text(bundled_report([1.0, 2.0, 3.0, 4.0]), 1024).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("minilm"))
    assert lines[first + 1].split() == ["rate", "1", "rate", "2", "rate", "3"]
    assert lines[first + 9].split() == ["rate", "4"]


def test_the_grid_of_smollm2_is_mentioned_where_its_numbers_are():
    text = study_tables.text(bundled_report([2.0]), 1024)
    (number,) = re.findall(r"\[(\d+)\] The weights already lie on a 4-bit grid", text)
    titles = [line for line in text.splitlines() if line.startswith("smollm2")]
    assert len(titles) == 4
    for title in titles:
        marks = title.rpartition("[")[2].rstrip("]").split(",")
        assert number in marks


def test_the_limit_says_whose_it_is():
    assert "limit for Gaussian weights" in study_tables.text(bundled_report([2.0]), 1024)
