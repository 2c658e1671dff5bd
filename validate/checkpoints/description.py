"""One quantised weight, the same for every format it was read from.

    Ŵ = scale·(value(code) - zero) + offset        scale, zero, offset of the row and the group

where value(code) is the code itself on an integer grid, and what the pattern stands for on a
floating-point one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from ...reference.methods.results import GridScales, Quantized
from .elements import ELEMENTS, Element

CHUNK = 1 << 21


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight of a outputs and n inputs.

    Attributes:
        name: of the weight in the model before quantisation, as "model.layers.0.mlp.up.weight".
        format: what it is stored as.
        bits: of a code.
        element: the value set of the codes, or None for integers.
        codes: a×n; uint8 patterns with an element, else uint8 or int8 integers.
        scale: a×groups float32; scale_dtype: how it is stored, as safetensors writes it.
        zero: a×groups int16, or None; offset: a×groups float32, or None.
        group: n int32, the group of each column.
        bits_stored: everything that the file holds for this weight, in bits.
        global_scale: what the stored scales were divided by to give `scale`, or None (NVFP4).
    """

    name: str
    format: str
    bits: int
    codes: NDArray
    scale: NDArray[np.float32]
    group: NDArray[np.int32]
    bits_stored: int
    scale_dtype: str
    element: Element | None = None
    zero: NDArray[np.int16] | None = None
    offset: NDArray[np.float32] | None = None
    global_scale: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """a, n."""
        rows, columns = self.codes.shape
        return rows, columns

    @property
    def bits_per_weight(self) -> float:
        """Everything stored, scales included, in bits per weight."""
        return self.bits_stored / self.codes.size

    def dequantize(self) -> NDArray[np.float32]:
        """Ŵ, a×n.

        Exactness: scale·(value - zero) is rounded once to float32; with a scale of 16 or 8 bits
        nothing is rounded. An offset brings one more rounding.
        """
        result = np.empty(self.shape, np.float32)
        rows = max(1, CHUNK // max(1, self.shape[1]))  # what fits a cache
        for start in range(0, self.shape[0], rows):
            self._dequantize_rows(slice(start, start + rows), result)
        return result

    def _dequantize_rows(self, rows: slice, result: NDArray[np.float32]) -> None:
        codes, out = self.codes[rows], result[rows]
        if self.element is None:
            out[...] = codes
        else:
            np.take(self.element.values, codes, out=out, mode="clip")
        width = self.even_width()
        for table, combine in (
            (self.zero, np.subtract),
            (self.scale, np.multiply),
            (self.offset, np.add),
        ):
            if table is None:
                continue
            if width:
                blocks = out.reshape(len(out), -1, width)
                combine(blocks, table[rows, :, None], out=blocks, dtype=np.float32)
            else:
                combine(out, table[rows].take(self.group, axis=1), out=out, dtype=np.float32)

    def even_width(self) -> int:
        """The columns of a group, if groups follow each other and are equally long; else 0."""
        columns, groups = self.shape[1], self.scale.shape[1]
        width = columns // groups if groups else 0
        even = width * groups == columns and (self.group == np.arange(columns) // width).all()
        return width if even else 0


def even_groups(columns: int, size: int) -> NDArray[np.int32]:
    """The group of each column where `size` columns follow each other in a group."""
    return (np.arange(columns) // size).astype(np.int32)


def integers_and_zeros(weight: QuantizedWeight) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Codes 0 … 2^b - 1 and zero points, whether the codes had a sign or not."""
    zero = np.zeros(weight.scale.shape, np.int16) if weight.zero is None else weight.zero
    if weight.codes.dtype != np.int8:
        return weight.codes, zero
    half = 1 << (weight.bits - 1)
    return (weight.codes.astype(np.int16) + half).astype(np.uint8), zero + np.int16(half)


def from_result(name: str, result: Quantized) -> QuantizedWeight:
    """A result of rtn or gptq on a finite grid as the weight `name` of a model.

    Raises:
        BadInput: a result that is entropy coded or rotated; a scale that is no float32.
    """
    if not isinstance(result.scales, GridScales):
        raise BadInput(f"{name}: {result.method} at a rate has no finite grid; give --bits")
    if result.parameters.get("rotation") is not None:
        raise BadInput(f"{name}: a rotated weight cannot be stored in a published format")
    scales, bits = result.scales, int(result.parameters["bits"])
    scale = scales.scale.astype(np.float32)
    element = ELEMENTS.get(result.parameters["format"])
    codes = result.codes
    if element is not None:  # sign and pattern of the magnitude
        codes = np.where(codes < 0, (1 << (bits - 1)) - codes, codes)
    exact = scale == scales.scale
    if not exact.all():
        value = float(scales.scale[~exact].flat[0])
        raise BadInput(f"{name}: scale {value!r} is not a float32; quantise with --dtype float32")
    return QuantizedWeight(
        name,
        result.parameters["format"],
        bits,
        codes.astype(np.uint8),
        scale,
        scales.group.astype(np.int32),
        bits_stored=0,
        scale_dtype="F32",
        element=element,
        zero=None if element is not None else scales.zero.astype(np.int16),
    )
