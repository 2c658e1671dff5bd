"""What must be true of a layer before it is quantised?

A layer is its weight W (a×n) and the second moments of its inputs. All of them are finite and go
together in shape; Σ = E[x xᵀ] is symmetric and its diagonal, a mean of squares, not negative. The
moments come from finite precision, so a difference |Σ - Σᵀ| up to 10⁻⁶·max|Σ| is taken for
rounding, and Σ becomes (Σ + Σᵀ)/2. More is an error: somebody passed the wrong matrix.

Worked example: 10⁻⁷ beside 1 is rounding, and is shared by both sides; 0.1 is a mistake.

>>> import numpy as np
>>> from .numpy_operations import NUMPY
>>> W = np.ones((1, 2))
>>> prepare(W, np.array([[2, 1 + 1e-7], [1, 2]]), dtype=float, backend=NUMPY).covariance
array([[2.        , 1.00000005],
       [1.00000005, 2.        ]])

Exercise: what is wrong with Σ = (1 2; 2 -1), although it is symmetric? (Check: its diagonal.)

>>> prepare(W, np.array([[1.0, 2.0], [2.0, -1.0]]), dtype=float, backend=NUMPY)
... # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
waterlevel.reference.errors.BadInput: covariance[1, 1] = -1 is negative; a diagonal element is ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..errors import BadInput
from . import Matrix, Operations
from .named import operations_of

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
        given_covariance: Σ as it was given, on the host, from which the limit is found; None for a
            layer in another basis.
    """

    backend: Operations
    weight: Matrix
    covariance: Matrix
    covariance_quantized: Matrix | None = None
    cross_covariance: Matrix | None = None
    residual_covariance: Matrix | None = None
    given_covariance: NDArray | None = None

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
    weight: ArrayLike | Layer,
    covariance: ArrayLike | None = None,
    *,
    covariance_quantized: ArrayLike | None = None,
    cross_covariance: ArrayLike | None = None,
    residual_covariance: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    backend: Operations | str | None = None,
) -> Layer:
    """Check the arrays of a layer and bring them to the backend in the working dtype.

    A layer that several methods share is prepared once and given to each in place of W and Σ.

    Args:
        weight: a×n; covariance, covariance_quantized, cross_covariance: n×n; residual_covariance:
            a×n; each nested lists of numbers, or an array of NumPy, PyTorch or CuPy in float16,
            bfloat16, float32 or float64, which are widened exactly. Or weight: a layer that is
            prepared already, which is returned; nothing else may then be given.
        dtype: the working dtype, float64 (the default) or float32. Wider inputs are rounded to it
            once.
        backend: the operations, or their name; None is the oracle.

    Raises:
        BadInput: a wrong shape or dtype, NaN or infinity, an asymmetric moment, a negative
            diagonal, Σ̂ without Σ_x or the other way round.
    """
    given: dict[str, ArrayLike | None] = {
        "covariance": covariance,
        "covariance_quantized": covariance_quantized,
        "cross_covariance": cross_covariance,
        "residual_covariance": residual_covariance,
    }
    if isinstance(weight, Layer):
        return _prepared(weight, {**given, "dtype": dtype, "backend": backend})
    working = np.dtype(np.float64 if dtype is None else dtype)
    if working not in WORKING_DTYPES:
        raise BadInput(f"the working dtype must be float64 or float32, not {working}")
    for name, array in (("weight", weight), ("covariance", covariance)):
        if array is None:
            raise BadInput(f"{name} is missing")
    backend = operations_of(backend)
    arrays = {
        name: on_host(name, array)
        for name, array in {"weight": weight, **given}.items()
        if array is not None
    }
    if (covariance_quantized is None) != (cross_covariance is None):
        there, missing = ("covariance_quantized", "cross_covariance")
        if covariance_quantized is None:
            there, missing = missing, there
        raise BadInput(f"{there} is given without {missing}; activation drift needs both")
    rows, columns = _shape("weight", arrays["weight"])
    if rows < 1 or columns < 1:
        raise BadInput(f"weight has shape {rows}×{columns}; it needs at least one row and column")
    loaded: dict[str, Matrix] = {}
    for name, array in arrays.items():
        expected = (rows if name in ("weight", "residual_covariance") else columns, columns)
        loaded[name] = _load(name, array, expected, rows, working, backend)
    for name in ("covariance", "covariance_quantized"):
        if name in loaded:
            loaded[name] = _symmetric(name, loaded[name], backend)
    return Layer(backend, **loaded, given_covariance=arrays["covariance"])


def _prepared(layer: Layer, given: dict[str, object]) -> Layer:
    for name, value in given.items():
        if name == "dtype" and value is not None:
            same = np.dtype(value) == layer.backend.dtype(layer.weight)  # type: ignore[arg-type]
        elif name == "backend":
            same = value is None or value is layer.backend or value == layer.backend.name
        else:
            same = value is None
        if not same:
            raise BadInput(f"{name} is given beside a prepared layer, which has its own")
    return layer


def on_host(name: str, array: ArrayLike) -> NDArray:
    """An array_like as an array of NumPy; whole numbers in a list become float64.

    An *array* of integers stays one, and is refused later: codes are more often mistaken for
    weights than weights are whole.

    Raises:
        BadInput: what is no array of numbers, or a whole number that float64 does not hold.
    """
    source: Any = array
    if hasattr(source, "detach"):  # PyTorch: off the graph and the device
        source = source.detach().cpu()
        if str(source.dtype) == "torch.bfloat16":
            source = source.float()
    elif hasattr(source, "get") and hasattr(source, "device"):  # CuPy
        source = source.get()
    try:
        found = np.asarray(source)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} is no array of numbers: {error}") from None
    if hasattr(array, "dtype") or found.dtype.kind not in "iu":
        return found
    wide = found.astype(np.float64)
    if not (wide.astype(found.dtype) == found).all():
        raise BadInput(f"{name} has integers beyond 2**53; give it as float64")
    return wide


def _shape(name: str, array: NDArray) -> tuple[int, int]:
    if array.ndim != 2:
        raise BadInput(f"{name} must be a matrix, got {array.ndim} dimensions")
    return array.shape[0], array.shape[1]


def _load(
    name: str,
    array: NDArray,
    expected: tuple[int, int],
    rows: int,
    dtype: np.dtype,
    backend: Operations,
) -> Matrix:
    shape = _shape(name, array)
    if shape != expected:
        other = " to go with the weight"
        if name != "weight" and shape == (rows, rows):
            other += f" of {rows}×{expected[1]}, which looks transposed: it is outputs × inputs"
        raise BadInput(
            f"{name} has shape {shape[0]}×{shape[1]}, expected {expected[0]}×{expected[1]}{other}"
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


def check_finite(backend: Operations, matrix: Matrix, what: str) -> None:
    """Raise BadInput if finite inputs overflowed on their way to `matrix`."""
    found = backend.find_nonfinite(matrix)
    if found:
        row, column, _ = found
        raise BadInput(
            f"{what} overflows {backend.dtype(matrix)} at [{row}, {column}]; "
            "scale the weight or the covariance down"
        )
