"""Row and column scales: a least-squares problem, its normal equations, and every way to end."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings, strategies as st

from waterlevel.reference import NUMPY, NotPositiveDefinite, watersic
from waterlevel.reference.methods.rescalers import RescaleProblem, rescale

from ...helpers import layers, plain_watersic
from ...helpers.inputs import integers, same_bits


def problem(
    P: np.ndarray, S: np.ndarray, C: np.ndarray, constant: float
) -> tuple[RescaleProblem, np.ndarray]:
    return RescaleProblem(NUMPY, P, S, C, constant)


def random_problem(key: int, a: int, n: int, spacing: float) -> tuple[RescaleProblem, np.ndarray]:
    """Codes of W rounded column by column, and the gains to begin with."""
    S, W = layers.covariance(key, n), layers.weight(key + 7, a, n)
    Z = np.rint(W / spacing)
    energy = (Z * Z).sum(axis=0)
    gains = np.where(energy > 0, (Z * W).sum(axis=0) / np.maximum(energy, 1) / spacing, 0.0)
    return problem(Z * spacing, S, W @ S, float(((W @ S) * W).sum())), gains


def objective(p: RescaleProblem, t: np.ndarray, g: np.ndarray) -> float:
    V = t[:, None] * p.lattice_points * g
    cross = (p.target_moment * V).sum()
    return p.clean_energy - 2 * cross + ((V @ p.covariance_quantized) * V).sum()


def independently(p: RescaleProblem, gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return plain_watersic.rescalers(
        p.lattice_points, p.target_moment, p.covariance_quantized, p.clean_energy, gains
    )


CASES = [(30, 12, 1.0), (12, 30, 2.0), (64, 20, 2.5), (9, 5, 0.3)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_result_is_the_one_of_dense_algebra(case):
    p, gains = random_problem(CASES.index(case), *case)
    t, g = rescale(p, gains)
    t_expected, g_expected = independently(p, gains)
    # The g-system has a condition below 1e5 here and n ≤ 30 terms of relative error 2⁻⁵³.
    np.testing.assert_allclose(t, t_expected, rtol=1e-9)
    np.testing.assert_allclose(g, g_expected, rtol=1e-9, atol=1e-9)
    assert np.abs(t).mean() == pytest.approx(1.0, rel=1e-15 * len(t))
    assert objective(p, t, g) < objective(p, np.ones_like(t), gains)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_is_left_to_gain(case):
    """Row scales solve their normal equations; a general optimiser hardly finds a better point."""
    p, gains = random_problem(50 + CASES.index(case), *case)
    t, g = rescale(p, gains)
    V = p.lattice_points * g
    power = ((V @ p.covariance_quantized) * V).sum(axis=1)
    cross = (p.target_moment * V).sum(axis=1)
    # Moving the scale into g by a factor m changes power by m² and cross by m: still stationary.
    np.testing.assert_allclose(t * (power + 1e-8 * power.mean()), cross, rtol=1e-11)

    a = len(t)

    def gradient(x: np.ndarray) -> np.ndarray:
        V = x[:a, None] * p.lattice_points * x[a:]
        slope = 2 * p.lattice_points * (V @ p.covariance_quantized - p.target_moment)
        return np.concatenate([(slope * x[a:]).sum(axis=1), (slope * x[:a, None]).sum(axis=0)])

    best = scipy.optimize.minimize(
        lambda x: objective(p, x[:a], x[a:]),
        np.concatenate([t, g]),
        jac=gradient,
        method="L-BFGS-B",
        options={"maxiter": 3000, "ftol": 1e-14, "gtol": 1e-10},
    )
    reached = objective(p, t, g)
    start = objective(p, np.ones(a), gains)
    assert best.fun <= reached
    # The search ends when a turn lowers D by less than 3e-4·D. Turns converge geometrically, by a
    # factor of a half or better here, so what is left is below 3e-4·D, and a margin of 2.
    assert reached - best.fun <= 6e-4 * reached
    assert start - reached > 10 * (reached - best.fun)


@given(st.integers(0, 1000), st.integers(-200, 200), st.integers(-100, 100))
@settings(max_examples=15)
def test_scaling_by_powers_of_two_changes_no_bit(key, weight_power, half):
    covariance_power = 2 * half  # the factor of the g-system takes a square root
    p, gains = random_problem(key, 6, 5, 1.0)
    scaled = problem(
        np.ldexp(p.lattice_points, weight_power),
        np.ldexp(p.covariance_quantized, covariance_power),
        np.ldexp(p.target_moment, weight_power + covariance_power),
        float(np.ldexp(p.clean_energy, 2 * weight_power + covariance_power)),
    )
    for found, expected in zip(rescale(scaled, gains), rescale(p, gains), strict=True):
        same_bits(found, expected)


def uncorrelated(
    P: np.ndarray, wanted: np.ndarray, power: np.ndarray, constant: float = 0.0
) -> RescaleProblem:
    """Inputs with these powers, target P·diag(wanted); D = constant + what is missed."""
    S = np.diag(power)
    W = P * wanted
    return problem(P, S, W @ S, float(((W @ S) * W).sum()) + constant)


def test_gains_are_clipped_and_the_rows_help_out():
    # Two rows agree that column 0 should be 3 times as large and column 1 should stay. The clip
    # allows 1.5 and 1; the rows then take the best multiple of that, and the mean moves into g.
    p = uncorrelated(np.ones((2, 2)), np.array([3.0, 1.0]), np.ones(2))
    t, g = rescale(p, np.ones(2))
    for found, expected in zip((t, g), independently(p, np.ones(2)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    # t = (3·1.5 + 1)/(1.5² + 1) = 22/13 in the first turn and again in the last one.
    np.testing.assert_allclose(t, np.ones(2), rtol=1e-15)
    np.testing.assert_allclose(g, np.array([1.5, 1.0]) * 22 / 13, rtol=1e-7)
    assert objective(p, t, g) < objective(p, np.ones(2), np.ones(2))

    # A column that is better turned round may go to -0.1 and no further.
    p = uncorrelated(np.ones((3, 2)), np.array([-2.0, 1.0]), np.array([0.001, 1.0]))
    t, g = rescale(p, np.ones(2))
    np.testing.assert_allclose(g, [-0.1, 1.0], rtol=0.01)


def test_a_clipped_turn_may_be_worse_and_is_kept():
    # The gains begin at the solution, 3 and 1, and D at 1e-3. The step changes nothing, the clip
    # takes column 0 back to 1.5: D becomes larger, but something was clipped.
    p = uncorrelated(np.ones((2, 2)), np.array([3.0, 1.0]), np.ones(2), constant=1e-3)
    start = np.array([3.0, 1.0])
    t, g = rescale(p, start)
    assert objective(p, t, g) > 100 * objective(p, np.ones(2), start)
    for found, expected in zip((t, g), independently(p, start), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_row_step_that_makes_it_worse_is_taken_back():
    # One column, rows 1 and 1e-4, already perfect. The floor ρ' = 1e-8·mean(1, 1e-8) = 5e-9 would
    # shrink row 1 to 1/(1 + ½): a loss of 1e-8/9, more than 1e-6 of D = 1e-6.
    P = np.array([[1.0], [1e-4]])
    p = uncorrelated(P, np.ones(1), np.ones(1), constant=1e-6)
    t, g = rescale(p, np.ones(1))
    same_bits(t, np.ones(2))
    same_bits(g, np.ones(1))
    # With D = 1 the same loss is below 1e-6·D, and the step is kept.
    t, _ = rescale(uncorrelated(P, np.ones(1), np.ones(1), constant=1.0), np.ones(1))
    assert t[1] / t[0] == pytest.approx(2 / 3, rel=1e-6)


@pytest.mark.parametrize(
    ("start", "first_part"), [(0.3, 1 / 2), (0.15, 1 / 4), (0.06, 1 / 8), (0.02, 1 / 16)]
)
def test_part_of_a_step_that_goes_too_far(start, first_part):
    # Column 1 has power 1e-8 of column 0: the floor ρ = 1e-8·(1 + 1e-8)/2 draws its gain from 1 to
    # 2/3. From 1 + start the full step leads to the miss -1/3, farther off than it was; the parts
    # lead to start - part·(start + 1/3), and the best is the one nearest to 0.
    p = uncorrelated(np.ones((1, 2)), np.ones(2), np.array([1.0, 1e-8]))
    parts = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 16])
    misses = start - parts * (start + 1 / 3)
    assert parts[np.argmin(np.abs(misses))] == first_part
    # Repeat by hand until no part is better or D changes by less than 3e-4 of itself.
    miss = start
    while True:
        full = -1 / 3
        candidates = [full] if abs(full) <= abs(miss) else list(miss - parts * (miss + 1 / 3))
        best = min(candidates, key=abs)
        if abs(best) >= abs(miss):
            break
        settled = abs(best**2 - miss**2) < 3e-4 * miss**2
        miss = best
        if settled:
            break
    t, g = rescale(p, np.array([1.0, 1.0 + start]))
    # D is 1e-8·miss² beside energies of 1, so it is known to 2⁻⁵²·few/1e-8 ≈ 1e-7 of miss².
    assert t[0] * g[1] == pytest.approx(1 + miss, abs=1e-5)
    for found, expected in zip((t, g), independently(p, np.array([1, 1 + start])), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_when_no_part_of_a_step_helps_the_start_is_the_result():
    # The same problem from its solution: D is 0, exactly, and every part of the step raises it.
    p = uncorrelated(np.ones((1, 2)), np.ones(2), np.array([1.0, 1e-8]))
    t, g = rescale(p, np.ones(2))
    same_bits(t, np.ones(1))
    same_bits(g, np.ones(2))


def test_weights_on_the_lattice_stay_there():
    W = integers(3, -5, 5, 6, 4).astype(float)
    S = np.eye(4)
    result = watersic(W, S, spacing=1.0, damping=0.0)
    # The floors shift each scale by up to 1e-8 of itself; D goes with the square of that.
    power = np.trace(W @ S @ W.T) / W.size
    assert result.distortion <= 1e-15 * power
    np.testing.assert_allclose(result.dequantized, W, rtol=1e-7)


def test_an_indefinite_covariance_is_refused():
    P = np.array([[1.0, 1.0], [1.0, 1.0]])
    S = np.array([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(NotPositiveDefinite, match="rescalers") as caught:
        rescale(problem(P, S, P @ S, 1.0), np.ones(2))
    assert caught.value.pivot == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_without_codes_and_columns_without_codes(dtype):
    W = layers.weight(60, 12, 9)
    W[4], W[:, 2] = 0, 0
    result = watersic(W, layers.covariance(61, 9), spacing=1.0, dtype=dtype)
    assert result.scales.row_scale[4] == 0
    assert result.scales.column_scale[2] == 0
    assert np.isfinite(result.dequantized).all()
    without = watersic(W, layers.covariance(61, 9), spacing=1.0, rescale=False, dtype=dtype)
    assert result.distortion < without.distortion
    assert np.array_equal(result.codes, without.codes)
    assert np.abs(result.scales.row_scale).mean() == pytest.approx(1, rel=1e-6)


def test_a_row_may_be_turned_round():
    # Row 2 wants the opposite of its codes: t = -1 there, and 1 is the mean of |t|, not of t.
    P = np.ones((3, 2))
    sign = np.array([[1.0], [1.0], [-1.0]])
    p = problem(P, np.eye(2), P * sign, 6.0)
    t, g = rescale(p, np.ones(2))
    np.testing.assert_allclose(t, [1, 1, -1], rtol=1e-7)
    np.testing.assert_allclose(g, [1, 1], rtol=1e-7)
    assert np.abs(t).mean() == pytest.approx(1.0, rel=1e-15)


def test_scales_of_a_float32_run_are_found_in_float64():
    # Uncorrelated inputs: the gains of the loop are those of single columns, in float32.
    W = layers.weight(64, 30, 40).astype(np.float32)
    S = np.diag(np.linspace(0.5, 3, 40)).astype(np.float32)
    result = watersic(W, S, spacing=1.0, damping=0.0, dtype=np.float32)
    Y = W * np.sqrt(np.diag(S))
    Z = np.rint(Y)
    assert np.array_equal(result.codes, Z)
    gains = NUMPY.column_inner(Z, Y) / NUMPY.column_inner(Z, Z)
    spacing = (np.float32(1) / np.sqrt(np.diag(S))).astype(np.float64)
    wide_W, wide_S = W.astype(np.float64), S.astype(np.float64)
    C = wide_W @ wide_S
    p = problem(Z * spacing, wide_S, C, float((C * wide_W).sum()))
    t, g = rescale(p, gains.astype(np.float64))
    same_bits(result.scales.row_scale, t.astype(np.float32))
    same_bits(result.scales.column_scale, (g * spacing).astype(np.float32))
    twice_rounded = g.astype(np.float32) * spacing.astype(np.float32)
    assert (result.scales.column_scale != twice_rounded).any()
    t_expected, _ = independently(p, gains.astype(np.float64))
    np.testing.assert_allclose(t, t_expected, rtol=1e-9)
