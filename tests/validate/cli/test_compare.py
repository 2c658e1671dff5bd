"""`waterlevel compare`: what it says of two files, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from waterlevel.backends import BUILT_IN
from waterlevel.reference import gptq
from waterlevel.reference.operations.numpy_operations import NumpyOperations
from waterlevel.validate.cli.main import main
from waterlevel.validate.layers.any_tensors import read_tensors
from waterlevel.validate.layers.layer_files import write_tensors

from ...helpers.inputs import bell, integers
from ...helpers.layers import covariance, weight
from ...helpers.wrong_backends import CHAINS, DECISIONS, Chained, Deciding

W, SIGMA = weight(1, 6, 16), covariance(2, 16)


@pytest.fixture
def layer(tmp_path) -> Path:
    path = tmp_path / "layer.safetensors"
    save_file({"weight": W, "covariance": SIGMA}, path)
    return path


def quantize(layer: Path, name: str, *options: str, backend="numpy") -> Path:
    path = layer.parent / name
    arguments = ["quantize", str(layer), *options, "-o", str(path), "--backend", backend]
    assert main(arguments) in (0, 1)
    return path


@pytest.fixture
def wrong(monkeypatch):
    """Registers a backend under a name."""

    def register(backend, name="wrong"):
        monkeypatch.setitem(BUILT_IN, name, lambda: backend)
        return name

    return register


def compare(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["compare", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def altered(path: Path, name: str, **tensors) -> Path:
    """The file with some tensors replaced, or removed with None; its description is kept."""
    file = read_tensors(path)
    description = {k: v for k, v in file.description.items() if k != "tensors"}
    merged = {**file.tensors, **tensors}
    target = path.parent / name
    write_tensors(target, {k: v for k, v in merged.items() if v is not None}, description)
    return target


GPTQ = ("--method", "gptq", "--bits", "4")
RTN = ("--method", "rtn", "--bits", "4")
WATERSIC = ("--method", "watersic", "--spacing", "0.1", "--no-rescale")


# Any two files ------------------------------------------------------------------------------------


def test_equal_files(layer, capsys):
    one, other = quantize(layer, "a", *GPTQ), quantize(layer, "b", *GPTQ)
    code, out, err = compare(capsys, one, other)
    assert (code, err) == (0, "")
    assert "equal in every bit" in out
    code, out, _ = compare(capsys, one, other, "--json", "-")
    found = json.loads(out)
    assert found["equal"] is True
    assert found["tensors"] == dict.fromkeys(("codes", "dequantized", "scale", "zero", "group"))


def test_tensors_of_any_kind(tmp_path, capsys):
    one = {
        "x": bell(1, (3, 4), np.float32),
        "n": integers(2, 0, 9, 5),
        "only a": np.ones(1),
        "shape": np.ones((2, 3)),
        "flag": np.array([True, False]),
    }
    other = {**one, "x": one["x"].copy(), "shape": np.ones((3, 2)), "only b": np.ones(1)}
    other.pop("only a")
    other["x"].view(np.int32)[1, 2] += 1
    for name, tensors in (("a", one), ("b", other)):
        save_file(tensors, tmp_path / name)
    code, out, _ = compare(capsys, tmp_path / "a", tmp_path / "b")
    assert code == 1
    lines = out.splitlines()
    assert any(line.startswith("B: x[1, 2] = ") and "; 1 ulp; 1 of 12" in line for line in lines)
    assert "B: only a is missing" in lines
    assert "B: only b is there, and was not expected" in lines
    assert "B: shape has shape 3×2, expected 2×3" in lines
    code, out, _ = compare(capsys, tmp_path / "a", tmp_path / "b", "--json", "-")
    found = json.loads(out)
    assert (code, found["equal"]) == (1, False)
    assert found["tensors"]["n"] is None
    assert found["tensors"]["x"]["index"] == [1, 2]


def test_bfloat16_is_compared_by_its_bits(tmp_path, capsys):
    def write(name, words):
        head = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
        data = np.array(words, "<u2").tobytes()
        (tmp_path / name).write_bytes(len(head).to_bytes(8, "little") + head + data)
        return tmp_path / name

    one, other = write("a", [0x3F80, 0x4000]), write("b", [0x3F80, 0x4001])
    assert compare(capsys, one, one)[0] == 0
    code, out, _ = compare(capsys, one, other)
    assert code == 1
    assert "B: x[1] = 16385, expected 16384; off by 1; 1 of 2 differ" in out


# Two quantised layers, nothing else ---------------------------------------------------------------


def test_codes_and_their_first_column(layer, capsys):
    one = quantize(layer, "a", *WATERSIC)
    codes = read_tensors(one).tensors["codes"].copy()
    codes[2, [3, 9]] += 1
    codes[5, 3] -= 4
    code, out, _ = compare(capsys, one, altered(one, "b", codes=codes))
    assert code == 1
    assert "3.12% of the codes differ, 66.7% of them by ±1, in 2 of 16 columns and 2 of 6" in out
    assert "the first column that differs in the order of processing is 9 (place 6)" in out
    one = quantize(layer, "c", *GPTQ)
    codes = read_tensors(one).tensors["codes"].copy()
    codes[2, [3, 9]] ^= 1
    code, out, _ = compare(capsys, one, altered(one, "d", codes=codes))
    assert "the first column that differs in the order of processing is 3 (place 3)" in out
    assert "dequantized against its own codes,[2, 3] = " in out


def test_equal_codes_and_other_scales(layer, capsys):
    one = quantize(layer, "a", *WATERSIC)
    scale = read_tensors(one).tensors["column_scale"].copy()
    scale.view(np.int64)[4] += 1
    code, out, _ = compare(capsys, one, altered(one, "b", column_scale=scale))
    assert code == 1
    assert "the codes are equal; what differs is column_scale" in out
    assert "B: column_scale[4] = " in out


def test_the_order_of_the_scales_is_seen(layer, capsys):
    one = quantize(layer, "a", "--method", "watersic", "--spacing", "0.1")
    file = read_tensors(one).tensors
    other = (file["codes"] * file["column_scale"]) * file["row_scale"][:, None]
    code, out, _ = compare(capsys, one, altered(one, "b", dequantized=other))
    assert code == 1
    assert "columns-before-rows" in out


def test_what_was_asked_for_differs(layer, capsys):
    one, other = quantize(layer, "a", *GPTQ), quantize(layer, "b", *GPTQ, "--damping", "0.1")
    code, out, _ = compare(capsys, one, other)
    assert code == 1
    assert "parameter damping: 0.01 against 0.1" in out
    save_file({"weight": W * 2, "covariance": SIGMA}, layer.parent / "second")
    code, out, _ = compare(capsys, one, quantize(layer.parent / "second", "c", *GPTQ))
    assert "not made from the same input: weight differ" in out


# With the layer -----------------------------------------------------------------------------------


def test_a_foreign_backend_is_named(layer, capsys, wrong):
    name = wrong(Chained(CHAINS["fused-multiply-add"]))
    one = quantize(layer, "a", *WATERSIC)
    other = quantize(layer, "b", *WATERSIC, backend=name)
    code, out, err = compare(capsys, one, other, "--input", layer)
    assert (code, err) == (1, "")
    assert "A against the oracle:\n  every bit is equal" in out
    assert "every bit is reproduced by fused-multiply-add: x·y + z is rounded once" in out
    code, out, _ = compare(capsys, one, other, "--input", layer, "--json", "-")
    found = json.loads(out)["diagnosis"]
    assert found["A"]["explanation"] is None
    assert [m["name"] for m in found["B"]["explanation"]["reproduced_by"]] == ["fused-multiply-add"]


def test_a_searched_rate_is_not_searched_again(layer, capsys, wrong):
    """The recorded spacing is used: both searches may have ended elsewhere."""
    name = wrong(Deciding(DECISIONS["truncation"]))
    options = ("--method", "watersic", "--rate", "2", "--rate-measure",
               "rate_column", "--no-rescale")  # fmt: skip
    one, other = quantize(layer, "a", *options), quantize(layer, "b", *options, backend=name)
    code, out, _ = compare(capsys, one, other, "--input", layer)
    assert code == 1
    assert "parameter spacing: " in out
    assert "A against the oracle:\n  every bit is equal" in out
    assert "every bit is reproduced by truncation" in out


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "rtn", "--bits", "3", "--group-size", "4", "--asymmetric"),
        ("--method", "rtn", "--format", "fp4-e2m1"),
        ("--method", "gptq", "--entropy-coded", "--spacing", "0.3", "--actorder"),
        ("--method", "gptq", "--bits", "3", "--rotate", "hadamard", "--seed", "5"),
        ("--method", "gptq", "--bits", "4", "--rotate", "haar", "--mse"),
        ("--method", "watersic", "--spacing", "0.3", "--dtype", "float32"),
        ("--method", "waterfilling", "--spacing", "0.3"),
    ],
    ids=lambda options: "-".join(options[1:4]),
)
def test_every_method_can_be_replayed(options, layer, capsys):
    one = quantize(layer, "a", *options)
    other = altered(one, "b", dequantized=read_tensors(one).tensors["dequantized"] * 2)
    code, out, _ = compare(capsys, one, other, "--input", layer, "--seconds", "0")
    assert code == 1
    assert "A against the oracle:\n  every bit is equal" in out
    assert (
        "B against the oracle:\n  first difference: the codes are equal; after them, in deq" in out
    )


def test_outputs_of_a_program_that_says_nothing_of_itself(layer, capsys):
    """The plain-file route: the other file tells how the layer was to be quantised."""
    one = quantize(layer, "a", "--method", "gptq", "--bits", "3", "--group-size", "4",
                   "--block-size", "8")  # fmt: skip
    fresh = gptq(W, SIGMA, bits=3, group_size=4, block_size=4)
    foreign = layer.parent / "b"
    save_file({"codes": fresh.codes, "scale": fresh.scales.scale}, foreign)
    code, out, _ = compare(capsys, one, foreign, "--input", layer)
    assert code == 1
    assert "B: dequantized is missing" in out
    assert "every bit is reproduced by fresh-group-scales" in out


def test_both_equal_and_both_wrong(layer, capsys, wrong):
    name = wrong(Deciding(DECISIONS["half-up"]))
    tied = layer.parent / "tied"
    save_file({"weight": integers(3, -9, 9, 4, 8) / 2.0, "covariance": np.eye(8)}, tied)
    options = ("--method", "rtn", "--entropy-coded", "--spacing", "1")
    one, other = (quantize(tied, n, *options, backend=name) for n in "ab")
    code, out, _ = compare(capsys, one, other, "--input", tied)
    assert code == 0  # the two files are equal, and that was the question
    assert out.count("every bit is reproduced by half-up") == 2


# What cannot be compared --------------------------------------------------------------------------


def bad(capsys, *arguments) -> str:
    code, out, err = compare(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


def test_bad_input_is_one_line(layer, capsys, tmp_path):
    one = quantize(layer, "a", *GPTQ)
    assert "No such file" in bad(capsys, one, tmp_path / "missing")
    assert "directory" in bad(capsys, one, tmp_path)
    (tmp_path / "cut").write_bytes(one.read_bytes()[:-7])
    assert "not a whole safetensors file" in bad(capsys, one, tmp_path / "cut")
    (tmp_path / "text.json").write_text('{"name": "x"}')
    assert "not of a kind" in bad(capsys, one, tmp_path / "text.json")
    assert "not a report" in bad(capsys, tmp_path / "text.json", tmp_path / "text.json")
    (tmp_path / "broken.json").write_text('{"name": ')
    (tmp_path / "list.json").write_text("[1, 2]")
    assert "not a report" in bad(capsys, tmp_path / "list.json", tmp_path / "list.json")
    (tmp_path / "kind.json").write_text('{"kind": "study"}')
    assert "a report of 'study'" in bad(capsys, tmp_path / "kind.json", tmp_path / "kind.json")
    assert "not JSON" in bad(capsys, tmp_path / "broken.json", tmp_path / "text.json")
    assert "--input goes with" in bad(
        capsys, tmp_path / "text.json", tmp_path / "text.json", "--input", layer
    )
    save_file({"codes": np.zeros((6, 16), np.int32)}, tmp_path / "silent")
    silent = tmp_path / "silent"
    assert "neither file says" in bad(capsys, silent, silent, "--input", layer)
    other = tmp_path / "other-layer"
    save_file({"weight": W * 2, "covariance": SIGMA}, other)
    assert "tensor weight is not the one" in bad(capsys, one, one, "--input", other)
    save_file({"something": np.zeros(3)}, tmp_path / "else")
    assert "none of codes" in bad(capsys, one, tmp_path / "else", "--input", layer)


def test_a_header_whose_length_looks_like_json(tmp_path, capsys):
    """123 bytes of header: the file begins with a brace."""
    head = json.dumps({"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}).encode()
    data = (123).to_bytes(8, "little") + head.ljust(123) + bytes(8)
    assert data[:1] == b"{"
    (tmp_path / "a").write_bytes(data)
    assert compare(capsys, tmp_path / "a", tmp_path / "a")[0] == 0


# Reports ------------------------------------------------------------------------------------------


def report(path: Path, contract="1", **backends) -> Path:
    content = {
        "kind": "waterlevel validate",
        "contract": contract,
        "environment": {"architecture": path.stem, "system": "Linux"},
        "backends": [{"name": name, "results": results} for name, results in backends.items()],
    }
    path.write_text(json.dumps(content))
    return path


def entry(case, error=None, **outputs):
    status = "passed" if outputs or error else "skipped"
    return {"case": case, "status": status, "outputs": outputs, "error": error}


def test_reports(tmp_path, capsys):
    same = entry("matmul/order/x", product="aa")
    one = report(
        tmp_path / "one.json",
        numpy=[same, entry("sic/x", codes="1", gains="2"), entry("only/one", out="3"),
               entry("bad/x", error="BadInput()"), entry("skipped/x")],
        numba=[same],
    )  # fmt: skip
    other = report(
        tmp_path / "other.json",
        numpy=[same, entry("sic/x", codes="1", gains="9"), entry("bad/x", error="CodeOverflow()"),
               entry("skipped/x")],
    )  # fmt: skip
    assert compare(capsys, one, one)[0] == 0
    code, out, _ = compare(capsys, one, other)
    assert code == 1
    assert "numpy: sic/x: gains differ" in out
    assert "numpy: bad/x: BadInput() against CodeOverflow()" in out
    assert f"numpy: only/one was run only in {one}" in out
    assert f"numba: only in {one}" in out
    assert "1 of 3 cases are equal in every bit" in out
    assert "skipped/x" not in out
    assert "architecture: one against other" in out
    assert "system" not in out
    code, out, _ = compare(capsys, one, other, "--json", "-")
    found = json.loads(out)
    assert (found["equal"], found["compared"], len(found["different"])) == (False, 3, 2)


def test_reports_of_one_backend_each(tmp_path, capsys):
    one = report(tmp_path / "one.json", numpy=[entry("sic/x", codes="1")])
    other = report(tmp_path / "other.json", contract="2", cupy=[entry("sic/x", codes="1")])
    code, out, _ = compare(capsys, one, other)
    assert code == 0
    assert "contract: 1 against 2" in out
    nothing = report(tmp_path / "nothing.json", numpy=[entry("matmul/x", out="1")])
    assert "no case was run in both" in bad(capsys, one, nothing)
    both = report(tmp_path / "both.json", cupy=[], numba=[])
    assert "no backend is in both reports" in bad(capsys, one, both)


def test_a_long_list_is_cut_and_says_so(tmp_path, capsys):
    one = report(tmp_path / "one.json", numpy=[entry(f"c/{i}", out="1") for i in range(50)])
    other = report(tmp_path / "other.json", numpy=[entry(f"c/{i}", out="2") for i in range(50)])
    code, out, _ = compare(capsys, one, other)
    assert code == 1
    assert "… and 30 more (differ); --json lists them all" in out
    assert len(json.loads(compare(capsys, one, other, "--json", "-")[1])["different"]) == 50


class ReversedProducts(NumpyOperations):
    name = "reversed"

    def matmul(self, left, right):
        return super().matmul(left[:, ::-1], right[::-1])


def test_real_reports(tmp_path, capsys, wrong):
    """Two runs of `validate`, the second with a wrong backend."""
    name = wrong(ReversedProducts())
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    assert main(["validate", "--backend", "numpy", "--cases", "matmul/*", "--json", str(one)]) == 0
    assert main(["validate", "--backend", name, "--cases", "matmul/*", "--json", str(other)]) == 1
    assert compare(capsys, one, one)[0] == 0
    code, out, err = compare(capsys, one, other)
    assert (code, err) == (1, "")
    assert "numpy against wrong: matmul/" in out
    assert "product differ" in out


# Ties by construction -----------------------------------------------------------------------------

TIE = "part at a tie by construction"


@pytest.mark.parametrize("options", [RTN, GPTQ], ids=["rtn", "gptq"])
def test_rows_that_part_at_ties_are_counted(layer, options, capsys):
    weight = np.abs(W)
    weight[:4, 0] = -8.0  # the largest of its row, negative: half-way between codes 0 and 1
    save_file({"weight": weight, "covariance": SIGMA}, layer)
    found = read_tensors(quantize(layer, "as-is", *options)).tensors["codes"][:, 0]
    assert set(found[:4]) <= {0, 1}
    one = quantize(layer, "one", *options)
    codes = read_tensors(one).tensors["codes"].copy()
    codes[:3, 0] = 1 - codes[:3, 0]
    codes[3, 5] += 1  # no tie
    _, out, _ = compare(capsys, one, altered(one, "other", codes=codes))
    assert f"3 of these 4 rows {TIE}" in out


@pytest.mark.parametrize("options", [(*RTN, "--asymmetric"), (*RTN, "--mse")])
def test_other_grids_have_no_ties_by_construction(layer, options, capsys):
    one = quantize(layer, "one", *options)
    codes = read_tensors(one).tensors["codes"].copy()
    codes[:, 0] = 0
    other = codes.copy()
    other[:, 0] = 1
    _, out, _ = compare(capsys, altered(one, "a", codes=codes), altered(one, "b", codes=other))
    assert TIE not in out


def test_a_later_column_of_gptq_is_no_tie(layer, capsys):
    one = quantize(layer, "one", *GPTQ)
    codes = read_tensors(one).tensors["codes"].copy()
    codes[:2, 3] = 0
    other = codes.copy()
    other[:2, 3] = 1
    _, out, _ = compare(capsys, altered(one, "a", codes=codes), altered(one, "b", codes=other))
    assert "in 1 of 16 columns and 2 of 6 rows" in out
    assert TIE not in out
