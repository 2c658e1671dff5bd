"""Bad layers and bad options: one line that names what is wrong, exit code 2, and no file."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from waterlevel.validate.cli import quantize
from waterlevel.validate.layers import bitstream
from waterlevel.validate.layers.bitstream import MissingPackage

from ...helpers import layers
from ...helpers.command import COLUMNS, Command, Done, tensors, write


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(capsys, tmp_path)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    return write(tmp_path / "layer.safetensors")


def changed(name: str, row: int, column: int, value: float) -> dict[str, Any]:
    array = tensors()[name].copy()
    array[row, column] = value
    return {name: array}


def symmetric(row: int, column: int, value: float) -> dict[str, Any]:
    array = changed("covariance", row, column, value)["covariance"]
    array[column, row] = value
    return {"covariance": array}


V = np.linalg.qr(layers.covariance(9, COLUMNS))[0]
RANDOM = np.linalg.eigh(tensors()["covariance"])
SQUARE = np.eye(COLUMNS)
RTN, GPTQ, SIC = "rtn --bits 3", "gptq --bits 3", "watersic --rate 4"
WATER = "waterfilling --spacing 1"

# what is in the file, options, what the one line must say
BAD_LAYERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "misspelt name": ({"covarience": SQUARE}, SIC, "'covarience' is not known .did you mean cova"),
    "unknown name": ({"bias": np.ones(3)}, SIC, "'bias' is not known; a layer file holds weight, "),
    "output as input": ({"codes": np.ones((2, 2), np.int32)}, SIC, "'codes' is not known"),
    "no weight": ({"weight": None}, SIC, "weight is missing"),
    "no covariance": ({"covariance": None}, SIC, "covariance is missing"),
    "two covariances": ({"covariance_factor": np.ones(136)}, SIC, "covariance_factor are both"),
    "integers": ({"weight": np.ones((3, 16), np.int32)}, SIC, "weight has dtype I32, expected"),
    "weight of one dimension": ({"weight": np.ones(16)}, SIC, "weight must be a matrix"),
    "weight without rows": ({"weight": np.ones((0, 16))}, SIC, "weight has shape 0×16"),
    "NaN in weight": (changed("weight", 2, 3, np.nan), SIC, r"weight\[2, 3\] is nan"),
    "infinity in weight": (changed("weight", 2, 3, np.inf), RTN, r"weight\[2, 3\] is inf"),
    "too large for float32": (
        changed("weight", 2, 3, 1e39), f"{RTN} --dtype float32", r"weight\[2, 3\].*float32",
    ),
    "NaN in covariance": (changed("covariance", 1, 4, np.nan), GPTQ, r"covariance\[1, 4\] is nan"),
    "NaN before LAPACK": (changed("covariance", 1, 4, np.nan), WATER, r"covariance\[1, 4\] is nan"),
    "another shape": ({"covariance": np.eye(15)}, SIC, "covariance has shape 15×15, expected 16"),
    "not symmetric": (changed("covariance", 1, 4, 9.0), SIC, "covariance is not symmetric"),
    "negative diagonal": (
        changed("covariance", 4, 4, -1.0), RTN, r"covariance\[4, 4\] = -1 is negative",
    ),
    "not positive definite": (
        symmetric(1, 4, 50.0), GPTQ, "covariance with damping 0.01 is not positive definite: pivot",
    ),
    "rank deficient without damping": (
        {"covariance": np.ones((16, 16))}, f"{SIC} --damping 0",
        "covariance .* not positive definite: pivot 1 is 0; damping .* would do",
    ),
    "negative distortion": (
        symmetric(1, 4, 1e4), WATER, "covariance is not positive semidefinite: the distortion",
    ),
    "half a drift": ({"cross_covariance": SQUARE}, SIC, "without covariance_quantized"),
    "residual of another shape": ({"residual_covariance": SQUARE}, SIC, "residual_covariance has"),
    "short factor": (
        {"covariance": None, "covariance_factor": np.ones(9)}, SIC, "covariance_factor has shape 9",
    ),
    "NaN in factor": (
        {"covariance": None, "covariance_factor": np.full(136, np.nan)}, SIC,
        r"covariance_factor\[0\] is nan",
    ),
    "no rotation": ({}, f"{GPTQ} --rotate given", "tensor rotation is missing; --rotate given"),
    "rotation not orthogonal": (
        {"rotation": 2 * SQUARE}, f"{GPTQ} --rotate given", "rotation is not orthogonal",
    ),
    "rotation of another shape": (
        {"rotation": np.eye(9)}, f"{RTN} --rotate given", "rotation must be 16×16",
    ),
    "no such Hadamard matrix": (
        {"weight": np.ones((3, 13)), "covariance": np.eye(13)}, f"{RTN} --rotate hadamard",
        "no Hadamard matrix of order 13.*Haar",
    ),
    "eigenvectors alone": ({"eigenvectors": V}, WATER, "eigenvectors is there without eigenvalues"),
    "eigenvalues alone": (
        {"eigenvalues": RANDOM[0]}, WATER, "eigenvalues is there without eigenvectors",
    ),
    "eigenvalues of another matrix": (
        {"eigenvalues": 2 * RANDOM[0]}, RTN, "eigenvalues sum to .* another matrix",
    ),
    "eigenvalues of another shape": ({"eigenvalues": np.ones(9)}, SIC, "eigenvalues has shape 9"),
    "NaN in eigenvalues": ({"eigenvalues": np.full(16, np.nan)}, SIC, r"eigenvalues\[0\] is nan"),
    "eigenvectors in another order": (
        {"eigenvalues": RANDOM[0], "eigenvectors": RANDOM[1][:, ::-1]}, WATER,
        r"eigenvectors\[:, \d+\] and eigenvalues\[\d+\] do not belong to the covariance",
    ),
    "eigenvectors of another shape": (
        {"eigenvalues": RANDOM[0], "eigenvectors": np.eye(9)}, WATER, "eigenvectors has shape 9×9",
    ),
    "NaN in eigenvectors": (
        {"eigenvalues": RANDOM[0], "eigenvectors": np.full((16, 16), np.nan)}, WATER,
        r"eigenvectors\[0, 0\] is nan",
    ),
    "codes too large": ({}, "watersic --spacing 1e-12", r"codes\[\d+, \d+\] would be .*int32"),
}  # fmt: skip


def refused(command: Command, done: Done, message: str, inputs: set[str]) -> None:
    assert done.code == 2
    assert done.out == ""
    assert re.fullmatch(rf"waterlevel quantize: .*{message}.*\n", done.err), done.err
    assert {path.name for path in command.directory.iterdir()} == inputs


@pytest.mark.parametrize(("change", "options", "message"), BAD_LAYERS.values(), ids=BAD_LAYERS)
def test_bad_layers_are_one_line_and_no_file(
    command: Command, tmp_path: Path, change: dict[str, Any], options: str, message: str
):
    layer = write(tmp_path / "layer", **change)
    done = command.quantize(layer, "--method", *options.split())
    refused(command, done, message, {"layer"})


# options, what the one line must say
BAD_OPTIONS: dict[str, tuple[str, str]] = {
    "unknown method": ("awq --bits 3", "--method: invalid choice: 'awq'; there are: rtn"),
    "unknown format": ("rtn --format fp5", "--format: .*'fp5'.*fp4-e2m1"),
    "unknown measure": ("watersic --rate 3 --rate-measure x", "--rate-measure: .*'x'.*rate_pooled"),
    "unknown dtype": ("rtn --bits 3 --dtype float16", "--dtype: .*'float16'.*float32"),
    "unknown rotation": ("rtn --bits 3 --rotate x", "--rotate: .*'x'.*hadamard"),
    "bits that are no number": ("rtn --bits x", "--bits: 'x' is not a whole number"),
    "fractional bits": ("rtn --bits 3.5", "--bits: '3.5' is not a whole number"),
    "too many bits": ("gptq --bits 9", "bits is 9; an integer grid needs 2 to 8"),
    "one bit": ("rtn --bits 1", "bits is 1"),
    "no group": ("gptq --bits 3 --group-size 0", "--group-size: '0' is not a whole number"),
    "endless block": (f"gptq --bits 3 --block-size {10**30}", "--block-size: '10+' is not a whole"),
    "nothing asked of rtn": ("rtn", "rtn needs --bits B .*--format, or --entropy-coded"),
    "nothing asked of gptq": ("gptq --format int", "gptq needs --bits B"),
    "nothing asked of watersic": ("watersic", "watersic needs either --rate R or --spacing C"),
    "two things asked": ("waterfilling --rate 3 --spacing 1", "waterfilling needs either"),
    "no rate": ("rtn --entropy-coded", "rtn --entropy-coded needs either --rate R or --spacing C"),
    "rate without entropy coding": ("gptq --rate 3", "--rate needs --entropy-coded with gptq"),
    "spacing and bits": ("rtn --bits 3 --spacing 1", "--spacing needs --entropy-coded with rtn"),
    "bits with entropy coding": (
        "rtn --entropy-coded --rate 3 --bits 3", "--bits belongs to finite grids",
    ),
    "groups with entropy coding": (
        "gptq --entropy-coded --rate 3 --group-size 4", "--group-size belongs to finite grids",
    ),
    "always entropy coded": (
        "watersic --rate 3 --entropy-coded", "--entropy-coded is not .* watersic .it always is",
    ),
    "bits of watersic": ("watersic --bits 3", "--bits is not an option of watersic; .* and gptq"),
    "order of rtn": ("rtn --bits 3 --actorder", "--actorder is not an option of rtn; .* to gptq"),
    "gains of gptq": ("gptq --bits 3 --no-lmmse", "--no-lmmse is not an option of gptq"),
    "rescaling of waterfilling": (
        "waterfilling --rate 3 --no-rescale", "--no-rescale is not .* belongs to watersic$",
    ),
    "damping of rtn": ("rtn --bits 3 --damping 0.1", "--damping is not .*gptq and watersic"),
    "rotation of waterfilling": ("waterfilling --rate 3 --rotate haar", "--rotate is not an opt"),
    "threshold of gptq": ("gptq --bits 3 --dead-threshold 0", "--dead-threshold is not an option"),
    "measure without a search": (
        "watersic --spacing 1 --rate-measure rate", "--rate-measure is what a search aims at",
    ),
    "open loop without a rate": ("watersic --spacing 1 --open-loop", "do not give a spacing"),
    "seed of nothing": ("rtn --bits 3 --seed 1", "--seed needs --rotate"),
    "seed of a given rotation": ("rtn --bits 3 --rotate given --seed 1", "--seed needs --rotate"),
    "negative seed": ("rtn --bits 3 --rotate haar --seed -1", "seed must be from 0"),
    "bits of a float format": ("rtn --format fp4-e2m1 --bits 4", "fp4-e2m1 brings its own bits"),
    "static without groups": ("gptq --bits 3 --static-groups", "static_groups needs a group_size"),
    "rate that is no number": ("watersic --rate nan", "rate is nan; it must be at least 0"),
    "negative rate": ("watersic --rate -2", "rate is -2.0; it must be at least 0"),
    "endless rate": ("watersic --rate inf", "rate is inf"),
    "spacing zero": ("waterfilling --spacing 0", "spacing is 0.0; it must be above 0"),
    "negative damping": ("gptq --bits 3 --damping -1", "damping is -1.0; it must be at least 0"),
    "negative threshold": ("watersic --rate 3 --dead-threshold -1", "dead_threshold is -1.0"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_are_one_line_and_no_file(
    command: Command, layer: Path, options: str, message: str
):
    done = command.quantize(layer, "--method", *options.split())
    refused(command, done, message.removesuffix("$"), {layer.name})
    if message.endswith("$"):
        assert re.search(message, done.err.rstrip("\n"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none: No such file or directory"),
        ("folder", "folder: Is a directory"),
        ("text", "text: not a whole safetensors file"),
        ("half", "half: not a whole safetensors file"),
        ("empty", "empty: not a whole safetensors file"),
        (os.devnull, "not a regular file"),
    ],
)
def test_what_is_no_layer_file(command: Command, layer: Path, name: str, message: str):
    (command.directory / "folder").mkdir()
    (command.directory / "text").write_text("weight = 1\n" * 99)
    (command.directory / "empty").write_bytes(b"")
    (command.directory / "half").write_bytes(layer.read_bytes()[:-100])
    done = command.quantize(command.directory / name, "--method", *SIC.split())
    refused(command, done, message, {layer.name, "folder", "text", "empty", "half"})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (".", "is a directory"),
        ("none/out", "there is no directory"),
        ("layer.safetensors", "is the input file"),
        (os.devnull, "not a regular file"),
    ],
)
def test_targets_that_cannot_be(command: Command, layer: Path, target: str, message: str):
    before = layer.read_bytes()
    output = command.directory / target
    done = command("quantize", layer, "--method", *RTN.split(), "-o", output)
    refused(command, done, f"output {re.escape(str(output))}.* {message}", {layer.name})
    assert layer.read_bytes() == before
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("abacus", "no backend is called 'abacus'; there are: .*numpy"),
        ("os:nothing", "'os:nothing' cannot be loaded: .*'nothing'"),
        ("no_such_module:x", "cannot be loaded: No module named 'no_such_module'"),
        ("os:getpid", "'os:getpid' lacks the operations accumulate, "),
    ],
)
def test_backends_that_cannot_be(command: Command, layer: Path, backend: str, message: str):
    done = command(
        "quantize", layer, "--method", *RTN.split(), "-o", command.output, "--backend", backend
    )
    refused(command, done, message, {layer.name})


def test_an_earlier_output_outlives_a_failure(command: Command, layer: Path, tmp_path: Path):
    assert command.quantize(layer, "--method", *RTN.split()).code == 0
    before = command.output.read_bytes()
    broken = write(tmp_path / "broken", **changed("weight", 0, 0, np.nan))
    assert command.quantize(broken, "--method", *RTN.split()).code == 2
    assert command.output.read_bytes() == before
    assert command.quantize(layer, "--method", *GPTQ.split()).code == 0
    assert command.output.read_bytes() != before


def test_encode_asks_for_its_package_before_the_work(
    command: Command, layer: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "constriction", None)
    monkeypatch.setattr(quantize, "read_layer", None)  # not reached
    done = command.quantize(layer, "--method", *SIC.split(), "--encode")
    refused(command, done, r"pip install 'waterlevel\[encode\]'", {layer.name})
    with pytest.raises(MissingPackage):
        bitstream.encode(np.zeros((1, 1), np.int32))
