"""GPTQ checkpoints, as AutoGPTQ and GPTQModel write them.

| tensor | dtype, shape | content |
|---|---|---|
| `qweight` | I32, n·b/32 × a | codes: the bits of a column are the inputs in order |
| `qzeros` | I32, groups × a·b/32 | zero points, packed along the outputs |
| `scales` | F16 (or BF16, F32), groups × a | |
| `g_idx` | I32, n | group of each input; not ascending after activation order |

Version 1 (`checkpoint_format` "gptq", or none) stores each zero point less one, in b bits; version
2 ("gptq_v2") stores it as it is. A zero point of 0 does not fit version 1: published readers
disagree on what they find there. Reading takes it modulo 2^b, and writing refuses it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from .bit_packing import pack, unpack
from .description import QuantizedWeight, even_groups, integers_and_zeros
from .tensor_files import TensorFiles, stored_numbers

BITS = (2, 3, 4, 8)
VERSIONS = {"gptq": 1, "gptq_v2": 2}
SUFFIX = ".qweight"
Stored = dict[str, tuple[str, NDArray]]


class GptqReader:
    """Reads `QuantizedWeight`s; `version` is 1 or 2. Raises BadInput."""

    def __init__(self, files: TensorFiles, configuration: dict[str, Any]) -> None:
        name = configuration.get("checkpoint_format") or configuration.get("format") or "gptq"
        if name not in VERSIONS:
            raise BadInput(
                f"{files.directory}: checkpoint_format {name!r} is not known; expected one of "
                f"{', '.join(VERSIONS)}"
            )
        self.files = files
        self.version = VERSIONS[name]
        self.format = f"gptq-v{self.version}"
        self.bits = configuration.get("bits")
        self.per_layer = bool(configuration.get("dynamic"))

    def names(self) -> list[str]:
        """The weights that are quantised."""
        stems = (name.removesuffix(SUFFIX) for name in self.files.entries if name.endswith(SUFFIX))
        return [f"{stem}.weight" for stem in stems]

    def read(self, name: str) -> QuantizedWeight:
        """One weight."""
        files, stem = self.files, name.removesuffix(".weight")
        qweight, g_idx = stem + SUFFIX, f"{stem}.g_idx"
        rows, outputs = files.expect(qweight, ("I32",), (None, None)).shape
        bits = self._bits(qweight, g_idx, rows)
        inputs = rows * 32 // bits
        groups, _ = files.expect(f"{stem}.scales", ("F16", "BF16", "F32"), (None, outputs)).shape
        files.expect(f"{stem}.qzeros", ("I32",), (groups, outputs * bits // 32))
        zeros = unpack(files.read(f"{stem}.qzeros").view(np.uint32), bits, outputs)
        zeros = zeros.astype(np.int16).T
        if self.version == 1:
            zeros = (zeros + 1) % (1 << bits)
        words = files.read(qweight).view(np.uint32).T
        return QuantizedWeight(
            name,
            self.format,
            bits,
            codes=unpack(words, bits, inputs),
            scale=files.numbers(f"{stem}.scales").T.astype(np.float32, order="C"),
            group=self._group(stem, inputs, groups),
            bits_stored=files.bits(qweight, f"{stem}.qzeros", f"{stem}.scales", g_idx),
            scale_dtype=files.entry(f"{stem}.scales").dtype,
            zero=np.ascontiguousarray(zeros),
        )

    def _bits(self, qweight: str, g_idx: str, rows: int) -> int:
        bits = self.bits
        if self.per_layer and g_idx in self.files:  # a layer may have bits of its own
            (inputs,) = self.files.expect(g_idx, ("I32",), (None,)).shape
            bits = rows * 32 // inputs if inputs else 0
        if bits not in BITS or rows * 32 % bits:
            raise self.files.refusal(
                qweight,
                f"has {rows} rows, which do not hold codes of {bits} bits; expected 2, 3, 4, 8",
            )
        return int(bits)

    def _group(self, stem: str, inputs: int, groups: int) -> NDArray[np.int32]:
        name = f"{stem}.g_idx"
        if name not in self.files:
            if groups == 0 or inputs % groups:
                raise self.files.refusal(
                    f"{stem}.scales", f"has {groups} groups for {inputs} inputs"
                )
            return even_groups(inputs, inputs // groups)
        self.files.expect(name, ("I32",), (inputs,))
        group = self.files.read(name)
        if inputs and not 0 <= int(group.min()) <= int(group.max()) < groups:
            raise self.files.refusal(
                name, f"has groups from {group.min()} to {group.max()}, but there are {groups}"
            )
        return group


def gptq_tensors(weight: QuantizedWeight) -> Stored:
    """The tensors of one weight, version 1, its scales in float16.

    Raises:
        BadInput: what this format cannot hold.
    """
    stem, bits = weight.name.removesuffix(".weight"), weight.bits
    rows, columns = weight.shape
    if weight.element is not None or bits not in BITS:
        raise BadInput(f"{weight.name}: GPTQ holds integers of 2, 3, 4 or 8 bits")
    if rows % 32 or columns % 32:
        raise BadInput(f"{weight.name}: {rows}×{columns}, but GPTQ packs multiples of 32")
    codes, zero = integers_and_zeros(weight)
    outside = (zero < 1) | (zero >= 1 << bits)
    if outside.any():
        row, group = np.argwhere(outside)[0]
        raise BadInput(
            f"{weight.name}: zero point {zero[row, group]} of row {row}, group {group}: version 1 "
            f"of GPTQ holds 1 to {(1 << bits) - 1}; write pack-quantized, or quantise symmetrically"
        )
    return {
        stem + SUFFIX: ("I32", pack(codes, bits).T),
        f"{stem}.qzeros": ("I32", pack(np.ascontiguousarray((zero - 1).T.astype(np.uint8)), bits)),
        f"{stem}.scales": ("F16", stored_numbers(f"{weight.name}: scale", weight.scale.T, "F16")),
        f"{stem}.g_idx": ("I32", weight.group),
    }


def gptq_arguments(weight: QuantizedWeight) -> dict[str, Any]:
    """What the quantization_config says of one weight."""
    _, zero = integers_and_zeros(weight)
    size = int(np.bincount(weight.group).max())
    return {
        "bits": weight.bits,
        "group_size": -1 if weight.scale.shape[1] == 1 else size,
        "sym": bool((zero == 1 << (weight.bits - 1)).all()),
        "desc_act": bool((np.diff(weight.group) < 0).any()),
    }


def gptq_configuration(arguments: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The quantization_config of a whole model, from `gptq_arguments` by module.

    Raises:
        BadInput: bits or group sizes that differ.
    """
    (first, expected), *_ = arguments.items()
    for module, own in arguments.items():
        for key in ("bits", "group_size"):
            if own[key] != expected[key]:
                raise BadInput(
                    f"{module}: {key} is {own[key]}, but {expected[key]} in {first}; "
                    "GPTQ has one for the whole model"
                )
    return {
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "bits": expected["bits"],
        "group_size": expected["group_size"],
        "sym": all(own["sym"] for own in arguments.values()),
        "desc_act": any(own["desc_act"] for own in arguments.values()),
    }
