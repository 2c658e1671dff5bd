"""`waterlevel quantize`: what it writes is what the library returns, and speaks for itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from waterlevel.reference import Quantized, gptq, rtn, waterfilling, watersic
from waterlevel.reference.bases.haar import haar
from waterlevel.reference.bases.rotation import HadamardRotation, given_rotation
from waterlevel.reference.contract import CONTRACT_VERSION
from waterlevel.reference.limits.gaussian_limit import eigenbasis
from waterlevel.validate.layers import bitstream
from waterlevel.validate.layers.layer_files import sha256

from ...helpers import layers
from ...helpers.command import COLUMNS, ROWS, Command, load, tensors, write
from ...helpers.inputs import same_bits


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(capsys, tmp_path)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    return write(tmp_path / "layer.safetensors")


V = haar(COLUMNS, 7).matrix

# (options of the command, the function of the library, its arguments)
Case = tuple[str, Callable[..., Quantized], dict[str, Any]]
CASES: list[Case] = [
    ("rtn --bits 3", rtn, {"bits": 3}),
    (
        "rtn --bits 4 --asymmetric --mse --group-size 5",
        rtn,
        {"bits": 4, "asymmetric": True, "mse": True, "group_size": 5},
    ),
    *((f"rtn --format {name}", rtn, {"format": name}) for name in (
        "fp4-e2m1", "fp6-e2m3", "fp6-e3m2", "fp8-e4m3", "fp8-e5m2",
    )),
    ("rtn --entropy-coded --rate 4", rtn, {"rate": 4}),
    (
        "rtn --entropy-coded --spacing 0.25 --rotate hadamard --seed 3",
        rtn,
        {"spacing": 0.25, "rotation": HadamardRotation(COLUMNS, 3)},
    ),
    ("rtn --bits 2 --dtype float32 --rotate given", rtn,
     {"bits": 2, "dtype": "float32", "rotation": given_rotation(V, COLUMNS)}),
    ("gptq --bits 3", gptq, {"bits": 3}),
    (
        "gptq --bits 2 --asymmetric --group-size 5 --block-size 4 --actorder --damping 0.02",
        gptq,
        {"bits": 2, "asymmetric": True, "group_size": 5, "block_size": 4, "actorder": True,
         "damping": 0.02},
    ),
    (
        "gptq --format fp4-e2m1 --group-size 4 --static-groups --actorder",
        gptq,
        {"format": "fp4-e2m1", "group_size": 4, "static_groups": True, "actorder": True},
    ),
    ("gptq --bits 4 --unseen rtn", gptq, {"bits": 4, "unseen": "rtn"}),
    ("gptq --bits 8 --mse --dtype float32", gptq, {"bits": 8, "mse": True, "dtype": "float32"}),
    (
        "gptq --entropy-coded --rate 4 --open-loop --rotate haar --seed 2",
        gptq,
        {"rate": 4, "open_loop": True, "rotation": haar(COLUMNS, 2)},
    ),
    (
        "gptq --entropy-coded --rate 3 --rate-measure rate_column",
        gptq,
        {"rate": 3, "rate_measure": "rate_column"},
    ),
    ("watersic --rate 5", watersic, {"rate": 5}),
    ("watersic --rate 3 --open-loop", watersic, {"rate": 3, "open_loop": True}),
    (
        "watersic --spacing 0.3 --no-lmmse --no-rescale --damping 0 --dead-threshold 0.2",
        watersic,
        {"spacing": 0.3, "lmmse": False, "rescale": False, "damping": 0.0, "dead_threshold": 0.2},
    ),
    ("watersic --spacing 0.3 --no-rescale --dtype float32", watersic,
     {"spacing": 0.3, "rescale": False, "dtype": "float32"}),
    (
        "watersic --spacing 0.2 --rotate hadamard",
        watersic,
        {"spacing": 0.2, "rotation": HadamardRotation(COLUMNS, 0)},
    ),
    ("waterfilling --rate 4", waterfilling, {"rate": 4}),
    ("waterfilling --rate 3 --open-loop", waterfilling, {"rate": 3, "open_loop": True}),
    (
        "waterfilling --spacing 0.3 --no-lmmse --dtype float32",
        waterfilling,
        {"spacing": 0.3, "lmmse": False, "dtype": "float32"},
    ),
]  # fmt: skip


def arguments(options: str) -> list[str]:
    return ["--method", *options.split()]


def quantized(command: Command, layer: Path, options: str) -> tuple[dict[str, NDArray], Any]:
    done = command.quantize(layer, *arguments(options), "--json", "-")
    found, metadata = command.result()
    said = "".join(f"waterlevel quantize: {layer}: {line}\n" for line in metadata["remarks"])
    assert (done.code, done.err) == (0, said)
    return found, metadata


@pytest.mark.parametrize(("options", "function", "parameters"), CASES, ids=[c[0] for c in CASES])
def test_every_option_reaches_the_library(
    command: Command,
    tmp_path: Path,
    options: str,
    function: Callable[..., Quantized],
    parameters: dict[str, Any],
):
    """Equal bits, and a report that agrees with the result."""
    layer = write(tmp_path / "layer", rotation=V)
    found, metadata = quantized(command, layer, options)
    result = function(**tensors(), **parameters)
    same_bits(found["codes"], result.codes)
    same_bits(found["dequantized"], result.dequantized)
    for name, scale in vars(result.scales).items():
        same_bits(found[name], scale)
    assert metadata["parameters"] == json.loads(json.dumps(result.parameters))
    assert metadata["rates"] == vars(result.rates)
    for name in ("distortion", "weight_mean_square", "limit", "gap", "rate_met"):
        assert metadata[name] == getattr(result, name)
    assert metadata["unused"] == ([] if "given" in options else ["rotation"])


def rebuilt(found: dict[str, NDArray], metadata: dict[str, Any]) -> NDArray:
    """Ŵ from codes and scales, by the equations of the file format alone."""
    dtype = np.dtype(metadata["parameters"]["dtype"])
    codes = found["codes"]
    if "row_scale" in found:
        values = found["row_scale"][:, None] * codes.astype(dtype) * found["column_scale"]
    else:
        scale, zero = found["scale"][:, found["group"]], found["zero"][:, found["group"]]
        form = metadata["parameters"]["format"]
        if form == "int":
            values = scale * (codes - zero).astype(dtype)
        else:
            names = {"fp8-e4m3": "float8_e4m3fn"}
            kind = names.get(form, f"float{form[2:].replace('-', '_')}")
            kind += "fn" if form.startswith(("fp4", "fp6")) else ""
            magnitude = np.abs(codes).astype(np.uint8).view(getattr(ml_dtypes, kind))
            values = scale * np.where(codes < 0, -1, 1) * magnitude.astype(dtype)
    assert values.dtype == dtype
    rotation = metadata["parameters"]["rotation"]
    if rotation is None:
        return values
    if rotation["kind"] == "hadamard":
        word = np.random.Philox(key=rotation["seed"]).random_raw(COLUMNS)
        for distance in (1, 2, 4, 8):
            low = np.arange(COLUMNS) & distance == 0
            x, y = values[:, low], values[:, ~low]
            values = np.empty_like(values)
            values[:, low], values[:, ~low] = x + y, x - y
        return values * np.where(word >> np.uint64(63), -1, 1).astype(dtype) / 4
    turned = np.zeros_like(values)
    for k in range(COLUMNS):
        turned = turned + values[:, k, None] * found["rotation"].astype(dtype)[:, k]
    return turned


@pytest.mark.parametrize("options", [case[0] for case in CASES])
def test_a_file_explains_itself(command: Command, tmp_path: Path, options: str):
    """Dequantized comes out of codes and scales, and the digests out of the bytes."""
    layer = write(tmp_path / "layer", rotation=V)
    found, metadata = quantized(command, layer, options)
    same_bits(rebuilt(found, metadata), found["dequantized"])
    assert found["codes"].dtype == np.int32
    lattice = {"row_scale", "column_scale"}
    grid = {"scale", "zero", "group"}
    stored = {"rotation"} if any(w in options for w in ("haar", "given", "waterfilling")) else set()
    scales = grid if "bits" in metadata["parameters"] else lattice
    assert set(found) == {"codes", "dequantized"} | scales | stored
    digests = {n: hashlib.sha256(tensor.tobytes()).hexdigest() for n, tensor in found.items()}
    assert metadata["tensors"] == digests
    given = tensors(rotation=V)
    assert metadata["input"] == {name: sha256(tensor) for name, tensor in given.items()}
    assert metadata["contract"] == CONTRACT_VERSION
    assert (metadata["rows"], metadata["columns"]) == (ROWS, COLUMNS)
    assert metadata["backend"] == "numpy"


@pytest.mark.parametrize("options", ["watersic --rate 4", "gptq --bits 3 --rotate haar"])
def test_the_same_input_gives_the_same_bytes(command: Command, layer: Path, options: str):
    quantized(command, layer, options)
    first = command.output.read_bytes()
    command.output.unlink()
    quantized(command, layer, options)
    assert command.output.read_bytes() == first


def test_json_is_the_metadata_and_the_two_files(command: Command, layer: Path):
    done = command.quantize(layer, *arguments("watersic --rate 4"), "--json", "-")
    report = json.loads(done.out)
    assert report.pop("input_file") == str(layer)
    assert report.pop("output_file") == str(command.output)
    assert report == command.result()[1]


def test_the_text_says_what_the_json_says(command: Command, layer: Path):
    done = command.quantize(layer, *arguments("watersic --rate 5"))
    _, metadata = command.result()
    lines = {line.split()[0]: line for line in done.out.splitlines() if line}
    for name in ("rate", "rate_column", "rate_pooled", "rate_huffman"):
        assert f" {metadata['rates'][name]:.4f} " in lines[name]
    assert "searched 5: met" in lines["rate"]
    assert f" {metadata['limit']:.4f} " in lines["limit"]
    assert "limit for Gaussian weights" in lines["limit"]
    assert f" {metadata['gap']:.4f} " in lines["gap"]
    assert f"{metadata['distortion']:.6g}" in lines["distortion"]
    assert str(command.output) in lines["written"]
    assert "float64 on numpy" in done.out
    assert "rate_bytes" not in lines


def test_what_is_not_exact_is_said(command: Command, tmp_path: Path):
    given = tensors()
    eigenvalues, eigenvectors = eigenbasis(given["covariance"])
    plain = write(tmp_path / "plain")
    known = write(tmp_path / "known", eigenvalues=eigenvalues, eigenvectors=eigenvectors)
    inexact = {
        (path, options): set(quantized(command, path, options)[1]["inexact"])
        for path in (plain, known)
        for options in ("rtn --bits 3", "gptq --bits 3 --rotate haar", "waterfilling --spacing 0.3")
    }
    assert list(inexact.values()) == [
        {"limit", "gap", "relative_error", *more}
        for more in ((), ("rotation",), ("rotation",))
    ] + [{"relative_error", *more} for more in ((), ("rotation",), ())]  # fmt: skip


def test_eigenvectors_of_the_file_are_used(command: Command, tmp_path: Path):
    """Another basis of the same covariance: the order of the components is the file's."""
    given = tensors()
    eigenvalues, eigenvectors = (array[..., ::-1] for array in eigenbasis(given["covariance"]))
    layer = write(tmp_path / "layer", eigenvalues=eigenvalues, eigenvectors=eigenvectors)
    found, metadata = quantized(command, layer, "waterfilling --spacing 0.3")
    result = waterfilling(**given, eigenvalues=eigenvalues, eigenvectors=eigenvectors, spacing=0.3)
    same_bits(found["codes"], result.codes)
    same_bits(found["rotation"], np.ascontiguousarray(eigenvectors))
    assert metadata["unused"] == []
    _, metadata = quantized(command, layer, "watersic --spacing 0.3")
    assert metadata["unused"] == ["eigenvectors"]
    assert metadata["limit"] == watersic(**given, spacing=0.3, eigenvalues=eigenvalues).limit


