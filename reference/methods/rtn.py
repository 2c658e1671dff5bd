"""What is the simplest quantiser, and what does it ignore?

Rounding to nearest (RTN) takes each weight by itself to the nearest point of its grid. It is the
loop of `sic` with L = I: the covariance plays no part, so no error is ever made good. At high rate
its distortion is (α²/12)·mean(Σ_kk) where the best possible needs only det(Σ)^(1/n) in place of
that mean; the ratio of the two is what RTN pays.

With a finite grid every row, or every group of columns in a row, has a scale of its own. Entropy
coded, one spacing α serves the whole matrix: a spacing per row would spend rate on rows where it
buys nothing.

Features that are always zero (Σ_jj = 0) get the weight 0: it costs nothing and their own weight
would change nothing.

Worked example: W = (0.6, -1.2, 0.2) on the integers.

>>> import numpy as np
>>> result = rtn(np.array([[0.6, -1.2, 0.2]]), np.eye(3), spacing=1.0)
>>> result.codes, round(result.distortion * 3, 12)     # 0.4² + 0.2² + 0.2²
(array([[ 1, -1,  0]], dtype=int32), 0.24)

Exercise: on 2 asymmetric bits the grid spans from -1.2 to 0.6 in steps of 0.6. Which codes come
out? (Check: -1.2 is code 0 and 0.6 is code 3; 0.2 is nearest to 0, code 2.)

>>> rtn(np.array([[0.6, -1.2, 0.2]]), np.eye(3), bits=2, asymmetric=True).codes
array([[3, 0, 2]], dtype=int32)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..bases.named import rotation_of
from ..bases.rotation import Rotation
from ..operations import Operations
from ..operations.layer import Layer, prepare
from .grid_fitting import grid_format
from .one_scale import Grouping, Problem, quantize_with_one_scale
from .preparation import checked_eigenvalues, without_drift, zero_dead_features
from .rate_search import spacing_choice
from .results import Quantized


def rtn(
    weight: ArrayLike | Layer,
    covariance: ArrayLike | None = None,
    *,
    bits: int | None = None,
    format: str = "int",
    asymmetric: bool = False,
    mse: bool = False,
    group_size: int | None = None,
    rate: float | None = None,
    spacing: float | None = None,
    open_loop: bool = False,
    rate_measure: str = "rate",
    rotation: Rotation | str | None = None,
    unseen: str = "zero",
    eigenvalues: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    backend: Operations | str | None = None,
) -> Quantized:
    """Quantise a layer by rounding to nearest.

    Derivation, worked example and exercise: `help("waterlevel.reference.methods.rtn")`.

    Args:
        weight: W, a×n, array_like (see `operations.layer.prepare`); or a prepared layer, which
            stands for W, Σ, dtype and backend.
        covariance: Σ = E[x xᵀ], n×n, a mean over tokens and not a sum; it decides about dead
            features and measures the result.
        bits: b of a finite grid, 2 to 8 bits per code. format: "int", or a float format such as
            "fp4-e2m1", which brings its bits. asymmetric: int, with a zero point. mse: int, search
            the range with the least Σ|q(x) - x|^2.5 in place of the full one.
        group_size: columns that share a grid; None for the whole row.
        rate: R, the rate in bits per weight that is searched for. spacing: α itself, in the units
            of W, without a search. open_loop: take the spacing from R by formula, without a search.
        rate_measure: which rate is searched for: "rate" (all that a file needs), "rate_column" or
            "rate_pooled", see `coding.rates`.
        rotation: quantise W V with VᵀΣV, undone in `dequantized`: "hadamard", "haar" (both with
            seed 0), or a `Rotation`; None for no rotation.
        unseen: what becomes of a feature that calibration never saw, Σ_jj = 0: "zero", as published
            code does, or "rtn", which rounds its weights to nearest. No distortion covers it.
        eigenvalues: λ of Σ, n numbers, for the limit; without them LAPACK finds them when the limit
            is asked for.
        dtype: the working dtype, float64 (the default) or float32.
        backend: the operations to run on, or their name ("numba", "cupy", …); None is the oracle.

    Returns:
        Codes, scales, Ŵ, rates, distortion, limit and gap.

    Raises:
        BadInput: an argument or a matrix that the method is not defined for, in one line.
        CodeOverflow: a code beyond int32. A rate that was not met is a `RateNotMet` warning.

    Exactness: bits, on every backend, for everything but limit and gap.
    """
    form = grid_format(bits, format, asymmetric, mse)
    choice = spacing_choice(rate, spacing, open_loop, rate_measure)
    grouping = Grouping(group_size, static=group_size is not None)
    layer = prepare(weight, covariance, dtype=dtype, backend=backend)
    layer = without_drift(layer, "rtn")
    rotation = rotation_of(rotation, layer.shape[1])
    rotated_weight, zeroed, _ = zero_dead_features(layer, rotation, unseen)
    problem = Problem(
        layer,
        rotation,
        weight=rotated_weight,
        zeroed=zeroed,
        target=zeroed,
        factor=None,
        permutation=np.arange(layer.shape[1]),
        eigenvalues=checked_eigenvalues(eigenvalues, layer.shape[1]),
    )
    return quantize_with_one_scale(problem, "rtn", {"unseen": unseen}, form, grouping, choice)
