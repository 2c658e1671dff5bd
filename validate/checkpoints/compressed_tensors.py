"""compressed-tensors checkpoints, as llm-compressor writes them.

| format | tensors beside `weight_scale` |
|---|---|
| `pack-quantized` | `weight_packed` I32, a × ⌈n·b/32⌉: codes + 2^(b-1); `weight_shape`; `weight_zero_point`, packed along the outputs; `weight_g_idx` |
| `int-quantized` | `weight` I8; `weight_zero_point` I8 |
| `float-quantized` | `weight` F8_E4M3 |
| `nvfp4-pack-quantized` | `weight_packed` U8, two FP4 a byte, the lower half first; F8_E4M3 scales, divided by `weight_global_scale` |
| `mxfp4-pack-quantized` | the same with E8M0 scales in U8 |

A scale serves the tensor, a row (channel), a group of columns, or a block of rows and columns.
`weight_g_idx` gives the group of each column after activation order; earlier versions of the package
wrote it, 0.20 does not. -1 everywhere in it means that it was never filled.

Which group of the configuration a module belongs to is told by its name; class names such as
"Linear" take every other module that has quantised tensors.
"""  # noqa: E501

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from .bit_packing import unpack, words_for
from .description import QuantizedWeight, even_groups
from .elements import ELEMENTS, Element
from .tensor_files import TensorFiles

INTEGERS = {"pack-quantized", "int-quantized"}
FLOATS = {
    "float-quantized": "fp8-e4m3",
    "nvfp4-pack-quantized": "fp4-e2m1",
    "mxfp4-pack-quantized": "fp4-e2m1",
}
SCALES = ("F32", "F16", "BF16")


