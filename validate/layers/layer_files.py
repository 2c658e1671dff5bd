"""Layer files: a layer, or what became of it, as a safetensors file.

What goes in, a×n for the weight W and n×n for a moment of its inputs:

| tensor | shape | meaning |
|---|---|---|
| `weight` | a×n | W |
| `covariance` | n×n | Σ = E[x xᵀ] |
| `covariance_factor` | n(n+1)/2 | in place of Σ: lower triangular F, row by row, with Σ = F Fᵀ |
| `covariance_quantized` | n×n | Σ̂, for activation drift |
| `cross_covariance` | n×n | Σ_x, for activation drift |
| `residual_covariance` | a×n | Δ, for residual compensation |
| `rotation` | n×n | V, an orthogonal matrix |
| `eigenvectors` | n×n | of Σ, one a column |
| `eigenvalues` | n | of Σ, in the order of the eigenvectors |

float64, float32, float16 or bfloat16; wider types hold every value of a narrower one, so nothing is
rounded on the way in. A file with any other tensor is refused: a name that is not known is more
often misspelt than meant to be ignored.

Files are written whole or not at all, and the same content always gives the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ...reference.errors import BadInput
from ...reference.operations import Operations
from ..support.console import suggestion
from ..support.whole_files import replacing

TENSORS = (
    "weight",
    "covariance",
    "covariance_factor",
    "covariance_quantized",
    "cross_covariance",
    "residual_covariance",
    "rotation",
    "eigenvectors",
    "eigenvalues",
)
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
METADATA = "waterlevel"
# How files begin that are given in place of a layer file. A safetensors file begins with the length
# of its header, which is less than 2³².
KINDS = {
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"PK\x03\x04": "a ZIP archive, as .npz and .pt are",
    b"\x80\x02\x8a\x0a": "an old PyTorch file (.pt)",
    b"GGUF": "a GGUF file",
}


@dataclass(frozen=True, eq=False)
class LayerFile:
    """The tensors of a layer file; those that are not there are None.

    Exactly one of covariance and covariance_factor is there. Shapes are those of the table above,
    as far as they can be told from one tensor alone; `covariance_of` and the algorithms check them
    against the weight.

    Attributes:
        path: where it was read.
        digests: for each tensor the SHA-256 of its bytes in the file.
        description: the JSON object under `waterlevel` in the file's metadata, or {}.
    """

    path: Path
    weight: NDArray
    covariance: NDArray | None = None
    covariance_factor: NDArray | None = None
    covariance_quantized: NDArray | None = None
    cross_covariance: NDArray | None = None
    residual_covariance: NDArray | None = None
    rotation: NDArray | None = None
    eigenvectors: NDArray | None = None
    eigenvalues: NDArray | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)


def read_layer(path: Path | str) -> LayerFile:
    """Read a layer file.

    Returns:
        Its tensors in the dtype of the file; bfloat16 as float32, which is exact.

    Raises:
        BadInput: not a whole safetensors file; a tensor that is unknown, missing or of a dtype
            without fractions; not exactly one of covariance and covariance_factor.
        OSError: the file cannot be read.
    """
    path = Path(path)
    check_kind(path)
    with path.open("rb") as file:
        try:
            with safe_open(path, framework="numpy") as tensors:
                names = sorted(tensors.keys())
                _check_names(path, names)
                dtypes = {name: tensors.get_slice(name).get_dtype() for name in names}
                _check_dtypes(path, dtypes)
                metadata = tensors.metadata() or {}
                loaded = {
                    name: read_bfloat16(file, name) if dtype == "BF16" else tensors.get_tensor(name)
                    for name, dtype in dtypes.items()
                }
        except SafetensorError as error:
            reason = str(error).rpartition(": ")[2]
            raise BadInput(f"{path}: not a whole safetensors file ({reason})") from None
    digests = {
        name: sha256(_upper_half(tensor) if dtypes[name] == "BF16" else tensor)
        for name, tensor in loaded.items()
    }
    return LayerFile(path, **loaded, digests=digests, description=parse_description(path, metadata))


def check_kind(path: Path) -> None:
    """Say of something else than a safetensors file what it is, and the way on.

    Raises:
        BadInput: it is no regular file, or one of another known format.
        OSError: it is missing, or may not be read.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        if (path / "config.json").is_file():
            raise BadInput(
                f"{path}: a model's directory, not a layer file; `python -m "
                "waterlevel.validate.real_layers --help` makes layer files, `waterlevel model "
                "audit` looks at quantised ones"
            )
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise BadInput(f"{path}: not a regular file, expected a safetensors file")
    with path.open("rb") as file:
        start = file.read(8)
    kind = next((kind for magic, kind in KINDS.items() if start.startswith(magic)), None)
    if kind is not None:
        raise BadInput(
            f"{path}: {kind}, expected a safetensors file; in Python: safetensors.numpy.save_file("
            '{"weight": W, "covariance": S}, "layer.safetensors")'
        )


