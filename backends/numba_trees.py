"""`tree_sum` compiled: the order of `sums`, on products that are made chunk by chunk.

A buffer has a row for each number and a column for each of the sums that are formed side by side.
Numbers that would be filled in are left out: adding +0.0 changes nothing but the sign of a zero,
and the +0.0 added to the last sum mends that.
"""

from __future__ import annotations

from ..reference.sums import CHUNK
from .numba_compiler import Array, serial


@serial
def fold(buffer: Array, count: int) -> None:
    """Folds up to CHUNK rows; the results are the first row."""
    width = buffer.shape[1]
    flat = buffer.reshape(-1)
    half = 1
    while 2 * half < count:
        half *= 2
    while count > 1:
        for i in range((count - half) * width):
            flat[i] += flat[i + half * width]
        count = half
        half //= 2


@serial
def fold_partials(partials: Array, count: int) -> None:
    """The sums of `count` partial sums, no zero of them -0.0; they are the first row."""
    width = partials.shape[1]
    while count > 1:
        chunks = (count + CHUNK - 1) // CHUNK
        for chunk in range(chunks):
            first = chunk * CHUNK
            fold(partials[first:], min(CHUNK, count - first))
            for w in range(width):
                partials[chunk, w] = partials[first, w]
        count = chunks
    for w in range(width):
        partials[0, w] += 0
