"""The laws of high rate against the algorithms themselves and by other routes to each number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference import gptq, rtn, watersic
from waterlevel.reference.bases.haar import haar
from waterlevel.reference.errors import BadInput, NotPositiveDefinite
from waterlevel.reference.limits.gaussian_limit import rate_limit
from waterlevel.reference.theory.high_rate import (
    LATTICE_FACTOR,
    adversarial_gap,
    cholesky_factor,
    cholesky_squares,
    damping_penalty,
    gap,
    geometric_mean,
    gptq_coefficient,
    high_rate_conditions,
    limit_coefficient,
    limit_distortion,
    pooling_bound,
    pooling_penalty,
    quantizer_distortion,
    rate_advantage,
    rtn_coefficient,
    watersic_coefficient,
)
from waterlevel.reference.theory.scalar import (
    SCALAR_GAP,
    scalar_gap,
    spacing_for_entropy,
    uniform_quantizer,
)

N = 12
EIGENVALUES = 2.0 ** -np.linspace(0, 4, N)


def covariance(seed: int = 3, eigenvalues: np.ndarray = EIGENVALUES) -> np.ndarray:
    V = haar(len(eigenvalues), seed).matrix
    S = (V * eigenvalues) @ V.T
    return (S + S.T) / 2


SIGMA = covariance()
ROWS = 20_000
WEIGHT = np.random.default_rng(5).standard_normal((ROWS, N))
SPACING = spacing_for_entropy(6.0)  # of a column of weights with σ = 1
ACTORDER = np.argsort(-np.diagonal(SIGMA), kind="stable")
# R, D and σ² are means over ROWS·N nearly independent terms: log2 p, e² and w² have the standard
# deviations 1/(√2·ln 2) bits, √0.8·D and √2·σ², the last two worth half as many bits/ln 2; 1.4 bits
# together. What the laws neglect is of the order (D/σ²)·(Σ⁻¹)_jj/ln 2 < 0.004 bit at 6 bits.
CHANCE = 4 * 1.4 / math.sqrt(ROWS * N)
TOLERANCE = CHANCE + 0.004


@pytest.mark.parametrize(
    ("run", "coefficient"),
    [
        (lambda c: rtn(WEIGHT, SIGMA, spacing=c), rtn_coefficient(SIGMA)),
        (lambda c: gptq(WEIGHT, SIGMA, spacing=c, damping=0.0), gptq_coefficient(SIGMA)),
        (
            lambda c: gptq(WEIGHT, SIGMA, spacing=c, damping=0.3),
            gptq_coefficient(SIGMA, damping=0.3),
        ),
        (
            lambda c: gptq(WEIGHT, SIGMA, spacing=c, damping=0.0, actorder=True),
            gptq_coefficient(SIGMA, ACTORDER),
        ),
        (
            lambda c: watersic(WEIGHT, SIGMA, spacing=c * 0.5, damping=0.0, rescale=False),
            watersic_coefficient(SIGMA),
        ),
        (
            lambda c: watersic(WEIGHT, SIGMA, spacing=c * 0.5, damping=0.3, rescale=False),
            watersic_coefficient(SIGMA, damping=0.3),
        ),
    ],
    ids=["rtn", "gptq", "gptq-damped", "gptq-actorder", "watersic", "watersic-damped"],
)
def test_the_law_of_each_scheme(run, coefficient: float):
    result = run(SPACING)
    assert result.gap == pytest.approx(gap(coefficient, limit_coefficient(SIGMA)), abs=TOLERANCE)
    rate = result.rates.rate_column
    predicted = quantizer_distortion(coefficient, result.weight_mean_square, rate)
    assert abs(0.5 * math.log2(result.distortion / predicted)) < TOLERANCE


def test_the_conditions_held():
    D = quantizer_distortion(rtn_coefficient(SIGMA), 1.0, 6.0)
    active, leak = high_rate_conditions(SIGMA, 1.0, D)
    assert active < 1
    assert leak / math.log(2) < 0.01
    assert active == pytest.approx(D / EIGENVALUES.min(), rel=1e-12)
    assert leak == pytest.approx(D * np.diagonal(np.linalg.inv(SIGMA)).max(), rel=1e-12)


def test_the_limit_is_waterfilling_with_all_components_active():
    for rate in (3.0, 5.5):
        D = limit_distortion(limit_coefficient(SIGMA), 2.0, rate)
        assert 2 * EIGENVALUES.min() > D
        assert rate_limit(EIGENVALUES, 2.0, D) == pytest.approx(rate, rel=1e-12)


def test_watersic_is_basis_free_and_gptq_is_not():
    rotated = covariance(seed=9)
    assert watersic_coefficient(rotated) == pytest.approx(watersic_coefficient(SIGMA), rel=1e-12)
    assert watersic_coefficient(SIGMA) == pytest.approx(geometric_mean(EIGENVALUES), rel=1e-12)
    assert gap(watersic_coefficient(SIGMA), limit_coefficient(SIGMA)) == pytest.approx(SCALAR_GAP)
    assert abs(rate_advantage(gptq_coefficient(rotated), gptq_coefficient(SIGMA))) > 0.01
    assert pytest.approx(2 * math.pi * math.e) == 12 * LATTICE_FACTOR


@pytest.mark.parametrize(
    "order", [None, np.arange(N)[::-1], ACTORDER, np.random.default_rng(1).permutation(N)]
)
def test_cholesky_squares_are_conditional_variances(order):
    """L_kk² = 1/((Σ_SS)⁻¹)_kk with S = k and the columns decided after it."""
    decided = np.arange(N) if order is None else order
    squares = cholesky_squares(SIGMA, order)
    for place, k in enumerate(decided):
        later = decided[place:]
        inverse = np.linalg.inv(SIGMA[np.ix_(later, later)])
        assert squares[k] == pytest.approx(1 / inverse[0, 0], rel=1e-10)
    assert np.mean(squares) == pytest.approx(gptq_coefficient(SIGMA, order), rel=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_the_gaps_stand_in_order(seed: int, n: int):
    S = covariance(seed, np.exp(np.random.default_rng(seed).standard_normal(n)))
    limit, sic = limit_coefficient(S), watersic_coefficient(S)
    assert limit * (1 - 1e-9) <= sic <= gptq_coefficient(S) * (1 + 1e-9)
    assert gptq_coefficient(S) <= rtn_coefficient(S) * (1 + 1e-9)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8), st.floats(0, 1))
def test_damping(eigenvalues: list[float], damping: float):
    """Against det and tr, in a basis where they must be worked for."""
    values = np.array(eigenvalues)
    S = covariance(2, values)
    n = len(values)
    H = S + damping * np.trace(S) / n * np.eye(n)
    log_det = np.linalg.slogdet(H)[1] - np.linalg.slogdet(S)[1]
    trace = np.trace(np.linalg.solve(H, S))
    expected = 0.5 * (log_det / n + math.log(trace / n)) / math.log(2)
    penalty = damping_penalty(values, damping)
    assert penalty == pytest.approx(expected, abs=1e-8)
    assert penalty >= -1e-12
    advantage = rate_advantage(watersic_coefficient(S), watersic_coefficient(S, damping))
    assert advantage == pytest.approx(penalty, abs=1e-8)


@pytest.mark.parametrize("order", [None, ACTORDER])
def test_damped_gptq_as_it_is_written(order):
    """mean L_kk²·M_kk with M = L⁻¹ Σ L⁻ᵀ, for a Σ whose columns differ widely."""
    scales = 10.0 ** np.linspace(-1, 1, N)
    S = SIGMA * np.outer(scales, scales)
    decided_last_first = (np.arange(N) if order is None else order)[::-1]
    moment = S[np.ix_(decided_last_first, decided_last_first)]
    L = np.linalg.cholesky(moment + 0.1 * np.trace(S) / N * np.eye(N))
    M = np.linalg.solve(L, np.linalg.solve(L, moment).T)
    expected = np.mean(np.diagonal(L) ** 2 * np.diagonal(M))
    assert gptq_coefficient(S, order, damping=0.1) == pytest.approx(expected, rel=1e-10)


# Diagonal Σ: GPTQ is two scalar quantisers with one spacing, so the curve is known at every rate.
EPSILON = 2.0**-16


@pytest.mark.parametrize(("rate", "printed"), [(8, 3.755), (6, 3.11), (4, 2.13)])
def test_the_adversarial_family_at_finite_rate(rate: int, printed: float):
    spacing = spacing_for_entropy(rate)
    D = uniform_quantizer(spacing).distortion * (1 + EPSILON) / 2
    exact = rate - rate_limit(np.array([1.0, EPSILON]), 1.0, D)
    assert abs(exact - printed) < 0.5 * 10 ** -(3 if rate == 8 else 2) + 0.0005
    rows = 40_000
    weight = np.random.default_rng(rate).standard_normal((rows, 2))
    result = gptq(weight, np.diag([1.0, EPSILON]), spacing=spacing, damping=0.0)
    # As above; from 0.2% of rare symbols on, the correction of Miller and Madow is itself inexact
    # by about S/(12·a·min p)/a: with the 600 symbols of 8 bits below 0.01 bit.
    assert result.gap == pytest.approx(exact, abs=4 * 1.4 / math.sqrt(2 * rows) + 0.01)


def test_the_adversarial_family_is_unbounded():
    assert round(adversarial_gap(EPSILON), 3) == 3.755
    for epsilon in (1.0, 0.1, EPSILON):
        S = np.diag([1.0, epsilon])
        expected = gap(gptq_coefficient(S), limit_coefficient(S))
        assert adversarial_gap(epsilon) == pytest.approx(expected, rel=1e-12)
    assert adversarial_gap(1.0) == SCALAR_GAP
    assert adversarial_gap(2.0**-400) > 99


def mixture_entropies(squares: list[float], spacing: float) -> float:
    """I(column; code) of Gaussian columns on one lattice, from the probabilities of the cells."""
    reach = 9 * math.sqrt(max(squares)) / spacing
    edges = (np.arange(-math.ceil(reach), math.ceil(reach) + 2) - 0.5) * spacing
    cells = np.array(
        [np.diff([0.5 * math.erfc(-x / math.sqrt(2 * s)) for x in edges]) for s in squares]
    )

    def entropy(p: np.ndarray) -> float:
        return float(-np.sum(p[p > 0] * np.log2(p[p > 0])))

    return entropy(cells.mean(axis=0)) - sum(map(entropy, cells)) / len(squares)


@pytest.mark.parametrize("squares", [[1.0, 4.0], [1.0, 1.0, 9.0], [0.25, 1.0, 2.0, 100.0]])
def test_pooling_against_entropies_of_codes(squares: list[float]):
    # A lattice blurs the densities by Δ²/12 of each variance: a relative 2·10⁻⁴ and less here.
    expected = mixture_entropies(squares, 0.05 * math.sqrt(min(squares)))
    assert pooling_penalty(np.array(squares)) == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6))
def test_pooling_bound(squares: list[float]):
    penalty = pooling_penalty(np.array(squares))
    assert -1e-9 <= penalty <= pooling_bound(np.array(squares)) + 1e-9
    assert penalty <= math.log2(len(squares)) + 1e-9  # the index of the column says it all


def test_pooling_for_a_small_spread():
    logs = 0.05 * np.linspace(-1, 1, 9)
    for bits in (pooling_bound(np.exp(logs)), pooling_penalty(np.exp(logs))):
        # The next terms are of the relative order of the variance itself.
        assert bits * math.log(2) == pytest.approx(np.var(logs) / 4, rel=0.005)


def test_first_order_autoregression():
    """ρ = 0.9: 0.254 by columns, 0.269 pooled, GPTQ 0.273 (printed for 6 bits; n = 96)."""
    n = 96
    S = 0.9 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    squares = cholesky_squares(S)
    assert squares == pytest.approx(np.append(np.full(n - 1, 0.19), 1.0), rel=1e-9)
    found = (0.0, pooling_penalty(squares), pooling_bound(squares))
    for extra, printed in zip(found, (0.254, 0.269, 0.273), strict=True):
        assert abs(SCALAR_GAP + extra - printed) < 0.001
    assert pooling_bound(squares) == pytest.approx(
        rate_advantage(watersic_coefficient(S), gptq_coefficient(S)), rel=1e-9
    )
    assert abs(scalar_gap(6.0, lmmse=True) - SCALAR_GAP) < 1e-6  # so 6 bits are high rate


def test_refusals():
    with pytest.raises(NotPositiveDefinite) as caught:
        cholesky_factor(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert (caught.value.pivot, caught.value.value) == (1, -3.0)
    with pytest.raises(BadInput, match="NaN"):
        watersic_coefficient(np.full((2, 2), np.nan))
    for values in (np.array([]), np.array([1.0, 0.0]), np.array([1.0, np.inf])):
        with pytest.raises(BadInput, match="geometric mean"):
            geometric_mean(values)
    with pytest.raises(BadInput, match="squares"):
        pooling_penalty(np.array([1.0, 0.0]))