def test_drift_and_residual(command: Command, tmp_path: Path):
    moments = layers.drift(5, ROWS, COLUMNS)
    given = {"weight": layers.weight(1, ROWS, COLUMNS), **moments}
    layer = write(tmp_path / "layer", **moments)
    found, metadata = quantized(command, layer, "watersic --spacing 0.1")
    result = watersic(**given, spacing=0.1)
    same_bits(found["codes"], result.codes)
    same_bits(found["dequantized"], result.dequantized)
    assert metadata["limit"] is metadata["gap"] is None
    assert "drift" in metadata["limit_undefined"]
    assert (set(metadata["inexact"]), metadata["unused"]) == ({"relative_error"}, [])
    text = command.quantize(layer, *arguments("watersic --spacing 0.1")).out
    assert [line.split()[1] for line in text.splitlines() if line[:5] in ("limit", "gap  ")] == [
        "—", "—",
    ]  # fmt: skip

    del given["covariance_quantized"], given["cross_covariance"]
    layer = write(tmp_path / "residual", **{n: given[n] for n in moments if n in given})
    found, metadata = quantized(command, layer, "watersic --spacing 0.1")
    same_bits(found["codes"], watersic(**given, spacing=0.1).codes)
    assert metadata["limit"] is not None


def test_tensors_without_a_part_are_named(command: Command, tmp_path: Path):
    layer = write(tmp_path / "layer", **layers.drift(5, ROWS, COLUMNS), eigenvalues=None)
    done = command.quantize(layer, *arguments("gptq --bits 3"))
    unused = ["covariance_quantized", "cross_covariance", "residual_covariance"]
    assert f"not used by gptq: {', '.join(unused)}" in done.out
    assert command.result()[1]["unused"] == unused


