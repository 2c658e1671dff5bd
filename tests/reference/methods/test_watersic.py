"""WaterSIC against an implementation by LAPACK, and against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference import BadInput, CodeOverflow, NotPositiveDefinite, watersic
from waterlevel.reference.methods.rate_search import open_loop_spacing

from ...helpers import layers, plain_watersic
from ...helpers.inputs import integers, keys, same_bits

SHAPES = [(40, 33), (12, 131), (160, 24), (7, 1), (1, 17), (5, 9)]
OPTIONS: list[dict[str, Any]] = [
    {"spacing": 0.2},
    {"spacing": 1.5},
    {"spacing": 0.9, "lmmse": False},
    {"spacing": 0.9, "rescale": False},
    {"spacing": 0.4, "lmmse": False, "rescale": False, "damping": 0.0},
    {"rate": 2.5},
    {"rate": 1.0, "damping": 0.05},
]


def moments(key: int, a: int, n: int, which: str) -> dict[str, Any]:
    drifted = layers.drift(key, a, n)
    residual = {"residual_covariance": drifted.pop("residual_covariance")}
    dead = (0, n // 2) if n > 4 else ()
    # An input that is nearly always 0, by less than the thousandth part of the median's power.
    plain = layers.covariance(key, n, dead=dead[:1])
    plain[dead[1:], :] *= 0.02
    plain[:, dead[1:]] *= 0.02
    for name in drifted if n > 4 else ():
        drifted[name][0, :] = drifted[name][:, 0] = 0
    return {
        "plain": {"covariance": plain},
        "residual": {"covariance": plain, **residual},
        "drift": drifted,
        "both": {**drifted, **residual},
    }[which]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("which", ["plain", "residual", "drift", "both"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_implementations_agree(shape, which, options):
    a, n = shape
    key = 100 * SHAPES.index(shape)
    W = layers.weight(key + 50, a, n)
    inputs = moments(key, a, n, which)
    result = watersic(W, **inputs, **options, open_loop="rate" in options)
    expected = plain_watersic.watersic(W, **inputs, **options)
    assert expected.margin > 1e-9  # no decision that rounding could turn
    assert np.array_equal(result.codes, expected.codes)
    assert result.parameters["spacing"] == pytest.approx(expected.spacing, rel=1e-13)

    # L and Y err by n·u·κ(H). The gains are found from a system whose condition the products of
    # codes may add to; κ(H) is below 1e3 here, and 1e-9 leaves as much again for that.
    energy = np.abs(W).max()
    assert np.abs(result.dequantized - expected.dequantized).max() <= 1e-9 * energy
    power = np.trace(W @ inputs["covariance"] @ W.T) / W.size
    assert abs(result.distortion - expected.distortion) <= 1e-9 * power
    if a > 1 and n > 1:  # otherwise t and g are not unique, and the last turn decides
        np.testing.assert_allclose(result.scales.row_scale, expected.row_scale, rtol=1e-8)
        scale = np.abs(expected.column_scale).max()
        np.testing.assert_allclose(
            result.scales.column_scale, expected.column_scale, rtol=1e-8, atol=1e-8 * scale
        )
    scaled = result.scales.row_scale[:, None] * result.codes
    same_bits(result.dequantized, scaled * result.scales.column_scale)


# Rational arithmetic ------------------------------------------------------------------------------

Rows = list[list[Fraction]]


def fractions(matrix: np.ndarray) -> Rows:
    return [[Fraction(float(x)) for x in row] for row in matrix]


def rational_watersic(W: Rows, L: Rows, c: Fraction, lmmse: bool) -> tuple[Any, Any, Rows, Any]:
    """Codes, gains, Ŵ and a·n·D, exactly, for H = Σ = L Lᵀ."""
    a, n = len(W), len(L)
    Y = [[sum(w[m] * L[m][j] for m in range(n)) for j in range(n)] for w in W]
    Z = [[0] * n for _ in W]
    values = [[Fraction(0)] * n for _ in W]
    gains = [Fraction(1)] * n
    for k in reversed(range(n)):
        z = [round(y[k] / c) for y in Y]  # of a fraction: half to even
        if lmmse:
            energy = sum(x * x for x in z)
            cross = sum(x * y[k] for x, y in zip(z, Y, strict=True))
            gains[k] = cross / energy / c if energy else Fraction(0)
        for i in range(a):
            Z[i][k] = z[i]
            values[i][k] = z[i] * gains[k] * c / L[k][k]
            for j in range(k):
                Y[i][j] -= values[i][k] * L[k][j]
    energy = Fraction(0)
    for i in range(a):
        E = [values[i][k] - W[i][k] for k in range(n)]
        energy += sum(sum(E[k] * L[k][j] for k in range(n)) ** 2 for j in range(n))
    return Z, gains, values, energy


@given(keys, st.integers(1, 3), st.integers(1, 4), st.integers(-4, 1))
def test_without_gains_a_dyadic_case_is_exact(key, n, a, power):
    # Every number is a multiple of a power of two with few bits, and the divisors are powers of
    # two: floating point makes no error at all, and ties at ½ occur all the time.
    S, L = layers.dyadic(key, n)
    W = integers(key + 2, -12, 12, a, n) / 8.0
    c = 2.0**power
    result = watersic(W, S, spacing=c, lmmse=False, rescale=False, damping=0.0, dead_threshold=0.0)
    Z, _, values, energy = rational_watersic(fractions(W), fractions(L), Fraction(c), lmmse=False)
    assert result.codes.tolist() == Z
    same_bits(result.dequantized, np.array([[float(x) for x in row] for row in values]) + 0.0)
    assert result.distortion == float(energy) / (a * n)


@given(keys, st.integers(1, 3), st.integers(1, 4), st.integers(-4, 1))
def test_with_gains_a_small_case_is_known(key, n, a, power):
    S, L = layers.dyadic(key, n)
    W = integers(key + 2, -1000, 1000, a, n) / 512.0
    c = 0.7 * 2.0**power
    result = watersic(W, S, spacing=c, rescale=False, damping=0.0, dead_threshold=0.0)
    Z, gains, values, energy = rational_watersic(fractions(W), fractions(L), Fraction(c), True)
    assert result.codes.tolist() == Z
    # Σ and L are exact; of Y at most 4 numbers of size ≤ 64 are added, and z ≤ 2^10.
    bound = 2.0**-53 * 64 * 2**10
    for k in range(n):
        # α_k = c/L_kk is a multiplication by a power of two here
        column = float(gains[k]) * c / L[k, k]
        assert abs(result.scales.column_scale[k] - column) <= bound
    assert np.abs(result.dequantized - np.array(values, float)).max() <= bound
    assert abs(result.distortion - float(energy) / (a * n)) <= bound


def test_a_case_for_pencil_and_paper():
    # L = (2 0; 1 1), so Σ = (4 2; 2 2). W = (1.1 0.7): Y = (2.2 + 0.7, 0.7). c = 1.
    # Column 1: z = 1, Ŵ = 1, and 1 is taken from Y_0 = 2.9: 1.9. Column 0: z = 2, Ŵ = 2·½ = 1.
    # E = (-0.1, 0.3), E L = (0.1, 0.3): D = (0.01 + 0.09)/2.
    S = np.array([[4.0, 2.0], [2.0, 2.0]])
    W = np.array([[1.1, 0.7]])
    plain = watersic(W, S, spacing=1.0, lmmse=False, rescale=False, damping=0.0)
    assert plain.codes.tolist() == [[2, 1]]
    assert plain.dequantized.tolist() == [[1.0, 1.0]]
    assert plain.distortion == pytest.approx(0.05, rel=1e-14)
    # With gains: γ_1 = 0.7, so Y_0 = 2.2 stays 2.9 - 0.7 = 2.2; z = 2, γ_0 = 1.1: no error at all.
    gains = watersic(W, S, spacing=1.0, rescale=False, damping=0.0)
    assert gains.codes.tolist() == [[2, 1]]
    np.testing.assert_allclose(gains.scales.column_scale, [0.55, 0.7], rtol=1e-15)
    assert gains.distortion < 1e-30
    # A column without a code has gain 0, and its target is not touched.
    assert watersic(W, S, spacing=9.0, damping=0.0).scales.column_scale.tolist() == [0.0, 0.0]


# Preparation, as WaterSIC sees it -----------------------------------------------------------------


def test_dead_features_are_left_out_of_every_mean():
    n, dead = 12, [2, 7]
    live = np.setdiff1d(np.arange(n), dead)
    W = layers.weight(1, 9, n)
    inputs = layers.drift(2, 9, n)
    S = inputs["covariance"]
    S[dead, :] *= 1e-3
    S[:, dead] *= 1e-3
    small = {
        name: M[:, live] if name == "residual_covariance" else M[np.ix_(live, live)]
        for name, M in inputs.items()
    }
    for options in ({"spacing": 0.5}, {"rate": 2.0, "open_loop": True}):
        whole = watersic(W, **inputs, **options)
        part = watersic(W[:, live], **small, **options)
        assert whole.parameters["spacing"] == part.parameters["spacing"]
        same_bits(whole.codes[:, live], part.codes)
        same_bits(whole.dequantized[:, live], part.dequantized)
        same_bits(whole.scales.column_scale[live], part.scales.column_scale)
        assert not whole.codes[:, dead].any()
        assert not whole.dequantized[:, dead].any()
        assert not whole.scales.column_scale[dead].any()
        # Dead columns count as weights: a·n instead of a·|live| shares the same bits.
        share = len(live) / n
        assert whole.rates.rate_column == pytest.approx(part.rates.rate_column * share, rel=1e-14)


def test_the_threshold_is_in_parts_of_the_lower_median_and_strict():
    W = layers.weight(3, 5, 4)
    # Sorted: 0.01, 2, 4, 8; the lower median is 2, and 0.01 = 0.005·2.
    S = np.diag([4.0, 0.01, 8.0, 2.0])
    for threshold, dead in ((0.005, False), (np.nextafter(0.005, 1), True), (1e-3, False)):
        result = watersic(W, S, spacing=1e-3, dead_threshold=threshold)
        assert (result.scales.column_scale[1] == 0) == dead
    # Half of the inputs silent: the median is 0, and only they are dead.
    S = np.diag([0.0, 1.0, 1e-8, 0.0])
    result = watersic(W, S, spacing=1e-6, dead_threshold=0.5)
    assert (result.scales.column_scale == 0).tolist() == [True, False, False, True]


def test_when_all_inputs_are_dead_everything_is_zero():
    W = layers.weight(4, 5, 4)
    for options, met in (({"spacing": 0.1}, True), ({"rate": 3.0}, False)):
        result = watersic(W, np.zeros((4, 4)), **options)
        assert not result.codes.any()
        same_bits(result.dequantized, np.zeros((5, 4)))
        assert result.distortion == 0
        assert result.rate_met == met


def test_open_loop_spacing_is_the_formula():
    W = layers.weight(5, 30, 10)
    W[:, 4] = 0  # left out of the mean
    S = layers.covariance(6, 10)
    L = np.linalg.cholesky(S + 1e-4 * np.diag(S).mean() * np.eye(10))
    there = np.delete(np.arange(10), 4)
    logs = np.log2(12 * (W**2).mean(axis=0)[there] * np.diag(L)[there] ** 2)
    for rate in (0.0, 2.0, 7.5):
        result = watersic(W, S, rate=rate, open_loop=True)
        assert result.parameters["spacing"] == pytest.approx(
            2 ** (logs.mean() / 2 - rate), rel=1e-13
        )
    assert open_loop_spacing(np.zeros(3), np.ones(3), 2.0) == 1.0


def test_the_target_of_a_perfect_model_is_that_of_no_drift():
    W, S = layers.weight(7, 20, 15), layers.covariance(8, 15)
    plain = watersic(W, S, spacing=0.3)
    through_solve = watersic(W, S, spacing=0.3, covariance_quantized=S, cross_covariance=S)
    nothing = watersic(W, S, spacing=0.3, residual_covariance=np.zeros_like(W))
    for other in (through_solve, nothing):
        assert np.array_equal(other.codes, plain.codes)
        np.testing.assert_allclose(other.dequantized, plain.dequantized, rtol=1e-9, atol=1e-12)
        assert other.distortion == pytest.approx(plain.distortion, rel=1e-9)
    # A residual that equals W Σ doubles what the codes aim at.
    doubled = watersic(W, S, spacing=0.3, damping=0.0, residual_covariance=W @ S, rescale=False)
    twice = watersic(2 * W, S, spacing=0.3, damping=0.0, rescale=False)
    assert np.array_equal(doubled.codes, twice.codes)


def test_distortion_under_drift_is_that_of_the_tokens():
    a, n, tokens = 6, 9, 400
    X = layers.weight(9, tokens, n)
    noisy = X + 0.3 * layers.weight(10, tokens, n)
    W = layers.weight(11, a, n)
    result = watersic(
        W,
        X.T @ X / tokens,
        spacing=0.7,
        covariance_quantized=noisy.T @ noisy / tokens,
        cross_covariance=X.T @ noisy / tokens,
    )
    error = X @ W.T - noisy @ result.dequantized.T
    assert result.distortion == pytest.approx((error**2).mean() / n, rel=1e-12)
    assert np.isnan(result.limit)
    # To know the drift helps: ignoring it is worse on these very tokens.
    ignorant = watersic(W, X.T @ X / tokens, spacing=0.7).dequantized
    assert (error**2).mean() < ((X @ W.T - noisy @ ignorant.T) ** 2).mean()


# Refusals -----------------------------------------------------------------------------------------


def test_pivot_and_column_are_the_users():
    n = 9
    W = layers.weight(12, 3, n)
    S = np.eye(n)
    S[0, 0] = S[5, 5] = 0  # dead
    S[3, 7] = S[7, 3] = 1.5
    with pytest.raises(NotPositiveDefinite, match="damping 1 would do") as caught:
        watersic(W, S, spacing=0.1)
    assert caught.value.pivot == 7  # the fifth of the live ones
    assert caught.value.value == pytest.approx(1.0001 - 2.25 / 1.0001, rel=1e-12)
    assert np.isfinite(watersic(W, S, spacing=0.1, damping=1.0).distortion)
    with pytest.raises(NotPositiveDefinite, match="covariance_quantized") as caught:
        watersic(W, np.eye(n), spacing=0.1, covariance_quantized=S, cross_covariance=np.eye(n))
    assert caught.value.pivot == 7
    S[3, 7] = S[7, 3] = 0
    W[:] = 0
    W[2, 6] = -1e10
    with pytest.raises(CodeOverflow, match=r"codes\[2, 6\] would be -1.00005e\+10") as caught:
        watersic(W, S, spacing=1.0)
    assert (caught.value.row, caught.value.column) == (2, 6)


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("weight", np.full((3, 4), np.nan), r"weight\[0, 0\] is nan"),
        ("weight", np.ones((3, 5)), r"covariance has shape 4×4, expected 5×5"),
        ("weight", np.ones(4), r"weight must be a matrix"),
        ("weight", np.ones((0, 4)), r"weight has shape 0×4"),
        ("weight", np.ones((3, 4), int), r"weight is int64"),
        ("weight", np.ones((3, 4), complex), r"weight is complex128"),
        ("covariance", np.diag([1, np.inf, 1, 1]), r"covariance\[1, 1\] is inf"),
        ("covariance", np.eye(4) + np.tri(4) * 1e-5, r"covariance is not symmetric"),
        ("covariance", np.diag([1.0, 1.0, -1e-9, 1.0]), r"covariance\[2, 2\] = -1e-09 is negative"),
        ("covariance_quantized", np.eye(3), r"covariance_quantized has shape 3×3, expected 4×4"),
        ("covariance_quantized", np.tri(4), r"covariance_quantized is not symmetric"),
        ("covariance_quantized", -np.eye(4), r"covariance_quantized\[0, 0\] = -1 is negative"),
        ("covariance_quantized", None, r"cross_covariance is given without covariance_quantized"),
        ("cross_covariance", None, r"covariance_quantized is given without cross_covariance"),
        ("cross_covariance", np.full((4, 4), -np.inf), r"cross_covariance\[0, 0\] is -inf"),
        (
            "residual_covariance",
            np.ones((4, 3)),
            r"residual_covariance has shape 4×3, expected 3×4",
        ),
        ("residual_covariance", np.full((3, 4), np.nan), r"residual_covariance\[0, 0\] is nan"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_inputs_are_named(name, broken, message):
    good = {
        "weight": np.ones((3, 4)),
        "covariance": np.eye(4),
        "covariance_quantized": np.eye(4),
        "cross_covariance": np.tri(4),  # need not be symmetric
        "residual_covariance": np.ones((3, 4)),
    }
    assert watersic(**good, spacing=1.0).codes.shape == (3, 4)
    with pytest.raises(BadInput, match=message) as caught:
        watersic(**{**good, name: broken}, spacing=1.0)
    assert "\n" not in str(caught.value)


def test_what_rounding_does_to_symmetry_is_forgiven():
    S = layers.covariance(13, 6)
    W = layers.weight(14, 4, 6)
    S[1, 4] = S[4, 1] = round(S[1, 4] * 2**20) / 2**20  # so that skew/2 is added without rounding
    skew = np.zeros((6, 6))
    skew[1, 4] = 2.0 ** np.floor(np.log2(1e-6 * np.abs(S).max()))
    one_sided = watersic(W, S + skew, spacing=0.3)
    mirrored = watersic(W, S + skew / 2 + skew.T / 2, spacing=0.3)
    same_bits(one_sided.dequantized, mirrored.dequantized)
    with pytest.raises(BadInput, match=r"\[1, 4\] and \[4, 1\]"):
        watersic(W, S + 4 * skew, spacing=0.3)
