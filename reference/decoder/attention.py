"""How does a token look back, and how is it made sure that nothing ever looks ahead?

Query i scores the keys j ≤ i (j > i - window, where there is one), and takes the mean of their
values by the softmax of the scores:

    a_ij = q_i·k_j/√d         w_ij = e^(a_ij - max_j a_ij)         o_i = Σ_j w_ij·v_j / Σ_j w_ij

**Scores.** q_i and k_j on grids of their own, bits shared as in `integers`: exact. The factor log2
e/√d, rounded once, joins the unit of q_i; then a is put on 2^-26, the maximum and the difference
from it are exact, and `exponential` gives 2^u.

**Weights** are rounded to integers on the grid 2^-23; what is below 2^-24 of the largest is 0.
Their sum is exact, and it is the only number divided by, after the product with the values.

**Values.** Here alone a sum runs over tokens, so here alone one token's grid could depend on
another's. Two things keep the bits of a token from depending on what follows, on padding, or on the
length: (1) the grid of v_j is found from the weights of the model, by the limit of
`integers.prepare`, never from the tokens; 21 bits below that limit are one integer matrix, the next
21 another, so that nothing is lost to a limit that is not reached. (2) keys are taken in chunks of
512, at fixed places: 23 + 21 + 9 = 53 bits, exact within a chunk; the sums of the chunks are added
in their order. A chunk that a query does not see adds zeros.

**Error.** A weight is off by 2^-24 of the largest (rounding) and by a relative 2^-24 + 2^-26 +
|a|·2^-52 (exponential, grids), so the mean by at most (2^-24·T/Σw + 2^-23)·2·max|v|, and by 2^-42
of the limit.

Worked example: two tokens, scores 0 and ln 3·√1 apart: weights 1 and 1/3, values 4 and 0: 3 and 4.

>>> from .passes import Passes
>>> passes = Passes(np)
>>> q = np.array([[[[0.0], [1.0986122886681098]]]])  # batch, heads, length, width
>>> k = np.array([[[[1.0], [0.0]]]])
>>> v = np.array([[[[4.0], [0.0]]]])
>>> attention(passes, q, k, v, np.array([[5.0]])).round(6).reshape(-1).tolist()
[4.0, 3.0]

Exercise: with a window of one token, what does each see? (Check: itself alone.)

>>> attention(passes, q, k, v, np.array([[5.0]]), window=1).reshape(-1).tolist()
[4.0, 0.0]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.logarithm import decimal_sqrt, exact, to_float, working_precision
from .exponential import BITS, UNIT, power_of_two
from .integers import WIDTH, share, units
from .library import Array, ArrayLibrary

if TYPE_CHECKING:
    from .passes import Passes

CHUNK = 512
"""Keys whose weighted values are summed at once."""
QUERIES = 128
"""Queries that are worked on at once; no bit depends on it."""
WEIGHT_BITS = 23


def value_bits() -> int:
    """What a chunk leaves to the values: 53 - 23 - 9 = 21."""
    return WIDTH - WEIGHT_BITS - (CHUNK - 1).bit_length()


def score_factor(width: int) -> float:
    """log2 e/√d, rounded once.

    >>> score_factor(64) * 8
    1.4426950408889634
    """
    with working_precision():
        return to_float(1 / (exact(2).ln() * decimal_sqrt(width)))


def visible(first: int, stop: int, start: int, end: int, window: int | None) -> NDArray[np.bool_]:
    """Which queries first … stop-1 see which keys start … end-1."""
    query, key = np.arange(first, stop)[:, None], np.arange(start, end)
    return (key <= query) & (key > query - (window or stop))


def attention_weights(
    library: ArrayLibrary, scores: Array, factor: Array, unit: Array, seen: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """w, integers on the grid 2^-23, and their sums over the keys.

    Args:
        scores: … × queries × keys, integers; may be overwritten.
        factor: … × queries × 1: unit of the query times `score_factor`.
        unit: … × 1 × keys: unit of the key times 2^26.
        seen: queries × keys.
    """
    xp = library.xp
    scores *= factor
    scores *= unit
    t = xp.where(xp.asarray(seen), library.rint(scores), library.put(-np.inf))
    t -= xp.max(t, axis=-1, keepdims=True)
    w = power_of_two(library, t)
    w *= float(np.ldexp(1.0, WEIGHT_BITS - BITS))
    w = library.rint(w)
    return w, xp.sum(w, axis=-1, keepdims=True)


def value_slices(
    library: ArrayLibrary, v: Array, limit: NDArray[np.float64]
) -> tuple[Array, NDArray[np.float64]]:
    """v as hi + lo·2^-21 in units u of each feature: [hi | lo] and u."""
    xp, unit = library.xp, units(limit, value_bits())
    scaled = v * library.put(1 / unit)
    hi = xp.round(scaled)
    scaled -= hi
    scaled *= float(1 << value_bits())
    return xp.concat([hi, library.rint(scaled)], axis=-1), unit


def attention(
    passes: Passes,
    q: Array,
    k: Array,
    v: Array,
    limit: NDArray[np.float64],
    window: int | None = None,
) -> Array:
    """o for q (batch, heads, length, width), k and v (batch, key heads, length, width).

    Args:
        limit: key heads × width, above every |v| (`integers.Linear.limit`).
        window: how many tokens a query sees, itself included; None for all before it.

    Returns:
        batch × heads × length × width. Heads of queries share those of keys, neighbours alike.

    Exactness: bits; those of a token depend on it and on the tokens before it alone.
    """
    xp = passes.xp
    batch, heads, length, width = q.shape
    shared = heads // k.shape[1]
    bits_q, bits_k = share(width)
    q, unit_q = passes.grid(q, bits_q)
    k, unit_k = passes.grid(k, bits_k)
    factor, unit_k = unit_q * score_factor(width), unit_k * UNIT
    v, unit_v = value_slices(passes, v, limit[:, None, :])
    rows = []
    for b in range(batch):
        for h in range(k.shape[1]):
            group = slice(h * shared, (h + 1) * shared)
            blocks = [
                _queries(
                    passes,
                    *(
                        q[b, group, first : first + QUERIES, :],
                        factor[b, group, first:][:, :QUERIES],
                    ),
                    *(k[b, h, ...], unit_k[b, h, :, 0], v[b, h, ...]),
                    *(first, window),
                )
                for first in range(0, length, QUERIES)
            ]
            sums = xp.concat(blocks, axis=1) if len(blocks) > 1 else blocks[0]
            rows.append(sums * passes.put(unit_v[h]))
    return xp.reshape(xp.stack(rows), (batch, heads, length, width))


def _queries(
    passes: Passes,
    q: Array,
    factor: NDArray[np.float64],
    k: Array,
    unit: NDArray[np.float64],
    v: Array,
    first: int,
    window: int | None,
) -> Array:
    """Σ_j w_ij·v_j / Σ_j w_ij, in units of v, for the queries from `first` on of some heads."""
    shared, queries, width = q.shape
    stop = first + queries
    start = max(0, first - window + 1) if window else 0
    scores = passes.product(q, passes.xp.permute_dims(k[start:stop, :], (1, 0)))
    seen = visible(first, stop, start, stop, window)
    w, total = passes.attention_weights(
        scores, passes.put(factor), passes.put(unit[start:stop]), seen
    )
    sums = passes.put(np.zeros((shared, queries, 2 * width)))
    for chunk in range(start - start % CHUNK, stop, CHUNK):
        i, j = max(chunk, start), min(chunk + CHUNK, stop)
        sums = sums + passes.product(w[..., i - start : j - start], v[i:j, :])
    lo = sums[..., width:] * float(np.ldexp(1.0, -value_bits()))
    return (sums[..., :width] + lo) / total
