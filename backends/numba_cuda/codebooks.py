"""The decision of each codebook for one number, and what of a codebook lies on the device.

    decide(y, l, row, column, book…) → (whether the code fits, code, value)

Where it does not fit, the value is the level that became no code, for the error's message. Every
book has the same fields; one that a codebook has no use for holds a single zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...reference.grids.codebooks import AffineGrid, Codebook, ScaledLattice, UniformLattice
from .arithmetic import arithmetic, device_function
from .launch import types_of, upload


def book_types(dtype: DTypeLike) -> tuple[Any, ...]:
    """Of scale, zeros, group, spacing, constant, midpoints and magnitudes."""
    number, vector, matrix = types_of(dtype)
    zeros, group = types_of(np.int32).matrix, types_of(np.int64).vector
    table = types_of(np.float64).vector
    return matrix, zeros, group, vector, number, table, table


def decisions(dtype: Any) -> dict[str, Any]:
    """`decide` of each codebook without gains."""
    add, _, mul, div, _, rint = arithmetic(dtype)
    zero, infinity = dtype(0), dtype(np.inf)
    least, limit = dtype(-(2.0**31)), dtype(2.0**31)
    nothing = np.int32(0)

    @device_function
    def lattice_code(level: Any, unit: Any) -> Any:
        if level >= least and level < limit:
            code = np.int32(level)
            return True, code, mul(dtype(code), unit)
        return False, nothing, level

    @device_function
    def uniform(
        y: Any,
        diagonal: Any,
        row: int,
        column: int,
        scale: Any,
        zeros: Any,
        group: Any,
        spacing: Any,
        constant: Any,
        midpoints: Any,
        magnitudes: Any,
    ) -> Any:
        return lattice_code(rint(div(div(y, diagonal), constant)), constant)

    @device_function
    def scaled(
        y: Any,
        diagonal: Any,
        row: int,
        column: int,
        scale: Any,
        zeros: Any,
        group: Any,
        spacing: Any,
        constant: Any,
        midpoints: Any,
        magnitudes: Any,
    ) -> Any:
        return lattice_code(rint(div(y, constant)), spacing[column])

    @device_function
    def affine(
        y: Any,
        diagonal: Any,
        row: int,
        column: int,
        scale: Any,
        zeros: Any,
        group: Any,
        spacing: Any,
        constant: Any,
        midpoints: Any,
        magnitudes: Any,
    ) -> Any:
        s, offset = scale[row, group[column]], zeros[row, group[column]]
        level = add(rint(div(div(y, diagonal), s)), dtype(offset))
        if not abs(level) < infinity:
            return False, nothing, level
        if level < zero:
            level = zero
        if level > constant:
            level = constant
        if not level < limit:
            return False, nothing, level
        code = np.int32(level)
        return True, code, mul(s, dtype(np.int32(np.int64(code) - np.int64(offset))))

    @device_function
    def floating(
        y: Any,
        diagonal: Any,
        row: int,
        column: int,
        scale: Any,
        zeros: Any,
        group: Any,
        spacing: Any,
        constant: Any,
        midpoints: Any,
        magnitudes: Any,
    ) -> Any:
        s = scale[row, group[column]]
        level = div(div(y, diagonal), s)
        if not abs(level) < infinity:
            return False, nothing, level
        magnitude = np.float64(abs(level))
        code, above = 0, midpoints.size
        while code < above:  # the first midpoint that is not below
            middle = (code + above) // 2
            if midpoints[middle] < magnitude:
                code = middle + 1
            else:
                above = middle
        if code < midpoints.size and midpoints[code] == magnitude:
            code += code % 2
        value = dtype(magnitudes[code])
        if level < zero:
            code = -code
        return True, np.int32(code), mul(s, -value if code < 0 else value)

    return {"uniform": uniform, "scaled": scaled, "affine": affine, "floating": floating}


def book_of(codebook: Codebook, dtype: DTypeLike) -> tuple[str, tuple[Any, ...]]:
    """Which of `decisions`, and its book on the device."""
    number: Any = np.dtype(dtype).type
    scale, zeros = np.zeros((1, 1), dtype), np.zeros((1, 1), np.int32)
    group, spacing, constant = np.zeros(1, np.int64), np.zeros(1, dtype), number(0)
    midpoints, magnitudes = np.zeros(1), np.zeros(1)
    if isinstance(codebook, UniformLattice):
        name, constant = "uniform", number(codebook.spacing)
    elif isinstance(codebook, ScaledLattice):
        name, constant, spacing = "scaled", number(codebook.step), codebook.spacing
    elif isinstance(codebook, AffineGrid):
        name, constant = "affine", number(codebook.maximum)
        scale, zeros, group = codebook.scale, codebook.zero, codebook.group
    else:
        name, scale, group = "floating", codebook.scale, codebook.group
        midpoints, magnitudes = codebook.form.midpoints, codebook.form.magnitudes
    book = (
        *(upload(np.asarray(scale, dtype)), upload(np.asarray(zeros, np.int32))),
        *(upload(np.asarray(group, np.int64)), upload(np.asarray(spacing, dtype))),
        *(constant, upload(midpoints), upload(magnitudes)),
    )
    return name, book
