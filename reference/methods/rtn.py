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
from numpy.typing import DTypeLike, NDArray

from ..bases.rotation import Rotation
from ..operations import Operations
from ..operations.layer import prepare
from ..operations.numpy_operations import NUMPY
from .grid_fitting import grid_format
from .one_scale import Grouping, Problem, quantize_with_one_scale, zero_dead_features
from .preparation import spectrum_of
from .rate_search import spacing_choice
from .results import Quantized


def rtn(
    weight: NDArray,
    covariance: NDArray,
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
    rotation: Rotation | None = None,
    eigenvalues: NDArray | None = None,
    dtype: DTypeLike = np.float64,
    backend: Operations = NUMPY,
) -> Quantized:
    """Quantise a layer by rounding to nearest.

    Args:
        weight: W, a×n. covariance: Σ, n×n; it decides about dead features and measures the result.
        bits, format, asymmetric, mse: a finite grid, see `grids.GridFormat`.
        group_size: columns that share a grid (None: the whole row).
        rate, spacing, open_loop, rate_measure: in place of a grid, entropy coded with one spacing;
            see `rate_search.SpacingChoice`.
        rotation, eigenvalues, dtype, backend: as for `watersic.watersic`.

    Returns:
        Codes, scales, Ŵ, rates, distortion, limit and gap.

    Raises:
        BadInput, CodeOverflow.

    Exactness: bits, on every backend, for everything but limit and gap.
    """
    form = grid_format(bits, format, asymmetric, mse)
    choice = spacing_choice(rate, spacing, open_loop, rate_measure)
    grouping = Grouping(group_size, static=group_size is not None)
    layer = prepare(weight, covariance, dtype=dtype, backend=backend)
    rotated_weight, zeroed, _ = zero_dead_features(layer, rotation)
    problem = Problem(
        layer,
        rotation,
        weight=rotated_weight,
        zeroed=zeroed,
        target=zeroed,
        factor=None,
        permutation=np.arange(layer.shape[1]),
        spectrum=spectrum_of(covariance, eigenvalues),
    )
    return quantize_with_one_scale(problem, "rtn", {}, form, grouping, choice)
