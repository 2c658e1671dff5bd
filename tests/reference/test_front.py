"""`import waterlevel`: what it offers, by name, and what a result shows, saves and gives back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import waterlevel
from waterlevel.reference.bases.rotation import HadamardRotation
from waterlevel.validate.layers.layer_files import read_layer, write_tensors
from waterlevel.validate.layers.quantize_layer import describe, tensors_of

from ..helpers import layers
from ..helpers.command import write
from ..helpers.inputs import same_bits

W, S = layers.weight(1, 6, 8), layers.covariance(2, 8)
CALLS = {
    "rtn": {"bits": 3, "group_size": 4},
    "gptq": {"bits": 4, "format": "int", "asymmetric": True, "actorder": True},
    "watersic": {"rate": 2.5},
    "waterfilling": {"spacing": 0.5},
}


def test_everything_offered_is_there_and_nothing_heavy_is_imported_before():
    for name in waterlevel.__all__:
        assert getattr(waterlevel, name) is not None
    assert waterlevel.backend("numba").name == "numba"
    with pytest.raises(AttributeError, match="no attribute 'waterfall'"):
        waterlevel.waterfall  # noqa: B018  # pyright: ignore
    program = "import sys, waterlevel; print([m for m in ('numpy', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("method", CALLS)
def test_a_prepared_layer_stands_for_weight_and_covariance(method: str):
    quantize, options = getattr(waterlevel, method), CALLS[method]
    plain = quantize(W, S, **options, dtype="float32", backend="numba")
    layer = waterlevel.prepare(W.tolist(), S.tolist(), dtype="float32", backend="numba")
    again = quantize(layer, **options)
    same_bits(again.codes, plain.codes)
    same_bits(again.dequantized, plain.dequantized)
    assert again.parameters == plain.parameters
    assert (again.limit, again.gap) == (plain.limit, plain.gap)
    with pytest.raises(waterlevel.BadInput, match="covariance is given beside a prepared layer"):
        quantize(layer, S, **options)


@pytest.mark.parametrize("method", ["rtn", "gptq", "waterfilling"])
def test_moments_without_a_part_in_a_method_are_refused(method: str):
    quantize, options = getattr(waterlevel, method), CALLS[method]
    drift = {"covariance_quantized": S, "cross_covariance": S}
    for more, name in ((drift, "covariance_quantized"), ({"residual_covariance": W}, "residual")):
        layer = waterlevel.prepare(W, S, **more)
        with pytest.raises(waterlevel.BadInput, match=f"{name}.*{method} knows nothing"):
            quantize(layer, **options)
        assert waterlevel.watersic(layer, spacing=0.5).codes.shape == W.shape


def test_rotations_and_backends_by_name():
    named = waterlevel.gptq(W, S, bits=3, rotation="hadamard", backend="numba")
    given = waterlevel.gptq(W, S, bits=3, rotation=HadamardRotation(8, 0))
    same_bits(named.codes, given.codes)
    with pytest.raises(waterlevel.BadInput, match="rotation is 'paley'; it must be one of"):
        waterlevel.gptq(W, S, bits=3, rotation="paley")
    with pytest.raises(waterlevel.BadInput, match="no backend is called 'abacus'"):
        waterlevel.rtn(W, S, bits=3, backend="abacus")


@pytest.mark.parametrize("method", CALLS)
def test_a_result_is_shown_saved_and_loaded(method: str, tmp_path: Path):
    result = getattr(waterlevel, method)(W, S, **CALLS[method])
    lines = repr(result).splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 100
    assert method in lines[0]
    assert result._repr_html_().count("<tr>") == 5
    path = tmp_path / "result.safetensors"
    result.save(path)
    found = waterlevel.load(path)
    for name in ("codes", "dequantized"):
        same_bits(getattr(found, name), getattr(result, name))
    assert type(found.scales) is type(result.scales)
    for name, array in vars(result.scales).items():
        same_bits(vars(found.scales)[name], array)
    for name in ("method", "parameters", "rates", "distortion", "limit", "gap", "rate_met"):
        assert getattr(found, name) == getattr(result, name)
    assert repr(found) == repr(result)


def test_no_distortion_and_drift_are_loaded_as_they_were(tmp_path: Path):
    exact = waterlevel.rtn(np.round(W), S, spacing=1.0)
    drift = waterlevel.watersic(W, S, covariance_quantized=S, cross_covariance=S, spacing=0.5)
    for result, limit, gap in ((exact, np.inf, -np.inf), (drift, np.nan, np.nan)):
        result.save(tmp_path / "result")
        found = waterlevel.load(tmp_path / "result")
        for each in (result, found):
            np.testing.assert_array_equal([each.limit, each.gap], [limit, gap])


@pytest.mark.parametrize("name", ["rates", "distortion", "limit", "rate_met"])
def test_a_result_without_a_number_is_refused(name: str, tmp_path: Path):
    result = waterlevel.rtn(W, S, bits=3)
    lacking = {key: value for key, value in describe(result).items() if key != name}
    write_tensors(tmp_path / "result", tensors_of(result), lacking)
    with pytest.raises(waterlevel.BadInput, match=f"result: {name} of its metadata is missing"):
        waterlevel.load(tmp_path / "result")
    write_tensors(tmp_path / "result", tensors_of(result), describe(result) | {"rates": {"a": 1}})
    with pytest.raises(waterlevel.BadInput, match="rates of its metadata are not those"):
        waterlevel.load(tmp_path / "result")


def test_what_is_no_result_is_not_loaded(tmp_path: Path):
    layer = write(tmp_path / "layer.safetensors")
    read_layer(layer)  # a layer, and no result
    with pytest.raises(waterlevel.BadInput, match=r"layer.safetensors: .* is missing; it is no"):
        waterlevel.load(layer)
    with pytest.raises(FileNotFoundError):
        waterlevel.load(tmp_path / "nothing.safetensors")
    with pytest.raises((waterlevel.BadInput, OSError)):
        waterlevel.rtn(W, S, bits=3).save(tmp_path / "no-folder" / "result.safetensors")


def test_an_unmet_rate_warns_where_the_method_was_called():
    with pytest.warns(
        waterlevel.RateNotMet, match=r"watersic: a rate of 0\.01 was not met"
    ) as said:
        result = waterlevel.watersic(W, S, rate=0.01)
    assert not result.rate_met
    assert [warning.filename for warning in said] == [__file__]
    for method in ("rtn", "gptq", "waterfilling"):
        with pytest.warns(waterlevel.RateNotMet) as said:
            getattr(waterlevel, method)(W, S, rate=0.01)
        assert [warning.filename for warning in said] == [__file__]


def test_integers_in_an_array_are_taken_for_codes():
    with pytest.raises(waterlevel.BadInput, match="weight is int32, expected one of float64"):
        waterlevel.rtn(np.ones((2, 3), np.int32), np.eye(3), bits=3)
