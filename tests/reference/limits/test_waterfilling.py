"""Reverse waterfilling: closed form with many digits, a numeric optimiser, and its symmetries."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given, strategies as st

from waterlevel.reference.errors import BadInput
from waterlevel.reference.limits.waterfilling import Allocation, allocate_distortion, allocate_rate

from ...helpers.inputs import bell

TINY = 5e-324
hostile = st.floats(0.0, 1.7e308) | st.sampled_from((0.0, -0.0, TINY, 1.0, 4.0, 0.1, 1e-300, 1e300))
vectors = st.lists(hostile, min_size=1, max_size=8).map(np.array)
tame = st.lists(st.floats(2.0**-40, 2.0**40), min_size=1, max_size=8).map(np.array)
rates = st.floats(0.0, 40.0) | st.sampled_from((0.0, TINY, 1e-20, 0.5, 1.0, 2.0, 1000.0, 1e6))


def rounded(x: mpmath.mpf) -> float:
    """The nearest float64, subnormal ones included."""
    sign, mantissa, exponent, _ = x._mpf_
    return float((-1) ** sign * int(mantissa) * Fraction(2) ** int(exponent))


def candidates(x: mpmath.mpf, error: mpmath.mpf) -> set[float]:
    """What x may be rounded to if it is known up to `error`: one float, or two next to a middle."""
    return {rounded(x - error), rounded(x + error)}


def with_many_digits(v: np.ndarray, rate: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """θ and D: of all numbers m of active components the one whose level lies where it must."""
    descending = sorted((mpmath.mpf(x) for x in v.tolist() if x > 0), reverse=True)
    for m in range(1, len(descending) + 1):
        log_sum = mpmath.fsum(mpmath.log(x, 2) for x in descending[:m])
        level = mpmath.power(2, (log_sum - 2 * len(v) * mpmath.mpf(rate)) / m)
        below = descending[m] if m < len(descending) else mpmath.mpf(0)
        if below <= level * (1 + mpmath.mpf(10) ** -300):  # a tie has the same level twice
            return level, mpmath.fsum(min(level, x) for x in descending) / len(v)
    raise AssertionError("no level found")


def rate_with_many_digits(v: np.ndarray, distortion: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """θ and R for 0 < D < mean v, in the same manner."""
    descending = sorted((mpmath.mpf(x) for x in v.tolist()), reverse=True)
    for m in range(1, len(v) + 1):
        level = (len(v) * mpmath.mpf(distortion) - mpmath.fsum(descending[m:])) / m
        below = descending[m] if m < len(v) else mpmath.mpf(0)
        if below <= level:
            bits = mpmath.fsum(mpmath.log(x / level, 2) for x in descending[:m])
            return level, bits / (2 * len(v))
    raise AssertionError("no level found")


def mean(v: np.ndarray) -> Fraction:
    return sum(map(Fraction, v.tolist()), Fraction(0)) / len(v)


def numbers_of(allocation: Allocation) -> tuple[float, float, float]:
    return allocation.water_level, allocation.rate, allocation.distortion


@given(vectors, rates)
def test_level_and_distortion_for_a_rate(v, rate):
    assume(rate > 0 and v.any())
    found = allocate_rate(v, rate)
    with mpmath.workdps(1000):  # more than an exact sum of the largest and the smallest floats has
        level, distortion = with_many_digits(v, rate)
        error = len(v) * mpmath.mpf(10) ** -45  # relative, as the module says
        assert found.water_level in candidates(level, error * level)
        assert found.distortion in candidates(distortion, error * distortion)
    assert found.rate == rate
    assert found.active.tolist() == [x > found.water_level for x in v.tolist()]


@given(vectors, st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
def test_level_and_rate_for_a_distortion(v, share):
    distortion = share * float(mean(v))
    assume(distortion > 0 and Fraction(distortion) < mean(v))
    found = allocate_distortion(v, distortion)
    with mpmath.workdps(1000):
        level, rate = rate_with_many_digits(v, distortion)
        assert found.water_level == rounded(level)
        assert found.distortion == distortion
        error = len(v) * mpmath.mpf(10) ** -45  # absolute, as the module says
        assert rounded(max(rate - error, 0)) <= found.rate <= rounded(rate + error)
    assert found.active.tolist() == [x > found.water_level for x in v.tolist()]


def least_linear(gradient: np.ndarray, v: np.ndarray, total: float) -> float:
    """min ⟨gradient, s⟩ over 0 ≤ s ≤ v with Σ s = total: the cheapest first."""
    value = 0.0
    for k in np.argsort(gradient, kind="stable"):
        amount = min(float(v[k]), total)
        value, total = value + float(gradient[k]) * amount, total - amount
    return value


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.6, 0.95])
def test_no_optimiser_finds_a_lower_rate(n, share):
    v = np.exp2(2 * bell(n, (n,), np.float64))
    distortion = share * float(v.mean())

    def rate(errors: np.ndarray) -> float:
        return float(np.mean(0.5 * np.log2(v / errors)))

    def gradient(errors: np.ndarray) -> np.ndarray:
        return -0.5 / (n * math.log(2) * errors)

    solution = scipy.optimize.minimize(
        rate,
        share * v,
        jac=gradient,
        method="SLSQP",
        bounds=[(1e-9 * x, x) for x in v],
        constraints={"type": "eq", "fun": lambda errors: errors.mean() - distortion},
        options={"ftol": 1e-14, "maxiter": 500},
    ).x
    found = allocate_distortion(v, distortion)
    # R is convex in the errors, so its tangent at the solution bounds the optimum from below:
    # rate(solution) - gap ≤ optimum ≤ rate(solution). The solution misses the constraint by
    # |mean - D|, which moves either end by its product with |dR/dD| = 1/(2θ ln 2), once more for
    # the curvature. 1e-14 stands for the rounding of a dozen operations on numbers below 20.
    miss = abs(float(solution.mean()) - distortion) / (found.water_level * math.log(2)) + 1e-14
    slope = gradient(solution)
    gap = float(slope @ solution) - least_linear(slope, v, n * distortion)
    assert 0 <= gap + miss < 1e-4, "the optimiser itself has failed"
    assert rate(solution) - gap - miss <= found.rate <= rate(solution) + miss


@given(tame, st.floats(0.01, 30.0))
def test_rate_and_distortion_are_inverse(v, rate):
    there = allocate_rate(v, rate)
    back = allocate_distortion(v, there.distortion)
    # D is rounded by up to ulp/2, and |dR/dD| = 1/(2θ ln 2); twice that for the curvature
    tolerance = math.ulp(there.distortion) / (there.water_level * math.log(2)) / 2
    assert abs(back.rate - rate) <= tolerance + math.ulp(rate)
    # and dθ/dD = n/m ≤ n
    change = len(v) * math.ulp(there.distortion) + math.ulp(there.water_level)
    assert abs(back.water_level - there.water_level) <= change


@given(vectors, rates, rates)
def test_more_rate_lowers_the_water(v, rate, other):
    less, more = (allocate_rate(v, r) for r in sorted((rate, other)))
    assert more.water_level <= less.water_level
    assert more.distortion <= less.distortion
    assert (less.active <= more.active).all()


@given(vectors, hostile, hostile)
def test_more_distortion_costs_less(v, distortion, other):
    less, more = (allocate_distortion(v, abs(d)) for d in sorted((distortion, other)))
    assert more.rate <= less.rate
    assert more.water_level >= less.water_level


@given(tame, st.floats(0.0, 30.0), st.integers(-200, 200))
def test_scaling_by_a_power_of_two_is_exact(v, rate, p):
    one, scaled = allocate_rate(v, rate), allocate_rate(np.ldexp(v, p), rate)
    assert scaled.water_level == math.ldexp(one.water_level, p)
    assert scaled.distortion == math.ldexp(one.distortion, p)
    assert scaled.active.tolist() == one.active.tolist()
    back = allocate_distortion(np.ldexp(v, p), scaled.distortion)
    assert back.rate == allocate_distortion(v, one.distortion).rate


@given(vectors, rates, st.randoms(use_true_random=False))
def test_the_order_of_components_does_not_matter(v, rate, random):
    order = random.sample(range(len(v)), len(v))
    one, permuted = allocate_rate(v, rate), allocate_rate(v[order], rate)
    assert numbers_of(one) == numbers_of(permuted)
    assert one.active[order].tolist() == permuted.active.tolist()


@given(vectors)
def test_no_rate(v):
    found = allocate_rate(v, 0.0)
    assert numbers_of(found) == (v.max(), 0.0, float(mean(v)))
    assert math.copysign(1.0, found.water_level) == 1.0
    assert not found.active.any()
    assert numbers_of(allocate_distortion(v, math.inf)) == numbers_of(found)


def test_the_mean_itself_costs_nothing_and_a_little_less_costs_something():
    v = np.full(3, 0.1)
    assert allocate_distortion(v, 0.1).rate == 0.0
    assert allocate_distortion(v, math.nextafter(0.1, 0)).rate > 0.0


def test_zero_variances_never_become_active():
    v = np.array([0.0, 4.0, 0.0])
    assert allocate_rate(v, 1000.0).active.tolist() == [False, True, False]
    assert allocate_rate(np.zeros(2), 3.0).rate == 0.0
    assert allocate_distortion(np.zeros(2), 0.0).rate == 0.0
    exact = allocate_distortion(v, 0.0)
    assert numbers_of(exact) == (0.0, math.inf, 0.0)
    assert exact.active.tolist() == [False, True, False]


def test_a_component_at_the_level_is_not_active():
    # 2nR = log2 12 - log2 3: the second component is on the point of coming out
    found = allocate_rate(np.array([12.0, 3.0]), 0.5)
    assert found.active.tolist() == [True, False]
    assert numbers_of(found) == (3.0, 0.5, 3.0)


def test_a_level_below_all_floats():
    found = allocate_rate(np.array([1.0, 0.0]), 1e9)
    assert numbers_of(found) == (0.0, 1e9, 0.0)
    assert found.active.tolist() == [True, False]


def test_the_largest_layers_are_fast():
    v = np.exp2(4 * bell(1, (4096,), np.float64))
    start = time.perf_counter()
    there = allocate_rate(v, 2.0)
    back = allocate_distortion(v, there.distortion)
    assert time.perf_counter() - start < 5.0  # about half a second
    assert abs(back.rate - 2.0) < 1e-13  # see the test of the inverse; D < 40 θ here
    assert np.isclose(np.minimum(v, there.water_level).mean(), there.distortion, rtol=1e-12)


def test_other_number_types():
    expected = numbers_of(allocate_rate(np.array([8.0, 2.0]), 0.5))
    for dtype in (np.float16, np.float32, np.int64):
        variances = np.array([8, 2], dtype)
        assert numbers_of(allocate_rate(variances, np.float32(0.5))) == expected


@pytest.mark.parametrize(
    ("variances", "message"),
    [
        ([1.0, -1.0], r"variances\[1\] is -1; variances are finite and not negative"),
        ([-TINY], r"variances\[0\] is"),
        ([math.nan, 1.0], r"variances\[0\] is nan"),
        ([1.0, 1.0, math.inf], r"variances\[2\] is inf"),
        ([], "at least one number"),
        ([[1.0]], r"shape \(1, 1\)"),
        ([1j], "complex"),
        (["1"], "vector"),
    ],
)
def test_wrong_variances(variances, message):
    with pytest.raises(BadInput, match=message):
        allocate_rate(np.array(variances), 1.0)
    with pytest.raises(BadInput, match=message):
        allocate_distortion(np.array(variances), 1.0)


@pytest.mark.parametrize("target", [-1.0, -TINY, math.nan, -math.inf])
def test_wrong_targets(target):
    with pytest.raises(BadInput, match="the rate must be finite and not negative"):
        allocate_rate(np.ones(2), target)
    with pytest.raises(BadInput, match="the distortion must not be negative"):
        allocate_distortion(np.ones(2), target)


def test_an_infinite_rate_is_refused():
    with pytest.raises(BadInput, match="inf bits"):
        allocate_rate(np.ones(2), math.inf)
