"""How should a bit budget be shared among components of different variance?

Take n independent Gaussian components with variances v_k. A component that is described with error
D_k ≤ v_k costs at least ½ log2(v_k/D_k) bits (Shannon), and one that is not described at all costs
nothing and has the error v_k. So for a total error nD the task is

    minimise  R = (1/n) Σ ½ log2(v_k/D_k)    with  (1/n) Σ D_k = D  and  D_k ≤ v_k

**Derivation.** Move a little error dD from component i to component j. The rate changes by
(1/D_i - 1/D_j)·dD/(2n·ln 2). At the optimum no such move helps, so all components that are free to
move have the same error: D_k = θ. (It is the condition of the Lagrangian R + μD, whose derivative
by D_k vanishes where D_k = 1/(2μ·ln 2), the same for all k.) A component with v_k ≤ θ is not free:
its error would have to exceed its variance. It gets no bits and keeps D_k = v_k. Hence

    D(θ) = (1/n) Σ min(θ, v_k)               R(θ) = (1/n) Σ max(0, ½ log2(v_k/θ))

**The picture.** Draw each v_k as a column. Water of level θ, the same everywhere, covers the small
columns entirely and leaves of each large one a part that stands out. What lies under water is the
error, what stands out is paid for: log2 of v_k over the level, halved. More bits, lower water: this
is *reverse* waterfilling. It is the least rate that any code can reach for this error, and a matrix
W with independent N(0, σ²) entries and inputs of covariance Σ is this problem for v_k = σ²λ_k, with
λ_k the eigenvalues of Σ, and R in bits per weight.

**Solving for θ needs no iteration.** R and D are monotone in θ, so it is enough to know which
components stand out. With v_1 ≥ v_2 ≥ …, component m comes out of the water where θ falls below
v_m: where

    2nR = Σ_{i<m} (log2 v_i - log2 v_m)      nD = (m-1)·v_m + Σ_{i≥m} v_i

Count those m for which the target lies beyond, and the definitions of R and D can be solved:

    log2 θ = (Σ_{i≤m} log2 v_i - 2nR)/m      θ = (nD - Σ_{i>m} v_i)/m

Worked example: v = (8, 2) and R = ½ bit per component, 2nR = 2 bits. The second component comes out
of the water at log2 8 - log2 2 = 2 bits, so it is still covered (just): m = 1, log2 θ = 3 - 2 = 1,
θ = 2, D = (2 + 2)/2 = 2. With twice the rate both stand out: log2 θ = (3 + 1 - 4)/2 = 0, θ = D = 1.

>>> allocate_rate(np.array([8.0, 2.0]), 0.5)
Allocation(water_level=2.0, rate=0.5, distortion=2.0, active=array([ True, False]))
>>> allocate_rate(np.array([8.0, 2.0]), 1.0)
Allocation(water_level=1.0, rate=1.0, distortion=1.0, active=array([ True,  True]))

Exercise: three components (16, 4, 1) may have the mean error 3. How many stand out, and what does
it cost? (Check: at θ = 4 the error is (4 + 4 + 1)/3 = 3, so exactly one; ½ log2(16/4)/3 = ⅓ bit.)

>>> allocate_distortion(np.array([16.0, 4.0, 1.0]), 3.0)
Allocation(water_level=4.0, rate=0.3333333333333333, distortion=3.0, active=array([ True, False, \
False]))

**Exactness.** The linear side (sums of variances, θ for a given D) is computed with fractions of
integers, without any error; logarithms and powers with 50-digit decimals. Every number is rounded
to float64 once, so it is the same on every machine. Before that rounding the relative errors of θ
and D and the absolute error of R are below n·10⁻⁴⁵, so that what comes out is the float nearest to
the true value unless this lies as close as that to the middle of two floats. In the exact middle θ
never lies (but for subnormal ones): where it is rational at all, some power of it is a product of
variances and a power of two, and so its odd part has no more than 53 bits. Hence scaling all
variances by 2^p scales θ and D by 2^p and leaves R alone.

Source: Cover & Thomas, Elements of Information Theory, 2nd ed., theorem 10.3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.logarithm import decimal_exp2, decimal_log2, exact, to_float, working_precision
from ..errors import BadInput

# What lies below 2^-2000 is rounded to 0 anyhow; decimals would not reach much further.
LEAST_LOG_LEVEL = -2000


@dataclass(frozen=True)
class Allocation:
    """The optimal sharing of a rate among n components.

    Attributes:
        water_level: θ, the error of every component that gets bits.
        rate: mean of max(0, ½ log2(v_k/θ)), in bits per component.
        distortion: mean of min(θ, v_k).
        active: n booleans, v_k > θ (with the rounded θ): the components that get bits.
    """

    water_level: float
    rate: float
    distortion: float
    active: NDArray[np.bool_]


def allocate_rate(variances: NDArray, rate: float) -> Allocation:
    """The water level for a rate R, and the distortion that goes with it.

    Args:
        variances: v, n ≥ 1 numbers, finite and not negative; zeros never become active.
        rate: R, in bits per component (zeros included), finite and not negative.

    Returns:
        The allocation. R = 0 gives θ = max v; if all variances are 0, then so are θ, D and the rate
        that is returned, whatever R is.

    Raises:
        BadInput: an argument that is not as above.

    Exactness: bits; each number is rounded once.
    """
    v = _validated(variances)
    rate = float(rate)
    if not 0 <= rate < math.inf:
        raise BadInput(f"the rate must be finite and not negative, got {rate} bits")
    if rate == 0 or not v.any():
        return _under_water(v)
    open_rate = 2 * len(v) * Fraction(rate)
    covered = _total(v)
    with working_precision():
        bits = exact(open_rate.numerator) / exact(open_rate.denominator)
        log_sum, m = exact(0), 0
        for variance in np.sort(v[v > 0])[::-1].tolist():
            log_variance = decimal_log2(variance)
            if bits <= log_sum - m * log_variance:
                break
            log_sum += log_variance
            covered -= Fraction(variance)
            m += 1
        level = decimal_exp2(max((log_sum - bits) / m, exact(LEAST_LOG_LEVEL)))
    water_level = to_float(level)
    distortion = float((m * Fraction(level) + covered) / len(v))
    return Allocation(water_level, rate, distortion, v > water_level)


def allocate_distortion(variances: NDArray, distortion: float) -> Allocation:
    """The water level for a distortion D, and the least rate that goes with it.

    Args:
        variances: v, n ≥ 1 numbers, finite and not negative; zeros never become active.
        distortion: D, the mean error of a component, not negative.

    Returns:
        The allocation. From D = mean v on the rate is 0, θ = max v, and the distortion that is
        returned is mean v. D = 0 costs an infinite rate, unless all variances are 0.

    Raises:
        BadInput: an argument that is not as above.

    Exactness: bits; each number is rounded once.
    """
    v = _validated(variances)
    distortion = float(distortion)
    if not distortion >= 0:
        raise BadInput(f"the distortion must not be negative, got {distortion}")
    covered = _total(v)
    if distortion == math.inf or len(v) * Fraction(distortion) >= covered:
        return _under_water(v)
    if distortion == 0:
        return Allocation(0.0, math.inf, 0.0, v > 0)
    error = len(v) * Fraction(distortion)
    standing_out = []
    for variance in map(Fraction, np.sort(v)[::-1].tolist()):
        if error >= len(standing_out) * variance + covered:
            break
        standing_out.append(variance)
        covered -= variance
    level = (error - covered) / len(standing_out)
    with working_precision():
        bits = exact(0)
        for variance in standing_out:
            ratio = variance / level
            bits += decimal_log2(exact(ratio.numerator) / exact(ratio.denominator))
        rate = to_float(bits / (2 * len(v)))
    water_level = float(level)
    return Allocation(water_level, rate, distortion, v > water_level)


def _under_water(v: NDArray[np.float64]) -> Allocation:
    """Rate 0: the level of the largest component, so that nothing stands out."""
    return Allocation(float(v.max()), 0.0, float(_total(v) / len(v)), np.zeros(len(v), np.bool_))


def _total(v: NDArray[np.float64]) -> Fraction:
    total = Fraction(0)
    for variance in v.tolist():
        total += Fraction(variance)
    return total


def _validated(variances: NDArray) -> NDArray[np.float64]:
    v = np.asarray(variances)
    if v.dtype.kind not in "fiu" or v.ndim != 1 or v.size == 0:
        raise BadInput(
            f"variances must be a vector of at least one number, got {v.dtype} of shape {v.shape}"
        )
    v = v.astype(np.float64) + 0.0  # of a variance -0.0 becomes +0.0
    wrong = ~np.isfinite(v) | (v < 0)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise BadInput(f"variances[{k}] is {v[k]:g}; variances are finite and not negative")
    return v