def test_a_factor_in_place_of_the_covariance(command: Command, tmp_path: Path):
    L = np.linalg.cholesky(layers.covariance(3, COLUMNS))
    packed = np.concatenate([L[i, : i + 1] for i in range(COLUMNS)]).astype(np.float32)
    layer = write(tmp_path / "layer", covariance=None, covariance_factor=packed)
    found, metadata = quantized(command, layer, "watersic --spacing 0.3 --dtype float32")
    F = np.zeros((COLUMNS, COLUMNS), np.float32)
    F[np.tril_indices(COLUMNS)] = packed
    covariance = np.zeros_like(F)
    for k in range(COLUMNS):
        covariance = covariance + F[:, k, None] * F[:, k]
    result = watersic(tensors()["weight"], covariance, spacing=0.3, dtype="float32")
    same_bits(found["codes"], result.codes)
    assert set(metadata["input"]) == {"weight", "covariance_factor"}


def test_half_precision_is_widened(command: Command, tmp_path: Path):
    half = {name: tensor.astype(np.float16) for name, tensor in tensors().items()}
    found, _ = quantized(command, write(tmp_path / "layer", **half), "watersic --spacing 0.3")
    wide = {name: tensor.astype(np.float64) for name, tensor in half.items()}
    same_bits(found["codes"], watersic(**wide, spacing=0.3).codes)


