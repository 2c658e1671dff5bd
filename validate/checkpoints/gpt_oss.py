"""MXFP4 as GPT-OSS publishes its experts.

`…_blocks` is U8, experts × outputs × n/32 × 16, two FP4 a byte, the lower half first; `…_scales` is
U8, experts × outputs × n/32, E8M0. Each expert is a weight of its own here, named `….gate_up_proj[3]`.
In the model before quantisation the inputs come first, so it is the transpose of that expert.
"""  # noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np

from .bit_packing import unpack
from .description import QuantizedWeight, even_groups
from .elements import ELEMENTS
from .tensor_files import TensorFiles

BLOCK = 32
SUFFIX = "_blocks"


class GptOssReader:
    """Reads `QuantizedWeight`s, expert by expert. Raises BadInput."""

    format = "gpt-oss-mxfp4"

    def __init__(self, files: TensorFiles, configuration: dict[str, Any]) -> None:
        self.files = files

    def names(self) -> list[str]:
        """The weights that are quantised."""
        names = []
        for name in self.files.entries:
            if name.endswith(SUFFIX):
                experts = self.files.expect(name, ("U8",), (None, None, None, BLOCK // 2)).shape[0]
                names += [f"{name.removesuffix(SUFFIX)}[{index}]" for index in range(experts)]
        return names

    def read(self, name: str) -> QuantizedWeight:
        """One expert."""
        files = self.files
        stem, _, index = name.removesuffix("]").rpartition("[")
        blocks, scales = f"{stem}{SUFFIX}", f"{stem}_scales"
        experts, rows, groups, _ = files.expect(blocks, ("U8",), (None,) * 3 + (BLOCK // 2,)).shape
        files.expect(scales, ("U8",), (experts, rows, groups))
        packed = files.read(blocks, int(index)).reshape(rows, -1)
        scale = ELEMENTS["e8m0"].decode(files.read(scales, int(index)))
        if np.isnan(scale).any():
            raise files.refusal(scales, f"of expert {index} has the pattern 255, which is NaN")
        return QuantizedWeight(
            name,
            self.format,
            bits=4,
            codes=unpack(packed, 4, groups * BLOCK),
            scale=scale,
            group=even_groups(groups * BLOCK, BLOCK),
            bits_stored=files.bits(blocks, scales) // experts,
            scale_dtype="F8_E8M0",
            element=ELEMENTS["fp4-e2m1"],
        )
