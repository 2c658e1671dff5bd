"""What does it cost to follow reverse waterfilling to the letter?

Reverse waterfilling tells how to share a distortion among independent components. The columns of a
weight are not independent with respect to Σ, but in the basis of its eigenvectors they are:
tr(E Σ Eᵀ) = Σ_k λ_k·‖E v_k‖². So turn the weight, W V, scale component k by √λ_k, give every
component whose variance σ²λ_k is above the water level θ the same spacing

    c = √(12·θ)      (α_k = c/√λ_k for the weight itself)

and none to the others: they are 0, which costs their variance and no bit. An entropy coder takes
the codes. At high rate this scheme, too, is 0.2546 bit above the limit. It needs V, n² numbers that
have to be multiplied with at run time, and this is what WaterSIC saves.

The level and the set of active components follow from each other (`waterfilling`); here c
determines both, θ = c²/12, and c is the one number that is searched for. A component gets the LMMSE
gain of `codebooks`, as in WaterSIC, or γ = 1.

Worked example: Σ = diag(4, 1), already in its eigenbasis. With c = 1 and W = (0.8, 0.8) the scaled
components are 1.6 and 0.8, the codes 2 and 1, the spacings ½ and 1: as by WaterSIC, whose L is √Σ.

>>> import numpy as np
>>> result = waterfilling(np.array([[0.8, 0.8]]), np.diag([4.0, 1.0]), np.array([4.0, 1.0]),
...                    np.eye(2), spacing=1.0, lmmse=False)
>>> result.codes, result.dequantized
(array([[2, 1]], dtype=int32), array([[1., 1.]]))

Exercise: σ² = 0.64, so the components have the variances 2.56 and 0.64. With which c does the
second one fall silent? (Check: from c²/12 = 0.64 on, c = 2.772.)

>>> [waterfilling(np.array([[0.8, 0.8]]), np.diag([4.0, 1.0]), np.array([4.0, 1.0]), np.eye(2),
...            spacing=c, lmmse=False).parameters["active"] for c in (2.77, 2.78)]
[2, 1]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arithmetic.logarithm import decimal_sqrt, exact, to_float, working_precision
from ..bases.rotation import given_rotation
from ..coding.histogram import column_histograms
from ..coding.rates import SideInformation, lattice_rates, measure, overhead
from ..errors import BadInput
from ..grids.codebooks import ScaledLattice
from ..limits.distortion import mean_square
from ..limits.waterfilling import allocate_rate
from ..operations import Operations
from ..operations.layer import check_finite, prepare
from ..operations.numpy_operations import NUMPY
from .lattice import LatticeCodes, check_spacing
from .preparation import checked_eigenvalues, rotated
from .rate_search import SpacingChoice, Trial, find_spacing
from .results import LatticeScales, Quantized, finish


def waterfilling(
    weight: NDArray,
    covariance: NDArray,
    eigenvalues: NDArray,
    eigenvectors: NDArray,
    *,
    rate: float | None = None,
    spacing: float | None = None,
    open_loop: bool = False,
    rate_measure: str = "rate",
    lmmse: bool = True,
    dtype: DTypeLike = np.float64,
    backend: Operations = NUMPY,
) -> Quantized:
    """Quantise a layer in the eigenbasis of Σ with the same spacing for every active component.

    Args:
        weight: W, a×n. covariance: Σ, n×n.
        eigenvalues: λ, n numbers; those below 0 are taken for 0. eigenvectors: V, n×n, column k
            belongs to λ_k. Both are inputs (`limit.eigenbasis` finds them by LAPACK).
        rate: R in bits per weight; spacing: c itself; open_loop, rate_measure: see
            `search.SpacingChoice`. The open loop takes c from the water level of R.
        lmmse: use the gains γ.
        dtype: the working dtype. backend: the operations to run on.

    Returns:
        Codes and scales in the eigenbasis (0 for inactive components), Ŵ, rates, distortion, limit
        and gap. V is not counted in any rate.

    Raises:
        BadInput, CodeOverflow.

    Exactness: bits, given λ and V, for everything but limit and gap.
    """
    choice = SpacingChoice(rate, spacing, open_loop, rate_measure)
    layer = prepare(weight, covariance, dtype=dtype, backend=backend)
    rows, columns = layer.shape
    spectrum = checked_eigenvalues(eigenvalues, columns)
    rotation = given_rotation(eigenvectors, columns, kind="eigenvectors", backend=backend)
    with np.errstate(over="ignore"):
        variances = mean_square(layer) * spectrum
    if not np.isfinite(variances).all():
        raise BadInput("a variance σ²·λ overflows float64; scale the weight or the covariance down")
    lengths = np.sqrt(spectrum).astype(dtype)
    number = lengths.dtype.type
    target = backend.scale_columns(rotated(layer, rotation).weight, lengths)
    check_finite(backend, target, "the target Y")
    side_information = SideInformation.watersic(row_scales=False)

    def active_at(c: float) -> NDArray[np.int64]:
        return np.flatnonzero((variances > c * c / 12.0) & (lengths > 0))

    def evaluate(c: float) -> Trial[LatticeCodes]:
        check_spacing(c, lengths.dtype)
        active = active_at(c)
        values = backend.take(target, None, active)
        codes = backend.zeros(rows, len(active), np.int32)
        gains = np.ones(0)
        histograms = column_histograms(np.zeros((rows, 0), np.int32))
        if len(active):
            spacing = number(c) / lengths[active]
            lattice = ScaledLattice(step=c, spacing=spacing, lmmse=lmmse)
            gains = backend.sic(values, codes, None, lattice, 0, len(active))
            histograms = backend.column_histograms(codes)
        found = measure(histograms, rows, columns, side_information, choice.rate_measure)
        return Trial(c, found, LatticeCodes(codes, values, gains, histograms))

    def spacing_of_level(target_rate: float) -> float:
        level = allocate_rate(variances, target_rate).water_level
        with working_precision():
            return to_float(decimal_sqrt(12 * exact(level))) if variances.any() else 1.0

    trial, rate_met = find_spacing(
        choice,
        evaluate,
        spacing_of_level,
        coarsest=spacing_of_level(0.0),
        least_rate=overhead(0, rows, columns, side_information, choice.rate_measure)
        if variances.any()
        else np.inf,
    )
    active = active_at(trial.spacing)
    column_scale = np.zeros(columns, number)
    column_scale[active] = trial.codes.gains.astype(number) * (
        number(trial.spacing) / lengths[active]
    )
    return finish(
        layer,
        rotation,
        method="waterfilling",
        parameters={
            **choice.parameters(),
            "spacing": trial.spacing,
            "active": len(active),
            "lmmse": lmmse,
        },
        codes=backend.scatter_columns(trial.codes.codes, active, columns),
        scales=LatticeScales(np.ones(rows, number), column_scale),
        dequantized=backend.scatter_columns(trial.codes.values, active, columns),
        rates=lattice_rates(trial.codes.histograms, rows, columns, side_information),
        rate_met=rate_met,
        spectrum=spectrum,
    )