@pytest.mark.parametrize("options", ["gptq --bits 3", "watersic --spacing 0.3"])
def test_encode_counts_real_bytes(command: Command, layer: Path, options: str):
    found, metadata = quantized(command, layer, f"{options} --encode")
    stream = bitstream.encode(found["codes"])
    assert metadata["rates"]["rate_bytes"] == 8 * len(stream) / found["codes"].size
    same_bits(bitstream.decode(stream), found["codes"])
    text = command.quantize(layer, *arguments(f"{options} --encode")).out
    assert f"rate_bytes    {metadata['rates']['rate_bytes']:.4f}" in text


def test_the_limit_may_be_infinite(command: Command, tmp_path: Path):
    layer = write(tmp_path / "layer", weight=np.ones((1, 1)), covariance=np.ones((1, 1)))
    done = command.quantize(layer, *arguments("watersic --spacing 1"))
    assert (done.code, done.err) == (0, "")
    assert "infinite: there is no distortion" in done.out
    assert command.result()[1]["limit"] is None


def test_no_warning_and_no_failure_at_the_edges(command: Command, tmp_path: Path):
    edges = {
        "zeros": {"weight": np.zeros((ROWS, COLUMNS))},
        "one by one": {"weight": np.ones((1, 1)), "covariance": np.ones((1, 1))},
        "one row": {"weight": np.ones((1, COLUMNS))},
        "tiny": {"weight": 1e-150 * tensors()["weight"]},
        "huge": {"weight": 1e140 * tensors()["weight"]},
        "rank one": {"covariance": np.ones((COLUMNS, COLUMNS))},
    }
    for name, change in edges.items():
        layer = write(tmp_path / name, **change)
        for options in (
            "rtn --bits 3", "gptq --bits 3 --group-size 4", "gptq --entropy-coded --rate 3",
            "watersic --rate 3", "waterfilling --rate 0.6",
        ):  # fmt: skip
            done = command.quantize(layer, *arguments(options))
            report = command.result()[1]
            missed, lines = not report["rate_met"], len(report["remarks"])
            assert (done.code, done.err.count("\n")) == (missed, lines + missed), (name, options)
            assert lines == (0 if name == "one by one" else 1), (name, report["remarks"])
            assert np.isfinite(load(command.output)[0]["dequantized"]).all()


