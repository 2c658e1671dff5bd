"""MLX checkpoints: `weight` U32, a × n·b/32, with `scales` and `biases`, a × n/g.

Ŵ = scale·code + bias. The configuration names bits and group size, and may name others for single
modules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...reference.errors import BadInput
from .bit_packing import unpack, words_for
from .description import QuantizedWeight, even_groups
from .tensor_files import TensorFiles

SUFFIX = ".scales"
BITS = (2, 3, 4, 5, 6, 8)


class MlxReader:
    """Reads `QuantizedWeight`s. Raises BadInput."""

    format = "mlx-affine"

    def __init__(self, files: TensorFiles, configuration: dict[str, Any]) -> None:
        self.files = files
        self.configuration = configuration

    def names(self) -> list[str]:
        """The weights that are quantised."""
        stems = (name.removesuffix(SUFFIX) for name in self.files.entries if name.endswith(SUFFIX))
        return [f"{stem}.weight" for stem in stems]

    def read(self, name: str) -> QuantizedWeight:
        """One weight."""
        files, stem = self.files, name.removesuffix(".weight")
        own = self.configuration.get(stem)
        settings = {**self.configuration, **(own if isinstance(own, dict) else {})}
        bits, size, mode = (settings.get(key) for key in ("bits", "group_size", "mode"))
        if (
            bits not in BITS
            or not isinstance(size, int)
            or size < 1
            or mode not in (None, "affine")
        ):
            raise BadInput(
                f"{files.directory}: {stem} is quantised with bits {bits!r}, group_size {size!r}, "
                f"mode {mode!r}; expected affine with {', '.join(map(str, BITS))} bits"
            )
        scales, biases = f"{stem}{SUFFIX}", f"{stem}.biases"
        rows, groups = files.expect(scales, ("F16", "BF16", "F32"), (None, None)).shape
        files.expect(biases, (files.entry(scales).dtype,), (rows, groups))
        columns = groups * size
        files.expect(name, ("U32",), (rows, words_for(columns, bits)))
        return QuantizedWeight(
            name,
            self.format,
            bits,
            codes=unpack(files.read(name), bits, columns),
            scale=files.numbers(scales).astype(np.float32),
            group=even_groups(columns, size),
            bits_stored=files.bits(name, scales, biases),
            scale_dtype=files.entry(scales).dtype,
            offset=files.numbers(biases).astype(np.float32),
        )
