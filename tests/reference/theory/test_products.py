"""Products of quantised factors and absmax blocks: optimisers, quadrature, and drawn numbers."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, strategies as st

from waterlevel.reference import NUMPY
from waterlevel.reference.errors import BadInput
from waterlevel.reference.methods.absmax import ABSMAX_FORMATS, absmax_format, absmax_quantize
from waterlevel.reference.theory.absmax import (
    absmax_distortion,
    absmax_mean_square,
    blockwise_distortion,
    cell_distortion,
    float_distortion,
    float_distortion_short,
    formula_distortion,
    int_distortion,
)
from waterlevel.reference.theory.products import (
    CRITICAL_RATE,
    product_distortion,
    product_limit,
    product_limit_rate,
)

BLOCKS = (16, 32, 128, 1024, 4096)
FLOATS = ABSMAX_FORMATS[2:]


# The limit -------------------------------------------------------------------------------------


def test_the_critical_rate():
    rate = CRITICAL_RATE
    assert round(rate, 5) == 0.90632
    assert rate == pytest.approx(0.5 * math.log2(1 + 4 * rate * math.log(2)), rel=1e-13)


def test_the_limit_is_the_convex_hull():
    """Brute force: the inner dimension is cut in two parts with rates of their own, in all ways."""
    grid = np.linspace(0, 6, 6001)
    alike = 2 * 4.0**-grid - 16.0**-grid
    for rate in (0.05, 0.4, 0.8, 0.9, 0.95, 1.5, 3.0):
        low, high = grid[grid < rate], grid[grid > rate]
        share = (rate - low[:, None]) / (high - low[:, None])  # of the part with the higher rate
        best = ((1 - share) * alike[grid < rate][:, None] + share * alike[grid > rate]).min()
        # On the grid the best mixture is missed by at most the curvature, 4·ln 2²·step².
        assert best >= product_limit(rate) - 1e-12
        assert best <= product_limit(rate) + 4e-6


def test_the_limit_is_met_by_ideal_factors():
    """A = Â + N with Â of variance 1 - D_1: what ÂB̂ misses of AB is 1 - (1-D_1)²."""
    generator = np.random.default_rng(3)
    rate, side, inner = 1.3, 200, 300
    q = 4.0**-rate
    parts = [generator.standard_normal((side, inner)) * math.sqrt(v) for v in (1 - q, q)]
    others = [generator.standard_normal((inner, side)) * math.sqrt(v) for v in (1 - q, q)]
    error = (parts[0] + parts[1]) @ (others[0] + others[1]) - parts[0] @ others[0]
    found = np.mean(error**2) / inner
    # The energies of rows and of columns scatter by √(2/inner), each a mean over `side` of them;
    # the side² elements by √2.
    chance = math.sqrt(2 * 2 / inner / side + 2 / side**2)
    assert found == pytest.approx(product_limit(rate), rel=4 * chance)


def test_two_factors_with_uncorrelated_errors():
    generator = np.random.default_rng(4)
    side, inner, left, right = 200, 300, 0.3, 0.1
    A, B = generator.standard_normal((side, inner)), generator.standard_normal((inner, side))
    noisy_A = A + math.sqrt(left) * generator.standard_normal(A.shape)
    noisy_B = B + math.sqrt(right) * generator.standard_normal(B.shape)
    found = np.mean((A @ B - noisy_A @ noisy_B) ** 2) / inner
    chance = math.sqrt(2 * 2 / inner / side + 2 / side**2)
    assert found == pytest.approx(product_distortion(left, right), rel=4 * chance)


def test_special_points_of_the_limit():
    assert product_limit(0.0) == 1.0
    assert product_limit(CRITICAL_RATE) == pytest.approx(product_limit(CRITICAL_RATE - 1e-12))
    slope = (product_limit(CRITICAL_RATE + 1e-6) - product_limit(CRITICAL_RATE)) / 1e-6
    chord = (product_limit(CRITICAL_RATE) - 1) / CRITICAL_RATE
    assert slope == pytest.approx(chord, rel=1e-5)
    assert product_limit(30.0) == pytest.approx(2 * 4.0**-30)
    for wrong in (-0.1, math.inf, math.nan):
        with pytest.raises(BadInput):
            product_limit(wrong)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(BadInput):
            product_limit_rate(wrong)
    assert product_limit_rate(1.5) == 0.0


@given(st.floats(0, 200))
def test_the_rate_for_a_limit(rate: float):
    assert product_limit_rate(product_limit(rate)) == pytest.approx(rate, rel=1e-12, abs=1e-12)


# Absmax ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 16, 1000, 10**7])
def test_the_mean_square_of_the_largest(n: int):
    with mpmath.workdps(40):

        def integrand(m: mpmath.mpf) -> mpmath.mpf:
            return 2 * m * (1 - mpmath.erf(m / mpmath.sqrt(2)) ** n)

        expected = mpmath.quad(integrand, [0, 1, 2, 3, 4, 5, 6, 8, 14])
    assert absmax_mean_square(n) == pytest.approx(float(expected), rel=1e-10)


def test_known_mean_squares():
    assert absmax_mean_square(1) == pytest.approx(1)
    assert absmax_mean_square(2) == pytest.approx(1 + 2 / math.pi)  # (x² + y²)/2 + E|x² - y²|/2
    n, blocks = 256, 8000
    largest = np.abs(np.random.default_rng(1).standard_normal((blocks, n))).max(axis=1)
    error = (largest**2).std() / math.sqrt(blocks)
    assert abs(absmax_mean_square(n) - (largest**2).mean()) < 4 * error


@pytest.mark.parametrize("bound", [math.inf, 2.2])
@pytest.mark.parametrize(
    "levels",
    [np.array([-1.0, 1.0]), np.array([-2.0, -0.5, 0.0, 0.1, 3.0]), np.linspace(-1, 5, 40)],
)
def test_cells_against_quadrature(levels: np.ndarray, bound: float):
    reach = min(bound, 12.0)
    edges = np.concatenate(([-reach], (levels[:-1] + levels[1:]) / 2, [reach])).clip(-reach, reach)
    total = 0.0
    for q, a, b in zip(levels, edges[:-1], edges[1:], strict=True):

        def error(x: float, q: float = float(q)) -> float:
            return (x - q) ** 2 * scipy.stats.norm.pdf(x)

        total += scipy.integrate.quad(error, a, b, epsabs=1e-14)[0]
    mass = scipy.stats.norm.cdf(reach) - scipy.stats.norm.cdf(-reach)
    assert cell_distortion(levels, bound) == pytest.approx(total / mass, rel=1e-11)


def test_optimal_levels():
    """The best one- and two-bit quantisers of N(0, 1) (Max 1960): 0.3634 and 0.1175."""
    assert cell_distortion(np.array([-1, 1]) * math.sqrt(2 / math.pi)) == pytest.approx(
        1 - 2 / math.pi
    )
    found = cell_distortion(np.array([-1.510, -0.4528, 0.4528, 1.510]))
    assert found == pytest.approx(0.1175, abs=5e-5)


@pytest.mark.parametrize("n", [2, 16, 300])
@pytest.mark.parametrize(
    ("name", "bits"), [("int", 3), ("int", 8), ("int-symmetric", 4)] + [(f, None) for f in FLOATS]
)
def test_the_exact_integral_against_the_quantiser(name: str, bits: int | None, n: int):
    form = absmax_format(name, bits)
    rows = 60_000 // n
    x = np.random.default_rng(n).standard_normal((rows, n))
    squares = (absmax_quantize(NUMPY, x, form).values - x) ** 2
    blocks = squares.mean(axis=1)
    error = blocks.std() / math.sqrt(rows)
    assert abs(absmax_distortion(form, n) - blocks.mean()) < 4 * error
    assert error < 0.05 * blocks.mean()


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("name", ["int", "int-symmetric"])
def test_int_formulas(name: str, bits: int):
    """Printed: within 0.7%. Without the chance of a simulation it is 0.25%."""
    form = absmax_format(name, bits)
    for n in BLOCKS:
        assert int_distortion(form, n) == pytest.approx(absmax_distortion(form, n), rel=0.0025)


@pytest.mark.parametrize("name", FLOATS)
def test_float_formulas(name: str):
    """Printed: within 4% for E2M1 (4.11% at n = 1024 in fact), 2% for the others (1.4%)."""
    form = absmax_format(name)
    for n in BLOCKS:
        tolerance = 0.042 if name == "fp4-e2m1" else 0.014
        assert float_distortion(form, n) == pytest.approx(absmax_distortion(form, n), rel=tolerance)


@pytest.mark.parametrize("name", FLOATS)
def test_the_short_form(name: str):
    """Printed: within 1.5% for many binades (1.58% at n = 16 in fact), not for E2Mx."""
    form = absmax_format(name)
    errors = [abs(float_distortion_short(form, n) / absmax_distortion(form, n) - 1) for n in BLOCKS]
    if name in ("fp4-e2m1", "fp6-e2m3"):
        assert 0.13 < max(errors) < 0.21
    else:
        assert max(errors) < 0.016


def test_binades_one_by_one():
    """The inner expectation of `float_distortion` for one M, by numbers that are drawn."""
    form = absmax_format("fp6-e3m2")
    n = 64
    x = np.abs(np.random.default_rng(6).standard_normal((4000, n)))
    M = x.max(axis=1, keepdims=True)
    r = M / 28.0  # 1.75·2⁴
    exponent = np.maximum(np.floor(np.log2(x / r)), -2)  # 1 - bias
    blocks = np.where(x < M, r**2 * 4.0**-2 / 12 * 4.0**exponent, 0).mean(axis=1)
    error = blocks.std() / math.sqrt(len(blocks))
    assert abs(float_distortion(form, n) - blocks.mean()) < 4 * error


def test_ragged_blocks():
    form = absmax_format("int", 4)
    expected = (3 * 32 * int_distortion(form, 32) + 4 * int_distortion(form, 4)) / 100
    assert blockwise_distortion(form, 100, 32) == pytest.approx(expected)
    assert blockwise_distortion(form, 100, None) == pytest.approx(int_distortion(form, 100))
    other = absmax_format("fp4-e2m1")
    assert formula_distortion(other, 32) == float_distortion(other, 32)


def test_int4_with_a_scale_for_1024_entries():
    """Printed: 0.03575. That is the formula without its (1 + 2/n), with which it is 0.03582."""
    n = 1024
    D = int_distortion(absmax_format("int", 4), n)
    assert round(product_distortion(D, D), 5) == 0.03582
    D /= 1 + 2 / n
    assert round(product_distortion(D, D), 5) == 0.03575


def test_refusals():
    with pytest.raises(BadInput, match="no integer format"):
        int_distortion(absmax_format("fp4-e2m1"), 16)
    for function in (float_distortion, float_distortion_short):
        with pytest.raises(BadInput, match="no float format"):
            function(absmax_format("int", 4), 16)
    for function in (int_distortion, absmax_distortion):
        with pytest.raises(BadInput, match="at least one entry"):
            function(absmax_format("int", 4), 0)
