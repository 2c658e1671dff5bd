"""How wrong is an entropy that was counted?

`rate_column` counts the codes of each column. From a codes the entropy comes out too small by about
(S - 1)/(2a·ln 2) bits for S symbols; the correction of Miller and Madow adds this for the symbols
that were *seen*. What is left, mostly because rare symbols were not seen, matters when bits are
many and rows are few. For the codes of a Gaussian column it can be computed. With p_k the
probabilities of `theory.scalar` and c ~ Binomial(a, p_k),

    bias = Σ_k E[-(c/a)·log2(c/a)] + (Σ_k (1 - (1-p_k)^a) - 1)/(2a·ln 2) - H

so the error that is to be expected of a measured rate is known, and can be taken off.

Worked example: 3 bits from 64 codes are 0.04 bit too few, from 4096 hardly any. A column
of 8 bits needs more rows than many a layer has.

>>> [round(entropy_bias(3.0, rows), 4) for rows in (64, 4096)]
[-0.0376, -0.0004]
>>> round(entropy_bias(8.0, 512), 2)
-0.2

Exercise: 512 codes of a column seem to have 7.8 bits. How many has it really? (Check.)

>>> round(7.8 - float(counted_biases(np.array([7.8]), 512)[0]), 1)
8.0
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, xlogy

from ...reference.theory.scalar import spacing_for_entropy

# Up to this a·p the binomial distribution is summed; above, E[x ln x] is expanded to 1/(a·p)³.
SUMMED_UP_TO = 60.0
COUNTED_UP_TO = 160  # 13 standard deviations above
LARGEST_NORMAL = 9.0
GRID = np.concatenate((np.arange(0.05, 1, 0.05), np.arange(1, 14.01, 0.25)))


def entropy_bias(entropy: float, rows: int) -> float:
    """Expected error of a corrected entropy, bits, for Gaussian codes with the true H.

    Args:
        entropy: H in bits, 0 to 14. rows: a.

    Accuracy: interpolated between H a quarter of a bit apart, a few per cent of itself.
    """
    return float(np.interp(entropy, _with_nothing(GRID), _with_nothing(_on_grid(rows))))


def counted_biases(counted: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """The same for columns whose *counted* entropies are given: counted = H + bias(H)."""
    biases = _on_grid(rows)
    # Beyond what can be counted with so few rows the counts tell nothing; the last one stands.
    rising = np.append(True, np.diff(np.maximum.accumulate(GRID + biases)) > 0)
    return np.interp(counted, _with_nothing((GRID + biases)[rising]), _with_nothing(biases[rising]))


def _with_nothing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.append(0.0, values)


@lru_cache(maxsize=64)
def _on_grid(rows: int) -> NDArray[np.float64]:
    return np.array([_exact(float(entropy), rows) for entropy in GRID])


def _exact(entropy: float, rows: int) -> float:
    spacing = spacing_for_entropy(entropy)
    k = np.arange(math.ceil(LARGEST_NORMAL / spacing) + 1)
    probabilities = ndtr((0.5 - k) * spacing) - ndtr((-0.5 - k) * spacing)
    twice = np.where(k == 0, 1, 2)
    counted = -twice @ _mean_x_log_x(probabilities, rows) / math.log(2)
    seen = twice @ -np.expm1(rows * np.log1p(-probabilities))
    true = -twice @ xlogy(probabilities, probabilities) / math.log(2)
    return float(counted + (seen - 1) / (2 * rows * math.log(2)) - true)


def _mean_x_log_x(p: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """E[x ln x] for x = c/a, c ~ Binomial(a, p)."""
    mean = np.empty_like(p)
    few = rows * p <= SUMMED_UP_TO
    c = np.arange(min(rows, COUNTED_UP_TO) + 1)
    ways = gammaln(rows + 1) - gammaln(c + 1) - gammaln(rows - c + 1)
    q = p[few, None]
    with np.errstate(under="ignore"):
        probability = np.exp(ways + xlogy(c, q) + (rows - c) * np.log1p(-q))
    mean[few] = probability @ xlogy(c / rows, c / rows)
    q = p[~few]
    second = q * (1 - q) / rows  # central moments of x
    third = second * (1 - 2 * q) / rows
    fourth = 3 * second**2 + second * (1 - 6 * q * (1 - q)) / rows**2
    mean[~few] = q * np.log(q) + second / (2 * q) - third / (6 * q**2) + fourth / (12 * q**3)
    return mean
