"""What must be true of a layer before it is quantised, and what is done to make it so?

A layer is its weight W (a×n) and the second moments of its inputs. The moments come from finite
data and finite precision, so three things are put right, each in a way that is stated and counted:

- **Symmetry.** Σ = E[x xᵀ] is symmetric. A difference |Σ - Σᵀ| up to 10⁻⁶·max|Σ| is taken for
  rounding, and Σ becomes (Σ + Σᵀ)/2. More is an error: somebody passed the wrong matrix.
- **Dead features.** An input that is (nearly) always zero has a (nearly) zero diagonal element. Its
  weights do not matter, and it would spoil the factorisation. WaterSIC leaves out every feature
  with Σ_jj = 0 or Σ_jj < τ·median of the diagonal and puts zero columns back afterwards.
- **Damping.** H = Σ + δ·mean(diag Σ)·I lifts the eigenvalues that too few samples made too small.

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
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import BadInput, CodeOverflow, NotPositiveDefinite
from .operations import Matrix, Operations
from .rotation import Rotation
from .sums import mean

ASYMMETRY = 1e-6
WORKING_DTYPES = (np.dtype(np.float64), np.dtype(np.float32))
INPUT_DTYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Layer:
    """A validated layer on a backend, all matrices in one working dtype.

    Attributes:
        backend: the operations that own the matrices.
        weight: W, a×n.
        covariance: Σ, n×n, symmetrised, not damped.
        covariance_quantized: Σ̂, the same for the inputs x̂ of the quantised model, or None.
        cross_covariance: Σ_x = E[x x̂ᵀ], n×n, given exactly when Σ̂ is, or None.
        residual_covariance: Δ = E[(r - r̂) x̂ᵀ], a×n, or None.
    """

    backend: Operations
    weight: Matrix
    covariance: Matrix
    covariance_quantized: Matrix | None = None
    cross_covariance: Matrix | None = None
    residual_covariance: Matrix | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(a, n): output features, input features."""
        return self.backend.shape(self.weight)

    def matrices(self) -> dict[str, Matrix]:
        """The matrices that are there, by the name of their attribute."""
        everything = {name: getattr(self, name) for name in MATRICES}
        return {name: matrix for name, matrix in everything.items() if matrix is not None}


MATRICES = (
    "weight",
    "covariance",
    "covariance_quantized",
    "cross_covariance",
    "residual_covariance",
)


def prepare(
    weight: NDArray,
    covariance: NDArray,
    *,
    covariance_quantized: NDArray | None = None,
    cross_covariance: NDArray | None = None,
    residual_covariance: NDArray | None = None,
    dtype: DTypeLike,
    backend: Operations,
) -> Layer:
    """Check the arrays of a layer and bring them to the backend in the working dtype.

    Args:
        weight: a×n; covariance, covariance_quantized, cross_covariance: n×n; residual_covariance:
            a×n; each float16, bfloat16, float32 or float64 on the host.
        dtype: the working dtype, float64 or float32. Wider inputs are rounded to it once.

    Raises:
        BadInput: a wrong shape or dtype, NaN or infinity, an asymmetric moment, a negative
            diagonal, Σ̂ without Σ_x or the other way round.
    """
    working = np.dtype(dtype)
    if working not in WORKING_DTYPES:
        raise BadInput(f"the working dtype must be float64 or float32, not {working}")
    given: dict[str, NDArray | None] = {
        "weight": weight,
        "covariance": covariance,
        "covariance_quantized": covariance_quantized,
        "cross_covariance": cross_covariance,
        "residual_covariance": residual_covariance,
    }
    for name in ("weight", "covariance"):
        if given[name] is None:
            raise BadInput(f"{name} is missing")
    if (covariance_quantized is None) != (cross_covariance is None):
        there, missing = ("covariance_quantized", "cross_covariance")
        if covariance_quantized is None:
            there, missing = missing, there
        raise BadInput(f"{there} is given without {missing}; activation drift needs both")
    rows, columns = _shape("weight", weight)
    if rows < 1 or columns < 1:
        raise BadInput(f"weight has shape {rows}×{columns}; it needs at least one row and column")
    loaded: dict[str, Matrix] = {}
    for name, array in given.items():
        if array is not None:
            expected = (
                (rows, columns) if name in ("weight", "residual_covariance") else (columns, columns)
            )
            loaded[name] = _load(name, array, expected, working, backend)
    for name in ("covariance", "covariance_quantized"):
        if name in loaded:
            loaded[name] = _symmetric(name, loaded[name], backend)
    return Layer(backend, **loaded)


