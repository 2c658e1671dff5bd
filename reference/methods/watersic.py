"""How close to the limit can a layer come without a rotation?

GPTQ puts the same lattice under every column, so column k contributes (α·L_kk)²/12 to the
distortion: columns with a large L_kk are too coarse and those with a small one finer than they need
to be. Reverse waterfilling says what is right: at high rate every component gets the same
distortion. WaterSIC obtains it with one spacing per column,

    α_k = c / L_kk        so that every column contributes c²/12,

and leaves the different variances of the codes to an entropy coder. At high rate D = c²/12, and the
codes of column k, about N(0, σ²L_kk²) in units of c, cost ½ log2(2πe·σ²L_kk²/c²) bits each
(`theory.scalar`). Their mean is R; put c² = 12·D into it and solve for D:

    D = (2πe/12)·σ²·(Π L_kk²)^(1/n)·2^(-2R)        and  Π L_kk² = det Σ = Π λ_k

Reverse waterfilling, all components standing out, has the same without 2πe/12. This factor, 0.2546
bit, is what every scalar quantiser pays; nothing else is lost, for every Σ, in every basis.

    Y = W L
    for k = n-1 … 0:
        z_k = rint(Y[:,k] / c)                        since α_k·L_kk = c
        γ_k = Σ z_k·Y[:,k] / Σ z_k² / c               gain, see `codebooks`
        e = z_k·(γ_k·α_k)                             column k of Ŵ, as far as the loop is concerned
        Y[:,j] -= e·L[k,j]  for j < k
    Ŵ = (row_scale·Z)·column_scale

with row_scale = t and column_scale = g·α from `rescalers`, or 1 and γ·α without them.

**A model that is quantised layer by layer.** Layer m sees the inputs x̂ of the layers already
quantised, not x. With Σ̂ = E[x̂ x̂ᵀ] and Σ_x = E[x x̂ᵀ] the error E|W x - Ŵ x̂|² is least for
Ŵ = W Σ_x Σ̂⁻¹, so the loop runs on L from Σ̂ towards Y = W Σ_x L⁻ᵀ. A layer that writes to the
residual stream r can also make good what earlier layers left there: Δ = E[(r - r̂) x̂ᵀ] is added to
W Σ_x. The damping is added to Σ̂ and Σ_x alike, so that without drift nothing but W L is left.

Worked example: Σ = diag(4, 1), so L = diag(2, 1), and c = 1 gives the spacings ½ and 1. W = (0.8,
0.8) becomes Y = (1.6, 0.8), codes (2, 1), and without gains Ŵ = (2·½, 1·1).

>>> import numpy as np
>>> result = watersic(np.array([[0.8, 0.8]]), np.diag([4.0, 1.0]), spacing=1.0,
...                   damping=0.0, lmmse=False, rescale=False)
>>> result.codes, result.scales.column_scale, result.dequantized
(array([[2, 1]], dtype=int32), array([0.5, 1. ]), array([[1., 1.]]))

Exercise: with gains and one row, what is Ŵ? (Check: γ_k scales each code to its target, Ŵ = W.)

>>> watersic(np.array([[0.8, 0.8]]), np.diag([4.0, 1.0]), spacing=1.0, damping=0.0,
...          rescale=False).dequantized
array([[0.8, 0.8]])

Source: WaterSIC (2026); the choices that a formula leaves open follow the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..bases.named import rotation_of
from ..bases.rotation import Rotation
from ..coding.histogram import ColumnHistograms, column_histograms
from ..coding.rates import SideInformation, lattice_rates
from ..grids.codebooks import ScaledLattice
from ..limits.distortion import inner
from ..operations import Matrix, Operations
from ..operations.layer import Layer, check_finite, prepare
from .lattice import quantize_on_lattice
from .preparation import (
    checked_eigenvalues,
    damped,
    damping_amount,
    factorize,
    live_features,
    original_columns,
    rotated,
)
from .rate_search import SpacingChoice
from .rescalers import RescaleProblem, rescale as find_scales
from .results import LatticeScales, Quantized, finish


def watersic(
    weight: ArrayLike | Layer,
    covariance: ArrayLike | None = None,
    *,
    rate: float | None = None,
    spacing: float | None = None,
    open_loop: bool = False,
    rate_measure: str = "rate",
    lmmse: bool = True,
    rescale: bool = True,
    damping: float = 1e-4,
    dead_threshold: float = 1e-3,
    covariance_quantized: ArrayLike | None = None,
    cross_covariance: ArrayLike | None = None,
    residual_covariance: ArrayLike | None = None,
    rotation: Rotation | str | None = None,
    eigenvalues: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    backend: Operations | str | None = None,
) -> Quantized:
    """Quantise a layer by WaterSIC.

    Derivation, worked example and exercise: `help("waterlevel.reference.methods.watersic")`.

    Args:
        weight: W, a×n, array_like (see `operations.layer.prepare`); or a prepared layer, which
            stands for W, Σ, dtype and backend.
        covariance: Σ = E[x xᵀ], n×n, a mean over tokens and not a sum.
        rate: R, the rate in bits per weight that is searched for. spacing: c itself, in the units
            of W·L, without a search. open_loop: take the spacing from R by formula, without a
            search.
        rate_measure: which rate is searched for: "rate" (all that a file needs), "rate_column" or
            "rate_pooled", see `coding.rates`.
        lmmse: use the gains γ. rescale: find row and column scales at the end.
        damping: δ, in parts of the mean diagonal of Σ. dead_threshold: τ, in parts of the median of
            diag Σ; features below it are left out.
        covariance_quantized, cross_covariance: Σ̂ and Σ_x, n×n, for activation drift.
        residual_covariance: Δ, a×n.
        rotation: quantise W V with VᵀΣV, undone in `dequantized`: "hadamard", "haar" (both with
            seed 0), or a `Rotation`; None for no rotation.
        eigenvalues: λ of Σ, n numbers, for the limit; without them LAPACK finds them when the limit
            is asked for.
        dtype: the working dtype, float64 (the default) or float32.
        backend: the operations to run on, or their name ("numba", "cupy", …); None is the oracle.

    Returns:
        Codes, scales (row_scale, column_scale), Ŵ, rates, distortion, limit and gap.

    Raises:
        BadInput: an argument or a matrix that the method is not defined for, in one line.
        NotPositiveDefinite: H has no Cholesky factor; the line names a damping that would do.
        CodeOverflow: a code beyond int32. A rate that was not met is a `RateNotMet` warning.

    Exactness: bits, on every backend, for everything but limit and gap.
    """
    choice = SpacingChoice(rate, spacing, open_loop, rate_measure)
    layer = prepare(
        weight,
        covariance,
        covariance_quantized=covariance_quantized,
        cross_covariance=cross_covariance,
        residual_covariance=residual_covariance,
        dtype=dtype,
        backend=backend,
    )
    backend, rotation = layer.backend, rotation_of(rotation, layer.shape[1])
    work = rotated(layer, rotation)
    live = live_features(backend.diagonal(work.covariance), dead_threshold)
    side_information = SideInformation.watersic(row_scales=rescale)
    found = (
        _quantize_live(work, live, choice, lmmse, rescale, damping, side_information)
        if len(live)
        else _all_dead(work, choice)
    )
    rows, columns = layer.shape
    codes = backend.scatter_columns(found.codes, live, columns)
    values = backend.convert(codes, backend.dtype(work.weight))
    scaled = backend.scale_rows(values, found.scales.row_scale)
    return finish(
        layer,
        rotation,
        method="watersic",
        parameters={
            **choice.parameters(),
            "spacing": found.spacing,
            "lmmse": lmmse,
            "rescale": rescale,
            "damping": damping,
            "dead_threshold": dead_threshold,
        },
        codes=codes,
        scales=found.scales,
        dequantized=backend.scale_columns(scaled, found.scales.column_scale),
        rates=lattice_rates(found.histograms, rows, columns, side_information),
        rate_met=found.rate_met,
        eigenvalues=checked_eigenvalues(eigenvalues, columns),
    )


@dataclass(frozen=True)
class _Found:
    """Codes of the live columns (a×m on the backend), scales of all columns."""

    spacing: float
    codes: Matrix
    scales: LatticeScales
    histograms: ColumnHistograms
    rate_met: bool


def _all_dead(work: Layer, choice: SpacingChoice) -> _Found:
    backend = work.backend
    rows, columns = work.shape
    dtype = backend.dtype(work.weight)
    return _Found(
        spacing=1.0 if choice.spacing is None else choice.spacing,
        codes=backend.zeros(rows, 0, np.int32),
        scales=LatticeScales(np.ones(rows, dtype), np.zeros(columns, dtype)),
        histograms=column_histograms(np.zeros((rows, 0), np.int32)),
        rate_met=choice.spacing is not None or choice.open_loop,
    )


def _quantize_live(
    work: Layer,
    live: NDArray[np.int64],
    choice: SpacingChoice,
    lmmse: bool,
    rescale: bool,
    damping: float,
    side_information: SideInformation,
) -> _Found:
    backend = work.backend
    rows, columns = work.shape
    layer = _without_dead_features(work, live)
    target, L = _target_and_factor(layer, live, damping)
    diagonal = backend.diagonal(L)
    number = diagonal.dtype.type

    def lattice(c: float) -> ScaledLattice:
        with np.errstate(over="ignore"):  # an infinite spacing is found with what comes of it
            return ScaledLattice(step=c, spacing=number(c) / diagonal, lmmse=lmmse)

    with original_columns(live):
        trial, rate_met = quantize_on_lattice(
            backend,
            target,
            L,
            lattice,
            choice,
            coarsest=2.0 * backend.largest_magnitude(target),
            weight=layer.weight,
            diagonal=diagonal,
            columns=columns,
            side_information=side_information,
        )
    codes, spacing = trial.codes.codes, lattice(trial.spacing).spacing
    row_scale = np.ones(rows, number)
    live_scale = trial.codes.gains.astype(number) * spacing
    if rescale and trial.codes.histograms.symbols.any():
        problem = _rescale_problem(layer, codes, spacing)
        with original_columns(live):
            t, g = find_scales(problem, trial.codes.gains)
        row_scale, live_scale = t.astype(number), (g * spacing.astype(np.float64)).astype(number)
    column_scale = np.zeros(columns, number)
    column_scale[live] = live_scale
    return _Found(
        trial.spacing,
        codes,
        LatticeScales(row_scale, column_scale),
        trial.codes.histograms,
        rate_met,
    )


def _without_dead_features(work: Layer, live: NDArray[np.int64]) -> Layer:
    def alive(name: str, matrix: Matrix) -> Matrix:
        by_feature = name in ("weight", "residual_covariance")
        return work.backend.take(matrix, None if by_feature else live, live)

    matrices = {name: alive(name, matrix) for name, matrix in work.matrices().items()}
    return Layer(work.backend, **matrices)


def _target_and_factor(
    layer: Layer, live: NDArray[np.int64], damping: float
) -> tuple[Matrix, Matrix]:
    """Y, a×m, and L, m×m: the right side and the factor of the nearest-point problem."""
    backend = layer.backend
    drift = layer.covariance_quantized is not None
    moment = layer.covariance_quantized if drift else layer.covariance
    name = "covariance_quantized" if drift else "covariance"
    H, L = factorize(backend, moment, damping, live, name)
    if not drift and layer.residual_covariance is None:
        target = backend.matmul(layer.weight, L)
    else:
        if drift:
            amount = damping_amount(backend.diagonal(moment), damping)
            H = damped(backend, layer.cross_covariance, amount)
        moments = backend.matmul(layer.weight, H)
        if layer.residual_covariance is not None:
            moments = backend.combine(1.0, moments, 1.0, layer.residual_covariance)
        target = backend.solve(moments, L)
    check_finite(backend, target, "the target Y")
    return target, L


def _rescale_problem(layer: Layer, codes: Matrix, spacing: NDArray) -> RescaleProblem:
    backend = layer.backend
    wide = {name: backend.convert(m, np.float64) for name, m in layer.matrices().items()}
    W = wide["weight"]
    through_covariance = backend.matmul(W, wide["covariance"])
    drift = "cross_covariance" in wide
    C = backend.matmul(W, wide["cross_covariance"]) if drift else through_covariance
    if "residual_covariance" in wide:
        C = backend.combine(1.0, C, 1.0, wide["residual_covariance"])
    return RescaleProblem(
        backend,
        backend.scale_columns(backend.convert(codes, np.float64), spacing.astype(np.float64)),
        wide["covariance_quantized"] if drift else wide["covariance"],
        C,
        inner(backend, through_covariance, W),
    )
