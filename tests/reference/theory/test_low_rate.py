"""The recursion for WaterSIC's curve: written out plainly, its ends, and the algorithm itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

from waterlevel.reference import watersic
from waterlevel.reference.bases.haar import haar
from waterlevel.reference.errors import BadInput, NotPositiveDefinite
from waterlevel.reference.limits.gaussian_limit import rate_limit
from waterlevel.reference.theory.low_rate import (
    first_order_variances,
    predict_watersic,
    watersic_at_rate,
    watersic_curve,
)
from waterlevel.reference.theory.scalar import SCALAR_GAP, uniform_quantizer


def log_normal(n: int, deviation: float) -> np.ndarray:
    return np.exp(deviation * scipy.special.ndtri((np.arange(n) + 0.5) / n))


def rotated(eigenvalues: np.ndarray, seed: int = 1) -> np.ndarray:
    V = haar(len(eigenvalues), seed).matrix
    S = (V.T * eigenvalues) @ V
    return (S + S.T) / 2


@pytest.mark.parametrize("spacing", [0.01, 0.7, 3.0, 50.0])
def test_line_by_line(spacing: float):
    S, sigma2 = rotated(log_normal(9, 1.5)), 1.7
    L = np.linalg.cholesky(S)
    n = len(S)
    C = np.zeros((n, n))
    rates, variances = np.zeros(n), np.zeros(n)
    for j in range(n - 1, -1, -1):
        open_factor, column = L[j + 1 :, j + 1 :], L[j + 1 :, j]
        b = np.linalg.solve(open_factor, column) if j < n - 1 else np.zeros(0)
        inner = C[j + 1 :, j + 1 :]
        variances[j] = sigma2 * L[j, j] ** 2 + b @ inner @ b
        q = uniform_quantizer(spacing / math.sqrt(variances[j]))
        rates[j] = q.entropy
        C[j, j] = variances[j] * q.lmmse_distortion
        C[j, j + 1 :] = C[j, j] / variances[j] * (inner @ b)
        C[j + 1 :, j] = C[j, j + 1 :]
    found = predict_watersic(S, sigma2, spacing)
    assert found.variances == pytest.approx(variances, rel=1e-9)
    assert found.rates == pytest.approx(rates, rel=1e-8)
    assert found.distortions == pytest.approx(np.diagonal(C), rel=1e-9)
    assert found.rate == pytest.approx(rates.mean(), rel=1e-8)
    assert found.distortion == pytest.approx(np.trace(C) / n, rel=1e-9)
    limit = rate_limit(np.linalg.eigvalsh(S), sigma2, np.trace(C) / n)
    assert found.gap == pytest.approx(rates.mean() - limit, abs=1e-8)


def test_a_diagonal_covariance_is_scalar_quantisers_side_by_side():
    eigenvalues = np.array([4.0, 1.0, 0.01])
    found = predict_watersic(np.diag(eigenvalues), 2.0, 0.5)
    for k, v in enumerate(2 * eigenvalues):
        q = uniform_quantizer(0.5 / math.sqrt(v))
        assert found.variances[k] == pytest.approx(v)
        assert found.rates[k] == pytest.approx(q.entropy)
        assert found.gains[k] == pytest.approx(q.gain)
        assert found.distortions[k] == pytest.approx(v * q.lmmse_distortion)


# The printed figures are simulations for one spectrum of each kind that was drawn. Among spectra of
# 96 eigenvalues the sample deviation of ln λ scatters by 7%; the quantiles of 1.75 and of 0.95 give
# all sixteen of them. Tolerance: what the recursion claims for itself, and half a digit.
PRINTED = {
    1.75: ((0.176, 0.236, 0.254, 0.255), (0.389, 0.372, 0.298, 0.266)),
    0.95: ((0.209, 0.253, 0.255, 0.254), (0.321, 0.289, 0.265, 0.256)),
}


@pytest.mark.parametrize("deviation", PRINTED)
def test_the_printed_curves(deviation: float):
    eigenvalues = log_normal(96, deviation)
    for S, printed in zip(
        (np.diag(eigenvalues), rotated(eigenvalues)), PRINTED[deviation], strict=True
    ):
        curve = watersic_curve(S, 1.0, [1.0, 2.0, 3.0, 4.0])
        assert [p.gap for p in curve] == pytest.approx(printed, abs=0.0035)


def test_basis_independence_returns_at_high_rate():
    eigenvalues = log_normal(24, 1.0)
    for S in (np.diag(eigenvalues), rotated(eigenvalues)):
        assert watersic_at_rate(S, 3.0, 10.0).gap == pytest.approx(SCALAR_GAP, abs=1e-5)


@pytest.mark.parametrize(
    ("deviation", "rate"), [(d, r) for d in (1.0, 2.0) for r in (1.0, 2.0, 3.0, 4.0)]
)
def test_against_watersic(deviation: float, rate: float):
    """Within 0.003 bit and 4 standard errors, which the scatter of independent rows tells."""
    n, rows = 32, 20_000
    S = rotated(log_normal(n, deviation), seed=4)
    prediction = watersic_at_rate(S, 1.0, rate)
    assert prediction.rate == pytest.approx(rate, abs=1e-7)
    W = np.random.default_rng(int(10 * deviation + rate)).standard_normal((rows, n))
    result = watersic(
        W, S, spacing=prediction.spacing, damping=0.0, dead_threshold=0.0, rescale=False
    )
    bits = np.zeros(rows)
    for codes in result.codes.T:
        _, symbol, counts = np.unique(codes, return_inverse=True, return_counts=True)
        bits -= np.log2(counts[symbol] / rows)
    chance = (bits / n).std() / math.sqrt(rows)
    assert abs(result.rates.rate_column - rate) < 0.003 + 4 * chance

    error = result.dequantized - W
    squares = np.einsum("ai,ij,aj->a", error, S, error) / n
    ratio = squares.mean() / prediction.distortion
    chance = squares.std() / math.sqrt(rows) / squares.mean()
    assert abs(0.5 * math.log2(ratio)) < 0.003 + 4 * chance * 0.5 / math.log(2)
    gains = result.scales.column_scale * np.diagonal(np.linalg.cholesky(S)) / prediction.spacing
    # γ is a regression on `rows` samples: its error is √(D_LMMSE/(A·rows)) relative to 1.
    assert np.abs(gains - prediction.gains)[prediction.rates > 0.3].max() < 0.05


def test_the_beginning_for_small_steps():
    S = rotated(log_normal(12, 1.0))
    L = np.linalg.cholesky(S)
    squares, precision = np.diagonal(L) ** 2, np.diagonal(np.linalg.inv(S))
    for spacing in (0.02, 0.01):
        first = first_order_variances(S, 1.5, spacing)
        expected = 1.5 * squares + spacing**2 / 12 * (squares * precision - 1)
        assert first == pytest.approx(expected, rel=1e-10)
        # The next term is of fourth order in c/(σ·L_jj), which is below 0.03 here.
        smallest = 1.5 * squares.min()
        exact = predict_watersic(S, 1.5, spacing).variances
        leaked = exact - 1.5 * squares
        assert leaked == pytest.approx(first - 1.5 * squares, rel=spacing**2 / smallest, abs=1e-14)
        assert leaked.max() > 1e-6


def test_scaling():
    S = rotated(log_normal(8, 1.0))
    one, other = predict_watersic(S, 1.0, 0.6), predict_watersic(S * 9, 4.0, 3.6)
    assert other.rate == pytest.approx(one.rate, rel=1e-10)
    assert other.distortion == pytest.approx(36 * one.distortion, rel=1e-10)
    assert other.gap == pytest.approx(one.gap, abs=1e-9)


@pytest.mark.parametrize("rate", [0.001, 0.05, 100.0])
def test_far_rates_are_found(rate: float):
    S = rotated(log_normal(6, 3.0))
    assert watersic_at_rate(S, 1.0, rate).rate == pytest.approx(rate, rel=1e-5)


def test_refusals():
    S = np.eye(2)
    for sigma2 in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(BadInput, match="mean square"):
            predict_watersic(S, sigma2, 1.0)
    for spacing in (0.0, math.inf, math.nan):
        with pytest.raises(BadInput, match="spacing"):
            predict_watersic(S, 1.0, spacing)
    for rate in (0.0, 101.0, math.nan):
        with pytest.raises(BadInput, match="rate"):
            watersic_at_rate(S, 1.0, rate)
    with pytest.raises(NotPositiveDefinite):
        predict_watersic(np.diag([1.0, 0.0]), 1.0, 1.0)
