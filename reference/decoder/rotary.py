"""How does a model know where a token stands?

Every pair of features (i, i + d/2) of a query or key of width d is turned by the angle p·ω_i at
position p, so that a score depends on the distance of two tokens alone:

    q_i ← q_i·cos - q_{i+d/2}·sin      q_{i+d/2} ← q_{i+d/2}·cos + q_i·sin        ω_i = base^(-2i/d)

Two ways to stretch the positions are in use: *linear* divides every ω by a factor; *llama3* divides
the slow ones (wavelength λ = 2π/ω above C/low, C the length the model was first trained on), keeps
the fast ones (below C/high), and mixes in between: ω·((1-s)/factor + s), s = (C/λ - low)/(high -
low).

Cosine and sine are rounded to 2^-30 and q stands on 22 bits, so that both products and their sum
are exact (30 + 22 + 1 = 53 bits). The table comes from the standard library's decimals: e^{iω} once
for each i by its series, then e^{i(p+1)ω} = e^{ipω}·e^{iω} in integers of 160 bits. Each step adds
an error below 2^-158, so after 2^30 positions 2^-128 is left: the roundings to 2^-30 are those of
the true values. No library's cosine is called. (Published models take ω and p·ω in float32: they
are off by up to p·ω·2^-23.)

Worked example: base 10000, d = 4: ω = (1, 0.01). At position 1, cos 1 = 0.5403… and sin 0.01.

>>> cosine, sine = tables(Rotary(base=10000.0), 4, 2)
>>> round(float(cosine[1, 0]), 6), round(float(sine[1, 1]), 6)
(0.540302, 0.01)

Exercise: what does turning do to the length of a vector? (Check: nothing, up to the grid: cos² +
sin² = 1 to 2^-29.)

>>> bool(np.max(np.abs(cosine * cosine + sine * sine - 1)) < 2.0**-29)
True
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.logarithm import CONTEXT, exact
from .integers import grid
from .library import Array, ArrayLibrary

TABLE_BITS, QUERY_BITS = 30, 22
FIXED = 160
DIGITS = 60
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


@dataclass(frozen=True)
class Rotary:
    """How positions become angles.

    Attributes:
        base: of the geometric series of frequencies.
        kind: "default", "linear" or "llama3".
        factor: by which positions are stretched ("linear", "llama3").
        low, high: numbers of turns within `original_length` ("llama3").
        original_length: C ("llama3").
    """

    base: float
    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original_length: int = 8192


def frequencies(rotary: Rotary, width: int) -> list[Decimal]:
    """ω_i, i < width/2, to 60 digits."""
    with localcontext(CONTEXT) as context:
        context.prec = DIGITS
        factor, low, high = exact(rotary.factor), exact(rotary.low), exact(rotary.high)
        found = []
        for i in range(width // 2):
            w = (exact(rotary.base).ln() * -2 * i / width).exp()
            if rotary.kind == "linear":
                w = w / factor
            elif rotary.kind == "llama3":
                turns = rotary.original_length * w / (2 * PI)
                s = min(max((turns - low) / (high - low), Decimal(0)), Decimal(1))
                w = w * ((1 - s) / factor + s)
            found.append(w)
        return found


def unit_turn(angle: Decimal) -> tuple[int, int]:
    """cos and sin of an angle, integers worth 2^-160, by the series of e^{ix} (|x| ≤ 2π or so)."""
    with localcontext(CONTEXT) as context:
        context.prec = DIGITS
        sums, term, n = [Decimal(0), Decimal(0)], Decimal(1), 0
        while abs(term) > Decimal(10) ** -DIGITS:
            sums[n % 2] += term if n % 4 < 2 else -term
            n += 1
            term = term * angle / n
        return int(sums[0] * (1 << FIXED)), int(sums[1] * (1 << FIXED))


def tables(
    rotary: Rotary, width: int, length: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines, length × width/2, on the grid 2^-30. Exactness: bits."""
    found = np.empty((2, length, width // 2))
    shift, half = FIXED - TABLE_BITS, 1 << (FIXED - 1)
    middle = 1 << (shift - 1)
    for i, w in enumerate(frequencies(rotary, width)):
        a, b = unit_turn(w)
        x, y = 1 << FIXED, 0
        for p in range(length):
            found[0, p, i] = (x + middle) >> shift
            found[1, p, i] = (y + middle) >> shift
            x, y = (x * a - y * b + half) >> FIXED, (x * b + y * a + half) >> FIXED
    return np.ldexp(found[0], -TABLE_BITS), np.ldexp(found[1], -TABLE_BITS)


def rotate(library: ArrayLibrary, q: Array, cosine: Array, sine: Array) -> Array:
    """q (… × length × width) turned by the tables (length × width/2). Exactness: bits."""
    m, unit = grid(library, q, QUERY_BITS)
    half = q.shape[-1] // 2
    a, b = m[..., :half], m[..., half:]
    turned = library.xp.concat([a * cosine - b * sine, b * cosine + a * sine], axis=-1)
    return turned * library.put(unit)
