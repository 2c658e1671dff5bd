"""When does a sum of products not round, whatever the order?

float64 holds every integer up to 2⁵³. So if all terms of a sum are integers and all partial sums,
of any terms in any order, stay within 2⁵³, no addition rounds: the sum is one number, and order,
blocks, threads, fused multiply-adds and the vendor of the matrix product can not change it. For a
product of integers |h| ≤ 2ᵖ and |m| ≤ 2^q over n terms it is enough that

    n·2ᵖ·2^q ≤ 2⁵³,     that is  p + q + ⌈log2 n⌉ ≤ 53.

Real numbers are cut into such integers. With 2^e above the largest magnitude of a row, x·2^(-e) is
at most 1, and slice by slice of width b

    S₁ = rint(x·2^(b-e)),   S₂ = rint((x·2^(b-e) - S₁)·2ᵇ),   …     x = 2^e·Σ_p S_p·2^(-pb) + rest

Scaling by a power of two is exact, and so is x - rint(x). What is left after s slices is at most
½·2^(e-sb).

**The target.** T = W L: rows of W in three slices of 14 bits, columns of L in two of
q = 39 - ⌈log2 n⌉. Four of the six products are computed, all exactly, and added smallest first:

    T = 2^(e_i+e_j)·2^(-14-q)·(((W₃L₁·2⁻²⁸ + W₁L₂·2^(-q)) + W₂L₁·2⁻¹⁴) + W₁L₁)

Three additions round, each element by itself. Nothing else does. A slice that is zero throughout
needs no product, and a product of zeros adds nothing: weights of few bits cost less, with the same
bits. **Bound**, in units of 2^(e_i+e_j), |w|, |l| ≤ 1: the rest of W ≤ 2⁻⁴³ and that of L ≤
2^(-2q-1) meet n factors each of at most 1; the products left out, (W₂+W₃)·L₂, are at most
n·(2⁻¹⁵+2⁻²⁹)·2^(-q-1); three roundings of numbers below 2n: 6n·2⁻⁵³. `product_error` adds them up.

Worked example: x = 0.8 with b = 3, e = 0: 6.4 → 6, 0.4·8 = 3.2 → 3, so 0.8 ≈ 6/8 + 3/64.

>>> import numpy as np
>>> [float(s[0]) for s in slices(np, np.array([0.8]), width=3, count=2)]
[6.0, 3.0]

A product in other order is the same product, here with the terms of the sum reversed:

>>> W = np.array([[0.3, -0.7, 0.11]]); L = np.tril(np.full((3, 3), 0.9))
>>> one = product_transposed(Library(np), W, L).host()
>>> other = product_transposed(Library(np), W[:, ::-1], L[::-1], lower=False).host()
>>> bool((one == other).all()), bool(abs(one[2, 0] - 0.11 * 0.9) < 1e-13)
(True, True)

Exercise: how wide may both factors be, equally, for sums of 4096 terms? (Check: (53 - 12)/2 = 20.)

>>> (53 - length_bits(4096)) // 2
20

Source: K. Ozaki et al., "Error-free transformations of matrix multiplication", 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from .arrays import Array, Library, to_host

EXACT = 2.0**53
WEIGHT_WIDTH = 14
FARTHEST_EXPONENT = 400  # products of three such powers of two neither overflow nor vanish
PANEL = 256  # columns of a triangular factor that are multiplied together; changes no bit


def length_bits(length: int) -> int:
    """⌈log2 n⌉ for n ≥ 1."""
    return (length - 1).bit_length()


def factor_width(length: int) -> int:
    """q: the width of a slice of L, for sums of so many terms."""
    return 53 - WEIGHT_WIDTH - length_bits(length)


def product_error(length: int) -> float:
    """The bound of this module for |computed T - exact T|, in units of 2^(e_i+e_j)."""
    q = factor_width(length)
    left_out = (2.0**-15 + 2.0**-29) * 2.0 ** -(q + 1)
    return length * (2.0**-43 + 2.0 ** -(2 * q + 1) + left_out + 6 * 2.0**-53)


def exponents(matrix: NDArray, axis: int, name: str) -> NDArray[np.int64]:
    """For each row (axis 1) or column (axis 0) the e with 2^(e-1) ≤ max |x| < 2^e; 0 for zeros.

    Raises:
        BadInput: one whose largest magnitude lies beyond 2^±400, where no grid is looked for.
    """
    largest = np.abs(matrix).max(axis=axis)
    found = np.where(largest == 0, 0, np.frexp(largest)[1])
    far = np.abs(found) > FARTHEST_EXPONENT
    if far.any():
        i = int(np.argmax(far))
        raise BadInput(
            f"no grid holds {name} {i}: its largest magnitude is {largest[i]:g}, outside of "
            f"2^-{FARTHEST_EXPONENT} … 2^{FARTHEST_EXPONENT}; scale it by a power of two"
        )
    return found.astype(np.int64)


def powers(exponent: NDArray) -> NDArray[np.float64]:
    """2^e, exactly."""
    return np.ldexp(1.0, exponent)


def slices(functions: Any, scaled: Array, width: int, count: int) -> list[Array]:
    """S₁ … of numbers |x| ≤ 1: whole numbers in float64, |S₁| ≤ 2^width, |S_p| ≤ ½·2^width."""
    scaled = scaled * 2.0**width  # a new array, which may be changed in place
    found = [functions.round(scaled)]
    while len(found) < count:
        scaled -= found[-1]
        scaled *= 2.0**width
        found.append(functions.round(scaled))
    return found


@dataclass(frozen=True)
class Scaled:
    """Tᵀ, n×a: element (j, i) is value·2^(column_exponent_j + row_exponent_i)."""

    value: Array
    row_exponent: NDArray[np.int64]
    column_exponent: NDArray[np.int64]

    def host(self) -> NDArray[np.float64]:
        """The numbers themselves, in NumPy."""
        scale = powers(self.column_exponent)[:, None] * powers(self.row_exponent)[None, :]
        return to_host(self.value) * scale


def product_transposed(
    library: Library, weight: NDArray, factor: NDArray, lower: bool = True
) -> Scaled:
    """T = W L as in this module.

    Args:
        weight: W, a×n, and factor: L, n×n, float64 on the host.
        lower: L is lower triangular, so that what stands above its diagonal is not multiplied.

    Returns:
        Tᵀ (columns of T lie in one piece). Exactness: bits, in any order of summation.
    """
    xp, n = library.functions, len(factor)
    q = factor_width(n)
    row, column = exponents(weight, 1, "weight row"), exponents(factor, 0, "factor column")
    W = slices(xp, library.put((weight * powers(-row)[:, None]).T), WEIGHT_WIDTH, 3)
    L = slices(xp, library.put((factor * powers(-column)[None, :]).T), q, 2)
    terms = ((2, 0, -2 * WEIGHT_WIDTH), (0, 1, -q), (1, 0, -WEIGHT_WIDTH), (0, 0, 0))
    there = [bool(xp.any(s != 0.0)) for s in W], [bool(xp.any(s != 0.0)) for s in L]
    panels = []
    for first in range(0, n, PANEL):
        end, start = min(first + PANEL, n), first if lower else 0
        total = None
        for p, s, power in terms:
            if there[0][p] and there[1][s]:
                term = L[s][first:end, start:] @ W[p][start:, :]
                term *= 2.0**power
                total = term if total is None else total + term
        if total is None:
            total = library.put(np.zeros((end - first, len(weight))))
        total *= 2.0 ** -(WEIGHT_WIDTH + q)
        panels.append(total)
    return Scaled(xp.concat(panels, axis=0), row, column)
