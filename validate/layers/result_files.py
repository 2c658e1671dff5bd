"""What a method returned, as a file, and back.

The file is the one that `waterlevel quantize` writes: codes, scales and Ŵ as tensors, and all
numbers in the metadata. What only a layer file can tell (the digests of its tensors) is not in it.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from ...reference import GridScales, LatticeScales, Quantized
from ...reference.coding.rates import Rates
from ...reference.errors import BadInput
from .any_tensors import read_tensors
from .layer_files import check_target, write_tensors
from .quantize_layer import INFINITE, describe, tensors_of

NUMBERS = ("method", "parameters", "rates", "distortion", "weight_mean_square", "rate_met")
LIMIT = ("limit", "limit_undefined")


def save(path: Path | str, result: Quantized) -> None:
    """Write a result whole or not at all.

    Raises:
        BadInput: a place where no file can be written. OSError: it could not be written.
    """
    check_target(path)
    write_tensors(path, tensors_of(result), describe(result))


def load(path: Path | str) -> Quantized:
    """Read a result that `Quantized.save` or `waterlevel quantize` wrote.

    Codes, scales, Ŵ and all numbers are those that were written, bit for bit; limit and gap too.

    Raises:
        BadInput: another file, or one that lacks something. OSError: it cannot be read.
    """
    path = Path(path)
    file = read_tensors(path)
    tensors, described = file.tensors, file.description
    kind = GridScales if "scale" in tensors else LatticeScales
    names = [field.name for field in fields(kind)]
    missing = [name for name in ("codes", "dequantized", *names) if name not in tensors]
    missing = [f"tensor {name}" for name in missing]
    missing += [f"{name} of its metadata" for name in (*NUMBERS, *LIMIT) if name not in described]
    if missing:
        raise BadInput(f"{path}: {missing[0]} is missing; it is no file of `waterlevel quantize`")
    numbers: dict[str, Any] = {name: described[name] for name in NUMBERS}
    rates = numbers.pop("rates")
    if not isinstance(rates, dict) or set(rates) != {field.name for field in fields(Rates)}:
        raise BadInput(f"{path}: rates of its metadata are not those of `waterlevel quantize`")
    result = Quantized(
        **numbers,
        codes=tensors["codes"],
        dequantized=tensors["dequantized"],
        scales=kind(**{name: tensors[name] for name in names}),
        rates=Rates(**rates),
        eigenvalues=None,
        covariance=None,
    )
    limit = described["limit"]  # as it was found then: Σ is not in the file
    if limit is None:
        limit = "inf" if described["limit_undefined"] == INFINITE else "nan"
    vars(result)["limit"] = float(limit)
    return result
