"""waterlevel validate: what it runs, what it says of right and wrong backends, and its files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from waterlevel.backends import Availability
from waterlevel.reference.errors import NotPositiveDefinite, WaterlevelError
from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations
from waterlevel.validate.cli import validate as command
from waterlevel.validate.cli.export import OUTPUTS, export_case
from waterlevel.validate.cli.main import main
from waterlevel.validate.conformance.outcomes import run_case
from waterlevel.validate.golden.case import expected_error, load_index
from waterlevel.validate.golden.independent import IndependentOperations

EXAMPLE = "waterlevel.validate.conformance.example_backend:Backend"
TEMPTING = "waterlevel.validate.conformance.example_backend:Tempting"
CASES = load_index().cases


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes have tests of their own, and take a second."""
    monkeypatch.setattr("waterlevel.validate.conformance.runner.probe", lambda backend: [])


def some(glob_function: str, **wanted: str) -> list:
    found = [
        case
        for case in CASES
        if case.function == glob_function and all(getattr(case, k) == v for k, v in wanted.items())
    ]
    assert found
    return found


# The command --------------------------------------------------------------------------------------


def test_the_oracle_passes_and_says_so_everywhere(tmp_path: Path, capsys):
    files = [tmp_path / name for name in ("report.json", "report.xml")]
    arguments = ["validate", "--backend", "numpy", "--cases", "c*/*", "--cases", "rtn/*/*"]
    arguments += ["--json", str(files[0]), "--junit", str(files[1])]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "numpy keeps the contract" in text
    assert "FAILED" not in text

    report = json.loads(files[0].read_text("utf-8"))
    assert report["kind"] == "waterlevel validate"
    assert set(report["environment"]) >= {"processor", "architecture", "features", "libraries"}
    (numpy,) = report["backends"]
    assert numpy["passed"]
    assert all(probe["passed"] for probe in numpy["probes"])
    by_id = {result["case"]: result for result in numpy["results"]}
    ran = [c for c in CASES if c.function.startswith("c") or c.function == "rtn"]
    assert list(by_id) == [case.id for case in ran]
    for case in ran:
        result = by_id[case.id]
        if case.size == "large":
            assert result["status"] == "skipped"
        elif case.error is None:
            exact = {name for name, o in case.outputs.items() if o.kind != "tolerance"}
            assert set(result["outputs"]) == exact
            assert all(len(digest) == 64 for digest in result["outputs"].values())
        else:
            assert result["error"].startswith(case.error.type)

    suite = ElementTree.parse(files[1]).getroot().find("testsuite")
    assert suite is not None
    assert suite.get("failures") == "0"
    assert int(suite.get("tests", "0")) == len(numpy["probes"]) + len(ran)
    assert len(suite.findall("testcase")) == int(suite.get("tests", "0"))


def test_the_same_run_gives_the_same_report(tmp_path: Path, no_probes):
    texts = []
    for name in ("one", "two"):
        path = tmp_path / name
        assert (
            main(["validate", "--backend", EXAMPLE, "--cases", "matmul/*", "--json", str(path)])
            == 0
        )
        texts.append(path.read_bytes())
    assert texts[0] == texts[1]


def test_a_wrong_backend_is_named_with_its_habit(tmp_path: Path, capsys):
    files = [tmp_path / name for name in ("report.json", "report.xml")]
    arguments = ["validate", "--backend", TEMPTING, "--cases", "matmul/*/*-float64"]
    arguments += ["--json", str(files[0]), "--junit", str(files[1])]
    assert main(arguments) == 1
    text = capsys.readouterr().out
    assert "probe: matmul float64: order of summation: pairwise; the contract asks for" in text
    assert "ulp" in text
    assert "every bit is reproduced by pairwise" in text
    assert f"{TEMPTING} DIFFERS" in text

    (backend,) = json.loads(files[0].read_text("utf-8"))["backends"]
    statuses = {result["case"]: result["status"] for result in backend["results"]}
    order_free = [case.id for case in some("matmul", tier="order-free", dtype="float64")]
    assert {statuses[case] for case in order_free} == {"passed"}
    assert "failed" in statuses.values()
    suite = ElementTree.parse(files[1]).getroot().find("testsuite")
    assert suite is not None
    assert len(suite.findall("testcase/failure")) == int(suite.get("failures", "0")) > 0


