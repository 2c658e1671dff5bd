"""What does absmax quantisation cost, and why do outliers decide about it?

n entries N(0, 1) share a scale made of M = max|x| (`absmax`). The spacing follows M, and so does
the error:

    E[M²] = ∫₀^∞ 2m·(1 - erf(m/√2)ⁿ) dm              (P(M ≤ m) = erf(m/√2)ⁿ)

It is E[M²] that counts, not E[M]². For a spacing s = M/ρ an entry has the error s²/12, except for
the largest one, which lies on a value (error 0) or halfway between two (s²/4, three times as much):

    int             s = 2M/(2^b - 1)           D = E[M²]·(1 + 2/n)/(3·(2^b - 1)²)
    int-symmetric   s = M/(2^(b-1) - 1)        D = E[M²]·(1 - 1/n)/(12·(2^(b-1) - 1)²)

**Float formats.** With m mantissa bits, r = M/(largest value) and x in the binade
2^e ≤ |x|/r < 2^(e+1), values are r·2^(e-m) apart; below the least normal exponent e_min they stay
r·2^(e_min-m) apart:

    D = (1 - 1/n)·E_M[ r²·4^(-m)/12·E(4^max(⌊log2(|x|/r)⌋, e_min) | |x| < M) ]

If all that matters lies in normal binades, r·2^⌊log2(|x|/r)⌋ is |x| times 2^(-u) with u nearly
uniform in [0, 1), E 4^(-u) = 3/(8·ln 2), and only the mantissa is left:

    D ≈ (3/(8·ln 2))·(4^(-m)/12)·(1 - E[M²]/n)

(what the largest entry has of the energy, it has without error).

**Exact.** For levels that are given the error is a sum over their cells, a … b around q, outer
cells open where values are clipped:

    ∫ₐᵇ (x-q)²φ = (1 + q²)·[Φ]ₐᵇ - [xφ]ₐᵇ + 2q·[φ]ₐᵇ

Given M, the other n - 1 entries are independent, and normal within ±M; so the absmax quantiser has
an exact value too, an integral over the density of M. `absmax_distortion` computes it. For n from
16 to 4096 the formulas above are within 0.25% of it for b = 3, 4, 8, within 4.2% for E2M1 and 1.4%
for the other float formats; the short one is within 1.6% for E3M2, E4M3 and E5M2, and off by up to
21% for E2M1 and 14% for E2M3, much of whose range is subnormal.

Worked example: n = 1. M² = x², E[M²] = 1, and on `int` the only entry is always halfway between two
values: s = 2|x|/15, D = 1/15².

>>> from ..methods.absmax import absmax_format
>>> round(absmax_mean_square(1), 12), round(int_distortion(absmax_format("int", 4), 1) * 225, 12)
(1.0, 1.0)

Exercise: is a block of 32 or one of 1024 better for INT4, and by how many bits? (Check: ½ log2 of
the ratio of the distortions. But the scale of 32 costs 16/32 of a bit per entry.)

>>> int4 = absmax_format("int", 4)
>>> block32, block1024 = int_distortion(int4, 32), int_distortion(int4, 1024)
>>> round(block32, 5), round(block1024, 5), round(0.5 * math.log2(block1024 / block32), 2)
(0.00899, 0.01775, 0.49)

Outside the exact path: SciPy's erf and quadrature; relative error below 10⁻⁸.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import erf, erfc, erfcinv, ndtr

from ..errors import BadInput
from ..grids.float_formats import FORMATS, FloatFormat
from ..methods.absmax import INTEGER_FORMATS, AbsmaxFormat
from ..methods.grid_fitting import group_starts

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
NEGLECTED = 1e-17  # probability, at either end, of the maxima that are left out


def absmax_mean_square(n: int) -> float:
    """E[M²] of n ≥ 1 numbers N(0, 1)."""
    _check_block(n)

    def integrand(m: float) -> float:
        return -2 * m * math.expm1(n * math.log1p(-erfc(m / math.sqrt(2)))) if m > 0 else 0.0

    middle = math.sqrt(2) * float(erfcinv(1 / (n + 1)))
    below, _ = quad(integrand, 0, middle, epsabs=0, epsrel=1e-11, limit=200)
    above, _ = quad(integrand, middle, math.inf, epsabs=0, epsrel=1e-11, limit=200)
    return below + above


def formula_distortion(form: AbsmaxFormat, n: int) -> float:
    """The formula that belongs to a format: `int_distortion` or `float_distortion`."""
    return (int_distortion if form.name in INTEGER_FORMATS else float_distortion)(form, n)


def blockwise_distortion(form: AbsmaxFormat, columns: int, group_size: int | None) -> float:
    """`formula_distortion` in the mean over the entries of a row, whose last block may be short."""
    blocks = [end - first for first, end in group_starts(columns, group_size)]
    return (
        sum(size * blocks.count(size) * formula_distortion(form, size) for size in set(blocks))
        / columns
    )


def int_distortion(form: AbsmaxFormat, n: int) -> float:
    """D of `int` or `int-symmetric` with one scale for n entries of variance 1."""
    if form.name not in INTEGER_FORMATS:
        raise BadInput(f"{form.name} is no integer format; use float_distortion")
    largest_entry = 2 if form.name == "int" else -1
    return absmax_mean_square(n) * (1 + largest_entry / n) / (12 * form.reach**2)


def float_distortion(form: AbsmaxFormat, n: int) -> float:
    """D of a float format, binade by binade, with one scale for n entries of variance 1."""
    fmt = _float_format(form)
    exponents = np.arange(1 - fmt.bias, math.frexp(fmt.largest)[1])  # e_min … that of the largest
    noise = 4.0 ** (exponents - fmt.mantissa_bits) / 12

    def given(M: NDArray) -> NDArray:
        r = M[:, None] / fmt.largest
        edges = np.minimum(r * 2.0 ** np.append(exponents, exponents[-1] + 1), M[:, None])
        edges[:, 0] = 0  # the subnormal numbers are as dense as the first binade
        inside = np.diff(erf(edges / math.sqrt(2)), axis=1) / erf(M / math.sqrt(2))[:, None]
        return r[:, 0] ** 2 * (inside @ noise)

    return (1 - 1 / n) * _mean_over_largest(given, n)


def float_distortion_short(form: AbsmaxFormat, n: int) -> float:
    """(3/(8·ln 2))·(4^(-m)/12)·(1 - E[M²]/n): for formats with many binades."""
    uniform = 4.0 ** -_float_format(form).mantissa_bits / 12
    return 3 / (8 * math.log(2)) * uniform * (1 - absmax_mean_square(n) / n)


def cell_distortion(levels: NDArray, bound: float = math.inf) -> float:
    """E[(x - q(x))² | |x| ≤ bound] of N(0, 1) on the nearest of the levels, to about 10⁻¹³.

    Args:
        levels: ascending. bound: where x ends; without one the outer cells are open and what
            lies beyond the levels is clipped to them.

    >>> round(cell_distortion(np.array([-1.0, 1.0])), 6)    # E(|x| - 1)² = 2 - 2·√(2/π)
    0.404231
    """
    return float(_cell_distortions(np.asarray(levels, np.float64)[None], np.array([bound]))[0])


def absmax_distortion(form: AbsmaxFormat, n: int) -> float:
    """D of the absmax quantiser itself, with one scale for n entries of variance 1.

    E_M[ (1 - 1/n)·E[(x - q(x))² | |x| ≤ M] + (1/n)·(M - q(M))² ]; the sign of the largest entry
    does not matter, since both ends of each format miss it by as much.
    """
    unit = form.levels / form.reach
    at_end = float(np.min(np.abs(unit - 1))) ** 2

    def given(M: NDArray) -> NDArray:
        return (1 - 1 / n) * _cell_distortions(M[:, None] * unit, M) + at_end * M * M / n

    return _mean_over_largest(given, n)


def _cell_distortions(levels: NDArray, bound: NDArray) -> NDArray[np.float64]:
    """For each row of levels and its bound."""
    edges = np.concatenate(
        (-bound[:, None], (levels[:, :-1] + levels[:, 1:]) / 2, bound[:, None]), axis=1
    )
    edges = np.clip(edges, -bound[:, None], bound[:, None])
    density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
    moment = np.where(np.isinf(edges), 0.0, edges) * density
    mass = np.diff(ndtr(edges), axis=1)
    cells = (1 + levels**2) * mass - np.diff(moment, axis=1) + 2 * levels * np.diff(density, axis=1)
    return np.sum(cells, axis=1) / np.sum(mass, axis=1)


def _mean_over_largest(value: Callable[[NDArray], NDArray], n: int) -> float:
    """E[value(M)] by Gauss and Legendre between the quantiles 10⁻¹⁷ and 1 - 10⁻¹⁷ of M."""
    _check_block(n)
    # P(M ≤ m) = p where erfc(m/√2) = 1 - p^(1/n)
    low, high = (
        math.sqrt(2) * float(erfcinv(-math.expm1(log_p / n)))
        for log_p in (math.log(NEGLECTED), math.log1p(-NEGLECTED))
    )
    M = low + (high - low) * (NODES + 1) / 2
    density = n * np.exp((n - 1) * np.log1p(-erfc(M / math.sqrt(2))) - M * M / 2)
    weights = WEIGHTS * density * (high - low) / 2 * math.sqrt(2 / math.pi)
    return float(weights @ value(M))


def _float_format(form: AbsmaxFormat) -> FloatFormat:
    if form.name not in FORMATS:
        raise BadInput(f"{form.name} is no float format; use int_distortion")
    return FORMATS[form.name]


def _check_block(n: int) -> None:
    if n < 1:
        raise BadInput(f"a block needs at least one entry, got {n}")
