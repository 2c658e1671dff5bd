"""How is a matrix product computed, so that every machine finds the same one?

    C = A B,   c_ij = Σ_k a_ik·b_kj

Each element has its own chain: c = +0.0, then for k = 0, 1, 2, … in this order c = c + a_ik·b_kj,
with one rounding for the product and one for the sum. The chain is all that is fixed. Which
elements are computed at the same time, in which tiles and on how many threads is free, because no
element looks at another: below, one k at a time for a tile of rows that stays in a cache.

The same chain with minus runs in a Cholesky factorisation, in triangular solves and in successive
interference cancellation. `subtract_products` is that chain, and all three are built on it.

Worked example: (1 2; 3 4)(5 6; 7 8) has c_00 = (0 + 1·5) + 2·7 = 19.

>>> import numpy as np
>>> matmul(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]]))
array([[19., 22.],
       [43., 50.]])

A product and a sum are two roundings. A fused multiply-add has only one, and shows it:
(1 + 2⁻³⁰)² = 1 + 2⁻²⁹ + 2⁻⁶⁰ loses its last term in the product, and nothing can bring it back.

>>> x = 1.0 + 2.0**-30
>>> row, column = np.array([[-1.0 - 2.0**-29, x]]), np.array([[1.0], [x]])
>>> float(matmul(row, column)[0, 0])
0.0

Exercise: which value would a fused multiply-add give there? (Check: 2⁻⁶⁰, exactly.)

>>> from fractions import Fraction
>>> exact = Fraction(x) * Fraction(x) - (1 + Fraction(1, 2**29))
>>> exact == Fraction(1, 2**60)
True
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

TILE = 2**15  # elements: a tile and one term of its chain fit in a core's own cache


def _chain(step: Callable[..., object], open_: NDArray, left: NDArray, right: NDArray) -> None:
    rows, columns = open_.shape
    height = max(1, TILE // max(1, columns))
    for start in range(0, rows, height):
        tile, factors = open_[start : start + height], left[start : start + height]
        term = np.empty_like(tile)
        for k in range(len(right)):
            np.multiply(factors[:, k, None], right[k], out=term)
            step(tile, term, out=tile)


def add_products(open_: NDArray, left: NDArray, right: NDArray) -> None:
    """open_ij ← open_ij + left_ik·right_kj for k = 0, 1, 2, …, in place; bits."""
    _chain(np.add, open_, left, right)


def subtract_products(open_: NDArray, left: NDArray, right: NDArray) -> None:
    """open_ij ← open_ij - left_ik·right_kj for k = 0, 1, 2, …, in place; bits."""
    _chain(np.subtract, open_, left, right)


def matmul(left: NDArray, right: NDArray) -> NDArray:
    """C = A B by the chain of this module.

    Args:
        left: A, a×m, and right: B, m×n, both float64 or both float32.

    Returns:
        C, a×n, in their dtype. Exactness: bits.
    """
    product = np.zeros((left.shape[0], right.shape[1]), left.dtype)
    add_products(product, left, right)
    return product
