"""A decoder from a directory, computed by a library of the user's choice."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...backends.array_libraries import namespace
from ...reference.decoder import Decoder, Passes
from ...reference.errors import BadInput
from .directory import read_configuration, read_tensors


def passes_of(library: Any = "numpy") -> Passes:
    """The element-wise passes and products of a library.

    Args:
        library: "numpy", "torch", "jax", "cupy"; "numba" for NumPy's BLAS with compiled loops
            between; or a namespace of the array API standard.

    Raises:
        BadInput: a library that is not known or not installed.
    """
    if library == "numba":
        if find_spec("numba") is None:
            raise BadInput("numba cannot be used: it is not installed; pip install numba")
        from ...backends.numba_cpu.decoder import CompiledPasses

        return CompiledPasses()
    return Passes(namespace(library))


def load_decoder(directory: Path | str, library: Any = "numpy") -> Decoder:
    """A decoder from a Hugging Face directory: config.json and safetensors.

    Llama 2 and 3, SmolLM2, Mistral, Qwen2 and Qwen3. `decoder.logits(tokens)` and
    `decoder.log_likelihood(tokens)` have the same bits from every library.

    Args:
        directory: with config.json and model.safetensors, or its shards and their index.
        library: as for `passes_of`.

    Raises:
        BadInput: a file that is missing or damaged; an architecture, or a field of the
            configuration that changes the function, that is not known; a tensor that is missing,
            unknown, of another shape, or not finite; a library that cannot be used.
    """
    configuration = read_configuration(Path(directory))
    tensors = read_tensors(Path(directory), configuration)
    return Decoder(configuration, tensors, passes_of(library))
