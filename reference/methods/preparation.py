"""What is done to the moments of a layer before it is quantised?

They come from finite data, so two things are put right, each in a way that is stated and counted:

- **Dead features.** An input that is (nearly) always zero has a (nearly) zero diagonal element. Its
  weights do not matter, and it would spoil the factorisation. WaterSIC leaves out every feature
  with Σ_jj = 0 or Σ_jj < τ·median of the diagonal and puts zero columns back afterwards. RTN and
  GPTQ keep all columns: one with Σ_jj = 0 gets the weight 0 and diagonal 1.
- **Damping.** H = Σ + δ·mean(diag Σ)·I lifts the eigenvalues that too few samples made too small.
  What is minimised is then not quite the distortion: at high rate that costs, at 1 or 2 bits it can
  be a gain (`theory.high_rate` has the formula and an example of each).

If H is not positive definite all the same, the factorisation says at which pivot, and this module
says which damping would do. It never raises the damping by itself: the result would be another one
than was asked for.

Worked example: diag Σ = (4, 1, 10⁻⁴, 1). The lower median is 1 (index (4-1)//2 = 1 of the sorted
values), so with τ = 10⁻³ feature 2 is dead; with δ = 10⁻² the damping of the other three is
0.01·(4 + 1 + 1)/3 = 0.02.

>>> import numpy as np
>>> diagonal = np.array([4.0, 1.0, 1e-4, 1.0])
>>> live = live_features(diagonal, threshold=1e-3)
>>> live
array([0, 1, 3])
>>> damping_amount(diagonal[live], damping=1e-2)
0.02

Exercise: which features are dead if all four diagonal elements are zero? (Check: all of them.)

>>> len(live_features(np.zeros(4), threshold=1e-3))
0
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arithmetic.sums import mean
from ..bases.rotation import Rotation
from ..checks import check_parameter
from ..errors import BadInput, CodeOverflow, NotPositiveDefinite
from ..operations import Matrix, Operations
from ..operations.layer import Layer

UNSEEN = ("zero", "rtn")  # what becomes of the weights of a feature that calibration never saw


def live_features(diagonal: NDArray, threshold: float) -> NDArray[np.int64]:
    """Indices of the features that are not dead, ascending.

    Args:
        diagonal: of Σ, n numbers ≥ 0. threshold: τ, in parts of the lower median; at least 0.
    """
    check_parameter("dead_threshold", threshold, 0.0)
    median = float(np.sort(diagonal)[(len(diagonal) - 1) // 2])
    return np.flatnonzero((diagonal > 0) & (diagonal >= threshold * median))


def damping_amount(diagonal: NDArray, damping: float) -> float:
    """δ·mean(diag), what damping adds to each diagonal element; a host float64."""
    check_parameter("damping", damping, 0.0)
    amount = damping * mean(diagonal)
    if not np.isfinite(amount):
        raise BadInput("the mean diagonal of the covariance overflows; scale the covariance down")
    return amount


def damped(backend: Operations, matrix: Matrix, amount: float) -> Matrix:
    """The matrix with `amount` added to its diagonal, in its own dtype."""
    diagonal = backend.diagonal(matrix)
    return backend.with_diagonal(matrix, diagonal + diagonal.dtype.type(amount))


def factorize(
    backend: Operations,
    matrix: Matrix,
    damping: float,
    original: NDArray[np.int64],
    name: str,
) -> tuple[Matrix, Matrix]:
    """H = Σ + δ·mean(diag Σ)·I and its lower Cholesky factor.

    Args:
        matrix: Σ, n×n. damping: δ. original: for each column its number in the user's matrix.
        name: what the user calls the matrix.

    Returns:
        (H, L).

    Raises:
        NotPositiveDefinite: with the pivot in the user's numbering, and the least power of ten
            that would do as damping.
    """
    diagonal = backend.diagonal(matrix)
    H = damped(backend, matrix, damping_amount(diagonal, damping))
    try:
        return H, backend.cholesky(H)
    except NotPositiveDefinite as failure:
        remedy = _sufficient_damping(backend, matrix, diagonal, damping)
        raise NotPositiveDefinite(
            int(original[failure.pivot]), failure.value, f"{name} with damping {damping:g}", remedy
        ) from None


def _sufficient_damping(
    backend: Operations, matrix: Matrix, diagonal: NDArray, damping: float
) -> str:
    for candidate in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        if candidate > damping:
            try:
                backend.cholesky(damped(backend, matrix, damping_amount(diagonal, candidate)))
            except NotPositiveDefinite:
                continue
            return f"damping {candidate:g} would do"
    return "no damping up to 1 helps: check where this matrix comes from"


@contextmanager
def original_columns(original: NDArray[np.int64]) -> Iterator[None]:
    """Inside, an error that names a column names it by its number in the user's matrix."""
    try:
        yield
    except CodeOverflow as failure:
        column = int(original[failure.column])
        raise CodeOverflow(failure.row, column, failure.value) from None
    except NotPositiveDefinite as failure:
        pivot = int(original[failure.pivot])
        raise NotPositiveDefinite(pivot, failure.value, failure.matrix, failure.remedy) from None


