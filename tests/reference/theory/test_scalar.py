"""The uniform quantiser of N(0, 1): the printed tables, many digits, quadrature and chance."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, strategies as st

from waterlevel.reference.errors import BadInput
from waterlevel.reference.theory.scalar import (
    GAUSSIAN_UP_TO,
    SCALAR_GAP,
    SERIES_UP_TO,
    scalar_gap,
    spacing_for_entropy,
    uniform_quantizer,
)

PRINTED = {  # Δ: H, D, D_LMMSE
    0.5: (3.0620, 0.02083, 0.02041),
    1.0: (2.1048, 0.08333, 0.07692),
    2.0: (1.2412, 0.33042, 0.25369),
    3.0: (0.7010, 0.64831, 0.49777),
}
PRINTED_GAPS = {  # R: without gain, with it
    0.5: (0.306, 0.152),
    1.0: (0.453, 0.239),
    1.5: (0.394, 0.254),
    2.0: (0.322, 0.255),
    3.0: (0.271, 0.255),
    4.0: (0.259, 0.255),
}


@pytest.mark.parametrize("spacing", PRINTED)
def test_the_printed_table(spacing: float):
    entropy, distortion, lmmse_distortion = PRINTED[spacing]
    q = uniform_quantizer(spacing)
    assert round(q.entropy, 4) == entropy
    assert round(q.distortion, 5) == distortion
    assert round(q.lmmse_distortion, 5) == lmmse_distortion


@pytest.mark.parametrize("rate", PRINTED_GAPS)
def test_the_printed_gaps(rate: float):
    gaps = tuple(round(scalar_gap(rate, lmmse=lmmse), 3) for lmmse in (False, True))
    assert gaps == PRINTED_GAPS[rate]


def by_definition(spacing: float) -> tuple[mpmath.mpf, ...]:
    """H, D, γ, D_LMMSE from P_k and M_k as they are defined, with many digits.

    They must outlast 1 - 2B + A, differences of Φ in the tails, and P_0 = 1 - 10⁻¹⁹⁷ for Δ = 60.
    """
    with mpmath.workdps(100 if spacing < 10 else 500):
        delta = mpmath.mpf(spacing)
        entropy = energy = product = mpmath.mpf(0)
        k = 0
        while True:
            a, b = (k - mpmath.mpf(0.5)) * delta, (k + mpmath.mpf(0.5)) * delta
            tail_a, tail_b = (mpmath.erfc(x / mpmath.sqrt(2)) / 2 for x in (a, b))
            p, m = tail_a - tail_b, mpmath.npdf(a) - mpmath.npdf(b)
            sides = 2 if k else 1
            entropy -= sides * p * mpmath.log(p, 2)
            energy += sides * delta**2 * k**2 * p
            product += sides * delta * k * m
            if k and a > 12 and k * k * p < mpmath.mpf(10) ** -30 * energy:
                break
            k += 1
        gain = product / energy
        return entropy, 1 - 2 * product + energy, gain, 1 - product * gain


@pytest.mark.parametrize(
    "spacing",
    [  # both sides of every switch; narrow, ordinary and wide ones
        *(0.02, GAUSSIAN_UP_TO * 0.999, GAUSSIAN_UP_TO, 0.3, 0.7, 1.0, 1.9, 2.5),
        *(SERIES_UP_TO, SERIES_UP_TO * 1.0001, 4.0, 7.0, 15.0, 40.0, 60.0),
    ],
)
def test_all_four_numbers_against_many_digits(spacing: float):
    q = uniform_quantizer(spacing)
    expected = by_definition(spacing)
    found = (q.entropy, q.distortion, q.gain, q.lmmse_distortion)
    # What the module states; in far tails erfc magnifies the rounding of its argument.
    tolerances = (1e-12 if expected[0] > 1e-20 else 1e-10, 1e-12, 1e-12, 1e-12)
    for value, exact, tolerance in zip(found, expected, tolerances, strict=True):
        assert abs(mpmath.mpf(value) / exact - 1) < tolerance


@pytest.mark.parametrize("spacing", [0.4, 1.3, 2.9, 3.3, 6.0])
def test_distortions_against_quadrature(spacing: float):
    """∫(x - γq(x))²φ cell by cell: no A, no B."""
    q = uniform_quantizer(spacing)
    for gain, expected in ((1.0, q.distortion), (q.gain, q.lmmse_distortion)):
        total = 0.0
        for k in range(-math.ceil(9 / spacing), math.ceil(9 / spacing) + 1):

            def error(x: float, value: float = gain * k * spacing) -> float:
                return (x - value) ** 2 * scipy.stats.norm.pdf(x)

            edges = (k - 0.5) * spacing, (k + 0.5) * spacing
            total += scipy.integrate.quad(error, *edges, epsabs=1e-14)[0]
        assert total == pytest.approx(expected, rel=1e-10)


def test_against_chance():
    n, spacing = 400_000, 1.7
    x = np.random.default_rng(1).standard_normal(n)
    codes = np.rint(x / spacing)
    q = uniform_quantizer(spacing)
    for gain, expected in ((1.0, q.distortion), (q.gain, q.lmmse_distortion)):
        squares = (x - gain * codes * spacing) ** 2
        assert abs(squares.mean() - expected) < 4 * squares.std() / math.sqrt(n)
    _, counts = np.unique(codes, return_counts=True)
    p = counts / n
    entropy = -np.sum(p * np.log2(p))
    spread = math.sqrt(np.sum(p * np.log2(p) ** 2) - entropy**2)
    assert abs(entropy - q.entropy) < 4 * spread / math.sqrt(n) + len(p) / n


def test_the_gain_is_the_best_one():
    for spacing in (0.5, 2.0, 5.0):
        q = uniform_quantizer(spacing)
        # From D = 1 - 2B + A and B = γA: A = (1 - D)/(2γ - 1); the error at another gain g is
        # 1 - 2gB + g²A, and must exceed D_LMMSE by (g - γ)²A.
        energy = (1 - q.distortion) / (2 * q.gain - 1)
        for g in (0.3, 0.8, 1.2):
            error = 1 - 2 * g * q.gain * energy + g * g * energy
            expected = q.lmmse_distortion + (g - q.gain) ** 2 * energy
            assert error == pytest.approx(expected, rel=1e-12)


def test_high_rate_is_the_scalar_gap():
    assert round(SCALAR_GAP, 4) == 0.2546
    for rate in (8.0, 20.0, 300.0):
        for lmmse in (False, True):
            # Without gain the gap ends as 0.2546 + Δ²/24/ln 2, with it sooner.
            allowed = spacing_for_entropy(rate) ** 2 / 8 + 1e-12 * rate
            assert abs(scalar_gap(rate, lmmse=lmmse) - SCALAR_GAP) < allowed


@given(st.floats(-250, 3).map(lambda e: 10.0**e).filter(lambda r: r <= 1000))
def test_the_inverse(rate: float):
    assert uniform_quantizer(spacing_for_entropy(rate)).entropy == pytest.approx(rate, rel=1e-10)


@given(st.floats(1e-300, 1e300), st.floats(1.0001, 10))
def test_wider_is_cheaper_and_worse(spacing: float, factor: float):
    fine, coarse = uniform_quantizer(spacing), uniform_quantizer(spacing * factor)
    assert coarse.entropy <= fine.entropy
    assert coarse.distortion >= fine.distortion * (1 - 1e-12)
    assert fine.lmmse_distortion <= fine.distortion * (1 + 1e-12)
    assert 0.5 - 1e-15 <= fine.gain <= 1


@pytest.mark.parametrize("spacing", [5e-324, 1e-200, 80.0, 1e200, 1.7e308])
def test_extremes_stay_finite(spacing: float):
    q = uniform_quantizer(spacing)
    assert all(map(math.isfinite, (q.entropy, q.distortion, q.gain, q.lmmse_distortion)))
    if spacing > 1:
        assert (q.entropy, q.distortion, q.lmmse_distortion) == (0.0, 1.0, 1.0)
        assert q.gain == pytest.approx(0.5, abs=2 / spacing**2 if spacing < 1e9 else 1e-15)
    else:
        assert q.entropy == pytest.approx(
            0.5 * math.log2(2 * math.pi * math.e) - math.log2(spacing)
        )
        assert (q.gain, q.distortion) == (1.0, spacing**2 / 12)


@pytest.mark.parametrize("spacing", [0.0, -1.0, math.inf, math.nan])
def test_a_spacing_that_is_none(spacing: float):
    with pytest.raises(BadInput, match="spacing must be positive"):
        uniform_quantizer(spacing)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e-300, 1001.0, math.inf, math.nan])
def test_a_rate_that_cannot_be_met(rate: float):
    with pytest.raises(BadInput, match="rate must be positive"):
        spacing_for_entropy(rate)