def test_large_cases_are_skipped_by_name_and_with_the_reason(capsys, no_probes):
    large = [case.id for case in CASES if case.size == "large" and case.function == "cholesky"]
    assert large
    assert main(["validate", "--backend", "numpy", "--cases", "cholesky/*"]) == 0
    text = capsys.readouterr().out
    assert "skipped (large cases need --size large)" in text
    assert all(case in text for case in large)
    assert main(["validate", "--backend", "numpy", "--size", "large", "--cases", large[0]]) == 0
    text = capsys.readouterr().out
    assert f"1 skipped (numpy takes minutes for a large case): {large[0]}" in text
    assert "numpy was not tried" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cases", "choleksy/*"], "matches none of"),
        (["--backend", "abacus"], "no backend is called 'abacus'"),
        (["--backend", "no.such.module:Backend"], "cannot be loaded"),
        (["--outputs", "nowhere"], "nowhere holds no outputs.safetensors"),
        (["--outputs", "x", "--backend", "numpy"], "not allowed with"),
        (["--json", "no/such/directory/r.json", "--backend", "numpy"], "there is no directory"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], says: str, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["validate", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert says in captured.err


def test_every_usable_backend_runs_and_the_others_say_why(monkeypatch, capsys, no_probes):
    entries = [
        Availability("numpy", None),
        Availability("mine", None),
        Availability("gpu", "no device;\n buy one"),
    ]
    monkeypatch.setattr(command, "available", lambda: entries)
    monkeypatch.setattr(command, "get", lambda name: NUMPY)
    assert main(["validate", "--cases", "take/*"]) == 0
    text = capsys.readouterr().out
    assert "numpy keeps the contract" in text
    assert "mine keeps the contract" in text
    assert "not usable: gpu: no device; buy one" in text


def test_a_registered_backend_is_found(tmp_path: Path, monkeypatch, capsys, no_probes):
    """What a third party's wheel would put on the path."""
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[waterlevel.backends]\ntheirs = theirs_kernels:make\nbroken = theirs_kernels:broken\n"
    )
    (tmp_path / "theirs_kernels.py").write_text(
        "from waterlevel.backends import Unusable\n"
        "from waterlevel.validate.conformance.example_backend import Backend\n"
        "def make():\n    return Backend()\n"
        "def broken():\n    raise Unusable('needs an abacus')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["validate", "--backend", "theirs", "--cases", "matmul/order/*"]) == 0
    assert "theirs keeps the contract" in capsys.readouterr().out
    assert main(["validate", "--cases", "multiply/*"]) == 0
    text = capsys.readouterr().out
    assert "theirs keeps the contract" in text
    assert "not usable: broken: needs an abacus" in text
    assert main(["validate", "--backend", "broken"]) == 2
    assert "needs an abacus" in capsys.readouterr().err


# Backends that misbehave --------------------------------------------------------------------------


class Misbehaves(NumpyOperations):
    """Fails, accepts what it should refuse, refuses what it should accept."""

    def transpose(self, matrix):
        raise RuntimeError("kernel\nlaunch failed")

    def cholesky(self, matrix):
        try:
            return super().cholesky(matrix)
        except NotPositiveDefinite:
            return np.zeros_like(matrix)

    def divide(self, matrix, divisor):
        raise NotPositiveDefinite(0, -1.0)


def test_misbehaviour_is_a_failure_and_no_end(capsys, no_probes):
    globs = ["transpose/*", "cholesky/invalid/*", "divide/order-free/*"]
    arguments = [argument for glob in globs for argument in ("--cases", glob)]
    assert main(["validate", "--backend", f"{__name__}:Misbehaves", *arguments]) == 1
    text = capsys.readouterr().out
    assert "failed with RuntimeError: kernel launch failed" in text
    assert "was accepted, expected NotPositiveDefinite(pivot=" in text
    assert (
        "refused with NotPositiveDefinite(pivot=0, value=-0x1.0000000000000p+0), expected outputs"
        in text
    )
    assert "internal error" not in text


# Plain files --------------------------------------------------------------------------------------


def be_a_program(directory: Path, backend=NUMPY) -> list[Path]:
    """Do what a program in another language would do with exported cases."""
    places = [path.parent for path in sorted(directory.glob("*/*/*/case.json"))]
    cases = {case.id: case for case in CASES}
    for place in places:
        described = json.loads((place / "case.json").read_text("utf-8"))
        inputs = load_file(place / "inputs.safetensors")
        outcome = run_case(cases[described["id"]], inputs, backend)
        if isinstance(outcome, WaterlevelError):
            error = expected_error(outcome)
            content = {"type": error.type, "fields": dict(error.fields)}
            (place / "error.json").write_text(json.dumps(content))
        else:
            assert isinstance(outcome, dict)
            described_layout = {
                n: (o["dtype"], o["shape"]) for n, o in described["outputs"].items()
            }
            layout = {n: (a.dtype.name, list(a.shape)) for n, a in outcome.items()}
            assert layout == described_layout
            save_file({n: np.asarray(a, order="C") for n, a in outcome.items()},
                      place / "outputs.safetensors")  # fmt: skip
    return places


def test_a_program_that_reads_and_writes_files(tmp_path: Path, capsys):
    globs = ["cholesky/*", "rtn/*", "matmul/order/*", "find_nonfinite/*", "sic/invalid/*"]
    arguments = [argument for glob in globs for argument in ("--cases", glob)]
    assert main(["export", str(tmp_path), *arguments, "--size", "small"]) == 0
    assert "waterlevel validate --outputs" in capsys.readouterr().out
    places = be_a_program(tmp_path)
    assert main(["validate", "--outputs", str(tmp_path), *arguments, "--size", "small"]) == 0
    text = capsys.readouterr().out
    assert f"{len(places)} cases passed, 0 failed" in text
    assert re.search(r"^rtn +bits$", text, re.MULTILINE)

    wrong = tmp_path / some("matmul", tier="order", size="small")[0].id / "outputs.safetensors"
    tensors = load_file(wrong)
    tensors["product"].flat[3] = np.nextafter(tensors["product"].flat[3], np.inf)
    save_file(tensors, wrong)
    vector = tmp_path / "rtn/real/minilm-query-bits4-groups-32x64-float64/outputs.safetensors"
    tensors = load_file(vector)
    tensors["limit"] = tensors["limit"].reshape(1)
    save_file(tensors, vector)
    missing = tmp_path / some("find_nonfinite")[0].id
    (missing / "outputs.safetensors").unlink()
    refused = tmp_path / some("cholesky", tier="invalid")[0].id / "error.json"
    refused.write_text('{"type": "Oops"}')
    assert main(["validate", "--outputs", str(tmp_path), *arguments, "--size", "small"]) == 1
    text = capsys.readouterr().out
    assert "1 ulp; 1 of" in text
    assert "limit has shape 1, expected a number" in text
    assert f"1 skipped (no outputs.safetensors was written): {some('find_nonfinite')[0].id}" in text
    assert "there is no error 'Oops'" in text
    assert f"{len(places) - 4} cases passed, 3 failed" in text


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")
def test_a_program_without_an_order_of_sums_reaches_order_free_bits(tmp_path: Path, capsys):
    globs = ["order_free_lattice/*-6x12-*", "order_free_grid/*/bits*", "order_free_cholesky/*/n*"]
    arguments = [argument for glob in globs for argument in ("--cases", glob)]
    arguments += ["--size", "small"]
    assert main(["export", str(tmp_path), *arguments]) == 0
    places = be_a_program(tmp_path, IndependentOperations())
    capsys.readouterr()
    assert main(["validate", "--outputs", str(tmp_path), *arguments]) == 0
    text = capsys.readouterr().out
    assert f"{len(places)} cases passed, 0 failed" in text
    for function in ("lattice", "grid", "cholesky"):
        assert re.search(rf"^order_free_{function} +order-free bits$", text, re.MULTILINE)
    wrong = next(place for place in places if "grid" in place.parts[-3]) / "outputs.safetensors"
    tensors = load_file(wrong)
    tensors["scale"].flat[2] = np.nextafter(tensors["scale"].flat[2], 0)
    save_file(tensors, wrong)
    assert main(["validate", "--outputs", str(tmp_path), *arguments]) == 1
    text = capsys.readouterr().out
    assert re.search(r"^order_free_grid +none$", text, re.MULTILINE)
    assert re.search(r"^order_free_lattice +order-free bits$", text, re.MULTILINE)


def test_outputs_that_cannot_be_read_are_a_failure(tmp_path: Path, capsys):
    case = some("take")[0]
    place = export_case(case, tmp_path)
    (place / "outputs.safetensors").write_bytes(b"no tensors")
    assert main(["validate", "--outputs", str(tmp_path), "--cases", case.id]) == 1
    assert "outputs.safetensors cannot be read" in capsys.readouterr().out
    (place / "error.json").write_text("{}")
    assert main(["validate", "--outputs", str(tmp_path), "--cases", case.id]) == 1
    assert "both outputs.safetensors and error.json" in capsys.readouterr().out


def vanish(outputs: dict[str, np.ndarray]) -> None:
    del outputs["rate"]


def become_a_vector(outputs: dict[str, np.ndarray]) -> None:
    outputs["rate"] = outputs["rate"].reshape(1)


def become_booleans(outputs: dict[str, np.ndarray]) -> None:
    outputs["codes"] = outputs["codes"] != 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (vanish, "rate is missing"),
        (become_a_vector, "rate has shape 1"),
        (become_booleans, "codes has dtype bool"),
    ],
)
def test_outputs_that_are_incomplete_or_oddly_shaped(tmp_path: Path, capsys, spoil, message: str):
    case = next(c for c in some("rtn") if c.id.endswith("/bits4-6x37-float64"))
    place = export_case(case, tmp_path)
    outputs = dict(run_case(case, case.load_inputs(), NUMPY))
    outputs["dequantized"] = outputs["dequantized"] + 1
    spoil(outputs)
    save_file({n: np.ascontiguousarray(a) for n, a in outputs.items()}, place / OUTPUTS)
    assert main(["validate", "--outputs", str(tmp_path), "--cases", case.id]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert re.search(rf"rtn is not better because .*{message}", printed.out)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_outputs_of_a_type_that_no_output_has(tmp_path: Path, capsys, kind: str):
    case = some("take")[0]
    place = export_case(case, tmp_path)
    size = 2 if kind == "BF16" else 1
    entry = {"dtype": kind, "shape": [3], "data_offsets": [0, 3 * size]}
    header = json.dumps({"taken": entry}).encode()
    (place / OUTPUTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(3 * size))
    assert main(["validate", "--outputs", str(tmp_path), "--cases", case.id]) == 1
    assert f"taken has dtype {kind}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        '{"type": "NotPositiveDefinite", "fields": 5}',
        '{"type": "NotPositiveDefinite", "fields": null}',
        '{"type": "NotPositiveDefinite", "fields": "x"}',
        '{"type": "NotPositiveDefinite", "fields": []}',
        '{"type": "NotPositiveDefinite", "fields": {"pivot": 0, "value": "0x1p+99999999"}}',
        '{"type": "NotPositiveDefinite", "fields": {"pivot": 1'
        + "0" * 400
        + ', "value": "0x1p0"}}',
        '{"type": "NotPositiveDefinite", "fields": {"pivot": [], "value": "0x1p0"}}',
        '{"type": "NotPositiveDefinite", "fields": {"pivot": "0x1p0", "value": 2}}',
        '{"type": "BadInput", "fields": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "5",
    ],
    ids=range(10),
)
def test_errors_that_are_none_are_outcomes(tmp_path: Path, capsys, content: str):
    case = some("cholesky", tier="invalid")[0]
    place = export_case(case, tmp_path)
    (place / "error.json").write_text(content)
    assert main(["validate", "--outputs", str(tmp_path), "--cases", case.id]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "0 cases passed, 1 failed" in printed.out


def test_many_skipped_cases_are_counted_and_named_on_request(tmp_path: Path, capsys):
    for case in some("take")[:5]:
        export_case(case, tmp_path)
    place = export_case(some("matmul")[0], tmp_path)
    (place / "error.json").write_text('{"type": "BadInput"}')
    options = ["validate", "--outputs", str(tmp_path), "--cases", "take/*", "--cases", "matmul/*"]
    main(options)
    short = capsys.readouterr().out
    main([*options, "--verbose"])
    long = capsys.readouterr().out
    assert "5 skipped (no outputs.safetensors was written): " in short
    assert " and 2 more (--verbose)" in short
    assert some("take")[4].id not in short
    assert some("take")[4].id in long
