"""How is the function of a case called, on whatever backend?

`execute` is the only place that knows. A function takes the tensors and the parameters of its case
by their names, and returns its outputs by theirs, all as host arrays; a number is an array without
dimensions. The tables `OPERATIONS`, `METHODS`, `PARTS`, `SCALARS` and `ORDER_FREE` list the
functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import gptq, rtn, waterfilling, watersic
from ...reference.bases.rotation import HadamardRotation, Rotation, given_rotation
from ...reference.errors import BadInput, RateNotMet
from ...reference.grids.codebooks import (
    AffineGrid,
    Codebook,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from ...reference.grids.float_formats import FORMATS
from ...reference.methods.results import GridScales, Quantized
from ...reference.operations import Matrix, Operations
from .case import Case
from .execute_order_free import ORDER_FREE
from .execute_parts import PARTS
from .execute_scalars import SCALARS

Outputs = dict[str, NDArray]
Inputs = Mapping[str, NDArray]
Parameters = dict[str, Any]
Call = Callable[[Operations, Inputs, Parameters], Mapping[str, Any]]

NOT_FINITE = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def execute(case: Case, inputs: Inputs, backend: Operations) -> Outputs:
    """Run a case on a backend.

    Args:
        inputs: as `case.load_inputs()` returns them, or others of the same names.

    Returns:
        The outputs by name: matrices, vectors, and numbers as arrays without dimensions.

    Raises:
        WaterlevelError: whatever the function refuses.
    """
    parameters = {name: _number(value) for name, value in case.parameters.items()}
    if case.function in METHODS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RateNotMet)  # `rate_met` is one of the outputs
            found = _quantized(case, inputs, parameters, backend)
    else:
        found = FUNCTIONS[case.function](backend, inputs, parameters)
    return {name: np.asarray(value) for name, value in found.items()}


def _number(value: Any) -> Any:
    """JSON has no NaN and no infinities; parameters spell them."""
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value


def load(backend: Operations, array: NDArray) -> Matrix:
    """The array on the backend, in its own dtype."""
    return backend.from_host(array, array.dtype)


# Operations ------------------------------------------------------------------------------------


def _of_one_matrix(name: str, output: str) -> Call:
    def call(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
        operation = getattr(backend, name)
        return {output: backend.to_host(operation(load(backend, inputs["matrix"]), **parameters))}

    return call


def _of_two_matrices(name: str, output: str) -> Call:
    def call(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
        left, right = load(backend, inputs["left"]), load(backend, inputs["right"])
        return {output: backend.to_host(getattr(backend, name)(left, right))}

    return call


def _with_factors(name: str) -> Call:
    def call(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
        scaled = getattr(backend, name)(load(backend, inputs["matrix"]), inputs["factors"])
        return {"scaled": backend.to_host(scaled)}

    return call


def _inner(name: str) -> Call:
    def call(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
        left, right = load(backend, inputs["left"]), load(backend, inputs["right"])
        return {"sums": getattr(backend, name)(left, right)}

    return call


def _from_host(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    matrix = backend.from_host(inputs["array"], np.dtype(parameters["dtype"]))
    return {"matrix": backend.to_host(matrix)}


def _to_host(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    return {"array": backend.to_host(load(backend, inputs["matrix"]))}


def _shape(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    return {"shape": np.array(backend.shape(load(backend, inputs["matrix"])), np.int64)}


def _dtype(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    name = np.dtype(backend.dtype(load(backend, inputs["matrix"]))).name
    return {"name": np.frombuffer(name.encode("ascii"), np.uint8)}


def _zeros(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    dtype = np.dtype(parameters["dtype"])
    rows, columns = parameters["shape"]
    return {"matrix": backend.to_host(backend.zeros(rows, columns, dtype))}


def _convert(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    matrix = load(backend, inputs["matrix"])
    return {"matrix": backend.to_host(backend.convert(matrix, np.dtype(parameters["dtype"])))}


def _take(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    matrix = load(backend, inputs["matrix"])
    return {
        "taken": backend.to_host(backend.take(matrix, inputs.get("rows"), inputs.get("columns")))
    }


def _scatter(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    matrix = load(backend, inputs["matrix"])
    scattered = backend.scatter_columns(matrix, inputs["columns"], parameters["total"])
    return {"scattered": backend.to_host(scattered)}


def _diagonal(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    return {"diagonal": backend.diagonal(load(backend, inputs["matrix"]))}


def _with_diagonal(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    replaced = backend.with_diagonal(load(backend, inputs["matrix"]), inputs["diagonal"])
    return {"matrix": backend.to_host(replaced)}


def _find_nonfinite(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    found = backend.find_nonfinite(load(backend, inputs["matrix"]))
    row, column, value = (-1, -1, 0.0) if found is None else found
    # The sign and the payload of a NaN are nobody's promise.
    return {
        "place": np.array([row, column], np.int64),
        "value": np.float64(np.nan if value != value else value),
    }


def _find_asymmetry(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    row, column, value = backend.find_asymmetry(load(backend, inputs["matrix"]))
    return {"place": np.array([row, column], np.int64), "value": np.float64(value)}


def _largest_magnitude(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    return {"value": np.float64(backend.largest_magnitude(load(backend, inputs["matrix"])))}


def _combine(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    left, right = load(backend, inputs["left"]), load(backend, inputs["right"])
    combined = backend.combine(parameters["left_factor"], left, parameters["right_factor"], right)
    return {"combined": backend.to_host(combined)}


def _row_extrema(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    least, greatest = backend.row_extrema(load(backend, inputs["matrix"]), **parameters)
    return {"least": least, "greatest": greatest}


def _column_histograms(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    found = backend.column_histograms(load(backend, inputs["codes"]))
    return {"symbols": found.symbols, "counts": found.counts, "offsets": found.offsets}


def _accumulate(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    total = load(backend, inputs["total"])
    left, right = load(backend, inputs["left"]), load(backend, inputs["right"])
    backend.accumulate(total, left, right, inputs.get("weights"))
    return {"total": backend.to_host(total)}


def _solve(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    target, factor = load(backend, inputs["target"]), load(backend, inputs["factor"])
    return {"solution": backend.to_host(backend.solve(target, factor))}


def _solve_reversed(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    target, factor = load(backend, inputs["target"]), load(backend, inputs["factor"])
    return {"solution": backend.to_host(backend.solve_reversed(target, factor, **parameters))}


def _hadamard(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    mixed = backend.hadamard(load(backend, inputs["matrix"]), inputs["base"])
    return {"mixed": backend.to_host(mixed)}


def codebook(inputs: Inputs, parameters: Parameters) -> Codebook:
    """The codebook that the parameter `codebook` names, from the tensors that go with it."""
    kind = parameters["codebook"]
    if kind == "uniform":
        return UniformLattice(parameters["spacing"])
    if kind == "scaled":
        return ScaledLattice(parameters["step"], inputs["spacing"], parameters["lmmse"])
    if kind == "affine":
        return AffineGrid(inputs["scale"], inputs["zero"], inputs["group"], parameters["maximum"])
    return FloatGrid(inputs["scale"], inputs["group"], FORMATS[kind])


def _sic(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    target = load(backend, inputs["target"])
    factor = load(backend, inputs["factor"]) if "factor" in inputs else None
    rows, columns = inputs["target"].shape
    codes = backend.zeros(rows, columns, np.int32)
    span = parameters["start"], parameters["stop"]
    gains = backend.sic(target, codes, factor, codebook(inputs, parameters), *span)
    return {"target": backend.to_host(target), "codes": backend.to_host(codes), "gains": gains}


def _grid_error(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    matrix = load(backend, inputs["matrix"])
    error = backend.grid_error(matrix, inputs["scale"], inputs["zero"], parameters["maximum"])
    return {"error": error}


OPERATIONS: dict[str, Call] = {
    "from_host": _from_host,
    "to_host": _to_host,
    "shape": _shape,
    "dtype": _dtype,
    "zeros": _zeros,
    "convert": _convert,
    "transpose": _of_one_matrix("transpose", "transposed"),
    "take": _take,
    "scatter_columns": _scatter,
    "diagonal": _diagonal,
    "with_diagonal": _with_diagonal,
    "find_nonfinite": _find_nonfinite,
    "find_asymmetry": _find_asymmetry,
    "largest_magnitude": _largest_magnitude,
    "symmetrize": _of_one_matrix("symmetrize", "symmetric"),
    "combine": _combine,
    "multiply": _of_two_matrices("multiply", "product"),
    "divide": _of_one_matrix("divide", "quotient"),
    "scale_rows": _with_factors("scale_rows"),
    "scale_columns": _with_factors("scale_columns"),
    "row_inner": _inner("row_inner"),
    "column_inner": _inner("column_inner"),
    "row_extrema": _row_extrema,
    "column_histograms": _column_histograms,
    "matmul": _of_two_matrices("matmul", "product"),
    "matmul_transposed": _of_two_matrices("matmul_transposed", "product"),
    "accumulate": _accumulate,
    "cholesky": _of_one_matrix("cholesky", "factor"),
    "solve": _solve,
    "solve_reversed": _solve_reversed,
    "hadamard": _hadamard,
    "sic": _sic,
    "grid_error": _grid_error,
}

# Algorithms ------------------------------------------------------------------------------------

METHODS: dict[str, Callable[..., Quantized]] = {
    "rtn": rtn,
    "gptq": gptq,
    "watersic": watersic,
    "waterfilling": waterfilling,
}


def _rotation(
    inputs: Inputs, parameters: Parameters, columns: int, backend: Operations
) -> Rotation | None:
    seed = parameters.pop("hadamard_seed", None)
    if "rotation" in inputs:
        return given_rotation(inputs["rotation"], columns, backend=backend)
    return None if seed is None else HadamardRotation(columns, seed)


def _quantized(
    case: Case, inputs: Inputs, parameters: Parameters, backend: Operations
) -> Mapping[str, Any]:
    columns = inputs["weight"].shape[1] if inputs["weight"].ndim == 2 else 0
    if case.function != "waterfilling":
        parameters["rotation"] = _rotation(inputs, parameters, columns, backend)
    tensors = {name: array for name, array in inputs.items() if name != "rotation"}
    parameters.setdefault("dtype", case.dtype)
    result = METHODS[case.function](**tensors, **parameters, backend=backend)
    outputs = describe(result)
    if "limit" in case.outputs:
        outputs |= {"limit": result.limit, "gap": result.gap}
    return outputs


def describe(result: Quantized) -> dict[str, Any]:
    """The exact outputs of an algorithm, by name."""
    outputs: dict[str, Any] = {"codes": result.codes, "dequantized": result.dequantized}
    scales = result.scales
    if isinstance(scales, GridScales):
        outputs |= {"scale": scales.scale, "zero": scales.zero, "group": scales.group}
    else:
        outputs |= {"row_scale": scales.row_scale, "column_scale": scales.column_scale}
        outputs["spacing"] = np.float64(result.parameters["spacing"])
    rates = result.rates
    outputs |= {
        "rate": np.float64(rates.rate),
        "rate_column": np.float64(rates.rate_column),
        "rate_pooled": np.float64(rates.rate_pooled),
        "rate_huffman": np.float64(rates.rate_huffman),
        "distortion": np.float64(result.distortion),
        "weight_mean_square": np.float64(result.weight_mean_square),
        "rate_met": np.bool_(result.rate_met),
    }
    return outputs


FUNCTIONS: dict[str, Call] = {**OPERATIONS, **PARTS, **SCALARS, **ORDER_FREE}


def kind_of(function: str) -> str:
    """Which of `case.KINDS` a function is. `BadInput` if there is no such function."""
    if function in OPERATIONS:
        return "operation"
    if function in METHODS or function in PARTS or function in ORDER_FREE:
        return "algorithm"
    if function in SCALARS:
        return "scalar"
    raise BadInput(f"no golden function is called {function!r}")
