"""`tree_sum` compiled: the order of `sums`, on products that are made chunk by chunk.

A buffer has a row for each number and a column for each of the `width` sums that are formed side by
side; it comes as the flat array of its numbers. Numbers that would be filled in are left out:
adding +0.0 changes nothing but the sign of a zero, and the +0.0 added to the last sum mends that.
"""

from __future__ import annotations

from ...reference.arithmetic.sums import CHUNK
from .compiler import Array, serial


@serial
def fold(buffer: Array, at: int, width: int, count: int) -> None:
    """Folds up to CHUNK rows, the first of which is at `at`, where the results come to stand."""
    half = 1
    while 2 * half < count:
        half *= 2
    while count > 1:
        apart = half * width
        for i in range(at, at + (count - half) * width):
            buffer[i] += buffer[i + apart]
        count = half
        half //= 2


@serial
def fold_partials(partials: Array, width: int, count: int) -> None:
    """The sums of `count` partial sums, no zero of them -0.0; they are the first row."""
    while count > 1:
        chunks = (count + CHUNK - 1) // CHUNK
        for chunk in range(chunks):
            first = chunk * CHUNK
            fold(partials, first * width, width, min(CHUNK, count - first))
            for w in range(width):
                partials[chunk * width + w] = partials[first * width + w]
        count = chunks
    for w in range(width):
        partials[w] += 0
