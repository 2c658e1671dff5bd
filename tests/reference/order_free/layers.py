"""Layers for the tests of this folder: small, and some of them hostile."""

from __future__ import annotations

import numpy as np

from ...helpers.inputs import bell, lower


def layer(name: str, rows: int = 5, columns: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """W and L of a case."""
    rows, columns = {"one row": (1, columns), "one column": (rows, 1)}.get(name, (rows, columns))
    W, L = bell(1, (rows, columns), np.float64), lower(2, columns, np.float64)
    if name == "float32":
        W = W.astype(np.float32)
    elif name == "a large row":
        W[rows // 2] *= 300
    elif name == "zero rows":
        W[0] = W[-1] = 0
    elif name == "ill-conditioned":  # L's condition is 1e4, that of L Lᵀ its square
        L *= np.logspace(-4, 0, columns)
    return W, L


NAMES = (
    "plain", "float32", "a large row", "zero rows", "ill-conditioned", "one row", "one column",
)  # fmt: skip
