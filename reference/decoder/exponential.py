"""How can eˣ be the same number everywhere, and cost only a few multiplications?

No standard fixes the exponential of a maths library. A softmax needs it for x ≤ 0, to some 24 bits,
millions of times. So write e^x = 2^u with u = x·log2 e, split u = k + r with k whole and |r| ≤ ½,
and take the series of 2^r, as a polynomial in integers. All numbers are on the grid 2^-26:

    p = c_7;   p ← rint(p·r) + c_j  for j = 6 … 0         c_j = rint(2^26·(ln 2)^j/j!)

with p in units of 2^-26. |r| ≤ ½ has 25 bits and p < 2^27, so p·r is exact and there is one
rounding a step, the one that is written. 2^u = p·2^k, exact again.

**Error**, in units of 2^-26 and for p ≥ 2^25.5: seven roundings of ½, each later one damped by |r|
≤ ½, make less than 1; the coefficients the same, less than 1; the rest of the series (ln 2/2)^8/8!
is 0.35. Together under 2.4, relative to p under 2.4/2^25.5 < 2^-24. u on its grid adds ½·2^-26·ln
2.

Below u = -64 the result stays at 2^-64: nothing that is added to 1, or rounded to 2^-52, can tell.

Worked example: u = -1 is k = -1, r = 0: p = c_0 = 2^26, and 2^u is ½. √½ = 2^-½ to 24 bits:

>>> from .library import ArrayLibrary
>>> library = ArrayLibrary(np)
>>> p, k = power(library, np.array([-1.0, -0.5]) * UNIT)
>>> (p * 2.0**k / UNIT).tolist()[0], round(float((p * 2.0**k / UNIT)[1]), 7)
(0.5, 0.7071068)

Exercise: why are seven steps enough, and six not? (Check: what is left out after j terms is below
(ln 2/2)^(j+1)/(j+1)!; in units of 2^-26 that is 0.35 after 7 and 8.0 after 6.)

>>> [round(2**26 * (math.log(2) / 2) ** (j + 1) / math.factorial(j + 1), 2) for j in (7, 6)]
[0.35, 8.0]
"""

from __future__ import annotations

import math

import numpy as np

from ..arithmetic.logarithm import exact, to_float, working_precision
from .library import Array, ArrayLibrary

BITS = 26
UNIT = float(1 << BITS)
LOWEST = -64
DEGREE = 7

with working_precision():
    LOG2_E = to_float(1 / exact(2).ln())
    """log2 e, rounded once."""
    COEFFICIENTS = tuple(
        float(round((exact(2).ln() ** j) * (1 << BITS) / math.factorial(j)))
        for j in range(DEGREE + 1)
    )
    """c_j, integers."""

POWERS = np.ldexp(1.0, np.arange(LOWEST, 1))


def power(library: ArrayLibrary, t: Array) -> tuple[Array, Array]:
    """p and k with 2^(t/2^26) = p·2^(k-26), for integers t ≤ 0, at least -64·2^26.

    Relative error below 2^-24. Exactness: bits.
    """
    xp = library.xp
    r = t * (1 / UNIT)
    k = xp.round(r)
    r -= k
    p = r * COEFFICIENTS[DEGREE]
    for c in reversed(COEFFICIENTS[1:DEGREE]):
        p = library.rint(p)
        p += c
        p *= r
    p = library.rint(p)
    p += COEFFICIENTS[0]
    return p, k


def power_of_two(library: ArrayLibrary, t: Array) -> Array:
    """2^26·2^(t/2^26), for integers t ≤ 0; t below -64·2^26 counts as that."""
    xp = library.xp
    p, k = power(library, xp.clip(t, LOWEST * UNIT, None))
    k -= LOWEST
    index = xp.reshape(xp.astype(k, xp.int64), (-1,))
    p *= xp.reshape(xp.take(library.put(POWERS), index), k.shape)
    return p
