"""One measurement: a method on a Σ, in a basis, with weights, at a rate.

All methods run as theory speaks of them: the spacing is searched for the wanted `rate_column`, no
rescalers, no dead features, no side information in any rate, the same damping for all, if any. So
the only difference between Gaussian weights and the weights of a layer is the weights.

A measurement knows three entropies of its codes, all corrected after Miller and Madow and all
without side information: a table for each column (`rate_column`), for 16 classes of columns, and
one table for all codes. And for undamped WaterSIC with Gaussian weights what the recursion of
`theory.low_rate` predicts from Σ, σ² and the spacing alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import Quantized, gptq, rtn, waterfilling, watersic
from ...reference.bases.haar import haar
from ...reference.bases.rotation import philox_key
from ...reference.coding.histogram import ColumnHistograms, column_histograms, grouped_histograms
from ...reference.coding.rates import CLASSES, column_classes
from ...reference.errors import BadInput, WaterlevelError
from ...reference.limits.gaussian_limit import eigenbasis
from ...reference.operations import Operations
from ...reference.theory.high_rate import cholesky_squares
from ...reference.theory.low_rate import predict_watersic
from .entropy_bias import counted_biases
from .moments import Moment

WATERSIC, GPTQ, RTN = "WaterSIC", "GPTQ", "RTN"
ACTORDER, WATERFILLING = "GPTQ actorder", "waterfilling"
GAUSSIAN, OWN = "Gaussian", "own"
WEIGHT_KEYS = 2**64  # weights are drawn with other keys than rotations


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        rotated: in the basis of a Haar matrix drawn with `seed`.
        weights: GAUSSIAN (drawn with `seed`) or OWN (those of the layer, all rows).
        damping: δ. rows: a. rate: wanted `rate_column`.
    """

    moment: Moment
    rotated: bool
    method: str
    weights: str
    damping: float
    rows: int
    rate: float
    seed: int


@dataclass(frozen=True, eq=False)
class Measurement:
    """What came out; rates in bits per weight, without side information.

    Attributes:
        rate_column, rate_classes, rate_pooled: see above.
        distortion, limit, gap: see `reference.methods.results`. relative_distortion: D/σ².
        weakest: D/(σ²·λ_min); all components are active in the limit where it is at most 1.
        bias: expected error of `rate_column` and so of the gap, bits (`entropy_bias`).
        column_rates: of the columns, as counted.
        predicted_rate, predicted_gap: of the recursion; None where it does not speak.
    """

    case: Case
    rate_column: float
    rate_classes: float
    rate_pooled: float
    distortion: float
    relative_distortion: float
    limit: float
    gap: float
    weakest: float
    spacing: float
    rate_met: bool
    bias: float
    column_rates: NDArray[np.float64]
    predicted_rate: float | None
    predicted_gap: float | None


def true_gap(measured: Measurement) -> float:
    """The gap with the expected error of counting taken off."""
    return measured.gap - measured.bias


@dataclass(frozen=True, eq=False)
class Basis:
    """A Σ in one basis.

    Attributes:
        covariance: VᵀΣV, or Σ. rotation: V, or None.
        eigenvalues, eigenvectors: ascending; of the covariance in this basis.
        squares: L_kk² in the order of GPTQ, first to last column.
    """

    moment: Moment
    rotated: bool
    seed: int
    covariance: NDArray[np.float64]
    rotation: NDArray[np.float64] | None
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]
    squares: NDArray[np.float64]


def basis_of(moment: Moment, rotated: bool, seed: int, backend: Operations) -> Basis:
    """Σ in the basis of these cases.

    Raises:
        WaterlevelError, OSError: a layer file that holds no usable Σ.
    """
    covariance = moment.covariance(backend)
    V = None
    if rotated:
        V = haar(moment.n, seed).matrix
        covariance = V.T @ covariance @ V
        covariance = (covariance + covariance.T) / 2
    eigenvalues, eigenvectors = eigenbasis(covariance)
    squares = cholesky_squares(covariance, np.arange(moment.n))
    return Basis(moment, rotated, seed, covariance, V, eigenvalues, eigenvectors, squares)


METHODS: dict[str, Callable[..., Quantized]] = {
    WATERSIC: lambda W, basis, **options: watersic(
        W, basis.covariance, rescale=False, dead_threshold=0.0, **options
    ),
    GPTQ: lambda W, basis, **options: gptq(W, basis.covariance, **options),
    ACTORDER: lambda W, basis, **options: gptq(W, basis.covariance, actorder=True, **options),
    RTN: lambda W, basis, **options: _rtn(W, basis, **options),
    WATERFILLING: lambda W, basis, **options: _in_eigenbasis(W, basis, **options),
}