class CompressedTensorsReader:
    """Reads `QuantizedWeight`s. Raises BadInput."""

    format = "compressed-tensors"

    def __init__(self, files: TensorFiles, configuration: dict[str, Any]) -> None:
        self.files = files
        self.default = configuration.get("format")
        groups = configuration.get("config_groups")
        if not isinstance(groups, dict) or not groups:
            raise BadInput(f"{files.directory}: config_groups is missing in quantization_config")
        self.groups = [group for group in groups.values() if isinstance(group, dict)]

    def names(self) -> list[str]:
        """The weights that are quantised: those with a scale."""
        suffix = ".weight_scale"
        stems = (name.removesuffix(suffix) for name in self.files.entries if name.endswith(suffix))
        return [f"{stem}.weight" for stem in stems]

    def read(self, name: str) -> QuantizedWeight:
        """One weight."""
        stem = name.removesuffix(".weight")
        scheme = self._scheme(stem)
        arguments = scheme.get("weights") or {}
        form = scheme.get("format") or self.default
        if form not in INTEGERS and form not in FLOATS:
            known = ", ".join(sorted(INTEGERS | set(FLOATS)))
            raise BadInput(f"{self.files.directory}: format {form!r} of {stem}; expected {known}")
        bits = arguments.get("num_bits")
        if not isinstance(bits, int) or not 1 <= bits <= 8:
            raise BadInput(f"{self.files.directory}: num_bits {bits!r} of {stem}; expected 1 to 8")
        element = ELEMENTS[FLOATS[form]] if form in FLOATS else None
        if element is not None and element.bits != bits:
            raise BadInput(f"{self.files.directory}: {form} of {stem} with {bits} bits")
        codes = self._codes(stem, form, bits, element)
        nvidia = form == "nvfp4-pack-quantized"
        whole = self._global_scale(f"{stem}.weight_global_scale") if nvidia else None
        scale, group, dtype = self._scale(stem, form, arguments, codes.shape, whole)
        group = self._own_group(f"{stem}.weight_g_idx", group, scale.shape[1])
        zero = self._zero(stem, form, bits, arguments, scale.shape, codes.shape)
        kinds = ("packed", "scale", "shape", "zero_point", "g_idx", "global_scale")
        stored = [f"{stem}.weight", *(f"{stem}.weight_{kind}" for kind in kinds)]
        return QuantizedWeight(
            name,
            form,
            bits,
            codes,
            scale,
            group,
            self.files.bits(*stored),
            dtype,
            element,
            zero,
            global_scale=whole,
        )

    def _scheme(self, stem: str) -> dict[str, Any]:
        by_class = None
        for group in self.groups:
            for target in group.get("targets") or ():
                if target == stem or (target.startswith("re:") and re.match(target[3:], stem)):
                    return group
                if not target.startswith("re:") and "." not in target and by_class is None:
                    by_class = group
        if by_class is None:
            raise BadInput(f"{self.files.directory}: no group of config_groups targets {stem}")
        return by_class

    def _codes(self, stem: str, form: str, bits: int, element: Element | None) -> NDArray:
        files = self.files
        if form in ("int-quantized", "float-quantized"):
            name = f"{stem}.weight"
            files.expect(name, ("I8" if element is None else "F8_E4M3",), (None, None))
            codes = files.read(name)
            if element is not None and (place := element.first_nan(codes)) is not None:
                raise files.refusal(name, f"is NaN at {list(place)}")
            return codes
        name = f"{stem}.weight_packed"
        if element is not None:
            rows, length = files.expect(name, ("U8",), (None, None)).shape
            return unpack(files.read(name), bits, 2 * length)
        files.expect(f"{stem}.weight_shape", ("I64", "I32"), (2,))
        rows, columns = (int(size) for size in files.read(f"{stem}.weight_shape"))
        words = words_for(columns, bits)
        if not rows >= 0 <= columns:
            raise files.refusal(f"{stem}.weight_shape", f"holds {rows}, {columns}")
        files.expect(name, ("I32",), (rows, words))
        codes = unpack(files.read(name).view(np.uint32), bits, columns)
        return (codes - np.uint8(1 << (bits - 1))).view(np.int8)

    def _scale(
        self,
        stem: str,
        form: str,
        arguments: dict[str, Any],
        shape: tuple[int, ...],
        global_scale: float | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], str]:
        """a×groups, the group of each column, and the dtype that is stored."""
        files, name = self.files, f"{stem}.weight_scale"
        rows, columns = shape
        strategy = arguments.get("strategy") or (
            "group" if arguments.get("group_size") else "tensor"
        )
        if strategy == "block":
            return (*self._block_scale(name, arguments, shape), files.entry(name).dtype)
        size = arguments.get("group_size") if strategy in ("group", "tensor_group") else columns
        if not isinstance(size, int) or size < 1 or columns % size:
            raise files.refusal(name, f"has groups of {size!r} for {columns} columns")
        groups = columns // size
        have = files.entry(name).shape
        allowed: list[tuple[int, ...]] = (
            [(rows, groups)] if strategy != "tensor" else [(1,), (), (1, 1)]
        )
        if strategy == "channel":
            allowed.append((rows,))
        if have not in allowed:
            files.expect(name, (files.entry(name).dtype,), allowed[0])
        if form == "mxfp4-pack-quantized":
            files.expect(name, ("U8", "F8_E8M0"), have)
            scale = ELEMENTS["e8m0"].decode(files.read(name))
            if np.isnan(scale).any():
                raise files.refusal(name, "has the pattern 255, which is NaN")
            return scale, even_groups(columns, size), "F8_E8M0"
        files.expect(name, ("F8_E4M3", *SCALES), have)
        scale = files.numbers(name).astype(np.float32).reshape(-1, groups)
        if global_scale is not None:
            scale = scale / np.float32(global_scale)
        scale = np.ascontiguousarray(np.broadcast_to(scale, (rows, groups)))
        return scale, even_groups(columns, size), files.entry(name).dtype

    def _own_group(self, name: str, group: NDArray[np.int32], groups: int) -> NDArray[np.int32]:
        """`group`, or what the file says in its place: as many columns in each group as before."""
        if name not in self.files:
            return group
        self.files.expect(name, ("I32", "I64"), group.shape)
        own = self.files.read(name)
        if (own == -1).all():
            return group
        inside = own[(own >= 0) & (own < groups)]
        sizes = np.bincount(inside.astype(np.int64), minlength=groups)
        expected = np.bincount(group, minlength=groups)
        if len(inside) < len(own) or (sizes != expected).any():
            raise self.files.refusal(
                name, f"does not give each of {groups} groups {expected[0]} columns"
            )
        return own.astype(np.int32)

    def _global_scale(self, name: str) -> float:
        have = self.files.entry(name).shape
        self.files.expect(name, ("F32",), have if have in ((), (1,)) else (1,))
        value = self.files.numbers(name).astype(np.float32).reshape(-1)[0]
        if not value > 0:
            raise self.files.refusal(name, f"is {value}; it must be positive")
        return float(value)

    def _block_scale(
        self, name: str, arguments: dict[str, Any], shape: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        block = arguments.get("block_structure")
        return block_scales(self.files, name, block, shape)

    def _zero(
        self,
        stem: str,
        form: str,
        bits: int,
        arguments: dict[str, Any],
        scales: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> NDArray[np.int16] | None:
        files, name = self.files, f"{stem}.weight_zero_point"
        if form not in INTEGERS or arguments.get("symmetric", True):
            return None
        rows, groups = scales
        if form == "int-quantized":
            files.expect(name, ("I8",), files.entry(f"{stem}.weight_scale").shape)
            zero = files.read(name).astype(np.int16).reshape(-1, groups)
            return np.ascontiguousarray(np.broadcast_to(zero, scales))
        files.expect(name, ("I32",), (words_for(rows, bits), groups))
        zero = unpack(files.read(name).view(np.uint32).T, bits, rows).T
        return np.ascontiguousarray(zero.astype(np.int16) - np.int16(1 << (bits - 1)))


def block_scales(
    files: TensorFiles, name: str, block: object, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Scales of blocks of rows and columns as a×groups, and the group of each column."""
    if not (
        isinstance(block, list)
        and len(block) == 2
        and all(isinstance(s, int) and s > 0 for s in block)
    ):
        raise files.refusal(name, f"belongs to blocks of {block!r}, expected [rows, columns]")
    height, width = block
    rows, columns = shape
    files.expect(name, (*SCALES, "F8_E8M0"), (-(-rows // height), -(-columns // width)))
    scale = files.numbers(name).astype(np.float32)
    return np.repeat(scale, height, axis=0)[:rows], even_groups(columns, width)
