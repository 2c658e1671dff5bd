"""The golden files are checked, and written again: a check that can fail."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from waterlevel.data import GOLDEN
from waterlevel.reference import NUMPY
from waterlevel.validate.cli.main import main
from waterlevel.validate.conformance import write_golden as write
from waterlevel.validate.golden.case import Bits, TensorStore, load_index, sha256
from waterlevel.validate.golden.cases import DEFINITIONS
from waterlevel.validate.golden.check import check_case, check_cases, differences
from waterlevel.validate.golden.definition import Purpose
from waterlevel.validate.golden.execute import execute

INDEX = load_index()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the golden files that may be spoiled."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


# Checking -----------------------------------------------------------------------------------------


def test_small_cases_hold_on_the_oracle():
    checked = check_cases(INDEX.cases, ["small"], lambda case: NUMPY)
    assert checked.differences == ()
    assert checked.cases >= 300
    assert checked.digests == ()
    assert len(checked.left_out) >= 12


def test_a_medium_digest_holds():
    case = INDEX.by_id["gptq/order/medium-groups-48x512-float64"]
    assert check_case(case, NUMPY) == []


def spoiled(array: np.ndarray, place: int = 0) -> np.ndarray:
    """The array with its lowest bit flipped at one place."""
    bytes_ = bytearray(np.ascontiguousarray(array).tobytes())
    bytes_[place * array.itemsize] ^= 1
    return np.frombuffer(bytes(bytes_), array.dtype).reshape(array.shape)


@pytest.mark.parametrize(
    "id_",
    [
        "matmul/order/6x97x5-float32",
        "gptq/semantics/groups-of-4-6x22-float64",
        "watersic/order/everything-40x12-float64",
        "rates/semantics/watersic-50x20-float64",
        "column_histograms/order-free/codes-9x5-float64",
    ],
)
def test_one_flipped_bit_of_any_output_is_found(id_: str):
    case = INDEX.by_id[id_]
    outputs = execute(case, case.load_inputs(), NUMPY)
    assert differences(case, outputs) == []
    for name, array in outputs.items():
        found = differences(case, {**outputs, name: spoiled(array, array.size - 1)})
        assert len(found) == 1, name
        assert case.id in found[0]
        assert name in found[0]


def test_a_flipped_bit_behind_the_first_rows_is_found_by_the_digest():
    case = INDEX.by_id["gptq/order/medium-groups-48x512-float32"]
    outputs = execute(case, case.load_inputs(), NUMPY)
    behind = {**outputs, "dequantized": spoiled(outputs["dequantized"], 48 * 512 - 1)}
    (line,) = differences(case, behind)
    assert "SHA-256" in line
    (line,) = differences(case, {**outputs, "codes": spoiled(outputs["codes"])})
    assert "codes" in line
    (line,) = differences(case, {**outputs, "codes": outputs["codes"][:47]})
    assert "shape" in line


def test_a_limit_beyond_its_bound_is_found():
    case = next(case for case in INDEX.cases if "limit" in case.outputs)
    outputs = execute(case, case.load_inputs(), NUMPY)
    bound = case.outputs["limit"].bound
    assert bound is not None
    assert 0 < bound < 1e-6
    assert differences(case, {**outputs, "limit": outputs["limit"] + bound / 4}) == []
    (line,) = differences(case, {**outputs, "limit": outputs["limit"] + 3 * bound})
    assert "limit" in line


def test_a_wrong_error_is_found():
    case = INDEX.by_id["cholesky/invalid/pivot-negative-n4-float64"]
    assert case.error is not None
    assert check_case(case, NUMPY) == []
    assert differences(case, {"factor": np.eye(4)})
    for fields in ({"pivot": 1, "value": "-0x1.0000000000000p+0"}, {"pivot": 2, "value": "0x0p+0"}):
        assert differences(case, replace(case.error, fields=fields))
    assert differences(case, replace(case.error, type="BadInput"))


def test_a_missing_and_an_unexpected_output_are_found():
    case = INDEX.by_id["row_extrema/order-free/range-5x6-float64"]
    outputs = execute(case, case.load_inputs(), NUMPY)
    del outputs["least"]
    assert "missing" in differences(case, outputs)[0]
    assert (
        "not expected" in differences(case, {**outputs, "least": np.ones(1), "x": np.ones(1)})[-1]
    )


def test_inputs_are_new_every_time():
    case = INDEX.by_id["sic/order/uniform-6xn17-float64"]
    inputs = case.load_inputs()
    inputs["target"][:] = 0
    assert case.load_inputs()["target"].any()


# The command --------------------------------------------------------------------------------------


def few(directory: Path, *functions: str) -> None:
    """Leave only the small cases of these functions in the index."""
    path = directory / "index.json"
    index = json.loads(path.read_text("utf-8"))
    index["cases"] = [
        case for case in index["cases"] if case["function"] in functions and case["size"] == "small"
    ]
    path.write_text(json.dumps(index), "utf-8")


def test_check_says_what_it_did_and_fails_on_a_flipped_bit(copy: Path, capsys):
    few(copy, "matmul", "cholesky")
    assert main(["golden", "check", "--directory", str(copy)]) == 0
    assert "all as expected" in capsys.readouterr().out
    tensors = load_file(copy / "matmul.safetensors")
    name = "matmul/order/6x97x5-float64/outputs/product"
    tensors[name] = spoiled(tensors[name])
    save_file(tensors, copy / "matmul.safetensors")
    assert main(["golden", "check", "--directory", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "matmul/order/6x97x5-float64" in out
    assert "1 differences" in out


def test_check_names_the_digests_it_left_out(capsys):
    code = main(["golden", "check", "--size", "small", "--names"])
    out = capsys.readouterr().out
    assert code == 0
    assert "digest not computed: cholesky/order/large-n4096-float64 factor" in out
    assert "not computed (--size)" in out


def test_check_refuses_an_unknown_size_and_a_missing_directory(tmp_path: Path, capsys):
    assert main(["golden", "check", "--size", "tiny"]) == 2
    assert main(["golden", "check", "--directory", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


# Writing ------------------------------------------------------------------------------------------


def test_writing_changes_no_byte(copy: Path, monkeypatch: pytest.MonkeyPatch):
    """Small cases are computed again, the others kept; the purposes are looked at elsewhere."""
    monkeypatch.setattr(write, "_serves", lambda *_: None)
    computed = write.write_golden(copy, ["small"])
    assert len(computed) >= 300
    for path in GOLDEN.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_writing_everything_but_the_largest_changes_no_byte(copy: Path):
    write.write_golden(copy, ["small", "medium"])
    for path in GOLDEN.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


def definition(id_: str):
    return next(d for d in DEFINITIONS if d.id == id_)


@pytest.mark.parametrize(
    "id_",
    [
        "cholesky/rounding/contraction-sensitive-n3-float64",
        "gptq/semantics/straddling-groups-6x22-float32",
        "watersic/semantics/lower-median-6x8-float64",
        "row_inner/order-free/4x513-float64",
    ],
)
def test_a_definition_serves_its_purpose_and_another_is_refused(id_: str):
    store = TensorStore(GOLDEN)
    good = definition(id_)
    write.compute(good, store)
    wrong = (
        replace(good, changed_by=("fused-multiply-add",), unchanged_by=())
        if good.unchanged_by
        else replace(good, changed_by=(), unchanged_by=good.changed_by)
    )
    with pytest.raises(write.MissesItsPurpose, match="must give"):
        write.compute(wrong, store)
    impossible = replace(good, purposes=(Purpose("pigs fly", lambda i, o: False),))
    with pytest.raises(write.MissesItsPurpose, match="pigs fly"):
        write.compute(impossible, store)


def test_a_case_that_should_fail_and_does_not_is_refused():
    case = definition("cholesky/order-free/n3-float64")
    with pytest.raises(write.MissesItsPurpose):
        write.compute(replace(case, tier="invalid"), TensorStore(GOLDEN))


def test_two_implementations_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch):
    class Wrong(type(NUMPY)):
        name = "wrong"

        def matmul(self, left, right):
            return np.nextafter(super().matmul(left, right), 1e9)

    monkeypatch.setattr(write, "implementation", lambda name: Wrong() if name == "c" else NUMPY)
    monkeypatch.setitem(write.CONFIRMED_BY, "small", ("numpy", "c"))
    case = definition("matmul/order-free/5x7x6-float64")
    with pytest.raises(write.WaterlevelError, match="numpy and c differ in output product"):
        write.compute(case, TensorStore(GOLDEN))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")
@pytest.mark.parametrize("function", ["matmul", "cholesky", "solve", "solve_reversed"])
def test_the_independent_implementation_agrees_on_small_cases(function: str):
    independent = write.implementation("c")
    for case in INDEX.cases:
        if case.function == function and case.size == "small":
            assert check_case(case, independent) == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")
def test_the_independent_implementation_agrees_on_cancellation():
    independent = write.implementation("c")
    for case in INDEX.cases:
        lattice = case.parameters.get("codebook") in ("scaled", "affine")
        if case.function == "sic" and lattice and case.size == "small" and case.error is None:
            assert check_case(case, independent) == []


def test_digest_is_of_little_endian_bytes():
    array = np.arange(6.0).reshape(2, 3)
    assert sha256(array) == sha256(array.astype(">f8")) == sha256(np.asfortranarray(array))
    expected = INDEX.by_id["zeros/order-free/3x5-float64"].expected()["matrix"]
    assert isinstance(expected, Bits)
    assert sha256(expected.array) == sha256(np.zeros((3, 5)))
