"""Histograms of codes, counted in tables where the codes of the columns lie close together.

Sorting every column costs a·log a. The codes of a real layer span a few dozen values, so one table
with a place for each value between the least and the largest code of each column is small, and
counting takes one look at each code. Where the tables would be larger than the codes, the columns
are sorted after all (`histogram.column_histograms`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...reference.coding import histogram as reference
from ...reference.coding.histogram import ColumnHistograms
from .compiler import Array, entry

COLUMNS = 16  # a cache line of each row


@entry
def count_codes(codes: Array, least: Array, offsets: Array, table: Array) -> None:
    """How often each code occurs: that of column j at offsets[j] + (code - least[j])."""
    columns = codes.shape[1]
    for first in range(0, columns, COLUMNS):
        for i in range(len(codes)):
            for j in range(first, min(columns, first + COLUMNS)):
                table[offsets[j] + (codes[i, j] - least[j])] += 1


def column_histograms(codes: NDArray[np.int32]) -> ColumnHistograms:
    """Which codes occur in each column, and how often: `histogram.column_histograms`."""
    if codes.ndim != 2 or codes.dtype != np.int32 or codes.size == 0:
        return reference.column_histograms(codes)
    least = codes.min(axis=0).astype(np.int64)
    spans = codes.max(axis=0) - least + 1
    if int(spans.max()) > codes.size or int(spans.sum()) > codes.size:
        return reference.column_histograms(codes)
    offsets = np.append(0, np.cumsum(spans))
    table = np.zeros(offsets[-1], np.int64)
    count_codes(codes, least, offsets, table)
    places = np.flatnonzero(table)
    column = np.searchsorted(offsets, places, side="right") - 1
    symbols = (places - offsets[column] + least[column]).astype(np.int32)
    starts = np.searchsorted(places, offsets).astype(np.int64)
    return ColumnHistograms(symbols, table[places], starts)
