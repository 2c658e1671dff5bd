"""What happens to A B if both factors are quantised and nobody knew them before?

The layers of this package have a fixed W and many inputs to learn from. A product of two
activations (queries and keys), or of a weight and an activation that are both quantised on the fly,
has neither: each factor is quantised by itself (`absmax`), one scale for a row of A or a column of
B, or for every n entries along the inner dimension.

    D = ‖A B - Â B̂‖²_F / (rows·columns·inner·σ_A²·σ_B²)        σ² the mean square of a factor

For i.i.d. entries of mean 0, ‖AB‖² is about rows·columns·inner·σ_A²σ_B², so D = 1 is what Â = 0
would give. Four numbers go with each other:

- **measured**: D as it is;
- **composed**: D_A + D_B + D_A·D_B of the measured errors of the two factors, right as far as
  errors are uncorrelated with entries and with each other;
- **predicted**: the same from the formulas of `theory.absmax`, for Gaussian entries;
- **limit**: Γ(R) of `theory.products` at the rate that was paid, 16 bits for each scale included.

Worked example: A = (3 1), B = (3 1)ᵀ on 2 bits `int`: s = 2 and the values -4, -2, 0, 2, so that 3
misses its value by 1, and 1, halfway between 0 and 2, goes to 0. AB = 10 and ÂB̂ = 4; σ² = 5 for
both, and D = 36/(2·25).

>>> import numpy as np
>>> product = generic_product(np.array([[3.0, 1.0]]), np.array([[3.0], [1.0]]), bits=2)
>>> product.left.dequantized, product.distortion
(array([[2., 0.]]), 0.72)

Exercise: Gaussian factors on INT4, a scale for every 64 entries: how far from the limit? (Check: 4¼
bits are paid; the gap at this D is about 1 bit.)

>>> A, B = (np.random.default_rng(seed).standard_normal((64, 64)) for seed in (1, 2))
>>> product = generic_product(A, B, bits=4, group_size=64)
>>> product.rate, round(product.distortion, 3), round(product.predicted, 3), round(product.gap, 1)
(4.25, 0.021, 0.021, 1.0)

Exactness: codes, scales, factors and measured numbers to the bit, on every backend; the formulas
and the gap are SciPy's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arithmetic.sums import tree_sum
from ..coding.rates import SCALE_BITS
from ..errors import BadInput
from ..methods.absmax import AbsmaxFormat, absmax_format, absmax_quantize
from ..operations import Matrix, Operations
from ..operations.layer import WORKING_DTYPES
from ..operations.numpy_operations import NUMPY
from .absmax import blockwise_distortion
from .products import product_distortion, product_limit, product_limit_rate


@dataclass(frozen=True, eq=False)
class QuantizedFactor:
    """One factor; all arrays on the host, with the inner dimension as columns (B transposed).

    Attributes:
        codes: int32; scale: one for each row and group; group: of each column. See `absmax`.
        dequantized: Â, or B̂ in its own orientation.
        mean_square: σ². distortion: mean (Â - A)²/σ².
    """

    codes: NDArray[np.int32]
    scale: NDArray
    group: NDArray[np.int64]
    dequantized: NDArray
    mean_square: float
    distortion: float


@dataclass(frozen=True, eq=False)
class QuantizedProduct:
    """A product of two quantised factors.

    Attributes:
        parameters: of the method, ready for JSON.
        form: the format. group_size: entries that share a scale (None: all of a row or column).
        left, right: Â and B̂.
        rate: bits per entry of each factor, scales included.
        distortion: D as measured. Exact.
    """

    parameters: dict[str, Any]
    form: AbsmaxFormat
    group_size: int | None
    left: QuantizedFactor
    right: QuantizedFactor
    rate: float
    distortion: float

    @property
    def composed(self) -> float:
        """D_A + D_B + D_A·D_B of the measured factors."""
        return product_distortion(self.left.distortion, self.right.distortion)

    @property
    def predicted(self) -> float:
        """The same of the formulas, for Gaussian entries; outside the exact path."""
        factor = blockwise_distortion(self.form, self.left.codes.shape[1], self.group_size)
        return product_distortion(factor, factor)

    @property
    def limit(self) -> float:
        """Γ(rate): the least D of Gaussian factors at this rate; outside the exact path."""
        return product_limit(self.rate)

    @property
    def gap(self) -> float:
        """Bits per entry of each factor above the limit at this D; outside the exact path."""
        return self.rate - product_limit_rate(self.distortion)


def generic_product(
    left: NDArray,
    right: NDArray,
    *,
    format: str = "int",
    bits: int | None = None,
    group_size: int | None = None,
    dtype: DTypeLike = np.float64,
    backend: Operations = NUMPY,
) -> QuantizedProduct:
    """Quantise both factors of A B and measure what the product lost.

    Args:
        left: A, a×n; right: B, n×b, both on the host, float64 or float32, finite, not all zero.
        format, bits: see `absmax.absmax_format`.
        group_size: entries along the inner dimension that share a scale (None: all n).
        dtype: the working dtype, float64 or float32. backend: the operations to run on.

    Raises:
        BadInput: shapes that do not fit, other dtypes, NaN or infinity, a factor of zeros.
    """
    form = absmax_format(format, bits)
    A = _loaded("left", left, dtype, backend)
    B = _loaded("right", right, dtype, backend)
    (rows, inner), (other, columns) = backend.shape(A), backend.shape(B)
    if inner != other:
        raise BadInput(
            f"left has {inner} columns and right {other} rows; the inner dimensions must agree"
        )
    A_quantized, A_factor = _quantized("left", backend, A, form, group_size)
    B_transposed, B_factor = _quantized("right", backend, backend.transpose(B), form, group_size)
    B_quantized = backend.transpose(B_transposed)
    energy = _energy_of_difference(
        backend,
        backend.matmul(_wide(backend, A), _wide(backend, B)),
        backend.matmul(_wide(backend, A_quantized), _wide(backend, B_quantized)),
    )
    scale = rows * columns * inner * (A_factor.mean_square * B_factor.mean_square)
    if not 0 < scale < np.inf or not np.isfinite(energy):
        raise BadInput("the product overflows or vanishes in float64; scale the factors")
    return QuantizedProduct(
        parameters={
            "format": form.name,
            "bits": form.bits,
            "group_size": group_size,
            "dtype": backend.dtype(A).name,
            "backend": backend.name,
        },
        form=form,
        group_size=group_size,
        left=A_factor,
        right=replace(B_factor, dequantized=backend.to_host(B_quantized)),
        rate=form.bits + SCALE_BITS * A_factor.scale.shape[1] / inner,
        distortion=energy / scale,
    )


def _loaded(name: str, array: NDArray, dtype: DTypeLike, backend: Operations) -> Matrix:
    working = np.dtype(dtype)
    if working not in WORKING_DTYPES:
        raise BadInput(f"the working dtype must be float64 or float32, not {working}")
    given = np.asarray(array)
    if given.ndim != 2 or given.size == 0 or given.dtype not in WORKING_DTYPES:
        raise BadInput(
            f"{name} must be a float64 or float32 matrix with at least one element, got "
            f"{given.dtype} of shape {given.shape}"
        )
    matrix = backend.from_host(given, working)
    found = backend.find_nonfinite(matrix)
    if found:
        row, column, value = found
        reason = "every element must be finite"
        if np.isfinite(given[row, column]):
            reason = f"it overflows {working}; use float64"
        raise BadInput(f"{name}[{row}, {column}] is {value:g}; {reason}")
    return matrix


def _quantized(
    name: str, backend: Operations, matrix: Matrix, form: AbsmaxFormat, group_size: int | None
) -> tuple[Matrix, QuantizedFactor]:
    rows, columns = backend.shape(matrix)
    found = absmax_quantize(backend, matrix, form, group_size)
    original = _wide(backend, matrix)
    nothing = backend.zeros(rows, columns, np.float64)
    mean_square = _energy_of_difference(backend, original, nothing) / (rows * columns)
    if not 0 < mean_square < np.inf:
        raise BadInput(
            f"{name} has the mean square {mean_square:g}; it must be positive and finite"
        )
    error = _energy_of_difference(backend, original, _wide(backend, found.values))
    factor = QuantizedFactor(
        codes=backend.to_host(found.codes),
        scale=found.scale,
        group=found.group,
        dequantized=backend.to_host(found.values),
        mean_square=mean_square,
        distortion=error / (rows * columns) / mean_square,
    )
    return found.values, factor


def _wide(backend: Operations, matrix: Matrix) -> Matrix:
    """A measurement is taken in float64."""
    return backend.convert(matrix, np.float64)


def _energy_of_difference(backend: Operations, left: Matrix, right: Matrix) -> float:
    difference = backend.combine(1.0, left, -1.0, right)
    return float(tree_sum(backend.row_inner(difference, difference)))
