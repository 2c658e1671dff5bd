"""The Cholesky diagonal after a random rotation: equation, invariants, drawn rotations."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from waterlevel.reference import NUMPY
from waterlevel.reference.bases.haar import haar
from waterlevel.reference.bases.rotation import HadamardRotation
from waterlevel.reference.errors import BadInput
from waterlevel.reference.theory.high_rate import cholesky_squares, gap, geometric_mean
from waterlevel.reference.theory.rotated import (
    half_and_half_gap,
    rotated_cholesky_squares,
    rotated_gptq_gap,
)
from waterlevel.reference.theory.scalar import SCALAR_GAP


def log_normal(n: int, deviation: float) -> np.ndarray:
    """The n quantiles of a spectrum with ln λ ~ N(0, deviation²)."""
    return np.exp(deviation * scipy.special.ndtri((np.arange(n) + 0.5) / n))


@functools.cache
def drawn(n: int, seed: int) -> np.ndarray:
    return haar(n, seed).matrix


def gap_of(covariance: np.ndarray, eigenvalues: np.ndarray) -> float:
    return gap(float(np.mean(cholesky_squares(covariance))), geometric_mean(eigenvalues))


def simulated_gaps(eigenvalues: np.ndarray, draws: int) -> np.ndarray:
    """GPTQ's gap at high rate, by Cholesky, for Haar matrices that are drawn."""
    rotations = [drawn(len(eigenvalues), seed) for seed in range(draws)]
    return np.array([gap_of((V.T * eigenvalues) @ V, eigenvalues) for V in rotations])


@pytest.mark.parametrize("eigenvalues", [log_normal(40, 2.0), np.array([5.0, 0.1, 3.0])])
def test_the_equation_as_it_is_printed(eigenvalues: np.ndarray):
    """s with mean λ/(λ + s) = t, then s·t/(1-t)."""
    n = len(eigenvalues)
    for k, square in enumerate(rotated_cholesky_squares(eigenvalues), start=1):
        t = (k - 0.5) / n
        s = math.exp(
            scipy.optimize.brentq(
                lambda u, t=t: np.mean(eigenvalues / (eigenvalues + math.exp(u))) - t, -50, 50
            )
        )
        assert square == pytest.approx(s * t / (1 - t), rel=1e-9)


@pytest.mark.parametrize("deviation", [0.5, 2.0, 3.0])
def test_invariants(deviation: float):
    eigenvalues = log_normal(512, deviation)
    squares = rotated_cholesky_squares(eigenvalues)
    assert (np.diff(squares) < 0).all()
    # The midpoint rule for ∫ ln u dt = mean ln λ: its error is of the order 1/n² times the slope
    # of ln u at the ends, about mean λ²/(mean λ)² = e^(d²) there.
    assert np.mean(np.log(squares)) == pytest.approx(
        np.mean(np.log(eigenvalues)), abs=math.exp(deviation**2) / 512**2
    )
    # Both ends: AM(λ) and HM(λ), half a place away from the first and the last.
    first = 2 * np.log(squares[0]) - (np.log(squares[0]) + np.log(squares[1])) / 2
    slope = np.log(squares[0]) - np.log(squares[1])
    assert np.log(np.mean(eigenvalues)) == pytest.approx(first, abs=slope)
    slope = np.log(squares[-2]) - np.log(squares[-1])
    assert -np.log(np.mean(1 / eigenvalues)) == pytest.approx(np.log(squares[-1]), abs=slope)


def test_scale_order_and_equal_eigenvalues():
    eigenvalues = log_normal(30, 2.0)
    squares = rotated_cholesky_squares(eigenvalues)
    assert rotated_cholesky_squares(eigenvalues[::-1] * 1e-200) == pytest.approx(squares * 1e-200)
    assert rotated_cholesky_squares(np.full(5, 3.0)) == pytest.approx(np.full(5, 3.0))
    assert rotated_gptq_gap(np.full(5, 3.0)) == pytest.approx(SCALAR_GAP)
    for wrong in (np.array([1.0, 0.0]), np.array([1.0, -1.0]), np.array([1.0, np.nan])):
        with pytest.raises(BadInput, match="positive"):
            rotated_cholesky_squares(wrong)


@functools.cache
def mean_excess(n: int, deviation: float, draws: int) -> tuple[float, float]:
    """Mean of simulated minus predicted gap, and its standard error."""
    eigenvalues = log_normal(n, deviation)
    excess = simulated_gaps(eigenvalues, draws) - rotated_gptq_gap(eigenvalues)
    return float(excess.mean()), float(excess.std(ddof=1)) / math.sqrt(draws)


