"""`tree_sum` compiled: the order of `sums`, on products that are made chunk by chunk.

A buffer holds `count` numbers for each of `width` sums that are formed side by side, number i of
sum w at i·width + w. Numbers that would be filled in are left out: adding +0.0 changes nothing but
the sign of a zero, and the +0.0 added to the last sum mends that.
"""

from __future__ import annotations

from ..reference.sums import CHUNK
from .numba_compiler import Array, serial


@serial
def fold(
    buffer: Array,
    start: int,
    count: int,
    width: int,
) -> None:
    """Folds up to CHUNK numbers of each sum; the results are the first `width` from `start` on."""
    half = 1
    while 2 * half < count:
        half *= 2
    while count > 1:
        for i in range(start, start + (count - half) * width):
            buffer[i] += buffer[i + half * width]
        count = half
        half //= 2


@serial
def fold_partials(
    partials: Array,
    count: int,
    width: int,
) -> None:
    """The sums of `count` partial sums, no zero of them -0.0; they are the first `width`."""
    while count > 1:
        chunks = (count + CHUNK - 1) // CHUNK
        for chunk in range(chunks):
            first = chunk * CHUNK
            fold(partials, first * width, min(CHUNK, count - first), width)
            for w in range(width):
                partials[chunk * width + w] = partials[first * width + w]
        count = chunks
    for w in range(width):
        partials[w] += 0
