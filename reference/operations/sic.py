"""How can the rounding of one weight make good the error of another, and which error remains?

The error that counts is not Ŵ - W but what it does to the layer's output, tr((Ŵ-W) Σ (Ŵ-W)ᵀ). With
Σ = L Lᵀ it is the plain squared length of (Ŵ-W) L: a nearest-point problem in the lattice that the
columns of Lᵀ span. L is triangular, so one column after the other can be decided, the last one
first, and each decision can be subtracted ("cancelled") from what is still open. This is successive
interference cancellation, Babai's nearest-plane algorithm:

    Y = W L
    for k = n-1 … 0:
        Ŵ[:,k]  = quantise(Y[:,k] / L[k,k])
        Y[:,j] -= Ŵ[:,k] · L[k,j]     for j < k

Why it works: before column k is decided, Y[:,k] = W[:,k]·L[k,k] + Σ_{m>k} (W - Ŵ)[:,m]·L[m,k]. So
after the decision Y[:,k] - Ŵ[:,k]·L[k,k] is column k of (W-Ŵ) L, in full: the rounding error of
column k, times L[k,k], and nothing else. Every earlier error has been made good. Without the
rounding the loop is the triangular solve X L = Y (`triangular.solve_reversed`), and finds W.

**The order** is free: any permutation of the columns gives a loop of its own, with other L[k,k].
The product of the L[k,k]² is det Σ in each, so at high rate WaterSIC does not care; their mean,
which GPTQ with its one spacing pays for, depends on it (`theory.high_rate`). A column that is
decided early is made good by all that are still open, and its L[k,k] is small; so GPTQ's activation
order takes the inputs with the most energy first. It is a rule of thumb, and no best order.

Every method of this package is this loop. RTN runs it with L = I, GPTQ with one scale per row and
reversed columns, WaterSIC with a spacing per column.

Worked example, with rounding to integers and L = (1 0; 0.8 0.6), that is Σ = (1 0.8; 0.8 1): for W
= (0.4 0.4) plain rounding gives (0, 0), with the error (0.4, 0.4) L = (0.72, 0.24), squared 0.576.
The loop decides column 1 first: Y[1]/L[1,1] = 0.4 → 0; then Y[0] = 0.4 + 0.4·0.8 = 0.72 → 1. The
error of column 0 makes up for that of column 1: (-0.6, 0.4) L = (-0.28, 0.24), squared 0.136.

>>> import numpy as np
>>> from ..grids.codebooks import UniformLattice
>>> from ..arithmetic.products import matmul
>>> W, L = np.array([[0.4, 0.4]]), np.array([[1.0, 0.0], [0.8, 0.6]])
>>> Y, codes = matmul(W, L), np.zeros((1, 2), np.int32)
>>> gains = sic(Y, codes, L, UniformLattice(spacing=1.0), 0, 2)
>>> codes
array([[1, 0]], dtype=int32)
>>> error = matmul(Y - W, L)                 # Y now holds the values Ŵ
>>> round(float(error[0, 0] * error[0, 0] + error[0, 1] * error[0, 1]), 12)
0.136

Exercise: what had plain rounding cost, and is (1, 0) the best of all integer points? (Check: 0.576
at (0, 0), and all nine neighbours.)

>>> def squared_error(x, y):
...     e = matmul(np.array([[x, y]]) - W, L)[0]
...     return float(e[0] * e[0] + e[1] * e[1])
>>> round(squared_error(0.0, 0.0), 12)
0.576
>>> min((squared_error(float(x), float(y)), x, y) for x in (-1, 0, 1) for y in (-1, 0, 1))[1:]
(1, 0)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.products import subtract_products
from ..arithmetic.triangular import panels
from ..grids.codebooks import Codebook


def sic(
    target: NDArray,
    codes: NDArray[np.int32],
    factor: NDArray | None,
    codebook: Codebook,
    start: int,
    stop: int,
) -> NDArray[np.float64]:
    """Decide the columns stop-1 … start, in this order; cancel each in all columns before it.

    Args:
        target: Y, a×n, overwritten: columns start … stop-1 by the values that were decided,
            columns before start by what is left of them; columns from stop on are not touched.
        codes: a×n int32; columns start … stop-1 are written.
        factor: L, n×n lower triangular in the dtype of Y, or None for L = I.
        codebook: see `codebooks`.
        start, stop: the range of columns, 0 ≤ start ≤ stop ≤ n.

    Returns:
        The gains of columns start … stop-1 (1 where the codebook has none), float64 on the host.

    Raises:
        CodeOverflow: a code that does not fit in int32, or a target that is not finite.

    Exactness: bits. y_ij ← y_ij - ŵ_ik·l_kj for k descending, one subtraction at a time.
    """
    gains = np.ones(stop - start)
    for first, end in reversed(panels(start, stop)):
        for k in reversed(range(first, end)):
            diagonal = target.dtype.type(1) if factor is None else factor[k, k]
            decided, values, gains[k - start] = codebook.decide(target[:, k], diagonal, k)
            codes[:, k], target[:, k] = decided, values
            if factor is not None:
                target[:, first:k] -= values[:, None] * factor[k, first:k]
        if factor is not None:
            done = target[:, first:end][:, ::-1]
            subtract_products(target[:, :first], done, factor[first:end, :first][::-1])
    return gains
