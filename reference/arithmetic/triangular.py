"""How is a covariance taken apart into L Lᵀ, and how are triangular systems solved?

A symmetric positive definite H has exactly one lower triangular L with a positive diagonal and
H = L Lᵀ, its Cholesky factor. Written out for one element, h_ij = Σ_{k≤j} l_ik·l_jk, so

    l_jj = √(h_jj - Σ_{k<j} l_jk²)         l_ij = (h_ij - Σ_{k<j} l_ik·l_jk) / l_jj

What it means here: if x has the second moment H, then l_jj² is the part of x_j's energy that
x_0 … x_{j-1} cannot predict. Π l_jj² = det H whatever the order of the coordinates, and this is why
the diagonal of L decides what a quantiser can reach.

The bits: each h_ij is an open number from which l_ik·l_jk is subtracted for k = 0, 1, …, j-1, one
after the other; then comes the square root or the division. The same chain solves X Lᵀ = T from the
first column to the last, and X L = T from the last to the first.

Worked example: H = (4 2; 2 5) has l_00 = √4 = 2, l_10 = 2/2 = 1, l_11 = √(5 - 1·1) = 2.

>>> import numpy as np
>>> L = cholesky(np.array([[4.0, 2.0], [2.0, 5.0]]))
>>> L
array([[2., 0.],
       [1., 2.]])
>>> solve(np.array([[2.0, 5.0]]), L)            # X Lᵀ = (2 5): x_0 = 2/2, x_1 = (5 - 1·1)/2
array([[1., 2.]])
>>> solve_reversed(np.array([[4.0, 4.0]]), L)   # X L = (4 4): x_1 = 4/2, x_0 = (4 - 2·1)/2
array([[1., 2.]])

A matrix that is not positive definite is refused where the factorisation meets it:

>>> cholesky(np.array([[1.0, 2.0], [2.0, 1.0]]))
Traceback (most recent call last):
    ...
waterlevel.reference.errors.NotPositiveDefinite: matrix is not positive definite: pivot 1 is -3

Exercise: what is Π l_jj² for the matrix above, and what if its two coordinates change places?
(Check: 4·4 = 16 = 4·5 - 2·2, and the same for (5 2; 2 4), although no single l_jj is the same.)

>>> M = cholesky(np.array([[5.0, 2.0], [2.0, 4.0]]))
>>> bool(abs((M[0, 0] * M[1, 1]) * (M[0, 0] * M[1, 1]) - 16.0) < 1e-14)
True
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import NotPositiveDefinite
from .products import subtract_products

PANEL = 64  # columns that are worked on together; changes no bit


def panels(start: int, stop: int) -> list[tuple[int, int]]:
    """The range start … stop-1 cut into panels (first, end), in ascending order."""
    return [(first, min(first + PANEL, stop)) for first in range(start, stop, PANEL)]


def cholesky(matrix: NDArray) -> NDArray:
    """The lower Cholesky factor L of H = L Lᵀ.

    Args:
        matrix: H, n×n, float64 or float32; only its lower triangle is read.

    Returns:
        L, n×n, the same dtype, zeros above the diagonal. Exactness: bits.

    Raises:
        NotPositiveDefinite: with the first pivot that is not positive (or not finite).
    """
    L = np.tril(matrix)
    n = len(L)
    for start, stop in panels(0, n):
        before = L[start:, :start]
        subtract_products(L[start:, start:stop], before, before[: stop - start].T)
        for k in range(start, stop):
            if not 0.0 < L[k, k] < np.inf:
                raise NotPositiveDefinite(k, float(L[k, k]), "matrix")
            L[k, k] = np.sqrt(L[k, k])
            L[k + 1 :, k] /= L[k, k]
            L[k + 1 :, k + 1 : stop] -= L[k + 1 :, k, None] * L[k + 1 : stop, k]
    return np.tril(L)


def solve(target: NDArray, factor: NDArray) -> NDArray:
    """X with X Lᵀ = T, by forward substitution.

    Args:
        target: T, a×n. factor: L, n×n, lower triangular with a nonzero diagonal, the same dtype.

    Returns:
        X, a×n: for k = 0 … j-1, t_ij ← t_ij - x_ik·l_jk; then x_ij = t_ij / l_jj. Exactness: bits.
    """
    X = target.copy()
    for start, stop in panels(0, len(factor)):
        for k in range(start, stop):
            X[:, k] /= factor[k, k]
            X[:, k + 1 : stop] -= X[:, k, None] * factor[k + 1 : stop, k]
        subtract_products(X[:, stop:], X[:, start:stop], factor[stop:, start:stop].T)
    return X


def solve_reversed(
    target: NDArray, factor: NDArray, start: int = 0, stop: int | None = None
) -> NDArray:
    """X with X L = T on the columns start … stop-1, as if there were no others.

    It is `solve` with the columns of T reversed and L reversed in both directions and transposed:
    for k = stop-1 … j+1, t_ij ← t_ij - x_ik·l_kj; then x_ij = t_ij / l_jj.

    Args:
        target: T, a×n. factor: L, n×n, lower triangular. start, stop: the range of columns.

    Returns:
        X, a×(stop - start). Exactness: bits.
    """
    stop = len(factor) if stop is None else stop
    X = target[:, start:stop].copy()
    L = factor[start:stop, start:stop]
    for first, end in reversed(panels(0, stop - start)):
        for k in reversed(range(first, end)):
            X[:, k] /= L[k, k]
            X[:, first:k] -= X[:, k, None] * L[k, first:k]
        done = slice(first, end)
        subtract_products(X[:, :first], X[:, done][:, ::-1], L[done, :first][::-1])
    return X
