"""What theory says about the methods at high rate, on Gaussian weights.

Seeds are fixed, so a test that passes will pass. How far a figure may be off all the same: the
entropy of a column of a codes is estimated with the standard deviation of log2 of a Gaussian
density, 1.02 bits, over √a; the mean over n columns with 1.02/√(a·n). ½·log2 of the measured σ² has
the same standard deviation, that of the measured D a smaller one. Three times the root of their sum
of squares is below 3·√3·1.02/√(a·n) = 5.3/√(a·n): 0.0104 for a·n = 2¹⁸.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from waterlevel.reference import gptq, rtn, waterfilling, watersic
from waterlevel.reference.bases.haar import haar
from waterlevel.reference.limits.gaussian_limit import eigenbasis

SCALAR = 0.5 * math.log2(2 * math.pi * math.e / 12)  # 0.2546 bit
A, N = 4096, 64
STATISTICAL = 5.3 / math.sqrt(A * N)


def gaussian(key: int, a: int, n: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key)).normal(size=(a, n))


def autoregressive(n: int, correlation: float) -> np.ndarray:
    k = np.arange(n)
    return correlation ** np.abs(k[:, None] - k)


def spacing_for(rate: float, squared_lengths: np.ndarray) -> float:
    """c of codes whose mean column entropy is `rate` at high rate: h(Gaussian) - log2 c."""
    return 2 ** (0.5 * np.log2(2 * math.pi * math.e * squared_lengths).mean() - rate)


@pytest.fixture(scope="module")
def layer() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian weights, AR(1) moments whose inputs differ in energy, and their eigenvalues."""
    energy = np.linspace(-1, 1, N)
    S = autoregressive(N, 0.9) * 2.0 ** (energy[:, None] + energy) / 2
    return gaussian(1, A, N), S, eigenbasis(S)[0]


def test_watersic_pays_a_quarter_bit(layer):
    W, S, eigenvalues = layer
    L = np.linalg.cholesky(S)
    c = spacing_for(6.0, np.diag(L) ** 2)
    options = {"spacing": c, "damping": 0.0, "dead_threshold": 0.0, "eigenvalues": eigenvalues}
    result = watersic(W, S, rescale=False, **options)
    assert result.rates.rate_column == pytest.approx(6.0, abs=STATISTICAL)
    assert result.gap == pytest.approx(SCALAR, abs=STATISTICAL)
    # Every column gets the same noise where it counts: (Ŵ - W) L has the variance c²/12.
    noise = (((result.dequantized - W) @ L) ** 2).mean(axis=0) / (c * c / 12)
    # Of a uniform error: sd(x²)/mean(x²) = √0.8.
    assert np.abs(noise - 1).max() < 4 * math.sqrt(0.8 / A)
    # A scale for each row is one more number in n, fitted to the error: 1/n of it goes. Its 16 bits
    # are not counted in rate_column.
    saved = 0.5 * math.log2(1 - watersic(W, S, **options).distortion / result.distortion)
    assert saved == pytest.approx(0.5 * math.log2(1 / N), abs=0.1)


def test_watersic_pays_it_in_any_basis(layer):
    W, S, eigenvalues = layer
    c = spacing_for(6.0, np.diag(np.linalg.cholesky(S)) ** 2)
    options = {
        "spacing": c,
        "damping": 0.0,
        "dead_threshold": 0.0,
        "rescale": False,
        "eigenvalues": eigenvalues,
    }
    plain = watersic(W, S, **options)
    turned = watersic(W, S, **options, rotation=haar(N, seed=3))
    assert turned.gap == pytest.approx(SCALAR, abs=STATISTICAL)
    ratio = turned.distortion / plain.distortion
    # Two samples of a·n uniform errors.
    assert ratio == pytest.approx(1.0, abs=4 * math.sqrt(2 * 0.8 / (A * N)))


@pytest.mark.parametrize("actorder", [False, True])
def test_gptq_pays_for_the_spread_of_its_factor(layer, actorder):
    W, S, eigenvalues = layer
    order = np.argsort(-np.diag(S), kind="stable") if actorder else np.arange(N)
    reversed_order = order[::-1]
    L = np.linalg.cholesky(S[np.ix_(reversed_order, reversed_order)])
    squares = np.diag(L) ** 2
    spacing = spacing_for(6.0, np.ones(N))
    result = gptq(W, S, spacing=spacing, damping=0.0, actorder=actorder, eigenvalues=eigenvalues)
    predicted = SCALAR + 0.5 * np.log2(squares.mean()) - 0.5 * np.log2(squares).mean()
    assert predicted > SCALAR + 0.2
    assert result.gap == pytest.approx(predicted, abs=STATISTICAL)
    assert result.distortion == pytest.approx(spacing**2 / 12 * squares.mean(), rel=0.01)


