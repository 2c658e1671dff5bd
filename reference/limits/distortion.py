"""How much does a quantised layer's output differ from the original's?

    D = E|W x - Ŵ x|² / (a·n) = tr(E Σ Eᵀ) / (a·n),  E = Ŵ - W

If the quantised layer sees other inputs x̂ than the original (activation drift), the square does
not collapse into one difference, and the three moments stand side by side:

    D = [tr(W Σ Wᵀ) - 2·⟨W Σ_x, Ŵ⟩ + ⟨Ŵ Σ̂, Ŵ⟩] / (a·n),   Σ̂ = E[x̂ x̂ᵀ],  Σ_x = E[x x̂ᵀ]

A distortion is a measurement, so it is taken in float64 whatever the working dtype is: the matrices
are widened, which is exact. Undamped moments, never the damped ones. The residual Δ is left out:
its part of the objective has a constant that is not known, and could be negative.

Worked example: W = (1, 2), Ŵ = (1, 1), Σ = (1 ½; ½ 1): E = (0, -1), D = 1/(1·2).

>>> import numpy as np
>>> from ..operations.numpy_operations import NUMPY
>>> from ..operations.layer import prepare
>>> layer = prepare(np.array([[1.0, 2.0]]), np.array([[1.0, 0.5], [0.5, 1.0]]),
...                 dtype=np.float64, backend=NUMPY)
>>> distortion(layer, np.array([[1.0, 1.0]]))
0.5

Exercise: with Σ = (1 1; 1 1), both inputs are always equal. Which error costs nothing? (Check: any
E = (e, -e), since E x = 0.)

>>> twins = prepare(np.array([[1.0, 2.0]]), np.ones((2, 2)), dtype=np.float64, backend=NUMPY)
>>> distortion(twins, np.array([[1.7, 1.3]]))
0.0
"""

from __future__ import annotations

import numpy as np

from ..arithmetic.sums import tree_sum
from ..errors import BadInput
from ..operations import Matrix, Operations
from ..operations.layer import Layer


def inner(backend: Operations, left: Matrix, right: Matrix) -> float:
    """⟨A, B⟩ = Σ_ij a_ij·b_ij: along each row first, then over the rows."""
    return float(tree_sum(backend.row_inner(left, right)))


def distortion(layer: Layer, dequantized: Matrix) -> float:
    """D per weight, float64, of Ŵ (a×n on the layer's backend); bits.

    Raises:
        BadInput: D overflows.
    """
    backend = layer.backend
    wide = {name: backend.convert(m, np.float64) for name, m in layer.matrices().items()}
    W, quantized = wide["weight"], backend.convert(dequantized, np.float64)
    if layer.covariance_quantized is None:
        error = backend.combine(1.0, quantized, -1.0, W)
        energy = inner(backend, backend.matmul(error, wide["covariance"]), error)
    else:
        clean = inner(backend, backend.matmul(W, wide["covariance"]), W)
        cross = inner(backend, backend.matmul(W, wide["cross_covariance"]), quantized)
        noisy = inner(backend, backend.matmul(quantized, wide["covariance_quantized"]), quantized)
        energy = (clean - 2.0 * cross) + noisy
    if not np.isfinite(energy):
        raise BadInput("the distortion overflows float64; scale the weight or the covariance down")
    rows, columns = layer.shape
    return energy / (rows * columns)


def mean_square(layer: Layer) -> float:
    """σ² = mean(W²) in float64; bits. Raises BadInput if it overflows."""
    backend = layer.backend
    W = backend.convert(layer.weight, np.float64)
    energy = inner(backend, W, W)
    if not np.isfinite(energy):
        raise BadInput("the mean square of the weight overflows float64; scale the weight down")
    rows, columns = layer.shape
    return energy / (rows * columns)
