"""A quantised model as a Hugging Face directory that appears whole or not at all.

It is written beside its place, one file of weights a block, and renamed at the end. The folder
`NAME.unfinished` belongs to the run that made it: it is made new, so that of two runs on one output
the second is refused, and it is removed when its run fails.

`waterlevel-manifest.json` says how the model came about, in what is exact alone: no times, no
library, no machine. So the digest of the whole directory is the same everywhere.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...reference.contract import CONTRACT_VERSION
from ...reference.decoder import Decoder
from ...reference.errors import BadInput
from ..checkpoints.compressed_tensors_writer import WRITERS, configuration
from ..checkpoints.description import from_result
from ..checkpoints.writing import TensorWriter
from ..layers.layer_files import sha256, to_json
from ..support.whole_files import write_whole
from .directory import CONFIGURATION, INDEX, read_json
from .pipeline import QuantizedLayer

MANIFEST = "waterlevel-manifest.json"
DEQUANTIZED = "float32"
STORES = (DEQUANTIZED, "pack-quantized", "float-quantized")
DESCRIPTION = 160
"""Bytes of a header, at most, for what it says of a tensor besides the name."""
Tensor = tuple[str, NDArray]
"""Its dtype as safetensors names it, and the array."""
COPIED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"),
    *("generation_config.json", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE"),
)
"""Files of the original directory that go along, where they are there."""


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `output` when the block ends well.

    Raises:
        BadInput: the output is there already, another run writes it, or there is no place for it.
    """
    output = Path(os.path.abspath(output))
    folder = output.parent / f"{output.name}.unfinished"
    if output.exists() or output.is_symlink():
        raise BadInput(f"output {output} exists already; give another name, or remove it")
    try:
        folder.mkdir()
    except FileExistsError:
        raise BadInput(
            f"{folder} is there: another run writes {output}, or one was ended by force; "
            "if none is running, remove that folder"
        ) from None
    except OSError as error:
        raise BadInput(f"output {output} cannot be made: {error.strerror}") from None
    try:
        yield folder
        if output.exists():
            raise BadInput(f"output {output} has appeared meanwhile; give another name")
        os.rename(folder, output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_model(
    folder: Path,
    original: Path,
    decoder: Decoder,
    blocks: Iterable[tuple[int, list[QuantizedLayer]]],
    description: Mapping[str, Any],
    store: str = DEQUANTIZED,
) -> dict[str, Any]:
    """Fill a folder with the model, one block in memory at a time.

    Args:
        original: the directory the decoder is from. blocks: of `quantize_model`.
        description: what the manifest says of the run; exact things only.
        store: one of STORES: weights in float32, or codes and scales in a published format.

    Returns:
        The manifest.

    Raises:
        BadInput: a weight that the format cannot hold as it is.
        OSError: a file cannot be written.
    """
    tensors, count = dict.fromkeys(decoder.tensors), decoder.configuration.blocks
    shards, layers, arguments, done = {}, [], {}, set()
    for index, quantized in blocks:
        found: dict[str, Tensor] = {}
        for layer in quantized:
            if store == DEQUANTIZED:
                found[layer.name] = _tensor(layer.weight)
            else:
                stored, described = _packed(layer, store)
                found |= stored
                arguments[layer.name.removesuffix(".weight")] = described
            done.add(layer.name)
        prefix = f"model.layers.{index}."
        for name in tensors:
            if name.startswith(prefix) and name not in done:
                found[name] = _tensor(decoder.tensors[name])
                done.add(name)
        shards |= _shard(folder, index + 1, count + 1, found)
        layers += [_layer_entry(layer) for layer in quantized]
    rest = {name: _tensor(decoder.tensors[name]) for name in tensors if name not in done}
    shards |= _shard(folder, count + 1, count + 1, rest)
    size = sum((folder / name).stat().st_size for name in set(shards.values()))
    index_file = {"metadata": {"total_size": size}, "weight_map": shards}
    _write(folder / INDEX, to_json(index_file, indent=1) + "\n")
    fields = read_json(original / CONFIGURATION)
    kept = {name: value for name, value in fields.items() if name != "torch_dtype"}
    if arguments:
        kept["quantization_config"] = configuration(store, arguments)
    _write(folder / CONFIGURATION, to_json({**kept, "dtype": "float32"}, indent=1) + "\n")
    for name in COPIED:
        if (original / name).is_file():
            write_whole(folder / name, (original / name).read_bytes())
    manifest = {
        **description,
        "contract": CONTRACT_VERSION,
        "quantiser": "ordered",
        "weights": sum(layer["rows"] * layer["columns"] for layer in layers),
        "rates": mean_rates(layers),
        "layers": layers,
        "files": file_digests(folder),
    }
    _write(folder / MANIFEST, to_json(manifest, indent=1) + "\n")
    return manifest


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its name."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def directory_digest(folder: Path) -> str:
    """One SHA-256 for all names and contents."""
    return hashlib.sha256(to_json(file_digests(folder)).encode()).hexdigest()


def read_rates(directory: Path) -> dict[str, float | None] | None:
    """The rates that a manifest states, in bits per weight; None where there is no manifest.

    Raises BadInput for one that is damaged.
    """
    path = directory / MANIFEST
    if not path.is_file():
        return None
    rates = read_json(path).get("rates")
    if not isinstance(rates, dict) or not isinstance(rates.get("rate"), int | float):
        raise BadInput(f"{path}: rates has no rate")
    for name, value in rates.items():
        if not isinstance(value, int | float | None):
            raise BadInput(f"{path}: {name} of rates is no number")
    return rates


def _tensor(array: NDArray) -> Tensor:
    return f"F{8 * array.dtype.itemsize}", array


def _packed(layer: QuantizedLayer, store: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a layer in a published format, and what describes them."""
    weight = from_result(layer.name, layer.result)
    if weight.dequantize().tobytes() != layer.weight.tobytes():
        raise BadInput(
            f"{layer.name}: {store} would not give these very weights back; quantise with "
            "--dtype float32"
        )
    return WRITERS[store](weight)


def _shard(folder: Path, number: int, of: int, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    name = f"model-{number:05d}-of-{of:05d}.safetensors"
    room = sum(len(tensor.encode()) + DESCRIPTION for tensor in ("metadata", *tensors))
    try:
        with TensorWriter(folder / name, room) as writer:
            for tensor, (dtype, content) in tensors.items():
                writer.add(tensor, dtype, content)
    except OSError as error:
        raise _cannot(folder / name, error) from error
    return dict.fromkeys(tensors, name)


def _write(path: Path, content: str) -> None:
    try:
        write_whole(path, content.encode())
    except OSError as error:
        raise _cannot(path, error) from error


def _cannot(path: Path, error: Exception) -> OSError:
    reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2]
    return OSError(f"{path} cannot be written: {reason}; nothing of the output is kept")


def _layer_entry(layer: QuantizedLayer) -> dict[str, Any]:
    result = layer.result
    rows, columns = result.codes.shape
    return {
        "name": layer.name,
        "rows": rows,
        "columns": columns,
        "rates": asdict(result.rates),
        "rate_met": result.rate_met,
        "distortion": result.distortion,
        "weight_mean_square": result.weight_mean_square,
        "parameters": {n: v for n, v in result.parameters.items() if n != "backend"},
        "codes_sha256": sha256(result.codes),
        "weight_sha256": sha256(layer.weight),
    }


def mean_rates(layers: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Rates of the model: of the layers, weighted by their numbers of weights."""
    found, weights = {}, sum(layer["rows"] * layer["columns"] for layer in layers)
    for name in layers[0]["rates"]:
        values = [layer["rates"][name] for layer in layers]
        if None in values:
            found[name] = None
            continue
        total = 0.0
        for layer, value in zip(layers, values, strict=True):
            total += layer["rows"] * layer["columns"] * value
        found[name] = total / weights
    return found
