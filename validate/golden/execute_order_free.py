"""How are the order-free functions called, which run on no operations of a backend?

They are a contract of their own (`reference/order_free`): no sum rounds, so that no order of a sum
belongs to it. A backend that wants to be tried has a method of the same name as a case's function,
which takes the inputs and parameters of the case by their names and returns its outputs by theirs;
for any other backend there is nothing to try, and the reference is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.operations import Operations
from ...reference.order_free import order_free, order_free_cholesky, order_free_grid

Inputs = Mapping[str, NDArray]
Parameters = dict[str, Any]
Call = Callable[[Operations, Inputs, Parameters], Mapping[str, Any]]


def _cholesky(matrix: NDArray) -> Mapping[str, Any]:
    return {"factor": order_free_cholesky(matrix)}


def _lattice(weight: NDArray, factor: NDArray, **parameters: Any) -> Mapping[str, Any]:
    """Codes at a spacing, columns in the order of the factor."""
    found = order_free(weight, factor, **parameters)
    return {
        "codes": found.codes,
        "gains": found.gains,
        "column_scale": found.column_scale,
        "fraction_bits": np.int32(found.fraction_bits or 0),
    }


def _grid(weight: NDArray, factor: NDArray, **parameters: Any) -> Mapping[str, Any]:
    """Codes on finite grids; the factor is that of the columns order[::-1]."""
    found = order_free_grid(weight, factor, **parameters)
    return {
        "codes": found.codes,
        "dequantized": found.dequantized,
        "scale": found.scale,
        "zero": found.zero,
        "group": found.group,
        "slice_bits": np.int32(found.slice_bits or 0),
    }


def _own_or(reference: Callable[..., Mapping[str, Any]], name: str) -> Call:
    def call(backend: Operations, inputs: Inputs, parameters: Parameters) -> Mapping[str, Any]:
        return getattr(backend, name, reference)(**inputs, **parameters)

    return call


ORDER_FREE: dict[str, Call] = {
    "order_free_cholesky": _own_or(_cholesky, "order_free_cholesky"),
    "order_free_lattice": _own_or(_lattice, "order_free_lattice"),
    "order_free_grid": _own_or(_grid, "order_free_grid"),
}
