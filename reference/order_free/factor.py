"""Can a Cholesky factor be had from any library's matrix product, to the bit?

The elements of L need sums of products of *real* numbers, l_ij = (h_ij - Σ_{k<j} l_ik·l_jk)/l_jj.
In panels of 32 columns most of the work is one matrix product with all columns before the panel,
and `slices` shows how to take it without rounding. Since Σ_k l_ik² = h_ii, row i of L lies within
2^(e_i) ≥ √h_ii, so its grid is known beforehand. In three slices of b = ⌊(53 - ⌈log2 3n⌉)/2⌋ bits

    P₀ = S₁S₁ᵀ,   P₁ = S₁S₂ᵀ + S₂S₁ᵀ,   P₂ = S₁S₃ᵀ + S₂S₂ᵀ + S₃S₁ᵀ                      (exact)
    h_ij - 2^(e_i+e_j-2b)·(P₀ + (P₁ + P₂·2^(-b))·2^(-b))                   (three roundings)

Inside the panel column after column: l_kk = √h_kk on the host, l_ik = h_ik/l_kk, then for each
j > k of the panel one product and one difference, h_ij ← h_ij - l_ik·l_jk. The width of a panel
decides which products round, so it belongs to the definition.

**Bound.** What the slices leave out of the sum: n·2^(-3b) for the three rests and n·2^(-3b) for the
products S₂S₃ᵀ and beyond. Roundings, u = 2⁻⁵³, all of numbers up to 2·2^(e_i+e_j): three here, two
in each of at most 31 columns, one division. So |H - L Lᵀ|_ij ≤ 2^(e_i+e_j)·(2n·2^(-3b) + 136·u),
whatever n: the ordered contract's chain has n·u in its place.

Worked example: the one of `triangular`, (4 2; 2 5).

>>> import numpy as np
>>> order_free_cholesky(np.array([[4.0, 2.0], [2.0, 5.0]]))
array([[2., 0.],
       [1., 2.]])

Exercise: where is (1 2; 2 1) refused? (Check: pivot 1 is 1 - 2·2 = -3.)

>>> order_free_cholesky(np.array([[1.0, 2.0], [2.0, 1.0]]))
Traceback (most recent call last):
    ...
waterlevel.reference.errors.NotPositiveDefinite: matrix is not positive definite: pivot 1 is -3
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput, NotPositiveDefinite
from .arrays import Array, Library, checked_matrix, library_of
from .slices import exponents, length_bits, powers, slices

PANEL_COLUMNS = 32  # decides which products round
BLOCK_COLUMNS = 256  # a multiple of it, which changes no bit


def order_free_cholesky(matrix: Array) -> Array:
    """The lower Cholesky factor, the same bits from every array library.

    Args:
        matrix: H, n×n, symmetric; only its lower triangle is read. Of any library.

    Returns:
        L, n×n float64 of that library, zeros above the diagonal.

    Raises:
        BadInput: a wrong shape, an element that is not finite, a scale beyond 2^±400.
        NotPositiveDefinite: with the first pivot that is not positive.

    Exactness: bits, for every order of every sum. They are not those of the ordered contract.
    """
    library, H = library_of(matrix), checked_matrix("matrix", matrix)
    n = len(H)
    if H.shape != (n, n):
        raise BadInput(f"matrix has shape {H.shape}; a factor needs a square one")
    diagonal = np.diag(H)
    if not (diagonal > 0).all():
        k = int(np.argmin(diagonal > 0))
        raise NotPositiveDefinite(k, float(diagonal[k]), "matrix")
    row = exponents(np.sqrt(diagonal)[:, None], 1, "the square root of matrix diagonal")
    return _panels(library, H, row)


def slice_width(n: int) -> int:
    """b, for sums over fewer than n columns."""
    return (53 - length_bits(3 * n)) // 2


def factor_error(n: int) -> float:
    """The bound of this module on |H - L Lᵀ|_ij, in units of 2^(e_i+e_j)."""
    return 2 * n * 2.0 ** (-3 * slice_width(n)) + 136 * 2.0**-53


def _panels(library: Library, H: NDArray, row: NDArray[np.int64]) -> Array:
    """Panel by panel; the exact sums are gathered for a block of panels, in large products."""
    xp, n, b = library.functions, len(H), slice_width(len(H))
    down, up = library.put(powers(-row)[None, :]), powers(row)
    columns: list[Array] = []  # of L, as rows
    done: list[list[Array]] = []  # the slices of blocks, columns as rows
    for begin in range(0, n, BLOCK_COLUMNS):
        end = min(begin + BLOCK_COLUMNS, n)
        sums = [library.put(np.zeros((end - begin, n - begin))) for _ in range(3)]
        for earlier in done:
            _add_products(sums, earlier, begin, end)
        cuts: list[list[Array]] = []
        for start in range(begin, end, PANEL_COLUMNS):
            stop = min(start + PANEL_COLUMNS, end)
            P0, P1, P2 = (P[: stop - start, :] for P in sums)
            sum_ = (P0 + (P1 + P2 * 2.0**-b) * 2.0**-b) * 2.0 ** (-2 * b)
            sum_ = (sum_ * library.put(up[start:stop, None])) * library.put(up[None, start:])
            fresh = _inside(library, library.put(H[start:, start:stop].T) - sum_, start, n)
            columns += fresh
            cuts.append(slices(xp, xp.stack(fresh, axis=0) * down, b, 3))
            sums = [P[stop - start :, stop - start :] for P in sums]
            if stop < end:
                _add_products(sums, cuts[-1], stop, end)
        done.append([xp.concat(list(parts), axis=0) for parts in zip(*cuts, strict=True)])
    return xp.stack(columns, axis=1)


def _add_products(sums: list[Array], cut: list[Array], begin: int, end: int) -> None:
    """Add Σ_k l_jk·l_ik, slice by slice, for the columns j from begin to end and rows i ≥ begin."""
    for s in range(3):
        for q in range(s + 1):
            sums[s] += cut[q][:, begin:end].T @ cut[s - q][:, begin:]


def _inside(library: Library, panel: Array, start: int, n: int) -> list[Array]:
    """The columns of a panel, from which all earlier columns were subtracted; n numbers each."""
    xp, found = library.functions, []
    for k in range(start, start + panel.shape[0]):
        pivot = float(panel[0, 0])
        if not 0.0 < pivot < math.inf:
            raise NotPositiveDefinite(k, pivot, "matrix")
        root = math.sqrt(pivot)
        below = panel[0, 1:] / library.put(np.full(n - k - 1, root))
        found.append(xp.concat([library.put(np.append(np.zeros(k), root)), below], axis=0))
        inside = panel.shape[0] - 1
        panel = panel[1:, 1:] - xp.reshape(below[:inside], (-1, 1)) * below
    return found
