"""What can be said of a quantised weight once Σ, the second moment of the layer's inputs, is known?

The distortion D = tr((Ŵ-W) Σ (Ŵ-W)ᵀ)/(a·n), the rate that reverse waterfilling needs for it, and
what RTN, GPTQ and WaterSIC reach when they may spend as much.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput, WaterlevelError
from ...reference.limits.gaussian_limit import covariance_eigenvalues, rate_limit
from ...reference.methods.gptq import gptq
from ...reference.methods.rtn import rtn
from ...reference.methods.watersic import watersic
from ...reference.operations import Operations
from ...reference.operations.numpy_operations import NUMPY
from ..layers.layer_files import covariance_of, read_layer

Moments = Callable[[str], NDArray[np.float64] | None]


def no_moments(name: str) -> None:
    """Σ of no layer is known."""


def moments_in(directory: Path) -> Moments:
    """Σ of the weight NAME, from the layer file NAME.safetensors; None where there is no file.

    Raises:
        BadInput: not a directory; later, a file that is no layer file.
    """
    if not directory.is_dir():
        raise BadInput(f"{directory}: not a directory with layer files")

    def moment(name: str) -> NDArray[np.float64] | None:
        path = directory / f"{Path(name).name}.safetensors"
        if not path.exists():
            return None
        return covariance_of(read_layer(path), NUMPY, np.float64).astype(np.float64, copy=False)

    return moment


def distortion_and_limit(
    dequantized: NDArray, original: NDArray, covariance: NDArray[np.float64]
) -> tuple[float, float]:
    """D, and the least rate for Gaussian weights at this D in bits per weight; float64 sums."""
    difference = dequantized.astype(np.float64) - original
    distortion = float(np.einsum("ij,ij->", difference @ covariance, difference)) / original.size
    square = float(np.mean(original.astype(np.float64) ** 2))
    return distortion, rate_limit(covariance_eigenvalues(covariance), square, distortion)


def reached_by_methods(
    name: str, original: NDArray, covariance: NDArray[np.float64], rate: float, backend: Operations
) -> dict[str, float]:
    """D of RTN, GPTQ (activation order) and WaterSIC, entropy coded at `rate` bits per weight.

    The rate counts all side information. NaN where a method cannot have this rate: the side
    information of WaterSIC alone may be more on a small weight.

    Raises:
        BadInput: Σ that is not positive definite, with the remedy.
    """
    weight, eigenvalues = original.astype(np.float64), covariance_eigenvalues(covariance)
    common = {"rate": rate, "backend": backend, "eigenvalues": eigenvalues}
    runs = {
        "RTN": lambda: rtn(weight, covariance, **common),
        "GPTQ": lambda: gptq(weight, covariance, actorder=True, **common),
        "WaterSIC": lambda: watersic(weight, covariance, **common),
    }
    reached = {}
    for method, run in runs.items():
        try:
            result = run()
        except WaterlevelError as error:
            raise BadInput(f"{name}: {method} cannot be run: {error}") from None
        reached[method] = result.distortion if result.rate_met else float("nan")
    return reached
