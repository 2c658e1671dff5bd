"""A backend whose matrices cannot be looked into: only its operations know what is inside.

An algorithm that treats a matrix as a NumPy array works on the oracle and fails on a device. On
this backend it fails at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waterlevel.reference.operations.numpy_operations import NUMPY


@dataclass(frozen=True, eq=False)
class Box:
    content: np.ndarray

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("NumPy was handed a matrix of another backend")


class OpaqueOperations:
    """Every operation of the oracle, on boxed matrices."""

    name = "opaque"

    def __getattr__(self, operation: str) -> Any:
        function = getattr(NUMPY, operation)

        def call(*arguments: Any) -> Any:
            opened = [a.content if isinstance(a, Box) else a for a in arguments]
            result = function(*opened)
            matrix = isinstance(result, np.ndarray) and result.ndim == 2
            return Box(result) if matrix and operation != "to_host" else result

        return call


OPAQUE: Any = OpaqueOperations()
