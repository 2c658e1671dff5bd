"""How are the functions called that compute numbers on the host, which no backend touches?

They are cases all the same: somebody who writes an algorithm in another language needs them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.arithmetic.logarithm import exp2, inverse_square_root, log2
from ...reference.arithmetic.sums import tree_sum
from ...reference.bases.hadamard import base_matrix
from ...reference.calibration.budget import RateBudget
from ...reference.calibration.mixing import golden_section
from ...reference.calibration.moments import token_importance
from ...reference.coding.huffman import code_lengths
from ...reference.coding.rates import SideInformation, column_histograms, grid_rates, lattice_rates
from ...reference.grids.float_formats import FORMATS
from ...reference.limits.waterfilling import Allocation, allocate_distortion, allocate_rate
from ...reference.methods.preparation import live_features
from ...reference.methods.rate_search import open_loop_spacing
from ...reference.operations import Operations

Inputs = Mapping[str, NDArray]
Parameters = dict[str, Any]
Call = Callable[[Operations, Inputs, Parameters], Mapping[str, Any]]


def _tree_sum(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    return {"sum": tree_sum(inputs["values"])}


def _elementwise(function: Callable[[Any], float]) -> Call:
    def call(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
        return {"y": np.array([function(x) for x in inputs["x"].tolist()], np.float64)}

    return call


def _rates(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    """Of codes of the live columns; `bits` for a finite grid."""
    histograms = column_histograms(inputs["codes"])
    size = len(inputs["codes"]), parameters["columns"]
    side = SideInformation(
        parameters["column_bits"], parameters["row_bits"], parameters["matrix_bits"]
    )
    if "bits" in parameters:
        found = grid_rates(histograms, *size, side, parameters["bits"])
    else:
        found = lattice_rates(histograms, *size, side)
    return {name: np.float64(v) for name, v in asdict(found).items() if v is not None}


def _code_lengths(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    return {"lengths": np.array(code_lengths(inputs["counts"].tolist()), np.int64)}


def _allocation(found: Allocation) -> Mapping[str, Any]:
    return {
        "water_level": np.float64(found.water_level),
        "rate": np.float64(found.rate),
        "distortion": np.float64(found.distortion),
        "active": found.active,
    }


def _allocate_rate(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    return _allocation(allocate_rate(inputs["variances"], parameters["rate"]))


def _allocate_distortion(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    return _allocation(allocate_distortion(inputs["variances"], parameters["distortion"]))


def _open_loop_spacing(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    spacing = open_loop_spacing(inputs["mean_squares"], inputs["diagonal"], parameters["rate"])
    return {"spacing": np.float64(spacing)}


def _token_importance(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    return {"importance": token_importance(inputs["attention"], inputs.get("visible"))}


def _live_features(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    return {"live": live_features(inputs["diagonal"], parameters["threshold"])}


def _base_matrix(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    return {"base": base_matrix(parameters["m"])}


def _float_format(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    form = FORMATS[parameters["format"]]
    codes = form.nearest(inputs["values"])
    return {"codes": codes, "nearest": form.values(codes, inputs["values"].dtype)}


def _rate_budget(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    sizes = {str(i): int(size) for i, size in enumerate(inputs["sizes"])}
    budget, targets = RateBudget(sizes, parameters["rate"]), []
    for layer, spent in zip(sizes, inputs["spent"].tolist(), strict=True):
        targets.append(budget.next_rate())
        budget.spend(layer, spent)
    return {"targets": np.array(targets), "remaining_bits": np.float64(budget.remaining_bits)}


def _golden_section(
    backend: Operations, inputs: Inputs, parameters: Parameters
) -> Mapping[str, Any]:
    """On the objective (x - minimum)²."""
    minimum, visited = parameters["minimum"], []

    def objective(x: float) -> float:
        visited.append(x)
        return (x - minimum) * (x - minimum)

    point, value = golden_section(objective, parameters["steps"])
    return {
        "visited": np.array(visited),
        "point": np.float64(point),
        "value": np.float64(value),
    }


SCALARS: dict[str, Call] = {
    "tree_sum": _tree_sum,
    "log2": _elementwise(log2),
    "exp2": _elementwise(exp2),
    "inverse_square_root": _elementwise(inverse_square_root),
    "rates": _rates,
    "code_lengths": _code_lengths,
    "allocate_rate": _allocate_rate,
    "allocate_distortion": _allocate_distortion,
    "open_loop_spacing": _open_loop_spacing,
    "token_importance": _token_importance,
    "live_features": _live_features,
    "base_matrix": _base_matrix,
    "float_format": _float_format,
    "rate_budget": _rate_budget,
    "golden_section": _golden_section,
}