def _rtn(W: NDArray, basis: Basis, damping: float, **options: Any) -> Quantized:
    return rtn(W, basis.covariance, **options)  # knows no damping


def _in_eigenbasis(
    W: NDArray, basis: Basis, damping: float, eigenvalues: NDArray, **options: Any
) -> Quantized:
    return waterfilling(
        W,
        basis.covariance,
        eigenvalues=eigenvalues,
        eigenvectors=basis.eigenvectors,
        **options,
    )


def measure(case: Case, basis: Basis, backend: Operations) -> Measurement:
    """Quantise once, and look at the codes."""
    own = case.weights == OWN
    W = case.moment.weight() if own else _gaussian(case.rows, case.moment.n, case.seed)
    if basis.rotation is not None:
        W = W @ basis.rotation
    quantized = METHODS[case.method](
        W,
        basis,
        rate=case.rate,
        rate_measure="rate_column",
        damping=case.damping,
        eigenvalues=basis.eigenvalues,
        backend=backend,
    )
    rows = len(W)
    histograms = column_histograms(quantized.codes)
    column_rates = corrected_entropies(histograms)
    classes = grouped_histograms(histograms, column_classes(histograms), CLASSES)
    everything = grouped_histograms(histograms, np.zeros(len(column_rates), np.int64), 1)
    spacing = float(quantized.parameters["spacing"])
    relative = quantized.distortion / quantized.weight_mean_square
    prediction = None
    if case.method == WATERSIC and case.weights == GAUSSIAN and case.damping == 0:
        prediction = predict_watersic(basis.covariance, quantized.weight_mean_square, spacing)
    return Measurement(
        case=case,
        rate_column=quantized.rates.rate_column,
        rate_classes=_mean_entropy(classes),
        rate_pooled=_mean_entropy(everything),
        distortion=quantized.distortion,
        relative_distortion=relative,
        limit=quantized.limit,
        gap=quantized.gap,
        weakest=float(relative / basis.eigenvalues[0]) if basis.eigenvalues[0] > 0 else math.inf,
        spacing=spacing,
        rate_met=quantized.rate_met,
        bias=float(np.mean(counted_biases(column_rates, rows))),
        column_rates=column_rates,
        predicted_rate=None if prediction is None else prediction.rate,
        predicted_gap=None if prediction is None else prediction.gap,
    )


def corrected_entropies(histograms: ColumnHistograms) -> NDArray[np.float64]:
    """Of each histogram: its entropy, bits, corrected after Miller and Madow; 0 if it is empty.

    >>> corrected_entropies(column_histograms(np.array([[0, 7], [1, 7]], np.int32))).round(4)
    array([1.3607, 0.    ])
    """
    found = np.zeros(histograms.columns)
    for j, (first, end) in enumerate(
        zip(histograms.offsets[:-1], histograms.offsets[1:], strict=True)
    ):
        counts = histograms.counts[first:end].astype(np.float64)
        if len(counts):
            total = np.sum(counts)
            entropy = np.log2(total) - np.sum(counts * np.log2(counts)) / total
            found[j] = entropy + (len(counts) - 1) / (2 * total * math.log(2))
    return found


def _mean_entropy(histograms: ColumnHistograms) -> float:
    totals = histograms.totals()
    return float(np.sum(corrected_entropies(histograms) * totals) / np.sum(totals))


@lru_cache(maxsize=2)
def _gaussian(rows: int, columns: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.Generator(np.random.Philox(key=philox_key(WEIGHT_KEYS + seed)))
    W = generator.standard_normal((rows, columns))
    W.flags.writeable = False
    return W


def measure_all(
    cases: Sequence[Case], backend: Operations
) -> tuple[list[Measurement], NDArray[np.float64], NDArray[np.float64]]:
    """(measurements, L_kk², λ) for cases that share Σ, basis and seed; L_kk² as in `Basis`."""
    first = cases[0]
    basis = basis_of(first.moment, first.rotated, first.seed, backend)
    measured = []
    for case in cases:
        try:
            measured.append(measure(case, basis, backend))
        except WaterlevelError as error:
            raise BadInput(f"{case.method} at rate {case.rate:g}: {error}") from None
    return measured, basis.squares, basis.eigenvalues
