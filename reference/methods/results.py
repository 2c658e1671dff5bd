"""What comes out of a quantiser, and how good is it?

The distortion is what the layer's output loses, per weight:

    D = tr((Ŵ-W) Σ (Ŵ-W)ᵀ) / (a·n) = E|W x - Ŵ x|² / (a·n)

and the limit is the rate that reverse waterfilling needs for this D if the weights are Gaussian
with one variance σ² = mean(W²): no quantiser of such weights can do with less. The gap is what a
method pays above it, in bits per weight. Limit and gap need the eigenvalues of Σ, which LAPACK
finds to rounding and not to the bit; they stand outside the exact path, and are computed when asked
for.

Worked example: one weight, W = 1.2 → Ŵ = 1 with Σ = 1: D = 0.04, σ² = 1.44, and the limit is
½·log2(1.44/0.04) = log2 6.

>>> import numpy as np
>>> from .watersic import watersic
>>> one = np.ones((1, 1))
>>> result = watersic(1.2 * one, one, spacing=1.0, damping=0.0, lmmse=False, rescale=False)
>>> result.codes, round(result.distortion, 12), round(result.limit, 6)
(array([[1]], dtype=int32), 0.04, 2.584963)

Exercise: what is the gap here, and what is wrong with it? (Check: one code has no entropy, so the
gap is minus the limit. A rate that is measured on a handful of rows says nothing.)

>>> result.rates.rate_column, result.gap == -result.limit
(0.0, True)
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bases.rotation import Rotation
from ..coding.rates import Rates
from ..errors import RateNotMet
from ..limits.distortion import distortion, mean_square
from ..limits.gaussian_limit import covariance_eigenvalues, rate_limit
from ..operations import Matrix
from ..operations.layer import Layer, check_finite


@dataclass(frozen=True)
class LatticeScales:
    """Ŵ = (row_scale·codes)·column_scale, in the basis in which the layer was quantised.

    Attributes:
        row_scale: a numbers, column_scale: n numbers, both in the working dtype.
    """

    row_scale: NDArray
    column_scale: NDArray


@dataclass(frozen=True)
class GridScales:
    """Ŵ = scale·(codes - zero), or scale·value(codes) for float formats.

    Attributes:
        scale: a×groups in the working dtype. zero: a×groups int32.
        group: n int32, the group of each column.
    """

    scale: NDArray
    zero: NDArray[np.int32]
    group: NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False)
class Quantized:
    """A quantised layer; all arrays on the host.

    Attributes:
        method: "rtn", "gptq", "watersic" or "waterfilling".
        parameters: every parameter of the method, ready for JSON.
        codes: a×n int32; scales: what turns them into numbers. Exact. With a rotation both are in
            the rotated basis.
        dequantized: Ŵ, a×n in the working dtype, in the original basis. Exact.
        rates: bits per weight, see `rates`. Exact.
        distortion: D, float64, in the original basis. Exact. With activation drift it is
            E|W x - Ŵ x̂|²/(a·n).
        weight_mean_square: σ². Exact.
        rate_met: False if a rate was searched for and not found within `rate_search.TOLERANCE`.
        eigenvalues: of Σ, where they are known. covariance: Σ as it was given, from which they can
            be had. Both None where the limit is not defined (activation drift).
    """

    method: str
    parameters: dict[str, Any]
    codes: NDArray[np.int32]
    scales: LatticeScales | GridScales
    dequantized: NDArray
    rates: Rates
    distortion: float
    weight_mean_square: float
    rate_met: bool
    eigenvalues: NDArray | None
    covariance: NDArray | None

    @cached_property
    def limit(self) -> float:
        """The limit for Gaussian weights at this distortion, bits per weight.

        NaN where it is not defined. Outside the exact path: the eigenvalues carry an error of
        about n·2⁻⁵³ times the largest, see `limits.gaussian_limit`.
        """
        eigenvalues = self.eigenvalues
        if eigenvalues is None:
            if self.covariance is None:
                return float("nan")
            eigenvalues = covariance_eigenvalues(self.covariance)
        return rate_limit(eigenvalues, self.weight_mean_square, self.distortion)

    @cached_property
    def gap(self) -> float:
        """rate_column - limit, bits per weight; NaN where the limit is not defined."""
        return self.rates.rate_column - self.limit

    def summary(self) -> list[tuple[str, str]]:
        """What it cost and what it lost: (name, value) pairs in the order in which they matter."""
        rows, columns = self.codes.shape
        how = {name: self.parameters.get(name) for name in ("bits", "group_size", "rate")}
        asked = ", ".join(f"{name} {value:g}" for name, value in how.items() if value is not None)
        met = "" if self.rate_met else ", which is not the rate that was asked for"
        where = f"{self.parameters['dtype']} on {self.parameters['backend']}"
        return [
            ("method", f"{self.method}{', ' if asked else ''}{asked}"),
            ("layer", f"{rows}×{columns}, {where}"),
            ("rate", f"{self.rates.rate:.4f} bits per weight{met}"),
            ("distortion", f"{self.distortion:.6g}, the squared error of the output per weight"),
            ("gap", f"{self.gap:.4f} bit above the limit of {self.limit:.4f}"),
        ]

    def __repr__(self) -> str:
        return "\n".join(f"{name:>10}: {value}" for name, value in self.summary())

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in self.summary())
        return f"<table>{''.join(cells)}</table>"

    def save(self, path: str | PathLike[str]) -> None:
        """Write codes, scales, Ŵ and the numbers: the file that `waterlevel quantize` writes.

        Raises:
            BadInput: a place where no file can be written. OSError: it could not be written;
                what was there before still is.
        """
        import_module("...validate.layers.result_files", __package__).save(path, self)


def finish(
    layer: Layer,
    rotation: Rotation | None,
    *,
    method: str,
    parameters: dict[str, Any],
    codes: Matrix,
    scales: LatticeScales | GridScales,
    dequantized: Matrix,
    rates: Rates,
    rate_met: bool,
    eigenvalues: NDArray | None,
) -> Quantized:
    """Bring a result back to the host, to the original basis, and measure it.

    Args:
        layer: the original layer. rotation: the one in whose basis it was quantised, if any.
        codes: a×n int32, dequantized: Ŵ in the rotated basis, both on the layer's backend.
        eigenvalues: of Σ, or None if they are not known.

    Raises:
        BadInput: Ŵ or its distortion overflows.
    """
    backend = layer.backend
    if rotation is not None:
        dequantized = rotation.unrotate_columns(backend, dequantized)
    check_finite(backend, dequantized, "the dequantized weight")
    drift = layer.covariance_quantized is not None
    if not rate_met:
        warnings.warn(
            f"{method}: a rate of {parameters['rate']:g} was not met; the closest is "
            f"{getattr(rates, parameters['rate_measure']):.4f} bits per weight",
            RateNotMet,
            stacklevel=_outside(),
        )
    return Quantized(
        method=method,
        parameters={
            **parameters,
            "rotation": None if rotation is None else rotation.describe(),
            "dtype": backend.dtype(layer.weight).name,
            "backend": backend.name,
        },
        codes=backend.to_host(codes),
        scales=scales,
        dequantized=backend.to_host(dequantized),
        rates=rates,
        distortion=distortion(layer, dequantized),
        weight_mean_square=mean_square(layer),
        rate_met=rate_met,
        eigenvalues=None if drift else eigenvalues,
        covariance=None if drift else layer.given_covariance,
    )


def _outside() -> int:
    """The stack level of whoever called the method: the first frame outside of this package."""
    package, level, frame = __name__.rpartition(".methods.")[0], 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(package):
        level, frame = level + 1, frame.f_back
    return level
