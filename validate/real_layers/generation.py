"""Layer files and their manifest from a model's forward pass.

The bundled set has every type of layer from both models, out of one block in the middle of each, in
13.4 MB. To fit, only MiniLM's square layers are whole; the other weights are their first 192 rows,
and SmolLM2's feed-forward out is cut to its first 768 inputs. A leading part of L is the factor of
the same part of Σ, so the cut layer is an exact problem of its own, half as wide.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ...reference.errors import BadInput
from ..support.whole_files import write_whole
from .calibration import Moments, Recorder, describe, pack_lower
from .models import Float32, LinearLayer, Model

MANIFEST = "manifest.json"
BATCH_TOKENS = 2048
ABOUT = (
    "Linear layers of real models with the uncentred second moments of their inputs. Each file "
    "holds weight (outputs x inputs) and covariance_factor (lower Cholesky factor of the moments, "
    "packed row by row); the safetensors metadata repeats the description under 'waterlevel'. "
    "Digests are those of the files beside this manifest: the moments come from BLAS products, so "
    "another machine, library or number of threads regenerates them with other last bits."
)

Entry = dict[str, Any]
Progress = Callable[[int], object]
"""Called with the number of tokens that went through one more block."""


@dataclass(frozen=True)
class Choice:
    """A layer to take: the block, the layer's short name, and how much of its weight.

    `rows` and `columns` keep the first outputs and the first inputs (and so the leading part of
    Σ); None keeps all.
    """

    block: int
    layer: str
    rows: int | None = None
    columns: int | None = None


BUNDLED: dict[str, tuple[Choice, ...]] = {
    "minilm": (
        Choice(2, "query"),
        Choice(2, "attention-output"),
        Choice(2, "feed-forward-in", rows=192),
        Choice(2, "feed-forward-out", rows=192),
    ),
    "smollm2": (
        Choice(15, "query", rows=192),
        Choice(15, "attention-output", rows=192),
        Choice(15, "feed-forward-up", rows=192),
        Choice(15, "feed-forward-out", rows=192, columns=768),
    ),
}


def first_windows(model: Model, corpus: str, tokens: int) -> NDArray[np.int64]:
    """The first `tokens` tokens of a corpus, as (count, window). Raises BadInput."""
    windows = model.tokenize(corpus)
    if tokens <= 0 or tokens % model.window or tokens > windows.size:
        raise BadInput(
            f"--tokens {tokens}: {model.key} takes a multiple of {model.window} "
            f"up to {windows.size}, the length of the text"
        )
    return windows[: tokens // model.window]


def generate(
    model: Model,
    choices: Sequence[Choice] | None,
    corpus: str,
    windows: NDArray[np.int64],
    output: Path,
    progress: Progress = lambda tokens: None,
) -> list[Entry]:
    """Writes the chosen layers (None: all) of a model to `output` and returns their entries.

    `windows` are the tokens that go through the model, taken from the corpus by `first_windows`.
    Files appear whole or not at all; the manifest is not touched.
    """
    calibration = describe(corpus, windows.size, model.window)
    hidden = model.embed(windows)
    step = max(1, BATCH_TOKENS // model.window)
    last = model.blocks - 1 if choices is None else max(choice.block for choice in choices)

    entries = []
    for index in range(last + 1):
        block = model.block(index)
        wanted = select(block.layers, index, choices)
        moments = {layer.type: Moments(layer.weight.shape[1]) for layer, _ in wanted}
        for start in range(0, len(hidden), step):
            batch = slice(start, start + step)
            hidden[batch] = block(hidden[batch], Recorder(moments))
            progress(hidden[batch].shape[0] * model.window)
        factors = {kind: moments[kind].factor(f"{kind} of block {index}") for kind in moments}
        for layer, choice in wanted:
            tensors = cut(layer.weight, factors[layer.type], choice)
            description = describe_layer(model, layer, choice, calibration)
            name = f"{model.key}-{index:02}-{layer.short}.safetensors"
            entries.append(write_layer(output / name, tensors, description))
    return entries


def select(
    layers: Sequence[LinearLayer], block: int, choices: Sequence[Choice] | None
) -> list[tuple[LinearLayer, Choice]]:
    """The layers of one block that are chosen, each with its choice."""
    if choices is None:
        return [(layer, Choice(block, layer.short)) for layer in layers]
    here = {choice.layer: choice for choice in choices if choice.block == block}
    return [(layer, here[layer.short]) for layer in layers if layer.short in here]


def cut(weight: Float32, factor: NDArray[np.float64], choice: Choice) -> dict[str, Float32]:
    """The tensors of a layer file: the leading rows and columns of W, the leading part of L."""
    columns = slice(choice.columns)
    return {
        "weight": np.ascontiguousarray(weight[: choice.rows, columns]),
        "covariance_factor": pack_lower(factor[columns, columns]),
    }


def describe_layer(
    model: Model, layer: LinearLayer, choice: Choice, calibration: dict[str, str | int]
) -> Entry:
    """What layer file and manifest say about a layer, but for its tensors."""
    rows, columns = layer.weight.shape
    source = model.source
    return {
        "family": model.key,
        "model": source.model,
        "layer": layer.name,
        "type": layer.type,
        "block": choice.block,
        "blocks": model.blocks,
        "shape_in_model": [rows, columns],
        "first_rows": choice.rows or rows,
        "first_columns": choice.columns or columns,
        "source": {
            "package": source.package,
            "version": source.version,
            "file": source.file,
            "sha256": source.file_sha256,
            "licence": source.licence,
        },
        "calibration": calibration,
        "remarks": [*model.remarks, *describe_cut(layer, choice)],
    }


def describe_cut(layer: LinearLayer, choice: Choice) -> list[str]:
    """Remarks on what was left out of a layer."""
    rows, columns = layer.weight.shape
    remarks = []
    if choice.rows:
        remarks.append(f"Only the first {choice.rows} of {rows} rows (outputs) of the weight.")
    if choice.columns:
        remarks.append(
            f"Only the first {choice.columns} of {columns} inputs, in weight and covariance alike: "
            "an exact problem of its own, as if the other inputs were left unquantised."
        )
    return remarks


def write_layer(path: Path, tensors: dict[str, Float32], description: Entry) -> Entry:
    """Writes one layer file whole and returns its manifest entry."""
    content = save(tensors, metadata={"waterlevel": json.dumps(description)})
    write_whole(path, content)
    return {
        "file": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "tensors": {
            name: {
                "dtype": str(tensor.dtype),
                "shape": list(tensor.shape),
                "sha256": hashlib.sha256(tensor.tobytes()).hexdigest(),
            }
            for name, tensor in tensors.items()
        },
        **description,
    }


def write_manifest(directory: Path, entries: Sequence[Entry], command: str) -> None:
    """Writes the manifest of a directory; entries of other model families are kept."""
    path = directory / MANIFEST
    earlier = json.loads(path.read_text("utf-8"))["layers"] if path.exists() else []
    families = {entry["family"] for entry in entries}
    layers = [entry for entry in earlier if entry["family"] not in families]
    layers += [{**entry, "command": command, "libraries": libraries()} for entry in entries]
    layers.sort(key=lambda entry: entry["file"])
    manifest = {"about": ABOUT, "layers": layers}
    write_whole(path, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())


def libraries() -> dict[str, str]:
    """The versions that the last bits of the moments depend on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
        "machine": platform.machine(),
    }
