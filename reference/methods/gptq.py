"""How does GPTQ work, and why does it need no inverse Hessian?

GPTQ quantises the columns of W one after the other, column 0 first, and after each one changes the
columns still open so that they make good for its error as well as they can. The published form
works with H⁻¹ = Tᵀ T (T upper triangular): with err = (w_j - ŵ_j)/T_jj, every later column i gets
w_i ← w_i - err·T_ji.

**It is the loop of `sic`.** Write H = M Mᵀ with M *upper* triangular. Then T = M⁻¹ is upper
triangular too, and Tᵀ T = M⁻ᵀ M⁻¹ = H⁻¹. For Y = W M the loop, now from the first column to the
last, reads Y[:,i] -= ŵ_j·M[j,i] for i > j. Let w' be the updated weights, defined by Y = w' M on
the open columns. Deciding column j changes w' by the solution d of (w'_j - ŵ_j)·M[j,i] =
Σ_{j<m≤i} d_m·M[m,i]. Row j of T M = I says T[j,j]·M[j,i] = -Σ_{j<m≤i} T[j,m]·M[m,i] for i > j, and
so d_m = -(w'_j - ŵ_j)·T[j,m]/T[j,j]: the update of the paper.
So both forms see the same w'_j = Y[:,j]/M[j,j] and decide alike, up to rounding. The form with M
needs a Cholesky factor and a product; the other one needs an inverse as well.

An upper triangular M is a lower triangular L on reversed columns, so here W and H are reversed, the
loop runs as for every other method, and the result is reversed back.

**Activation order** processes the columns by descending diagonal of H (the sort is stable): the
inputs with the most energy first, while many columns are left that can make good for their errors.

On a finite grid a row, or every group of columns in it, has a scale of its own; when a group's
scale is found, and from which weights, is told in `one_scale`.

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
from numpy.typing import ArrayLike, DTypeLike

from ..bases.named import rotation_of
from ..bases.rotation import Rotation
from ..operations import Operations
from ..operations.layer import Layer, check_finite, prepare
from .grid_fitting import grid_format
from .one_scale import Grouping, Problem, quantize_with_one_scale
from .preparation import checked_eigenvalues, factorize, without_drift, zero_dead_features
from .rate_search import spacing_choice
from .results import Quantized


def gptq(
    weight: ArrayLike | Layer,
    covariance: ArrayLike | None = None,
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
    rotation: Rotation | str | None = None,
    unseen: str = "zero",
    eigenvalues: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    backend: Operations | str | None = None,
) -> Quantized:
    """Quantise a layer by GPTQ.

    Derivation, worked example and exercise: `help("waterlevel.reference.methods.gptq")`.

    Args:
        weight: W, a×n, array_like (see `operations.layer.prepare`); or a prepared layer, which
            stands for W, Σ, dtype and backend.
        covariance: Σ = E[x xᵀ], n×n, a mean over tokens and not a sum.
        bits: b of a finite grid, 2 to 8 bits per code. format: "int", or a float format such as
            "fp4-e2m1", which brings its bits. asymmetric: int, with a zero point. mse: int, search
            the range with the least Σ|q(x) - x|^2.5 in place of the full one.
        group_size: columns that share a grid; None for the whole row. static_groups: their grids
            come from the original weight, by original place, and not as the loop arrives.
        block_size: columns between two updates of the rest, which decides what the grids of groups
            see (128).
        rate: R, the rate in bits per weight that is searched for. spacing: α itself, in the units
            of W, without a search. open_loop: take the spacing from R by formula, without a search.
        rate_measure: which rate is searched for: "rate" (all that a file needs), "rate_column" or
            "rate_pooled", see `coding.rates`.
        actorder: decide the columns by descending diagonal of Σ.
        damping: δ, in parts of the mean diagonal of Σ.
        rotation: quantise W V with VᵀΣV, undone in `dequantized`: "hadamard", "haar" (both with
            seed 0), or a `Rotation`; None for no rotation.
        unseen: what becomes of a feature that calibration never saw, Σ_jj = 0: "zero", as published
            code does, or "rtn", which rounds its weights to nearest. No distortion covers it.
        eigenvalues: λ of Σ, n numbers, for the limit; without them LAPACK finds them when the limit
            is asked for.
        dtype: the working dtype, float64 (the default) or float32.
        backend: the operations to run on, or their name ("numba", "cupy", …); None is the oracle.

    Returns:
        Codes, scales, Ŵ, rates, distortion, limit and gap; columns in their original order.

    Raises:
        BadInput: an argument or a matrix that the method is not defined for, in one line.
        NotPositiveDefinite: H has no Cholesky factor; the line names a damping that would do.
        CodeOverflow: a code beyond int32. A rate that was not met is a `RateNotMet` warning.

    Exactness: bits, on every backend, for everything but limit and gap.
    """
    form = grid_format(bits, format, asymmetric, mse)
    choice = spacing_choice(rate, spacing, open_loop, rate_measure)
    grouping = Grouping(group_size, static_groups, block_size)
    layer = prepare(weight, covariance, dtype=dtype, backend=backend)
    layer = without_drift(layer, "gptq")
    backend, rotation = layer.backend, rotation_of(rotation, layer.shape[1])
    rotated_weight, zeroed, covariance = zero_dead_features(layer, rotation, unseen)

    order = np.arange(layer.shape[1])
    if actorder:
        order = np.argsort(-backend.diagonal(covariance), kind="stable")
    permutation = order[::-1]
    _, L = factorize(
        backend,
        backend.take(covariance, permutation, permutation),
        damping,
        permutation,
        "covariance",
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
        eigenvalues=checked_eigenvalues(eigenvalues, layer.shape[1]),
    )
    parameters = {"actorder": actorder, "damping": damping, "unseen": unseen}
    return quantize_with_one_scale(problem, "gptq", parameters, form, grouping, choice)
