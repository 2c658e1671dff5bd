"""What is true of every method on every layer, hostile ones included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from waterlevel.reference import (
    GridScales,
    Quantized,
    WaterlevelError,
    gptq,
    rtn,
    waterfilling,
    watersic,
)
from waterlevel.reference.grids.float_formats import FORMATS

from ...helpers import layers
from ...helpers.inputs import FLOATS, dtypes, flavours, integers, keys, numbers, same_bits
from ...helpers.opaque import OPAQUE

Method = Callable[..., Quantized]


# name: (method, options that scale with √Σ·W, all others). `spacing` is in units of W, for WaterSIC
# and waterfilling of W·L.
GRIDS: dict[str, tuple[Method, dict[str, Any]]] = {
    "rtn": (rtn, {"bits": 3}),
    "rtn asymmetric groups": (rtn, {"bits": 4, "asymmetric": True, "group_size": 3}),
    "rtn mse": (rtn, {"bits": 2, "mse": True}),
    "rtn float": (rtn, {"format": "fp6-e2m3"}),
    "gptq": (gptq, {"bits": 3}),
    "gptq groups": (gptq, {"bits": 4, "group_size": 3, "block_size": 4, "actorder": True}),
    "gptq static": (gptq, {"bits": 5, "group_size": 2, "static_groups": True, "actorder": True}),
    "gptq asymmetric mse": (gptq, {"bits": 2, "asymmetric": True, "mse": True, "group_size": 5}),
    "gptq float groups": (gptq, {"format": "fp4-e2m1", "group_size": 4, "block_size": 3}),
}
LATTICES: dict[str, tuple[Method, dict[str, Any]]] = {
    "rtn spacing": (rtn, {"spacing": 0.375}),
    "gptq spacing": (gptq, {"spacing": 0.375}),
    "watersic": (watersic, {"spacing": 0.625}),
    "watersic plain": (watersic, {"spacing": 0.625, "lmmse": False, "rescale": False}),
    "waterfilling": (waterfilling, {"spacing": 0.625}),
}
RATES: dict[str, tuple[Method, dict[str, Any]]] = {
    "rtn rate": (rtn, {"rate": 2.5}),
    "gptq rate": (gptq, {"rate": 2.5, "actorder": True, "rate_measure": "rate_pooled"}),
    "watersic rate": (watersic, {"rate": 2.5, "rate_measure": "rate_column"}),
    "watersic open loop": (watersic, {"rate": 2.5, "open_loop": True}),
    "waterfilling open loop": (waterfilling, {"rate": 2.5, "open_loop": True}),
}
ALL = {**GRIDS, **LATTICES, **RATES}
names = st.sampled_from(list(ALL))
small = st.integers(1, 7)


def run(name: str, W: np.ndarray, S: np.ndarray, **more: Any) -> Quantized:
    method, options = ALL[name]
    return method(W, S, **{**options, **more})


def check_consistent(result: Quantized, W: np.ndarray) -> None:
    """Shapes, dtypes, no NaN, and Ŵ is what the codes and scales say, to the bit."""
    a, n = W.shape
    dtype = np.dtype(result.parameters["dtype"])
    assert result.codes.shape == result.dequantized.shape == (a, n)
    assert result.codes.dtype == np.int32
    assert result.dequantized.dtype == dtype
    assert np.isfinite(result.dequantized).all()
    assert np.isfinite(result.distortion)
    for rate in (result.rates.rate, result.rates.rate_column, result.rates.rate_pooled):
        assert np.isfinite(rate)
        assert rate >= 0
    if result.method == "waterfilling":  # Ŵ is in another basis
        return
    if isinstance(result.scales, GridScales):
        scale, zero = (x[:, result.scales.group] for x in (result.scales.scale, result.scales.zero))
        assert (scale > 0).all()
        if result.parameters["format"] == "int":
            assert result.codes.min() >= 0
            assert result.codes.max() < 2 ** result.parameters["bits"]
            values = (result.codes - zero).astype(dtype)
        else:
            values = FORMATS[result.parameters["format"]].values(result.codes, dtype)
        same_bits(result.dequantized, scale * values)
    else:
        scaled = result.scales.row_scale[:, None] * result.codes.astype(dtype)
        same_bits(result.dequantized, scaled * result.scales.column_scale)


def same_scales(found: Quantized, expected: Quantized, power: int = 0) -> None:
    """The scales of `found` are those of `expected` times 2^power."""
    if isinstance(expected.scales, GridScales):
        same_bits(found.scales.scale, np.ldexp(expected.scales.scale, power))
        same_bits(found.scales.zero, expected.scales.zero)
        same_bits(found.scales.group, expected.scales.group)
    else:
        same_bits(found.scales.row_scale, expected.scales.row_scale)
        same_bits(found.scales.column_scale, np.ldexp(expected.scales.column_scale, power))


def tame(key: int, a: int, n: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    dead = (key % n,) if key % 3 == 0 and n > 1 else ()
    W, S = layers.weight(key, a, n), layers.covariance(key + 9, n, dead=dead)
    return W.astype(dtype), S.astype(dtype)


# Any input ----------------------------------------------------------------------------------------


def hostile_covariance(kind: str, key: int, n: int) -> np.ndarray:
    if kind == "rank deficient":
        X = layers.weight(key, n, max(1, n // 2))
        S = X @ X.T
    elif kind == "zero":
        S = np.zeros((n, n))
    elif kind == "ones":
        S = np.ones((n, n))
    elif kind == "spread":
        D = 2.0 ** integers(key, -300, 300, n)
        S = layers.covariance(key, n) * D * D[:, None]
    elif kind == "huge":
        S = layers.covariance(key, n) * 2.0**1015
    elif kind == "tiny":
        S = layers.covariance(key, n) * 2.0**-1060
    else:
        S = layers.covariance(key, n, dead=(0, n - 1))
    return (S + S.T) / 2


KINDS = ["rank deficient", "zero", "ones", "spread", "huge", "tiny", "dead"]


@given(names, flavours, st.sampled_from(KINDS), small, small, keys, dtypes)
@settings(max_examples=300)
def test_any_layer_is_quantised_or_refused_in_one_line(name, flavour, kind, a, n, key, dtype):
    W = numbers(flavour, key, (a, n), np.float64)
    S = hostile_covariance(kind, key, n)
    try:
        result = run(name, W, S, dtype=dtype)
    except WaterlevelError as refusal:
        message = str(refusal)
    else:
        check_consistent(result, W)
        return
    assert len(message) > 20
    assert "\n" not in message


@given(names, st.sampled_from(["rank deficient", "ones", "dead"]), small, small, keys, dtypes)
def test_damping_mends_every_rank(name, kind, a, n, key, dtype):
    W = layers.weight(key, a, n)
    check_consistent(run(name, W, hostile_covariance(kind, key, n), dtype=dtype), W)


@given(names, small, keys)
def test_nothing_costs_nothing(name, n, key):
    W, S = np.zeros((3, n)), layers.covariance(key, n)
    result = run(name, W, S)
    check_consistent(result, W)
    same_bits(result.dequantized, W)
    assert result.distortion == 0
    assert result.limit == 0


# Scale --------------------------------------------------------------------------------------------


@given(names, small, small, keys, st.integers(-200, 200))
def test_weights_times_a_power_of_two(name, a, n, key, power):
    W, S = tame(key, a, n)
    scaled = {"spacing": np.ldexp(ALL[name][1]["spacing"], power)} if name in LATTICES else {}
    plain, found = run(name, W, S), run(name, np.ldexp(W, power), S, **scaled)
    same_bits(found.codes, plain.codes)
    same_bits(found.dequantized, np.ldexp(plain.dequantized, power))
    same_scales(found, plain, power)
    assert found.distortion == np.ldexp(plain.distortion, 2 * power)
    assert found.rates == plain.rates
    assert found.rate_met == plain.rate_met
    if name not in GRIDS:
        assert found.parameters["spacing"] == np.ldexp(plain.parameters["spacing"], power)


@given(names, small, small, keys, st.integers(-200, 200))
def test_covariance_times_a_power_of_four(name, a, n, key, power):
    W, S = tame(key, a, n)
    assume(not name.startswith("waterfilling"))  # its eigenvectors are LAPACK's
    whitened = name.startswith("watersic")
    scaled = {}
    if name in LATTICES and whitened:
        scaled = {"spacing": np.ldexp(ALL[name][1]["spacing"], power)}
    factor = 4.0**power
    # A silent input counts as energy 1, whatever the others have.
    assume(whitened or (np.diag(S) > 0).all())
    plain, found = run(name, W, S), run(name, W, S * factor, **scaled)
    same_bits(found.codes, plain.codes)
    same_bits(found.dequantized, plain.dequantized)
    same_scales(found, plain)
    assert found.distortion == plain.distortion * factor


# Rows ---------------------------------------------------------------------------------------------


@given(st.sampled_from([*GRIDS, "rtn spacing", "gptq spacing"]), small, small, keys, dtypes)
def test_rows_of_one_scale_do_not_know_each_other(name, a, n, key, dtype):
    W, S = tame(key, a, n, dtype)
    order = np.argsort(integers(key, 0, 99, a), kind="stable")[::-1]
    whole, permuted = run(name, W, S, dtype=dtype), run(name, W[order], S, dtype=dtype)
    same_bits(permuted.codes, whole.codes[order])
    same_bits(permuted.dequantized, whole.dequantized[order])
    same_bits(run(name, W[:1], S, dtype=dtype).dequantized, whole.dequantized[:1])


@given(
    st.sampled_from([*GRIDS, "rtn spacing", "gptq spacing", "watersic plain", "watersic gains"]),
    small,
    small,
    keys,
    st.sampled_from([1, 3, 60]),
)
def test_rows_of_zeros_change_codes_and_gains_of_no_other_row(name, a, n, key, more):
    W, S = tame(key, a, n)
    padded = np.concatenate([W, np.zeros((more, n))])
    options = {}
    if name == "watersic gains":
        name, options = "watersic plain", {"lmmse": True}
    plain, found = run(name, W, S, **options), run(name, padded, S, **options)
    same_bits(found.codes[:a], plain.codes)
    same_bits(found.dequantized[:a], plain.dequantized)
    assert not found.dequantized[a:].any()
    assert found.distortion == pytest.approx(plain.distortion * a / (a + more), rel=1e-13)
    if name == "watersic plain":
        same_bits(found.scales.column_scale, plain.scales.column_scale)
        if plain.codes.any() and a > 1:
            assert found.rates.rate_column != plain.rates.rate_column


# Numbers ------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["rtn spacing", "gptq spacing", "watersic plain"]),
    small,
    st.integers(1, 3),
    keys,
)
def test_both_precisions_agree_where_nothing_is_rounded(name, a, n, key):
    S, _ = layers.dyadic(key, n)
    if name == "gptq spacing":
        S = S[::-1, ::-1].copy()  # whose reversal has the factor with powers of two
    W = integers(key + 3, -12, 12, a, n) / 8.0
    options = {"spacing": 0.25}
    if name != "rtn spacing":
        options["damping"] = 0.0
    if name == "watersic plain":
        options["dead_threshold"] = 0.0
    wide = run(name, W, S, **options)
    narrow = run(name, W, S, dtype=np.float32, **options)
    same_bits(narrow.codes, wide.codes)
    same_bits(narrow.dequantized, wide.dequantized.astype(np.float32))
    assert narrow.distortion == wide.distortion


@pytest.mark.parametrize("name", [*GRIDS, *LATTICES, "watersic open loop"])
def test_precisions_differ_only_where_a_decision_is_close(name):
    W, S = layers.weight(1, 60, 20), layers.covariance(2, 20)
    wide, narrow = run(name, W, S), run(name, W, S, dtype=np.float32)
    check_consistent(narrow, W)
    # A decision is turned where v/s lies within n·2⁻²⁴·κ ≈ 20·100·6e-8 ≈ 1e-4 of a tie: one in
    # 5000 of 1200. A turned one, or the tie at the least weight of a row, may turn others of its
    # row; rows are compared.
    equal = (wide.codes == narrow.codes).all(axis=1)
    assert equal.mean() >= 0.6
    if "static" not in name and "rows" not in name:
        error = np.abs(wide.dequantized - narrow.dequantized)[equal]
        assert error.max() < 1e-3


@pytest.mark.parametrize("narrow", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("name", ["rtn", "gptq groups", "watersic", "waterfilling"])
def test_narrow_inputs_are_widened_exactly(name, narrow):
    W = layers.weight(3, 8, 6).astype(narrow)
    S = np.diag([1, 2, 0.5, 4, 1, 1]).astype(narrow)
    for dtype in FLOATS:
        found = ALL[name][0](
            W, S.astype(np.float64) if name == "waterfilling" else S, **ALL[name][1], dtype=dtype
        )
        expected = run(name, W.astype(np.float64), S.astype(np.float64), dtype=dtype)
        same_bits(found.dequantized, expected.dequantized)
        same_bits(found.codes, expected.codes)


# Backends and inputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ALL)
def test_algorithms_ask_operations_only(name, dtype):
    W, S = tame(6, 9, 7, dtype)
    plain = run(name, W, S, dtype=dtype)
    found = run(name, W, S, dtype=dtype, backend=OPAQUE)
    same_bits(found.dequantized, plain.dequantized)
    same_bits(found.codes, plain.codes)
    same_scales(found, plain)
    assert found.rates == plain.rates
    assert found.distortion == plain.distortion


def test_drift_asks_operations_only():
    W, inputs = layers.weight(7, 9, 7), layers.drift(8, 9, 7)
    for options in ({"spacing": 0.5}, {"rate": 2.0}):
        plain = watersic(W, **inputs, **options)
        found = watersic(W, **inputs, **options, backend=OPAQUE)
        same_bits(found.dequantized, plain.dequantized)
        assert found.distortion == plain.distortion


@pytest.mark.parametrize("name", ALL)
def test_inputs_are_not_touched_and_may_be_any_view(name):
    W, S = layers.weight(9, 6, 8), layers.covariance(10, 8)
    kept = W.copy(), S.copy()
    plain = run(name, W, S)
    same_bits(W, kept[0])
    same_bits(S, kept[1])
    frozen = W.T.copy().T  # Fortran order
    frozen.setflags(write=False)
    wide = np.zeros((8, 16))
    wide[:, ::2] = S
    same_bits(run(name, frozen, wide[:, ::2]).dequantized, plain.dequantized)
    same_bits(run(name, W, S).dequantized, plain.dequantized)