def rotated(layer: Layer, rotation: Rotation | None) -> Layer:
    """The layer in the basis of V: W V, Vᵀ Σ V, …; the layer itself without a rotation."""
    if rotation is None:
        return layer
    backend = layer.backend
    n, columns = rotation.order(), layer.shape[1]
    if n != columns:
        raise BadInput(f"the rotation is {n}×{n}, but the weight has {columns} columns")
    turn = {
        "weight": rotation.rotate_columns,
        "covariance": rotation.rotate_covariance,
        "covariance_quantized": rotation.rotate_covariance,
        "cross_covariance": rotation.rotate_both,
        "residual_covariance": rotation.rotate_columns,
    }
    matrices = {name: turn[name](backend, matrix) for name, matrix in layer.matrices().items()}
    return Layer(backend, **matrices)


def without_drift(layer: Layer, method: str) -> Layer:
    """The layer. Raises BadInput where it has moments that have no part in the method."""
    for name in layer.matrices():
        if name in ("covariance_quantized", "residual_covariance"):
            raise BadInput(
                f"the prepared layer has {name}, of which {method} knows nothing; prepare one "
                "without it, or use watersic"
            )
    return layer


def zero_dead_features(
    layer: Layer, rotation: Rotation | None, unseen: str
) -> tuple[Matrix, Matrix, Matrix]:
    """(W, W zeroed, Σ with diagonal 1 for dead features), all in the rotated basis.

    RTN and GPTQ keep all columns: one whose diagonal is 0, which calibration never saw, gets
    diagonal 1 and weight 0, before anything is damped. With `unseen` "rtn" it keeps its weight: as
    it goes together with no other column, it is rounded to nearest.
    """
    if unseen not in UNSEEN:
        raise BadInput(f"unseen is {unseen!r}; it must be {' or '.join(map(repr, UNSEEN))}")
    backend = layer.backend
    work = rotated(layer, rotation)
    diagonal = backend.diagonal(work.covariance)
    number = diagonal.dtype.type
    covariance = backend.with_diagonal(
        work.covariance, np.where(diagonal == 0, number(1), diagonal)
    )
    kept = np.where((diagonal == 0) & (unseen == "zero"), number(0), number(1))
    return work.weight, backend.scale_columns(work.weight, kept), covariance


def checked_eigenvalues(eigenvalues: ArrayLike | None, columns: int) -> NDArray[np.float64] | None:
    """λ as n float64, those below 0 set to 0; None if they are not given.

    Raises:
        BadInput: a wrong shape, NaN, infinity.
    """
    if eigenvalues is None:
        return None
    spectrum = np.asarray(eigenvalues, np.float64)
    if spectrum.shape != (columns,):
        raise BadInput(f"eigenvalues has shape {spectrum.shape}, expected ({columns},)")
    if not np.isfinite(spectrum).all():
        k = int(np.argmin(np.isfinite(spectrum)))
        raise BadInput(f"eigenvalues[{k}] is {spectrum[k]}; every element must be finite")
    return np.maximum(spectrum, 0.0)
