"""Which codes occur in a column, and how often?

Every rate of this package follows from these counts alone, and counting is exact. Whoever counts
(a GPU with a million threads, a loop over columns) finds the same integers, so an entropy is the
same number everywhere.

Codes of an entropy-coded method have no range: most lie within ±20, one may be two thousand
million. A table with a place for each value of the range is out of the question, so a histogram
lists only what occurs, ascending, and the histograms of all columns stand one after the other
with the offsets at which each begins (the layout of a compressed sparse matrix).

>>> codes = np.array([[0, -1], [0, 1], [0, -1], [7, 1]], dtype=np.int32)
>>> histograms = column_histograms(codes)
>>> histograms.symbols.tolist()
[0, 7, -1, 1]
>>> histograms.counts.tolist()
[3, 1, 2, 2]
>>> histograms.offsets.tolist()
[0, 2, 4]

Column 0 has three codes 0 and one code 7; column 1 has two codes -1 and two codes 1.

Exercise: what is the histogram of both columns together? (Check: -1 twice, 0 three times, 1 twice
and 7 once.)

>>> both = grouped_histograms(histograms, np.array([0, 0]), 1)
>>> both.symbols.tolist(), both.counts.tolist()
([-1, 0, 1, 7], [2, 3, 2, 1])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import BadInput


@dataclass(frozen=True, eq=False)
class ColumnHistograms:
    """The histograms of n columns of codes; column j owns the entries offsets[j]:offsets[j+1].

    Attributes:
        symbols: int32, the codes that occur, ascending within a column.
        counts: int64, how often each occurs, at least 1.
        offsets: int64, n + 1 of them, from 0 to the number of entries.
    """

    symbols: NDArray[np.int32]
    counts: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def columns(self) -> int:
        """The number of histograms, n."""
        return len(self.offsets) - 1

    def totals(self) -> NDArray[np.int64]:
        """How many codes each column holds, int64."""
        return _sums_between(self.counts, self.offsets)


def _sums_between(values: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Σ values[offsets[j]:offsets[j+1]] for each j; values ≥ 0 and each sum below 2⁶³.

    The running total is kept modulo 2⁶⁴, so it may overflow: differences of it are still exact.
    """
    running = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values.view(np.uint64), out=running[1:])
    return (running[offsets[1:]] - running[offsets[:-1]]).view(np.int64)


def run_lengths(
    sorted_values: NDArray[Any], always_start: slice | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the runs of equal neighbours start, and how long they are.

    A new run also starts at every place of the slice `always_start`.

    >>> first, lengths = run_lengths(np.array([3, 3, 3, 5, 8, 8]))
    >>> first.tolist(), lengths.tolist()
    ([0, 3, 4], [3, 1, 2])
    """
    starts = np.ones(len(sorted_values), dtype=np.bool_)
    np.not_equal(sorted_values[1:], sorted_values[:-1], out=starts[1:])
    if always_start is not None:
        starts[always_start] = True
    first = np.flatnonzero(starts).astype(np.int64)
    return first, np.append(first[1:], len(sorted_values))[: len(first)] - first


def check_codes(shape: Sequence[int], dtype: DTypeLike) -> None:
    """Raises BadInput for what is no matrix of codes."""
    if len(shape) != 2 or dtype != np.int32 or shape[0] == 0:
        raise BadInput(
            f"codes must be an int32 matrix with at least one row, got {np.dtype(dtype)} "
            f"of shape {tuple(shape)}"
        )


def column_histograms(codes: NDArray[np.int32]) -> ColumnHistograms:
    """Counts the codes of each column. Exact; O(a·n·log a) time whatever the range of the codes.

    Args:
        codes: a×n int32, a at least 1 (n may be 0).

    Raises:
        BadInput: another dtype or shape.
    """
    check_codes(codes.shape, codes.dtype)
    rows, columns = codes.shape
    by_column = codes.T.copy()
    by_column.sort(axis=1)
    values = by_column.reshape(-1)
    first, counts = run_lengths(values, always_start=slice(None, None, rows))
    offsets = np.searchsorted(first, np.arange(columns + 1, dtype=np.int64) * rows)
    return ColumnHistograms(values[first], counts, offsets.astype(np.int64))


def grouped_histograms(
    histograms: ColumnHistograms, group: NDArray[np.int64], groups: int
) -> ColumnHistograms:
    """Joins the histograms of all columns that belong to the same group.

    Args:
        histograms: of n columns.
        group: n numbers from 0 to groups - 1.
        groups: how many histograms come out; a group without columns gets an empty one.

    >>> codes = np.array([[0, -1, 0], [0, 1, 1]], dtype=np.int32)
    >>> joined = grouped_histograms(column_histograms(codes), np.array([0, 0, 2]), 3)
    >>> joined.symbols.tolist(), joined.counts.tolist(), joined.offsets.tolist()
    ([-1, 0, 1, 0, 1], [1, 2, 1, 1, 1], [0, 3, 3, 5])
    """
    sizes = histograms.offsets[1:] - histograms.offsets[:-1]
    entry_group = np.repeat(group.astype(np.int64), sizes)
    # One integer that sorts by group first and by symbol second.
    key = entry_group * 2**32 + (histograms.symbols.astype(np.int64) + 2**31)
    order = np.argsort(key, kind="stable")
    key = key[order]
    first, _ = run_lengths(key)
    counts = _sums_between(histograms.counts[order], np.append(first, len(key)))
    offsets = np.searchsorted(key[first], np.arange(groups + 1, dtype=np.int64) * 2**32)
    return ColumnHistograms(histograms.symbols[order][first], counts, offsets.astype(np.int64))


def sums_of_squares(histograms: ColumnHistograms) -> list[int]:
    """Σ z² over the codes z of each column, as exact integers.

    One square reaches 2⁶² and a sum of many of them does not fit in 64 bits. Written
    z² = high·2³² + low, both sums of parts stay below 2⁶³ for up to 2³¹ rows, and Python's
    integers put them together.

    >>> codes = np.full((3, 1), -(2**31), dtype=np.int32)
    >>> sums_of_squares(column_histograms(codes)) == [3 * 2**62]
    True
    """
    symbols = histograms.symbols.astype(np.int64)
    squares = symbols * symbols
    high = _sums_between(histograms.counts * (squares >> 32), histograms.offsets)
    low = _sums_between(histograms.counts * (squares & 0xFFFF_FFFF), histograms.offsets)
    return [(int(h) << 32) + int(rest) for h, rest in zip(high, low, strict=True)]
