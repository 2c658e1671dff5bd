"""Successive interference cancellation on a device.

Without gains a row never looks at another one: a panel of 32 columns is one launch in which every
row decides and cancels for itself, and one product. WaterSIC's gain is a sum over all rows. Where
the device has room for all blocks they meet inside the launch of a panel (`gain_panels.cu`): 67,584
rows on a device with 132 multiprocessors. Beyond, each column is a launch (`gains.cu`), whose end
is where all blocks meet. No column waits for the host: codes that do not fit are noted on the
device, row by row, and looked at when all is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import CodeOverflow
from ...reference.grids.codebooks import (
    AffineGrid,
    Codebook,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from .device import (
    CHUNK,
    MOVED,
    NULL,
    PANEL,
    PANEL_ROWS,
    DeviceArray,
    Pointer,
    Session,
    blocks,
    tiles_of,
)
from .linear_algebra import cancel, descending


@dataclass(frozen=True, eq=False)
class _Notes:
    """Per row, the first column whose code did not fit, and the value that was to become one."""

    column: DeviceArray
    value: DeviceArray

    def raise_first(self, session: Session) -> None:
        columns = session.download(self.column)
        last = int(columns.max(initial=-1))  # columns are decided from the last to the first
        if last >= 0:
            row = int(np.argmax(columns == last))
            raise CodeOverflow(row, last, float(session.download(self.value)[row]))


def sic(
    session: Session,
    target: DeviceArray,
    codes: DeviceArray,
    factor: DeviceArray | None,
    codebook: Codebook,
    start: int,
    stop: int,
    meeting: bool = True,
) -> NDArray[np.float64]:
    """`operations.sic.sic`: overwrites target and codes, returns the gains; CodeOverflow.

    Args:
        meeting: whether blocks may meet inside a launch, where the device has room for all of them.
    """
    rows, dtype = target.shape[0], target.dtype
    notes = _Notes(session.upload(np.full(rows, -1), np.int64), session.zeros((rows,), dtype))
    gains = np.ones(stop - start)
    if isinstance(codebook, ScaledLattice) and codebook.lmmse:
        gains = _decide_with_gains(
            session, target, codes, factor, codebook, start, stop, notes, meeting
        )
    else:
        _decide_rows(session, target, codes, factor, codebook, start, stop, notes)
    notes.raise_first(session)
    return gains


def _corner(factor: DeviceArray | None, end: int) -> tuple[Pointer, int, int]:
    """Where l_pq of the panel that ends at `end` lies, columns counted from the last one."""
    if factor is None:
        return NULL, 0, 0
    return factor.at(end - 1, end - 1), -1, -factor.shape[1]


def _panels(
    session: Session, target: DeviceArray, factor: DeviceArray | None, start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """The panels (first, end) to be decided, the last one first; cancels each when it is.

    Two panels are taken off the columns before both of them at once, which halves the times that
    those travel between memory and multiprocessors. Each column loses its terms in the same order.
    """
    for low, high in descending(start, stop, 2 * PANEL):
        for first, end in descending(low, high):
            yield first, end
            if factor is not None:
                row = factor.at(end - 1, low)
                cancel(session, target, first, end, row, factor.shape[1], low)
        if factor is not None:
            cancel(session, target, low, high, factor.at(high - 1, 0), factor.shape[1])


def _decide_rows(
    session: Session,
    target: DeviceArray,
    codes: DeviceArray,
    factor: DeviceArray | None,
    codebook: Codebook,
    start: int,
    stop: int,
    notes: _Notes,
) -> None:
    (rows, n), dtype = target.shape, target.dtype
    kernel, parameters = _parameters(session, codebook, dtype)
    for first, end in _panels(session, target, factor, start, stop):
        session.run(
            kernel, dtype, (blocks(rows, PANEL_ROWS),),
            target.at(0, end - 1), n, -1, *_corner(factor, end), rows, end - first,
            codes.at(0, end - 1), end - 1, notes.column, notes.value, *parameters,
        )  # fmt: skip


def _parameters(
    session: Session, codebook: Codebook, dtype: np.dtype
) -> tuple[str, tuple[DeviceArray | int | float, ...]]:
    """The kernel of a codebook, and what it needs to know of it."""
    if isinstance(codebook, UniformLattice):
        return "uniform_panel", (float(codebook.spacing),)
    if isinstance(codebook, ScaledLattice):
        return "scaled_panel", (float(codebook.step), session.upload(codebook.spacing, dtype))
    groups = codebook.scale.shape[1]
    scale = session.upload(codebook.scale, dtype)
    group = session.upload(codebook.group, np.int64)
    if isinstance(codebook, AffineGrid):
        zero = session.upload(codebook.zero, np.int32)
        return "affine_panel", (scale, zero, group, groups, int(codebook.maximum))
    assert isinstance(codebook, FloatGrid)
    form = codebook.form
    midpoints = session.upload(form.midpoints, np.float64)
    magnitudes = session.upload(form.magnitudes, np.float64)
    return "float_panel", (scale, group, groups, midpoints, magnitudes, form.largest_code)


def _decide_with_gains(
    session: Session,
    target: DeviceArray,
    codes: DeviceArray,
    factor: DeviceArray | None,
    codebook: ScaledLattice,
    start: int,
    stop: int,
    notes: _Notes,
    meeting: bool,
) -> NDArray[np.float64]:
    (rows, n), dtype = target.shape, target.dtype
    chunks = blocks(rows, CHUNK)
    together = meeting and chunks <= CHUNK and session.has_room_for(chunks, "gain_panel", dtype)
    panel = session.empty((PANEL, rows), dtype)  # transposed: a column of the target is a row
    sums = session.empty((2, 2, chunks), dtype)
    arrived = session.zeros((1,), np.int32)  # blocks at a meeting, one meeting a column
    spacing = session.upload(codebook.spacing, dtype)
    gains = session.zeros((n,), dtype)
    step = float(codebook.step)
    for first, end in _panels(session, target, factor, start, stop):
        width = end - first
        session.run(
            "transpose", dtype, (tiles_of(rows, width, MOVED),),
            panel, rows, target.at(0, first), n, rows, width,
        )  # fmt: skip
        columns = (
            panel.at(width - 1, 0), rows, *_corner(factor, end),
            codes.at(0, end - 1), n, end - 1, notes.column, notes.value,
            step, spacing, gains, sums, width,
        )  # fmt: skip
        if together:
            session.run("gain_panel", dtype, (chunks,), *columns, arrived, stop - end)
        else:
            session.run_series("gain_column", dtype, (chunks,), columns, range(width + 1))
        session.run(
            "transpose", dtype, (tiles_of(width, rows, MOVED),),
            target.at(0, first), n, panel, rows, width, rows,
        )  # fmt: skip
    return session.download(gains)[start:stop].astype(np.float64)
