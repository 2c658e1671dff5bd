"""How surprised is a model by the token that came?

    ln P(token) = y_token - ln Σ_v e^(y_v)

for logits y. In twos: t_v = y_v·log2 e on the grid 2^-26, M = max t_v, and the sum of 2^(t_v - M)
in integers worth 2^-b each, b = 53 - ⌈log2 V⌉, which is exact for a vocabulary of V. What is left
is one expression a token on the host, at 50 digits and rounded once:

    ln P(token) = y_token - ln 2·(M + log2 S - b)

**Error.** t_v is off by 2^-27 + |t|·2^-53, 2^u by a relative 2^-24, a rounding to 2^-b is S·2^-b ≥
1 times less than V·2^-b-1: ln P by less than 2^-23 in all.

Worked example: two tokens with equal logits: ln ½.

>>> import numpy as np
>>> from .passes import Passes
>>> round(log_likelihood(Passes(np), np.array([[3.0, 3.0]]), np.array([0]))[0], 6)
-0.693147

Exercise: logits 0 and ln 3; what does the likelier token cost? (Check: ln ¾ = -0.2877.)

>>> round(log_likelihood(Passes(np), np.array([[0.0, np.log(3)]]), np.array([1]))[0], 6)
-0.287682
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from ..arithmetic.logarithm import decimal_log2, exact, to_float, working_precision
from .exponential import LOG2_E, UNIT
from .integers import WIDTH
from .library import Array

if TYPE_CHECKING:
    from .passes import Passes


def log_likelihood(passes: Passes, logits: Array, targets: NDArray) -> list[float]:
    """ln P of the targets, in nats, for logits tokens × vocabulary. Exactness: bits."""
    xp, bits = passes.xp, WIDTH - (logits.shape[-1] - 1).bit_length()
    t = xp.round((logits * LOG2_E) * UNIT)
    largest = xp.max(t, axis=-1, keepdims=True)
    sums = passes.host(passes.exponentials(t - largest, bits)).tolist()
    tops = passes.host(largest)[:, 0].tolist()
    place = xp.arange(len(targets)), xp.asarray(targets)
    chosen = passes.host(logits[place]).tolist()
    with working_precision():
        ln_2 = exact(2).ln()
        return [
            to_float(exact(y) - ln_2 * (exact(top) / Decimal(UNIT) + decimal_log2(s) - bits))
            for y, top, s in zip(chosen, tops, sums, strict=True)
        ]
