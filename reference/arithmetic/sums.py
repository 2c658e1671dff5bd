"""In which order are numbers added, so that every machine finds the same sum?

Floating-point addition is not associative: a sum is defined only together with its order. A chain
from left to right would be the simplest order, but it forbids any parallel work and its error grows
like n. The tree of this module adds pairs instead. Cut x into chunks of 512 neighbours, fill the
last one with +0.0 up to the next power of two, and in a chunk of m numbers let

    while m > 1:   m ← m/2,   x[i] ← x[i] + x[i+m]  for i < m

The chunk sums, in order, are summed by the same rule, and +0.0 is added to what remains. A thread
block, a core or a whole node can own whole chunks, and the error grows only like log₂ n: every x[i]
takes part in at most ⌈log₂ n⌉ additions that can round, so |computed - exact| ≤ ⌈log₂ n⌉·u·Σ|x| to
first order, with u = 2⁻⁵³ or 2⁻²⁴ (adding +0.0 rounds nothing).

Filling with zeros costs nothing, because x + 0.0 = x for every x but -0.0. That one exception is
why +0.0 is added at the end: without it a sum of nothing but -0.0 would be -0.0 or +0.0, depending
on how far somebody chose to pad. With it, padding further never changes a bit, and an empty sum is
+0.0 as well.

Worked example: the tree adds 1 + 3 and 2 + 4 first, then 4 + 6. With numbers of different size the
order shows: from left to right 1 would be lost twice in 10¹⁶, the tree pairs it with its equal.

>>> import numpy as np
>>> float(tree_sum(np.array([1.0, 2.0, 3.0, 4.0])))
10.0
>>> float(tree_sum(np.array([1e16, 1.0, -1e16, 1.0])))
2.0
>>> ((1e16 + 1.0) - 1e16) + 1.0
1.0
>>> tree_sum(np.array([-0.0])).tobytes() == np.array(0.0).tobytes()
True

Exercise: find four numbers for which the tree gives 0 and the chain from left to right gives 1.
(Check: `tree_sum(x) == 0` and `((x[0] + x[1]) + x[2]) + x[3] == 1`.)

>>> x = np.array([1e16, -1e16, 1.0, 0.0])
>>> float(tree_sum(x)), float(((x[0] + x[1]) + x[2]) + x[3])
(0.0, 1.0)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK = 512


def next_power_of_two(length: int) -> int:
    """The least power of two that is not below `length` ≥ 1."""
    return 1 << (length - 1).bit_length()


@np.errstate(over="ignore", invalid="ignore")  # an infinity is a result like any other
def tree_sum(values: NDArray) -> NDArray:
    """Sum over the first axis in the order of this module.

    Args:
        values: length × …, float64 or float32, at least one axis.

    Returns:
        The sums, shaped like `values[0]`, in the dtype of `values`; +0.0 where length is 0.

    Exactness: bits.

    >>> tree_sum(np.ones((600, 2), np.float32))
    array([600., 600.], dtype=float32)
    """
    length = len(values)
    if length == 0:
        return np.zeros(values.shape[1:], values.dtype)
    while length > 1:
        width = min(CHUNK, next_power_of_two(length))
        chunks = -(-length // width)
        padded = np.zeros((chunks * width, *values.shape[1:]), values.dtype)
        padded[:length] = values
        folded = padded.reshape(chunks, width, *values.shape[1:])
        while width > 1:
            width //= 2
            folded = folded[:, :width] + folded[:, width:]
        values, length = folded[:, 0], chunks
    return values[0] + values.dtype.type(0)


def total(matrix: NDArray) -> float:
    """Sum of all elements: along each row first, then over the rows; widened to a host float64."""
    return float(tree_sum(tree_sum(matrix.T)))


def mean(vector: NDArray) -> float:
    """`tree_sum` of a vector in its own dtype, divided in float64 by its length (at least 1)."""
    return float(tree_sum(vector)) / len(vector)
