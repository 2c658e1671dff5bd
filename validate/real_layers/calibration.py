"""The calibration text, and the second moments of layer inputs over it.

With x₁ … x_N the inputs that a layer sees, one per token, its moments are Σ = (1/N) Σₜ xₜ xₜᵀ,
uncentred. Σ is positive definite as soon as the inputs span the space, and Σ = L Lᵀ with L lower
triangular. Layer files hold L, packed row by row: half the size of Σ, and any L with a positive
diagonal gives back a positive definite Σ, however its entries were rounded.

    >>> factor = np.array([[2.0, 0.0], [1.0, 3.0]])
    >>> pack_lower(factor)
    array([2., 1., 3.], dtype=float32)
    >>> unpack_lower(pack_lower(factor))
    array([[2., 0.],
           [1., 3.]])
"""

from __future__ import annotations

import hashlib
import math
import platform

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from .models import Float32

CORPUS = "pydoc_data.topics (documentation in the Python standard library, by sorted key)"


def text() -> str:
    """The corpus: about 465,000 characters of English and code, differing by Python version."""
    from pydoc_data.topics import topics

    return "\n".join(topics[key] for key in sorted(topics))


def describe(corpus: str, tokens: int, window: int) -> dict[str, str | int]:
    """What a manifest says about the calibration with `tokens` tokens of a text."""
    return {
        "corpus": CORPUS,
        "python": platform.python_version(),
        "text_sha256": hashlib.sha256(corpus.encode()).hexdigest(),
        "tokens": tokens,
        "window": window,
    }


class Moments:
    """Σ of one layer input, gathered batch by batch in float64 (BLAS order: not exact)."""

    def __init__(self, width: int) -> None:
        self.total = np.zeros((width, width))
        self.count = 0

    def add(self, x: Float32) -> None:
        """Takes x (…, width), one input per row."""
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        self.total += rows.T @ rows
        self.count += len(rows)

    def factor(self, name: str) -> NDArray[np.float64]:
        """L with L Lᵀ = Σ. Raises BadInput that names `name` where Σ is singular."""
        try:
            return np.linalg.cholesky(self.total / self.count).astype(np.float64)
        except np.linalg.LinAlgError:
            raise BadInput(
                f"covariance of {name} is not positive definite after {self.count} tokens; "
                "take more with --tokens"
            ) from None


class Recorder:
    """An observer of a block that feeds the moments of the layer types that are wanted."""

    def __init__(self, moments: dict[str, Moments]) -> None:
        self.moments = moments

    def __call__(self, kind: str, x: Float32) -> None:
        if kind in self.moments:
            self.moments[kind].add(x)


def pack_lower(factor: NDArray[np.float64]) -> Float32:
    """The lower triangle of a square matrix, row by row, in float32: n(n+1)/2 numbers."""
    return factor[np.tril_indices(len(factor))].astype(np.float32)


def unpack_lower(packed: Float32) -> NDArray[np.float64]:
    """The lower triangular n×n matrix of a packed one, in float64."""
    size = (math.isqrt(8 * len(packed) + 1) - 1) // 2
    factor = np.zeros((size, size))
    factor[np.tril_indices(size)] = packed
    return factor