def covariance_of(layer: LayerFile, backend: Operations, dtype: DTypeLike) -> NDArray:
    """Σ: as the file has it, or F Fᵀ in `dtype` by the `matmul` of the backend.

    Raises:
        BadInput: a factor that does not go with the weight, or is not finite.

    Exactness: bits, on every backend.
    """
    if layer.covariance is not None:
        return layer.covariance
    packed = layer.covariance_factor
    assert packed is not None
    columns = layer.weight.shape[1] if layer.weight.ndim == 2 else 0
    expected = columns * (columns + 1) // 2
    if packed.shape != (expected,):
        shape = "×".join(map(str, packed.shape)) or "()"
        raise BadInput(
            f"covariance_factor has shape {shape}, expected {expected} = {columns}·{columns + 1}/2 "
            f"numbers to go with the {columns} columns of weight"
        )
    if not np.isfinite(packed).all():
        place = int(np.argmin(np.isfinite(packed)))
        raise BadInput(
            f"covariance_factor[{place}] is {packed[place]}; every element must be finite"
        )
    factor = np.zeros((columns, columns), packed.dtype)
    factor[np.tril_indices(columns)] = packed
    F = backend.from_host(factor, dtype)
    return backend.to_host(backend.matmul(F, backend.transpose(F)))


def check_target(path: Path | str, source: Path | None = None) -> None:
    """Refuse a place where `write_tensors` would fail, before any work is done.

    Args:
        source: a file that must not be replaced.

    Raises:
        BadInput: no such directory, a directory that cannot be written to, something that is there
            and is no regular file, or the source itself.
    """
    path = Path(path)
    directory = _beside(path)
    if path.exists() and not path.is_file():
        kind = "a directory" if path.is_dir() else "not a regular file"
        raise BadInput(f"output {path} is {kind}; give the name of a file")
    if not directory.is_dir():
        raise BadInput(f"output {path}: there is no directory {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BadInput(f"output {path}: the directory {directory} cannot be written to")
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise BadInput(f"output {path} is the input file, which would be lost; give another name")


def write_tensors(
    path: Path | str, tensors: Mapping[str, NDArray], description: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a safetensors file whole or not at all: beside its place, then renamed.

    Args:
        tensors: by name. description: goes into the metadata as JSON under `waterlevel`; the
            SHA-256 of each tensor joins it under `tensors`.

    Returns:
        The description as it was written, with the digests.

    Raises:
        OSError: it cannot be written; nothing is left behind, and what was there before still is.
    """
    path = Path(path)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    digests = {name: sha256(tensor) for name, tensor in contiguous.items()}
    described = {**description, "tensors": digests}
    metadata = {METADATA: to_json(described)}
    try:
        with replacing(path) as beside:
            save_file(contiguous, beside, metadata=metadata)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2]
        raise OSError(f"output {path} cannot be written: {reason}") from error
    return described


def sha256(tensor: NDArray) -> str:
    """The digest of a tensor's elements, row by row, little-endian, in hexadecimal."""
    little = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False)
    return hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()


def to_json(content: object, indent: int | None = None) -> str:
    """JSON with sorted keys; a number that is not finite becomes null.

    >>> to_json({"limit": float("nan"), "codes": [1, 2]})
    '{"codes": [1, 2], "limit": null}'
    """
    finite = _finite(content)
    text = json.dumps(finite, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)
    # The name of a file need not be text; what is none becomes an escape of JSON.
    return text.encode("utf-8", "backslashreplace").decode()


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if np.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content


def _check_names(path: Path, names: list[str]) -> None:
    for name in names:
        if name not in TENSORS:
            raise BadInput(
                f"{path}: tensor {name!r} is not known{suggestion(name, TENSORS)}; a layer file "
                f"holds {', '.join(TENSORS)}"
            )
    if "weight" not in names:
        raise BadInput(f"{path}: tensor weight is missing")
    if "covariance" in names and "covariance_factor" in names:
        raise BadInput(
            f"{path}: tensors covariance and covariance_factor are both there; expected one of them"
        )
    if "covariance" not in names and "covariance_factor" not in names:
        raise BadInput(
            f"{path}: tensor covariance is missing; expected it, or covariance_factor in its place"
        )


def _check_dtypes(path: Path, dtypes: Mapping[str, str]) -> None:
    expected = ", ".join(DTYPES.values())
    for name, dtype in dtypes.items():
        if dtype not in DTYPES:
            raise BadInput(f"{path}: tensor {name} has dtype {dtype}, expected one of {expected}")


def parse_description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object under `waterlevel` in a file's metadata, or {}.

    Raises:
        BadInput: it is none, or what should be a list of remarks is none.
    """
    try:
        description = json.loads(metadata.get(METADATA, "{}"))
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise BadInput(f"{path}: the metadata under {METADATA!r} is not a JSON object")
    if not isinstance(description.get("remarks") or [], list):
        raise BadInput(f"{path}: remarks in the metadata under {METADATA!r} are not a list")
    return description


def read_bfloat16(file: BinaryIO, name: str) -> NDArray[np.float32]:
    """A bfloat16 tensor of a safetensors file that was found to be whole, in float32.

    NumPy has no such type, and the library's own reader needs another package for it. A bfloat16 is
    the upper half of a float32.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    entry = json.loads(file.read(length))[name]
    first, end = entry["data_offsets"]
    file.seek(8 + length + first)
    halves = np.frombuffer(file.read(end - first), "<u2")
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(entry["shape"])


def _upper_half(tensor: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (tensor.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def _beside(path: Path) -> Path:
    return Path(os.path.realpath(path)).parent