@pytest.mark.parametrize(
    ("n", "deviation", "draws", "printed"),
    [(512, 2.0, 3, 0.01), (512, 3.0, 3, 0.035), (64, 2.0, 60, 0.05)],
)
def test_the_printed_accuracy_of_the_gap(n: int, deviation: float, draws: int, printed: float):
    mean, error = mean_excess(n, deviation, draws)
    assert abs(mean) < printed
    assert mean > -3 * error  # the formula errs on the low side


@pytest.mark.parametrize(
    ("n", "deviation", "draws", "stated", "digits"),
    [
        (512, 2.0, 3, 0.006, 3),
        (512, 3.0, 3, 0.02, 2),
        (64, 2.0, 60, 0.03, 2),
        (64, 3.0, 60, 0.09, 2),
    ],
)
def test_the_stated_bias(n: int, deviation: float, draws: int, stated: float, digits: int):
    mean, error = mean_excess(n, deviation, draws)
    assert abs(mean - stated) < 4 * error + 0.5 * 10**-digits


def test_each_place_against_drawn_rotations():
    n, draws = 96, 40
    eigenvalues = log_normal(n, 1.0)
    logs = []
    for seed in range(draws):
        V = drawn(n, seed)
        squares = cholesky_squares((V.T * eigenvalues) @ V, np.arange(n)[::-1])
        logs.append(np.log(squares))
    mean, error = np.mean(logs, axis=0), np.std(logs, axis=0, ddof=1) / math.sqrt(draws)
    difference = np.abs(mean - np.log(rotated_cholesky_squares(eigenvalues)))
    # One of 96 places may lie beyond 4 standard errors by chance once in 160 times; corrections of
    # the order 1/n are not in the formula.
    assert (difference < 4 * error + 1 / n).all()


def test_the_spike_is_out_of_reach():
    """One eigenvalue of 10⁴ among 512: predicted 0.012, simulated 0.010 to 0.075."""
    eigenvalues = np.append(np.ones(511), 1e4)
    predicted = rotated_gptq_gap(eigenvalues) - SCALAR_GAP
    assert round(predicted, 3) == 0.012
    # Σ = I + 9999·v·vᵀ with v of length 1 in a random direction. A corner of it has the determinant
    # 1 + 9999·Σ v_i², and L_kk² is the ratio of two of these.
    squares = np.random.default_rng(1).standard_normal((400, 512)) ** 2
    partial = np.cumsum(squares / squares.sum(axis=1)[:, None], axis=1)
    corners = 1 + 9999 * np.hstack((np.zeros((400, 1)), partial))
    ratios = corners[:, 1:] / corners[:, :-1]
    simulated = 0.5 * np.log2(ratios.mean(axis=1) / geometric_mean(eigenvalues))
    inner = np.quantile(simulated, [0.1, 0.9])
    assert inner[0] == pytest.approx(0.010, abs=0.005)
    assert 0.03 < inner[1] < 0.1
    assert simulated.mean() > 2 * predicted


def test_signs_do_not_make_a_hadamard_matrix_haar_like():
    """On a diagonal Σ the signs commute with it: every seed has the same L_kk², and another gap."""
    eigenvalues = log_normal(64, 3.0)
    found = [
        cholesky_squares(HadamardRotation(64, seed).rotate_covariance(NUMPY, np.diag(eigenvalues)))
        for seed in range(3)
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-9)
    assert found[2] == pytest.approx(found[0], rel=1e-9)
    error = gap(float(np.mean(found[0])), geometric_mean(eigenvalues)) - rotated_gptq_gap(
        eigenvalues
    )
    assert 0.15 < abs(error) < 0.35


@pytest.mark.parametrize("epsilon", [2.0**-20, 2.0**-30])
def test_half_and_half(epsilon: float):
    eigenvalues = np.repeat([1.0, epsilon], 200)
    # ∫ u dt over (0, ½) misses the components of size ε, and the midpoint rule half a place at ½.
    assert half_and_half_gap(epsilon) == pytest.approx(rotated_gptq_gap(eigenvalues), abs=0.001)
    simulated = simulated_gaps(np.repeat([1.0, epsilon], 128), 1)
    assert simulated.mean() == pytest.approx(half_and_half_gap(epsilon), abs=0.02)
    assert half_and_half_gap(epsilon**4) > half_and_half_gap(epsilon) + 10