def test_rtn_pays_for_everything_it_ignores(layer):
    W, S, eigenvalues = layer
    spacing = spacing_for(6.0, np.ones(N))
    result = rtn(W, S, spacing=spacing, eigenvalues=eigenvalues)
    predicted = SCALAR + 0.5 * np.log2(np.diag(S).mean()) - 0.5 * np.log2(eigenvalues).mean()
    assert predicted > 1.2
    # Its errors are weighted by Σ, and the few large eigenvalues make D a mean of fewer numbers:
    # the effective number of columns is (Σλ)²/Σλ².
    effective = A * eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert result.gap == pytest.approx(predicted, abs=STATISTICAL + 3 / math.sqrt(effective))


def test_waterfilling_pays_a_quarter_bit_and_less_at_low_rate(layer):
    W, S, _ = layer
    eigenvalues, V = eigenbasis(S)
    c = spacing_for(6.0, eigenvalues)
    result = waterfilling(W, S, eigenvalues=eigenvalues, eigenvectors=V, spacing=c)
    assert result.gap == pytest.approx(SCALAR, abs=STATISTICAL)
    # For one variance: gaps with the gain at ½, 1 and 2 bits by the integrals of the theory.
    flat = dict.fromkeys(("covariance", "eigenvectors"), np.eye(N)) | {"eigenvalues": np.ones(N)}
    for spacing, entropy, distortion in ((1.0, 2.1048, 0.07692), (3.0, 0.7010, 0.49777)):
        result = waterfilling(W, **flat, spacing=spacing)
        assert result.rates.rate_column == pytest.approx(entropy, abs=STATISTICAL)
        assert result.distortion == pytest.approx(distortion, rel=STATISTICAL)
        assert result.gap == pytest.approx(entropy + 0.5 * math.log2(distortion), abs=STATISTICAL)
        plain = waterfilling(W, **flat, spacing=spacing, lmmse=False).distortion
        assert plain == pytest.approx({1.0: 0.08333, 3.0: 0.64831}[spacing], rel=STATISTICAL)
    low = waterfilling(W, **flat, rate=0.5, rate_measure="rate_column").gap
    assert low == pytest.approx(0.152, abs=STATISTICAL)


@pytest.mark.parametrize(("rate", "gap"), [(8.0, 3.755), (6.0, 3.11), (4.0, 2.13)])
def test_gptq_can_be_arbitrarily_far_off(rate, gap):
    a = 2**17
    epsilon = 2.0**-16
    W = gaussian(2, a, 2)
    S = np.diag([1.0, epsilon])
    result = gptq(
        W,
        S,
        spacing=spacing_for(rate, np.ones(2)),
        damping=0.0,
        eigenvalues=np.array([1.0, epsilon]),
    )
    assert result.rates.rate_column == pytest.approx(rate, abs=0.01)
    assert result.gap == pytest.approx(gap, abs=0.015)  # the figures have two or three digits
    # WaterSIC on the same layer, at 8 bits.
    if rate == 8.0:
        formula = SCALAR + 0.5 * math.log2((1 + epsilon) / (2 * math.sqrt(epsilon)))
        assert gap == pytest.approx(formula, abs=0.001)
        c = spacing_for(rate, np.diag(S))
        fair = watersic(W, S, spacing=c, damping=0.0, dead_threshold=0.0, rescale=False)
        assert fair.gap == pytest.approx(SCALAR, abs=5.3 / math.sqrt(2 * a))


def test_damping_costs_what_theory_says(layer):
    W, S, eigenvalues = layer
    damping = 0.05
    H = S + damping * np.diag(S).mean() * np.eye(N)
    c = spacing_for(7.0, np.diag(np.linalg.cholesky(H)) ** 2)
    result = watersic(
        W, S, spacing=c, damping=damping, rescale=False, dead_threshold=0.0, eigenvalues=eigenvalues
    )
    _, log_H = np.linalg.slogdet(H)
    _, log_S = np.linalg.slogdet(S)
    loss = 0.5 * (log_H - log_S) / N / math.log(2)
    loss += 0.5 * math.log2(np.trace(np.linalg.solve(H, S)) / N)
    assert loss > 5 * STATISTICAL
    assert result.gap == pytest.approx(SCALAR + loss, abs=STATISTICAL)


def test_one_table_for_all_codes_loses_the_advantage():
    # The example of a first-order autoregressive Σ at 6 bits: by columns .254, pooled .269.
    n = 96
    W, S = gaussian(3, 4096, n), autoregressive(n, 0.9)
    squares = np.diag(np.linalg.cholesky(S)) ** 2
    result = watersic(W, S, spacing=spacing_for(6.0, squares), damping=0.0, rescale=False)
    pooled_gap = result.rates.rate_pooled - (16 / 4096 + 16 / n) - result.limit
    assert result.gap == pytest.approx(SCALAR, abs=STATISTICAL)
    assert pooled_gap > result.gap + STATISTICAL
    ceiling = 0.5 * np.log2(squares.mean()) - 0.5 * np.log2(squares).mean()
    assert pooled_gap - result.gap <= ceiling + STATISTICAL
