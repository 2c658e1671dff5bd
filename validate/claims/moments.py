"""Which Σ are tried, and in which basis?

Synthetic ones, whose numbers theory knows, and the second moments of real layers. Each can be used
as it stands or after a Haar rotation, VᵀΣV, with weights W V: the same problem in another basis.

| family | Σ as it stands |
|---|---|
| autoregressive | Σ_ij = ρ^|i-j|: neighbours are alike |
| log-normal | diagonal; ln λ are the n quantiles of N(0, d²), so "as it stands" is the eigenbasis |
| alternating | diagonal: 1, ε, 1, ε, … that is diag(1, ε), n/2 times |
| halves | diagonal: n/2 times 1, n/2 times ε; made to be rotated |
| a layer file | Σ of real activations |

A log-normal spectrum is made of quantiles and not drawn, so that repetitions differ in W and V
alone.

>>> from waterlevel.reference.operations.numpy_operations import NUMPY
>>> Synthetic("autoregressive", 0.5, 3).covariance(NUMPY)
array([[1.  , 0.5 , 0.25],
       [0.5 , 1.  , 0.5 ],
       [0.25, 0.5 , 1.  ]])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ...reference.errors import BadInput
from ...reference.operations import Operations
from ..layers.layer_files import LayerFile, covariance_of, read_layer


def _autoregressive(n: int, correlation: float) -> NDArray[np.float64]:
    places = np.arange(n)
    return correlation ** np.abs(places[:, None] - places)


def _log_normal(n: int, deviation: float) -> NDArray[np.float64]:
    return np.diag(np.exp(deviation * ndtri((np.arange(n) + 0.5) / n)))


def _alternating(n: int, log2_epsilon: float) -> NDArray[np.float64]:
    return np.diag(np.where(np.arange(n) % 2 == 0, 1.0, 2.0**log2_epsilon))


def _halves(n: int, log2_epsilon: float) -> NDArray[np.float64]:
    return np.diag(np.where(np.arange(n) < n // 2, 1.0, 2.0**log2_epsilon))


FAMILIES: dict[str, Callable[[int, float], NDArray[np.float64]]] = {
    "autoregressive": _autoregressive,
    "log-normal": _log_normal,
    "alternating": _alternating,
    "halves": _halves,
}
LAYER_DAMPING = 1e-4
LABELS = {
    "autoregressive": "AR(1) ρ={:g}",
    "log-normal": "ln λ sd {:g}",
    "alternating": "diag(1, 2^{:g})",
    "halves": "half 1, half 2^{:g}",
}


@dataclass(frozen=True)
class Synthetic:
    """A family of Σ with its one parameter (ρ, the deviation of ln λ, or log2 ε)."""

    family: str
    parameter: float
    n: int

    @property
    def damping(self) -> float:
        """δ of the general experiments: none."""
        return 0.0

    @property
    def label(self) -> str:
        """As it stands in tables."""
        return LABELS[self.family].format(self.parameter)

    def covariance(self, backend: Operations) -> NDArray[np.float64]:
        """Σ, n×n, as it stands."""
        return FAMILIES[self.family](self.n, self.parameter)

    def weight(self) -> NDArray[np.float64]:
        """There are no weights but drawn ones."""
        raise BadInput(f"{self.label} has no weights of its own")


@dataclass(frozen=True)
class Layer:
    """A layer file.

    Attributes:
        name: the file's. family: of models. type: "attention input", …
        shape: of the weight in the file. remarks: what must be said beside its numbers.
        moments: the digest of Σ; layers that see the same inputs (query, key, value) share it.
    """

    path: Path
    name: str
    family: str
    type: str
    shape: tuple[int, int]
    remarks: tuple[str, ...]
    moments: str

    @property
    def damping(self) -> float:
        """δ of the general experiments: the default of WaterSIC.

        The inputs of a layer behind a normalisation are nearly dependent, and without damping the
        errors in a direction that costs nothing grow until they cost something elsewhere.
        """
        return LAYER_DAMPING

    @property
    def n(self) -> int:
        """Inputs."""
        return self.shape[1]

    @property
    def label(self) -> str:
        """As it stands in tables: layers of one type of one family go together."""
        return f"{self.family} {self.type}"

    def covariance(self, backend: Operations) -> NDArray[np.float64]:
        """Σ of the file in float64."""
        return covariance_of(_read(self.path), backend, "float64").astype(np.float64)

    def weight(self) -> NDArray[np.float64]:
        """W of the file in float64."""
        return _read(self.path).weight.astype(np.float64)


Moment = Synthetic | Layer


def layer_of(path: Path) -> tuple[Layer, dict[str, str]]:
    """(the layer in this file, the SHA-256 of its tensors).

    Raises:
        BadInput, OSError: it is none.
    """
    file = read_layer(path)
    if file.weight.ndim != 2:
        raise BadInput(f"{path}: weight has {file.weight.ndim} dimensions, expected 2")
    described: dict[str, Any] = dict(file.description)
    rows, columns = file.weight.shape
    layer = Layer(
        path,
        path.stem,
        str(described.get("family", "own")),
        str(described.get("type", path.stem)),
        (rows, columns),
        tuple(str(remark) for remark in described.get("remarks") or ()),
        file.digests.get("covariance") or file.digests["covariance_factor"],
    )
    return layer, dict(file.digests)


@lru_cache(maxsize=2)
def _read(path: Path) -> LayerFile:
    return read_layer(path)
