"""How does GPTQ work, and why does it need no inverse Hessian?

GPTQ quantises the columns of W one after the other, column 0 first, and after each one changes the
columns still open so that they make good for its error as well as they can. The published form
works with H⁻¹ = Tᵀ T (T upper triangular): with err = (w_j - ŵ_j)/T_jj, every later column i gets
w_i ← w_i - err·T_ji.

**It is the loop of `sic`.** Write H = M Mᵀ with M *upper* triangular. Then T = M⁻¹ is upper
triangular too, and Tᵀ T = M⁻ᵀ M⁻¹ = H⁻¹. For Y = W M the loop, now from the first column to the
last, reads Y[:,i] -= ŵ_j·M[j,i] for i > j. Let w' be the updated weights, defined by Y = w' M on
the open columns. Deciding column j changes w' by the solution d of (w'_j - ŵ_j)·M[j,i] =
Σ_{j<m≤i} d_m·M[m,i], and M T = I gives d_m = -(w'_j - ŵ_j)·T[j,m]/T[j,j]: the update of the paper.
So both forms see the same w'_j = Y[:,j]/M[j,j] and decide alike, up to rounding. The form with M
needs a Cholesky factor and a product; the other one needs an inverse as well.

An upper triangular M is a lower triangular L on reversed columns, so here W and H are reversed, the
loop runs as for every other method, and the result is reversed back.

**Activation order** processes the columns by descending diagonal of H (the sort is stable): the
inputs with the most energy first, while many columns are left that can make good for their errors.

Worked example: the one of `sic`, seen from here: H = (1 0.8; 0.8 1) and W = (0.4 0.4). Column 0 is
rounded first, 0.4 → 0; column 1 becomes 0.4 + 0.4·0.8 = 0.72 → 1.

>>> import numpy as np
>>> H = np.array([[1.0, 0.8], [0.8, 1.0]])
>>> gptq(np.array([[0.4, 0.4]]), H, spacing=1.0, damping=0.0).codes
array([[0, 1]], dtype=int32)

Exercise: with H = (1 0.8; 0.8 2) the order of the columns matters. What does activation order give?
(Check: column 1 first, 0.4 → 0; then column 0 becomes 0.4 + 0.4·0.8/1 = 0.72 → 1.)

>>> H = np.array([[1.0, 0.8], [0.8, 2.0]])
>>> W = np.array([[0.4, 0.4]])
>>> [gptq(W, H, spacing=1.0, damping=0.0, actorder=order).codes.tolist() for order in (False, True)]
[[[0, 1]], [[1, 0]]]

Sources: Frantar et al., GPTQ, 2023; its published code for everything that a formula leaves open.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..bases.rotation import Rotation
from ..operations import Operations
from ..operations.layer import check_finite, prepare
from ..operations.numpy_operations import NUMPY
from .grid_fitting import grid_format
from .one_scale import Grouping, Problem, quantize_with_one_scale, zero_dead_features
from .preparation import factorize, spectrum_of
from .rate_search import spacing_choice
from .results import Quantized


def gptq(
    weight: NDArray,
    covariance: NDArray,
    *,
    bits: int | None = None,
    format: str = "int",
    asymmetric: bool = False,
    mse: bool = False,
    group_size: int | None = None,
    static_groups: bool = False,
    block_size: int = 128,
    rate: float | None = None,
    spacing: float | None = None,
    open_loop: bool = False,
    rate_measure: str = "rate",
    actorder: bool = False,
    damping: float = 0.01,
    rotation: Rotation | None = None,
    eigenvalues: NDArray | None = None,
    dtype: DTypeLike = np.float64,
    backend: Operations = NUMPY,
) -> Quantized:
    """Quantise a layer by GPTQ.

    Args:
        weight: W, a×n. covariance: Σ, n×n. Both on the host; see `preparation.prepare`.
        bits, format, asymmetric, mse: a finite grid, see `grids.GridFormat`.
        group_size, static_groups, block_size: which columns share a grid, see `one_scale.Grouping`.
        rate, spacing, open_loop, rate_measure: in place of a grid, entropy coded with one spacing;
            see `rate_search.SpacingChoice`.
        actorder: process the columns by descending diagonal of Σ.
        damping: δ.
        rotation, eigenvalues, dtype, backend: as for `watersic.watersic`.

    Returns:
        Codes, scales, Ŵ, rates, distortion, limit and gap; columns in their original order.

    Raises:
        BadInput, NotPositiveDefinite, CodeOverflow.

    Exactness: bits, on every backend, for everything but limit and gap.
    """
    form = grid_format(bits, format, asymmetric, mse)
    choice = spacing_choice(rate, spacing, open_loop, rate_measure)
    grouping = Grouping(group_size, static_groups, block_size)
    layer = prepare(weight, covariance, dtype=dtype, backend=backend)
    rotated_weight, zeroed, moment = zero_dead_features(layer, rotation)

    order = np.arange(layer.shape[1])
    if actorder:
        order = np.argsort(-backend.diagonal(moment), kind="stable")
    permutation = order[::-1]
    _, L = factorize(
        backend, backend.take(moment, permutation, permutation), damping, permutation, "covariance"
    )
    target = backend.matmul(backend.take(zeroed, None, permutation), L)
    check_finite(backend, target, "the target Y")
    problem = Problem(
        layer,
        rotation,
        weight=rotated_weight,
        zeroed=zeroed,
        target=target,
        factor=L,
        permutation=permutation,
        spectrum=spectrum_of(covariance, eigenvalues),
    )
    parameters = {"actorder": actorder, "damping": damping}
    return quantize_with_one_scale(problem, "gptq", parameters, form, grouping, choice)
