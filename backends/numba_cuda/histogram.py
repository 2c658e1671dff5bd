"""Histograms of columns of codes on the device: sort each column, then list its runs.

A column is filled up to a power of two with the largest code and sorted by a bitonic network, a
thread for each pair. What was filled in is sorted to the end, where nobody looks: an equal code in
its place is the same code. Then a thread walks along each column.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ...reference.arithmetic.sums import next_power_of_two
from ...reference.coding.histogram import ColumnHistograms, check_codes
from .arithmetic import cuda
from .launch import integer, kernel, kernels_for, new, types_of, upload


@kernels_for(np.int32)
def _kernels(dtype: Any) -> SimpleNamespace:
    _, vector, matrix = types_of(dtype)
    places = types_of(np.int64).vector
    largest = dtype(np.iinfo(dtype).max)

    @kernel(matrix, matrix)
    def fill(values: Any, codes: Any) -> None:
        """The columns as rows."""
        index = cuda.grid(1)
        if index < values.size:
            column, i = index // values.shape[1], index % values.shape[1]
            values[column, i] = codes[i, column] if i < codes.shape[0] else largest

    @kernel(matrix, integer, integer)
    def exchange(values: Any, size: int, distance: int) -> None:
        """Pairs at this distance are put in order: runs of `size` ascend and descend by turns."""
        pair = cuda.grid(1)
        if pair < values.size // 2:
            first = pair // distance * 2 * distance + pair % distance
            column, i = first // values.shape[1], first % values.shape[1]
            x, y = values[column, i], values[column, i + distance]
            if (x > y) == (i & size == 0):
                values[column, i], values[column, i + distance] = y, x

    @kernel(places, matrix, integer)
    def count_runs(counts: Any, values: Any, rows: int) -> None:
        column = cuda.grid(1)
        if column < values.shape[0]:
            count = 1
            for i in range(1, rows):
                if values[column, i] != values[column, i - 1]:
                    count += 1
            counts[column] = count

    @kernel(vector, places, places, matrix, integer)
    def list_runs(symbols: Any, counts: Any, offsets: Any, values: Any, rows: int) -> None:
        column = cuda.grid(1)
        if column < values.shape[0]:
            run, start = offsets[column], 0
            for i in range(1, rows + 1):
                if i == rows or values[column, i] != values[column, start]:
                    symbols[run], counts[run] = values[column, start], i - start
                    run, start = run + 1, i

    return SimpleNamespace(fill=fill, exchange=exchange, count_runs=count_runs, list_runs=list_runs)


def column_histograms(codes: Any) -> ColumnHistograms:
    """Which codes occur in each column, and how often: `coding.histogram.column_histograms`."""
    check_codes(codes.shape, codes.dtype)
    rows, columns = codes.shape
    kernels, length = _kernels(np.int32), next_power_of_two(rows)
    values = new((columns, length), np.int32)
    kernels.fill.over(values.size, values, codes)
    size = 2
    while size <= length:
        distance = size // 2
        while distance > 0:
            kernels.exchange.over(values.size // 2, values, size, distance)
            distance //= 2
        size *= 2
    runs = new(columns, np.int64)
    kernels.count_runs.over(columns, runs, values, rows)
    offsets = np.append(np.int64(0), np.cumsum(runs.copy_to_host()))
    symbols, counts = new(int(offsets[-1]), np.int32), new(int(offsets[-1]), np.int64)
    kernels.list_runs.over(columns, symbols, counts, upload(offsets), values, rows)
    return ColumnHistograms(symbols.copy_to_host(), counts.copy_to_host(), offsets)
