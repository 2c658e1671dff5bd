"""Histograms of columns of codes on a device: sort, mark the runs, list them.

The device sorts and lists; the host only turns the number of runs of each column into offsets.
"""

from __future__ import annotations

import numpy as np

from ...reference.arithmetic.sums import next_power_of_two
from ...reference.coding.histogram import ColumnHistograms, check_codes
from .device import ELEMENTS, DeviceArray, Session, blocks

ANY = np.float64  # the kernels handle integers only


def column_histograms(session: Session, codes: DeviceArray) -> ColumnHistograms:
    """`reference.coding.histogram.column_histograms`; raises BadInput as that does."""
    check_codes(codes.shape, codes.dtype)
    rows, columns = codes.shape
    values = _sorted_columns(session, codes)
    length = values.shape[1]
    runs = session.empty((columns,), np.int64)
    session.run("count_runs", ANY, (columns,), runs, values, length, rows)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(session.download(runs))])
    total = int(offsets[-1])
    symbols, firsts = session.empty((total,), np.int32), session.empty((total,), np.int64)
    starts = session.upload(offsets, np.int64)
    session.run("list_runs", ANY, (columns,), symbols, firsts, starts, values, length, rows)
    ends = np.append(session.download(firsts), rows * columns)
    return ColumnHistograms(session.download(symbols), ends[1:] - ends[:-1], offsets)


def _sorted_columns(session: Session, codes: DeviceArray) -> DeviceArray:
    """The columns as rows, each sorted and filled up to a power of two."""
    rows, columns = codes.shape
    length = next_power_of_two(rows)
    values = session.empty((columns, length), np.int32)
    session.run(
        "fill_columns", ANY, (blocks(values.size, ELEMENTS),), values, codes, rows, columns, length
    )
    size = 2
    while size <= length:
        distance = size // 2
        while distance > 0:
            session.run_elements("exchange", ANY, values.size // 2, values, length, size, distance)
            distance //= 2
        size *= 2
    return values