@pytest.mark.parametrize("options", ["rtn --bits 3", "watersic --rate 3"])
def test_a_covariance_that_is_zero_is_refused(command: Command, tmp_path: Path, options: str):
    layer = write(tmp_path / "layer", covariance=np.zeros((COLUMNS, COLUMNS)))
    done = command.quantize(layer, *arguments(options))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "calibration saw no input of this layer" in done.err
    assert not command.output.exists()


def test_the_text_says_what_the_numbers_mean(command: Command, tmp_path: Path):
    """Relative error and decibels beside D, what a grid uses; the JSON has the same numbers."""
    layer = write(tmp_path / "layer")
    out = command.quantize(layer, *arguments("rtn --bits 3")).out
    report = command.result()[1]
    decibels = 10 * np.log10(report["relative_error"])
    assert f"{report['relative_error']:.3g} of its energy, {decibels:.1f} dB" in out
    grid = report["grid"]
    assert f"{grid['codes_at_ends'] / (ROWS * COLUMNS):.2%}" in out
    assert f"{grid['unused_levels']} of 8" in out


def test_a_weight_whose_squares_underflow_is_refused(command: Command, tmp_path: Path):
    """A rate cannot be searched for where every mean square is 0; a finite grid still works."""
    layer = write(tmp_path / "layer", weight=1e-300 * tensors()["weight"])
    done = command.quantize(layer, *arguments("gptq --entropy-coded --rate 8"))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "the squares of the weight underflow float64; scale the weight up" in done.err
    assert not command.output.exists()
    assert command.quantize(layer, *arguments("gptq --bits 3")).code == 0


def test_unseen_features_are_said_and_rounded_if_asked_for(
    command: Command, layer: Path, tmp_path: Path
):
    said = "calibration never saw 1 of 16 features (columns 5)"
    endings = {"zero": "their weights become 0, and distortion", "rtn": "distortion"}
    for choice, ending in endings.items():
        out = tmp_path / choice
        done = command("quantize", layer, *arguments(f"gptq --bits 4 --unseen {choice}"), "-o", out)
        assert done.code == 0
        expected = f"waterlevel quantize: {layer}: {said}: {ending}, limit and gap do not cover"
        assert done.err.startswith(expected)
        found, metadata = load(out)
        assert found["dequantized"][:, 5].any() == (choice == "rtn")
        assert metadata["parameters"]["unseen"] == choice
    refused = command("quantize", layer, *arguments("watersic --rate 4 --unseen rtn"), "-o", layer)
    assert refused.code == 2
    assert "--unseen is not an option of watersic; it belongs to rtn and gptq" in refused.err
