"""FP8 in blocks, as DeepSeek-V3 and Qwen3-FP8 publish it.

`weight` is F8_E4M3, a×n, and `weight_scale_inv` (float32, bfloat16 or E8M0) has a number for each
block of `weight_block_size` rows and columns, 128×128 as a rule; the last blocks may be smaller. In
spite of its name it is multiplied by. Without `weight_block_size` one number serves the tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compressed_tensors import SCALES, block_scales
from .description import QuantizedWeight, even_groups
from .elements import ELEMENTS
from .tensor_files import TensorFiles

SUFFIX = ".weight_scale_inv"


class Fp8BlockReader:
    """Reads `QuantizedWeight`s. Raises BadInput."""

    format = "fp8-block"

    def __init__(self, files: TensorFiles, configuration: dict[str, Any]) -> None:
        self.files = files
        self.block = configuration.get("weight_block_size")

    def names(self) -> list[str]:
        """The weights that are quantised."""
        stems = (name.removesuffix(SUFFIX) for name in self.files.entries if name.endswith(SUFFIX))
        return [f"{stem}.weight" for stem in stems]

    def read(self, name: str) -> QuantizedWeight:
        """One weight."""
        files, scale_name = self.files, name.removesuffix(".weight") + SUFFIX
        shape = files.expect(name, ("F8_E4M3",), (None, None)).shape
        if self.block is None:
            have = files.entry(scale_name).shape
            files.expect(scale_name, SCALES, have if have in ((), (1,)) else (1,))
            value = files.numbers(scale_name).astype(np.float32)
            scale, group = np.full((shape[0], 1), value), even_groups(shape[1], max(1, shape[1]))
        else:
            scale, group = block_scales(files, scale_name, self.block, shape)
        element = ELEMENTS["fp8-e4m3"]
        codes = files.read(name)
        if (place := element.first_nan(codes)) is not None:
            raise files.refusal(name, f"is NaN at {list(place)}")
        stored = files.bits(name, scale_name)
        dtype = files.entry(scale_name).dtype
        return QuantizedWeight(name, self.format, 8, codes, scale, group, stored, dtype, element)