def _shape(name: str, array: NDArray) -> tuple[int, int]:
    if getattr(array, "ndim", None) != 2:
        raise BadInput(f"{name} must be a matrix, got {getattr(array, 'ndim', 'no')} dimensions")
    return array.shape[0], array.shape[1]


def _load(
    name: str, array: NDArray, expected: tuple[int, int], dtype: np.dtype, backend: Operations
) -> Matrix:
    shape = _shape(name, array)
    if shape != expected:
        raise BadInput(
            f"{name} has shape {shape[0]}×{shape[1]}, expected {expected[0]}×{expected[1]} "
            "to go with the weight"
        )
    if array.dtype.name not in INPUT_DTYPES:
        raise BadInput(f"{name} is {array.dtype}, expected one of {', '.join(INPUT_DTYPES)}")
    matrix = backend.from_host(array, dtype)
    found = backend.find_nonfinite(matrix)
    if found:
        row, column, value = found
        given = float(array[row, column])
        if np.isfinite(given):
            raise BadInput(f"{name}[{row}, {column}] = {given:g} overflows {dtype}; use float64")
        raise BadInput(f"{name}[{row}, {column}] is {value}; every element must be finite")
    return matrix


def _symmetric(name: str, matrix: Matrix, backend: Operations) -> Matrix:
    row, column, difference = backend.find_asymmetry(matrix)
    allowed = ASYMMETRY * backend.largest_magnitude(matrix)
    if difference > allowed:
        raise BadInput(
            f"{name} is not symmetric: [{row}, {column}] and [{column}, {row}] differ by "
            f"{difference:g}, allowed is {allowed:g} (1e-6 of its largest element)"
        )
    diagonal = backend.diagonal(matrix)
    if diagonal.min() < 0:
        j = int(np.argmin(diagonal))
        raise BadInput(
            f"{name}[{j}, {j}] = {float(diagonal[j]):g} is negative; a diagonal element is the "
            "mean square of an input and cannot be"
        )
    symmetric = backend.symmetrize(matrix)
    check_finite(backend, symmetric, f"the sum of {name} and its transpose")
    return symmetric


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


def check_finite(backend: Operations, matrix: Matrix, what: str) -> None:
    """Raise BadInput if finite inputs overflowed on their way to `matrix`."""
    found = backend.find_nonfinite(matrix)
    if found:
        row, column, _ = found
        raise BadInput(
            f"{what} overflows {backend.dtype(matrix)} at [{row}, {column}]; "
            "scale the weight or the covariance down"
        )


def check_parameter(
    name: str, value: float, least: float, greatest: float = np.inf, exclusive: bool = False
) -> None:
    """Raise BadInput unless least ≤ value ≤ greatest (least < value if exclusive) and finite."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise BadInput(f"{name} is {value!r}; it must be a number")
    low = value > least if exclusive else value >= least
    if not (low and value <= greatest and np.isfinite(value)):
        relation = "above" if exclusive else "at least"
        upper = f" and at most {greatest:g}" if np.isfinite(greatest) else ""
        raise BadInput(f"{name} is {value}; it must be {relation} {least:g}{upper}")


def check_count(name: str, value: int) -> None:
    """Raise BadInput unless value is a whole number of at least 1."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise BadInput(f"{name} is {value!r}; it must be a whole number of at least 1")


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


def checked_eigenvalues(eigenvalues: NDArray, columns: int) -> NDArray[np.float64]:
    """λ as n float64, those below 0 set to 0. Raises BadInput for a wrong shape, NaN, infinity."""
    spectrum = np.asarray(eigenvalues, np.float64)
    if spectrum.shape != (columns,):
        raise BadInput(f"eigenvalues has shape {spectrum.shape}, expected ({columns},)")
    if not np.isfinite(spectrum).all():
        k = int(np.argmin(np.isfinite(spectrum)))
        raise BadInput(f"eigenvalues[{k}] is {spectrum[k]}; every element must be finite")
    return np.maximum(spectrum, 0.0)


def spectrum_of(covariance: NDArray, eigenvalues: NDArray | None) -> NDArray:
    """What a result needs for its limit: the eigenvalues where they are known, else Σ itself."""
    return covariance if eigenvalues is None else checked_eigenvalues(eigenvalues, len(covariance))
