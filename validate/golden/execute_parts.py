"""How are the parts of algorithms called that run on the operations of a backend?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.bases.rotation import HadamardRotation, Rotation, given_rotation
from ...reference.calibration.mixing import Moments, mix_moments
from ...reference.calibration.moments import MomentAccumulator
from ...reference.methods.grid_fitting import GridFormat, find_grids
from ...reference.methods.rescalers import RescaleProblem, rescale
from ...reference.operations import Operations

Inputs = Mapping[str, NDArray]
Parameters = dict[str, Any]
Call = Callable[[Operations, Inputs, Parameters], Mapping[str, Any]]


def _rotate(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    """W V, or with `direction` "back" W Vᵀ, "covariance" Vᵀ Σ V, "both" Vᵀ M V."""
    matrix = inputs["matrix"]
    columns = matrix.shape[1]
    rotation: Rotation
    if "rotation" in inputs:
        rotation = given_rotation(inputs["rotation"], columns, backend=backend)
    else:
        rotation = HadamardRotation(columns, parameters["hadamard_seed"])
    turn = {
        "columns": rotation.rotate_columns,
        "back": rotation.unrotate_columns,
        "both": rotation.rotate_both,
        "covariance": rotation.rotate_covariance,
    }[parameters["direction"]]
    return {"rotated": backend.to_host(turn(backend, backend.from_host(matrix, matrix.dtype)))}


def _moment(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    """M = Σ w·l·rᵀ / Σ w of tokens that arrive in batches of these sizes."""
    left, right, weights = inputs["left"], inputs["right"], inputs.get("weights")
    dtype = np.dtype(parameters["moment_dtype"])
    accumulator = MomentAccumulator(left.shape[1], right.shape[1], dtype, backend)
    first = 0
    for size in parameters["batches"]:
        batch = slice(first, first + size)
        accumulator.add(left[batch], right[batch], None if weights is None else weights[batch])
        first += size
    return {
        "moment": backend.to_host(accumulator.moment()),
        "total_weight": np.float64(accumulator.total_weight),
    }


def _find_grids(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    """Scale and zero point of every group of neighbouring columns."""
    form = GridFormat(
        parameters["format"],
        parameters.get("bits"),
        parameters.get("asymmetric", False),
        parameters.get("mse", False),
    )
    matrix = backend.from_host(inputs["matrix"], inputs["matrix"].dtype)
    scale, zero, group = find_grids(backend, matrix, parameters.get("group_size"), form)
    return {"scale": scale, "zero": zero, "group": group}


def _rescale(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    """Row scales t and column gains g; everything in float64."""
    problem = RescaleProblem(
        backend,
        backend.from_host(inputs["lattice_points"], np.float64),
        backend.from_host(inputs["covariance_quantized"], np.float64),
        backend.from_host(inputs["target_moment"], np.float64),
        parameters["clean_energy"],
    )
    row_scale, gains = rescale(problem, inputs["gains"])
    return {"row_scale": row_scale, "gains": gains}


def _mix_moments(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
    """Both mixings of weighted and unweighted moments, with or without drift."""

    def moments(prefix: str) -> Moments:
        names = ("covariance", "covariance_quantized", "cross_covariance")
        given = {
            name: backend.from_host(inputs[f"{prefix}_{name}"], inputs[f"{prefix}_{name}"].dtype)
            for name in names
            if f"{prefix}_{name}" in inputs
        }
        return Moments(**given)

    mixed = mix_moments(backend, moments("weighted"), moments("unweighted"), **parameters)
    return {
        name: backend.to_host(matrix) for name, matrix in vars(mixed).items() if matrix is not None
    }


PARTS: dict[str, Call] = {
    "rotate": _rotate,
    "moment": _moment,
    "find_grids": _find_grids,
    "rescale": _rescale,
    "mix_moments": _mix_moments,
}
