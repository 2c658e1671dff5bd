"""NumPy, Numba, PyTorch and JAX give one digest."""

from __future__ import annotations

import pytest

from waterlevel.reference.decoder import Decoder
from waterlevel.validate.models.loading import passes_of

from ...helpers.decoders import digest, random_tensors, tiny, tokens

MODULES = {"numba": "numba", "torch": "array_api_compat.torch", "jax": "jax"}


@pytest.mark.parametrize("library", MODULES)
@pytest.mark.parametrize("name", ["llama3", "mistral", "qwen2", "qwen3"])
def test_one_digest(library: str, name: str):
    pytest.importorskip(MODULES[library])
    c = tiny(name)
    tensors, numbers = random_tensors(c), tokens(c, 2, 33)
    tensors["model.embed_tokens.weight"][:, 3] *= 3000
    tensors["model.layers.0.self_attn.v_proj.weight"][2] = 0
    expected = digest(Decoder(c, tensors), numbers)
    assert digest(Decoder(c, tensors, passes_of(library)), numbers) == expected
