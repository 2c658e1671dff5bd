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
>>> given = {"eigenvalues": np.array([4.0, 1.0]), "eigenvectors": np.eye(2), "lmmse": False}
>>> result = waterfilling(np.array([[0.8, 0.8]]), np.diag([4.0, 1.0]), spacing=1.0, **given)
>>> result.codes, result.dequantized
(array([[2, 1]], dtype=int32), array([[1., 1.]]))

Exercise: σ² = 0.64, so the components have the variances 2.56 and 0.64. With which c does the
second one fall silent? (Check: from c²/12 = 0.64 on, c = 2.772.)

>>> [waterfilling(np.array([[0.8, 0.8]]), np.diag([4.0, 1.0]), spacing=c, **given)
...  .parameters["active"] for c in (2.77, 2.78)]
[2, 1]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..arithmetic.logarithm import decimal_sqrt, exact, to_float, working_precision
from ..bases.rotation import given_rotation
from ..coding.histogram import column_histograms
from ..coding.rates import SideInformation, lattice_rates, measure, overhead
from ..errors import BadInput
from ..grids.codebooks import ScaledLattice
from ..limits.distortion import mean_square
from ..limits.gaussian_limit import eigenbasis
from ..limits.waterfilling import allocate_rate
from ..operations import Operations
from ..operations.layer import Layer, check_finite, prepare
from .lattice import LatticeCodes, check_spacing
from .preparation import checked_eigenvalues, rotated, without_drift
from .rate_search import SpacingChoice, Trial, find_spacing
from .results import LatticeScales, Quantized, finish


def waterfilling(
    weight: ArrayLike | Layer,
    covariance: ArrayLike | None = None,
    *,
    rate: float | None = None,
    spacing: float | None = None,
    open_loop: bool = False,
    rate_measure: str = "rate",
    lmmse: bool = True,
    eigenvalues: ArrayLike | None = None,
    eigenvectors: NDArray | None = None,
    dtype: DTypeLike | None = None,
    backend: Operations | str | None = None,
) -> Quantized:
    """Quantise a layer in the eigenbasis of Σ with the same spacing for every active component.

    Derivation, worked example and exercise:
    `help("waterlevel.reference.methods.waterfilling_quantizer")`.

    Args:
        weight: W, a×n, array_like (see `operations.layer.prepare`); or a prepared layer, which
            stands for W, Σ, dtype and backend.
        covariance: Σ = E[x xᵀ], n×n, a mean over tokens and not a sum.
        rate: R, the rate in bits per weight that is searched for. spacing: c itself, in the units
            of W·V·√λ, without a search. open_loop: take the spacing from R by the water level,
            without a search.
        rate_measure: which rate is searched for: "rate" (all that a file needs), "rate_column" or
            "rate_pooled", see `coding.rates`.
        lmmse: use the gains γ.
        eigenvalues, eigenvectors: λ, n numbers, those below 0 taken for 0, and V, n×n, column k for
            λ_k. Both or neither: without them LAPACK finds them, and the bits are those of its V.
        dtype: the working dtype, float64 (the default) or float32.
        backend: the operations to run on, or their name ("numba", "cupy", …); None is the oracle.

    Returns:
        Codes and scales in the eigenbasis (0 for inactive components), Ŵ, rates, distortion, limit
        and gap. V is not counted in any rate.

    Raises:
        BadInput: an argument or a matrix that the method is not defined for, in one line.
        CodeOverflow: a code beyond int32. A rate that was not met is a `RateNotMet` warning.

    Exactness: bits, given λ and V, for everything but limit and gap.
    """
    choice = SpacingChoice(rate, spacing, open_loop, rate_measure)
    layer = prepare(weight, covariance, dtype=dtype, backend=backend)
    layer = without_drift(layer, "waterfilling")
    rows, columns = layer.shape
    backend = layer.backend
    spectrum, eigenvectors = _eigenbasis(layer, eigenvalues, eigenvectors)
    rotation = given_rotation(eigenvectors, columns, kind="eigenvectors", backend=backend)
    with np.errstate(over="ignore"):
        variances = mean_square(layer) * spectrum
    if not np.isfinite(variances).all():
        raise BadInput("a variance σ²·λ overflows float64; scale the weight or the covariance down")
    lengths = np.sqrt(spectrum).astype(backend.dtype(layer.weight))
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
        eigenvalues=spectrum,
    )


def _eigenbasis(
    layer: Layer, eigenvalues: ArrayLike | None, eigenvectors: NDArray | None
) -> tuple[NDArray[np.float64], NDArray]:
    if (eigenvalues is None) != (eigenvectors is None):
        there, missing = "eigenvectors", "eigenvalues"
        if eigenvectors is None:
            there, missing = missing, there
        raise BadInput(f"{there} is given without {missing}; give both, or neither to find them")
    if eigenvectors is None:
        assert layer.given_covariance is not None
        return eigenbasis(layer.given_covariance)
    found = checked_eigenvalues(eigenvalues, layer.shape[1])
    assert found is not None
    return found, eigenvectors
