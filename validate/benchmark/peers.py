"""Published packages that do what a row of `waterlevel bench` times, on a CPU: its peers.

    pip install 'waterlevel[peers]'

torch           its factor and products; with `eager` on its arrays also the loop over columns that
                most published code of GPTQ and WaterSIC is
llmcompressor   the GPTQ of the vLLM project's quantiser, in float32

A peer that is not installed is left out. Their codes are not those of the contract: sums in another
order, and llmcompressor works with the factor of the inverse (`reference.methods.gptq` says why
that is the same algorithm).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from .rows import MAXIMUM, ROWS, Inputs, Placed

Peer = Callable[[], Any]  # runs it; of a core, returns its codes


def _torch(row: str, inputs: Inputs) -> Peer:
    torch: Any = import_module("torch")
    placed = Placed(inputs, lambda matrix: torch.from_numpy(np.array(matrix)))
    for need in ROWS[row].needs:
        getattr(placed, need)
    return lambda: ROWS[row].eager(torch, placed)


def _llmcompressor(row: str, inputs: Inputs) -> Peer | None:
    if row != "GPTQ core" or inputs.dtype != np.float32:
        return None
    torch: Any = import_module("torch")
    library: Any = import_module("llmcompressor.modifiers.gptq.gptq_quantize")
    schemes: Any = import_module("compressed_tensors.quantization")
    bits, middle = MAXIMUM.bit_length(), (MAXIMUM + 1) // 2
    scheme = schemes.QuantizationArgs(num_bits=bits, strategy="channel", symmetric=True)
    # It begins with the first column, cancellation by L with the last.
    weight, covariance = inputs.weight[:, ::-1].copy(), inputs.covariance[::-1, ::-1].copy()
    scale = inputs.scale[:, None]

    def run() -> NDArray[np.int32]:
        arrays = (weight, covariance, scale, np.zeros_like(scale))
        batches = (torch.from_numpy(array[None].copy()) for array in arrays)  # it writes to them
        found, _, _ = library.quantize_weight(*batches, None, scheme, percdamp=0.0)
        return (np.rint(found[0].numpy()[:, ::-1] / scale) + middle).astype(np.int32)

    return run


PEERS: dict[str, Callable[[str, Inputs], Peer | None]] = {
    "torch": _torch,
    "llmcompressor": _llmcompressor,
}


def peers(row: str, inputs: Inputs) -> dict[str, Peer]:
    """Name and version → what runs it, of those that are installed and do this row.

    Raises:
        WaterlevelError: one is installed, but cannot be imported.
    """
    found = {}
    for name, prepare in PEERS.items():
        if find_spec(name) is None:
            continue
        try:
            run = prepare(row, inputs)
        except (ImportError, OSError) as error:
            raise WaterlevelError(
                f"{name} is installed but cannot be used ({error}): "
                "pip install 'waterlevel[peers]', or uninstall it"
            ) from error
        if run is not None:
            found[f"{name} {version(name)}"] = run
    return found
