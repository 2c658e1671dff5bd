"""A trained model as a Hugging Face directory, with its text, its licence and its manifest.

| file | what |
|---|---|
| `config.json`, `generation_config.json`, `model.safetensors` | by transformers, float16 |
| `tokenizer.json`, `tokenizer_config.json` | token i is byte i |
| `held-out.txt`, `calibration.txt` | text the model has not seen, and 150 kB that it has |
| `LICENSE.txt` | of the text, and so of the model: that of Python |
| `manifest.json` | recipe, versions, figures, SHA-256 of every other file |
| `README.md` | the model card |
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import sysconfig
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # pyright: ignore[reportMissingImports]
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # pyright: ignore[reportMissingImports]

from ...reference.errors import BadInput
from ..support.environment import environment
from ..support.whole_files import write_whole
from .training_text import Text

LIBRARIES = ("torch", "transformers", "tokenizers")


def write_model(
    directory: Path, model: LlamaForCausalLM, text: Text, training: Mapping[str, Any]
) -> None:
    """Writes the directory; the manifest comes last, so that a directory with one is complete.

    Args:
        model: its weights in float16.
        training: what the manifest says about the training: recipe, figures, bits per byte.
    """
    files = {**library_files(model), **text_files(text)}
    manifest = {
        "architecture": "LlamaForCausalLM over bytes",
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        **training,
        "compressors_bits_per_byte": compressors(text),
        "text": {
            "source": "pydoc_data.topics and the docstrings of the standard library",
            "licence": "PSF-2.0",
            "train": {"bytes": len(text.train), "sha256": digest(text.train)},
            "held_out": {"bytes": len(text.held_out), "sha256": digest(text.held_out)},
        },
        "environment": with_libraries(environment()),
    }
    files["README.md"] = card(directory.name, manifest).encode()
    manifest["files"] = {name: digest(files[name]) for name in sorted(files)}
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    for name, content in files.items():
        write_whole(directory / name, content)


def library_files(model: LlamaForCausalLM) -> dict[str, bytes]:
    """What transformers writes for a model and for its tokenizer."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(),
        model_max_length=model.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def byte_tokenizer() -> Tokenizer:
    """Token i is byte i of the UTF-8 text: byte-pair encoding without a single pair.

    >>> byte_tokenizer().encode("Σ ≥ 0\\n").ids == list("Σ ≥ 0\\n".encode())
    True
    >>> byte_tokenizer().decode(list("Σ ≥ 0\\n".encode()))
    'Σ ≥ 0\\n'
    """
    vocabulary = {character: byte for byte, character in enumerate(byte_characters())}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_characters() -> list[str]:
    """How byte-level tokenizers write bytes: visible Latin-1 as it is, others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return [
        chr(byte) if byte in visible else chr(0x100 + others.index(byte)) for byte in range(256)
    ]


def text_files(text: Text) -> dict[str, bytes]:
    """The text that travels with the model, and its licence.

    Raises:
        BadInput: this Python comes without its licence.
    """
    licence = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if not licence.exists():
        raise BadInput(f"{licence} is missing; use a Python that comes with its licence")
    return {
        "held-out.txt": text.held_out,
        "calibration.txt": text.calibration,
        "LICENSE.txt": licence.read_bytes(),
    }


def compressors(text: Text) -> dict[str, float]:
    """Bits per byte of the held-out text; the last has read the training text before."""
    bits = 8 / len(text.held_out)
    both, before = (
        len(lzma.compress(part, preset=9 | lzma.PRESET_EXTREME))
        for part in (text.train + text.held_out, text.train)
    )
    return {
        "gzip -9": round(bits * len(gzip.compress(text.held_out, 9)), 3),
        "xz -9": round(bits * len(lzma.compress(text.held_out, preset=9)), 3),
        "xz -9e after the training text": round(bits * (both - before), 3),
    }


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def with_libraries(found: dict[str, Any]) -> dict[str, Any]:
    """The environment with the versions of what trained."""
    trained = {name: version(name) for name in LIBRARIES}
    return {**found, "libraries": {**found["libraries"], **trained}}


def card(name: str, manifest: Mapping[str, Any]) -> str:
    """The model card, from the manifest alone."""
    training, text = manifest["training"], manifest["text"]
    others = "".join(
        f"| {compressor} | {bits:.3f} |\n"
        for compressor, bits in manifest["compressors_bits_per_byte"].items()
    )
    return f"""---
license: psf-2.0
library_name: transformers
pipeline_tag: text-generation
---
# {name}

A language model of Python's own documentation, small enough to come with a package: Llama
architecture, bytes as tokens, {manifest["weights"]:,} weights in float16. It is there to be
quantised, not to be asked.

Text: the topics of `help()` and the docstrings of the standard library of Python
{manifest["environment"]["python"]}, {text["train"]["bytes"]:,} bytes; {text["held_out"]["bytes"]:,}
bytes of other documents are held out (`held-out.txt`). A document of which half stands in longer
ones was left out before the split.

| held-out text | bits per byte |
|---|---|
| {name} | {manifest["held_out_bits_per_byte"]:.4f} |
{others}
{training["steps"]} steps of {training["batch"]} × {training["length"]} bytes,
{training["minutes"]:.0f} minutes on {training["threads"]} thread(s) of a shared machine. Made by

    python -m waterlevel.validate.models.training DIRECTORY --checkpoint FILE \\
        --steps {training["steps"]} --threads {training["threads"]}

`manifest.json` has the recipe, the versions and the digests. Licence of the text, and so of the
model: Python's (`LICENSE.txt`).
"""
