"""AWQ checkpoints (GEMM), as AutoAWQ writes them.

| tensor | dtype, shape | content |
|---|---|---|
| `qweight` | I32, n × a/8 | codes, packed along the outputs |
| `qzeros` | I32, groups × a/8 | zero points, packed alike |
| `scales` | F16, groups × a | |

Field i of a word belongs to output 8·word + ORDER[i].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from .bit_packing import unpack
from .description import QuantizedWeight, even_groups
from .tensor_files import TensorFiles

BITS = 4
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
SUFFIX = ".qweight"


class AwqReader:
    """Reads `QuantizedWeight`s. Raises BadInput."""

    format = "awq-gemm"

    def __init__(self, files: TensorFiles, configuration: dict[str, Any]) -> None:
        version = str(configuration.get("version", "gemm")).lower()
        bits = configuration.get("bits", configuration.get("w_bit"))
        if version != "gemm" or bits != BITS:
            raise BadInput(
                f"{files.directory}: AWQ version {version!r} with {bits} bits is not "
                f"known; expected gemm with {BITS}"
            )
        self.files = files

    def names(self) -> list[str]:
        """The weights that are quantised."""
        stems = (name.removesuffix(SUFFIX) for name in self.files.entries if name.endswith(SUFFIX))
        return [f"{stem}.weight" for stem in stems]

    def read(self, name: str) -> QuantizedWeight:
        """One weight."""
        files, stem = self.files, name.removesuffix(".weight")
        tensors = [f"{stem}.{kind}" for kind in ("qweight", "qzeros", "scales")]
        qweight, qzeros, scales = tensors
        inputs, words = files.expect(qweight, ("I32",), (None, None)).shape
        outputs = words * 32 // BITS
        groups, _ = files.expect(scales, ("F16", "BF16", "F32"), (None, outputs)).shape
        files.expect(qzeros, ("I32",), (groups, words))
        if groups == 0 or inputs % groups:
            raise files.refusal(scales, f"has {groups} groups for {inputs} inputs")
        return QuantizedWeight(
            name,
            self.format,
            BITS,
            codes=np.ascontiguousarray(_outputs_in_order(files.read(qweight)).T),
            scale=files.numbers(scales).T.astype(np.float32, order="C"),
            group=even_groups(inputs, inputs // groups),
            bits_stored=files.bits(*tensors),
            scale_dtype=files.entry(scales).dtype,
            zero=_outputs_in_order(files.read(qzeros)).T.astype(np.int16, order="C"),
        )


def _outputs_in_order(words: NDArray) -> NDArray[np.uint8]:
    rows, count = words.shape
    fields = unpack(words.view(np.uint32), BITS, 8 * count).reshape(rows, count, 8)
    return fields[..., np.argsort(ORDER)].reshape(rows, 8 * count)
