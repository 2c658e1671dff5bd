"""Two quantised layers differ. What can be told from the files, and what from the layer itself?

The files alone: whether they were made in the same way, how far apart their codes are, which column
is the first to differ in the order of processing, whether each file's dequantised weight is what
its own codes and scales give. With the layer that both were made from, the oracle quantises it once
more as the files say (at the spacing that they record, so that nothing is searched), and a file
that differs from the oracle is explained as in `diagnosis`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import GridScales
from ...reference.bases.rotation import HadamardRotation, Rotation, given_rotation
from ...reference.errors import BadInput
from ...reference.grids.float_formats import FORMATS
from ...reference.limits.gaussian_limit import eigenbasis
from ...reference.methods.grid_fitting import INTEGER
from ...reference.operations import Operations
from ..layers.any_tensors import TensorFile
from ..layers.layer_files import LayerFile, covariance_of
from ..layers.quantize_layer import DRIFT, METHODS
from ..support.comparison import compare_bits
from .deviations import SCALE_ORDERS
from .explain import SECONDS, Diagnosis, diagnose_algorithm, processing_order
from .first_divergence import Run, first_column
from .grid_ties import rows_parted_at_ties

SCALES = ("row_scale", "column_scale", "scale", "zero", "group")
EXACT = ("codes", "dequantized", *SCALES)


def notes(one: TensorFile, other: TensorFile) -> list[str]:
    """What the two files tell, a line each."""
    return [
        *_circumstances(one, other),
        *_codes(one, other),
        *(line for file in (one, other) for line in _consistency(file)),
    ]


def _circumstances(one: TensorFile, other: TensorFile) -> list[str]:
    if not (one.description and other.description):
        return []
    lines = []
    for name in ("method", "contract", "version", "backend"):
        left, right = one.description.get(name), other.description.get(name)
        if left != right:
            lines.append(f"{name}: {left} against {right}")
    left, right = one.description.get("input", {}), other.description.get("input", {})
    differ = sorted(k for k in {*left, *right} if left.get(k) != right.get(k))
    if differ:
        lines.append(f"not made from the same input: {', '.join(differ)} differ")
    left, right = one.description.get("parameters", {}), other.description.get("parameters", {})
    for name in sorted({*left, *right} - {"backend"}):
        if left.get(name) != right.get(name):
            lines.append(f"parameter {name}: {left.get(name)} against {right.get(name)}")
    return lines


def _codes(one: TensorFile, other: TensorFile) -> list[str]:
    left, right = one.tensors.get("codes"), other.tensors.get("codes")
    if left is None or right is None or left.shape != right.shape or left.dtype.kind != "i":
        return []
    if left.ndim != 2 or right.dtype != left.dtype:
        return []
    differ = left != right
    if not differ.any():
        others = [
            name
            for name in EXACT
            if name in one.tensors
            and name in other.tensors
            and compare_bits(one.tensors[name], other.tensors[name])
        ]
        return [f"the codes are equal; what differs is {', '.join(others)}"] if others else []
    count = int(np.count_nonzero(differ))
    by_one = int(np.count_nonzero(np.abs(left.astype(np.int64) - right) == 1))
    columns = int(np.count_nonzero(differ.any(axis=0)))
    lines = [
        f"{count / left.size:.2%} of the codes differ, {by_one / count:.1%} of them by ±1, "
        f"in {columns} of {left.shape[1]} columns and {int(differ.any(axis=1).sum())} of "
        f"{len(left)} rows"
    ]
    order, said = _known_order(one.description or other.description, left.shape[1])
    if found := first_column(left, right, order):
        lines.append(f"the first column that differs {said} is {found[0]} (place {found[1]})")
    return [*lines, *_ties(one, other, order)]


def _ties(one: TensorFile, other: TensorFile, order: NDArray[np.int64]) -> list[str]:
    description, zero = one.description or other.description, one.tensors.get("zero")
    parameters = description.get("parameters", {})
    if zero is None or parameters.get("actorder"):
        return []
    left, right = one.tensors["codes"], other.tensors["codes"]
    method = str(description.get("method"))
    count = rows_parted_at_ties(left, right, zero, method, parameters, order)
    rows = int((left != right).any(axis=1).sum())
    return [
        f"{count} of these {rows} rows part at a tie by construction: the weight of largest "
        "magnitude of a symmetric grid lies half-way between codes 0 and 1, its last bit decides"
    ] * (count > 0)


def _known_order(description: Mapping[str, Any], columns: int) -> tuple[NDArray[np.int64], str]:
    method = description.get("method")
    parameters = description.get("parameters", {})
    if method is None or parameters.get("actorder"):
        return np.arange(columns), "by number (the order of processing is not known)"
    shaped = {"weight": np.empty((0, columns))}
    return processing_order(method, parameters, shaped), "in the order of processing"


def _consistency(file: TensorFile) -> list[str]:
    """Whether the dequantised weight is what the codes and the scales of the same file give."""
    tensors, parameters = file.tensors, file.description.get("parameters", {})
    if parameters.get("rotation") or not {"codes", "dequantized"} <= set(tensors):
        return []  # scales are in another basis
    values, codes = tensors["dequantized"], tensors["codes"].astype(tensors["dequantized"].dtype)
    try:
        if {"row_scale", "column_scale"} <= set(tensors):
            rows, columns = tensors["row_scale"][:, None], tensors["column_scale"]
            if file.description.get("method") == "waterfilling":
                return []
            return _scale_order(file.path, values, codes, rows, columns)
        if {"scale", "zero", "group"} <= set(tensors):
            group, form = tensors["group"], parameters.get("format", INTEGER)
            scale, zero = tensors["scale"][:, group], tensors["zero"][:, group]
            expected = scale * (tensors["codes"] - zero).astype(values.dtype)
            if form in FORMATS:
                expected = scale * FORMATS[form].values(tensors["codes"], values.dtype)
            if difference := compare_bits(expected, values):
                return [difference.message(str(file.path), "dequantized against its own codes,")]
    except (ValueError, IndexError, TypeError):
        return [f"{file.path}: codes, scales and dequantized do not go together"]
    return []


def _scale_order(
    path: Path, values: NDArray, codes: NDArray, rows: NDArray, columns: NDArray
) -> list[str]:
    difference = compare_bits((rows * codes) * columns, values)
    if difference is None:
        return []
    for name, (description, product) in SCALE_ORDERS.items():
        if compare_bits(product(codes, rows, columns), values) is None:
            return [f"{path}: {description}, and not by (row_scale·codes)·column_scale ({name})"]
    return [difference.message(str(path), "dequantized against its own codes,")]


# With the layer ----------------------------------------------------------------------------------


def diagnose_file(
    file: TensorFile, other: TensorFile, layer: LayerFile, seconds: float = SECONDS
) -> Diagnosis:
    """Why a file differs from what the oracle makes of the layer; empty if it does not.

    Args:
        other: tells how the layer was quantised if the file itself does not.

    Raises:
        BadInput: neither does, or they were made from another layer.
    """
    source = file if file.description else other
    description = source.description
    if description.get("method") not in METHODS or "parameters" not in description:
        raise BadInput(
            f"{file.path}: neither file says how it was made (metadata `waterlevel` with method "
            "and parameters), so --input cannot be used"
        )
    for name, digest in description.get("input", {}).items():
        if layer.digests.get(name) != digest:
            raise BadInput(
                f"{layer.path}: tensor {name} is not the one that {source.path} was made from"
            )
    method, parameters = description["method"], description["parameters"]
    actual = {name: file.tensors[name] for name in EXACT if name in file.tensors}
    if not actual:
        raise BadInput(f"{file.path}: none of {', '.join(EXACT)} is there to be explained")
    stored = file.tensors.get("rotation", other.tensors.get("rotation"))
    run = replay(layer, method, parameters, stored, tuple(actual))
    inputs = {"weight": layer.weight}
    if layer.covariance is not None:
        inputs["covariance"] = layer.covariance
    order = processing_order(method, parameters, inputs)
    return diagnose_algorithm(str(file.path), run, actual, order=order, seconds=seconds)


def replay(
    layer: LayerFile,
    method: str,
    parameters: Mapping[str, Any],
    stored: NDArray | None,
    wanted: tuple[str, ...],
) -> Run:
    """A run of the method as the record of its parameters says, at the recorded spacing.

    Args:
        stored: the matrix of a rotation that is no Hadamard transform, or the eigenvectors.
        wanted: which outputs.
    """
    taken = inspect.signature(METHODS[method]).parameters
    options = {name: value for name, value in parameters.items() if name in taken}
    for name in ("backend", "rotation", "rate", "open_loop", "rate_measure"):
        options.pop(name, None)
    if "spacing" in parameters:
        options["spacing"] = parameters["spacing"]
    if options.get("format", INTEGER) != INTEGER:
        options.pop("bits", None)  # the format brings its own
    if method == "watersic":
        options |= {name: getattr(layer, name) for name in DRIFT}

    def run(backend: Operations) -> dict[str, NDArray]:
        covariance = covariance_of(layer, backend, options["dtype"])
        more: dict[str, Any] = {}
        if method == "waterfilling":
            known, vectors = layer.eigenvalues, stored
            more["eigenvalues"] = eigenbasis(covariance)[0] if known is None else known
            more["eigenvectors"] = layer.eigenvectors if vectors is None else vectors
        else:
            more["rotation"] = _rotation(parameters, stored, layer, backend)
        result = METHODS[method](layer.weight, covariance, **options, **more, backend=backend)
        outputs = {"codes": result.codes, "dequantized": result.dequantized}
        kinds = SCALES[2:] if isinstance(result.scales, GridScales) else SCALES[:2]
        outputs |= {name: getattr(result.scales, name) for name in kinds}
        return {name: array for name, array in outputs.items() if name in wanted}

    return run


def _rotation(
    parameters: Mapping[str, Any], stored: NDArray | None, layer: LayerFile, backend: Operations
) -> Rotation | None:
    described = parameters.get("rotation")
    if described is None:
        return None
    columns = layer.weight.shape[1]
    if described["kind"] == "hadamard":
        return HadamardRotation(columns, described["seed"])
    matrix = layer.rotation if stored is None else stored
    if matrix is None:
        raise BadInput(f"the {described['kind']} rotation is in none of the files")
    return given_rotation(matrix, columns, backend=backend)
