"""How does the loop of `sic` run on integers, so that its sums may be taken in any order?

Let the open columns be Y = Σ_s Y_s·2^(-ps), integers in slices of p bits, what is fed back
E = Σ E_p and the coupling M = Σ M_q in such slices too. Column k, once decided, changes every
column j < k, slice by slice (what falls below the last slice of Y is left out by definition):

    Y_s[:, j] -= Σ_{p+q=s} E_p[:, k]·M_q[k, j]          for j < k

All are integers. **Bound**: every partial sum for column j, of any subset in any order, is at most

    bound_s[j] = max_i |Y_s[i, j]| + Σ_{k>j} Σ_{p+q=s} max_i |E_p[i, k]|·|M_q[k, j]|

by the triangle inequality. If bound_s[j] < 2⁵³ no sum rounds, and the columns may be cancelled one
by one, in blocks, or recursively as below: decide the right half, subtract its product from the
left half, decide the left half; the last few one by one, as products of narrow matrices cost more
than they compute. The bound itself needs no care: its terms are integers ≥ 0, sums of
them are exact below 2⁵³, and rounding is monotone, so a sum that reaches 2⁵³ is found to.

If the bound is not met the grid is too fine and the caller starts again with a coarser one: a
function of the data alone, so that everybody does the same.

Worked example: Y = (3 4) on the grid 1, column 1 feeds back E = 4 with M = 2: 3 - 4·2 = -5. The
bound of column 0 is 3 + 4·2 = 11.

>>> import numpy as np
>>> from .arrays import library_of
>>> Y = [np.array([[3.0], [4.0]])]                       # columns lie in rows here
>>> loop = Cancellation(library_of(Y[0]), [np.array([[0.0, 0.0], [2.0, 0.0]])],
...                     lambda k, y: y, Y)
>>> [float(x) for x in loop.run(Y, 0)[0][:, 0]], [float(b) for b in loop.bound[0]]
([-5.0, 4.0], [11.0, 4.0])

Exercise: what happens if Y = (2⁵³ - 8, 4) in its place? (Check: the bound is 2⁵³, so the grid is
refused although the difference itself would fit; in another order it might not.)

>>> Y = [np.array([[2.0**53 - 8], [4.0]])]
>>> Cancellation(library_of(Y[0]), [np.array([[0.0, 0.0], [2.0, 0.0]])],
...              lambda k, y: y, Y).run(Y, 0)
Traceback (most recent call last):
    ...
waterlevel.reference.order_free.cancellation.GridTooFine: column 0
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.sums import next_power_of_two
from .arrays import Array, Library, to_host
from .slices import EXACT

ONE_BY_ONE = 16  # columns; changes no bit

Decide = Callable[[int, list[Array]], list[Array]]


class GridTooFine(Exception):
    """A partial sum might reach 2⁵³: never leaves this folder."""


class Cancellation:
    """The loop on one set of grids.

    Attributes:
        coupling: M_q, n×n each on the host, whole numbers; the strictly lower triangles are read,
            row k only after column k was decided.
        decide: (k, [Y_s of column k]) → [E_p of column k], vectors of a whole numbers.
        bound: see above, n numbers for each slice of Y.
    """

    def __init__(
        self, library: Library, coupling: list[NDArray], decide: Decide, target: list[Array]
    ) -> None:
        self.library = library
        self.coupling = coupling
        self.decide = decide
        self.bound = [self._largest(columns).copy() for columns in target]
        self._check(slice(None))

    def run(self, columns: list[Array], first: int) -> list[Array]:
        """Decide the columns first … first+m-1, the last one first.

        Args:
            columns: Y_s, m×a each: what is open of these columns, all later ones cancelled. Their
                contents are lost where the library changes arrays in place.

        Returns:
            E_p, m×a each. Exactness: bits, in any order of summation.
        """
        m = columns[0].shape[0]
        if m <= ONE_BY_ONE:
            return self._one_by_one(columns, first)
        left = m - next_power_of_two(m) // 2
        right = self.run([column[left:, :] for column in columns], first + left)
        open_ = self.subtract([column[:left, :] for column in columns], first, right, first + left)
        concat = self.library.functions.concat
        return [concat([a, b], axis=0) for a, b in zip(self.run(open_, first), right, strict=True)]

    def _one_by_one(self, columns: list[Array], first: int) -> list[Array]:
        """`run` for few columns: no product of matrices, every product of two numbers exact."""
        xp, open_ = self.library.functions, list(columns)
        decided: list[list[Array]] = []
        for k in range(first + columns[0].shape[0] - 1, first - 1, -1):
            fed = self.decide(k, [column[-1, :] for column in open_])
            decided.append([xp.reshape(vector, (1, -1)) for vector in fed])
            if k > first:
                open_ = self.subtract([column[:-1, :] for column in open_], first, decided[-1], k)
        return [xp.concat(list(parts), axis=0) for parts in zip(*decided[::-1], strict=True)]

    def subtract(
        self, columns: list[Array], first: int, decided: list[Array], begin: int
    ) -> list[Array]:
        """Cancel decided columns (from `begin` on) in the open ones from `first` on, in place."""
        open_ = list(columns)
        there = slice(begin, begin + decided[0].shape[0])
        here = slice(first, first + columns[0].shape[0])
        blocks = [matrix[there, here] for matrix in self.coupling]
        largest = [self._largest(fed) for fed in decided]
        for q, block in enumerate(blocks):
            turned = self.library.put(block.T)
            for p, fed in enumerate(decided[: len(open_) - q]):
                self.bound[p + q][here] += largest[p] @ np.abs(block)
                open_[p + q] -= product(turned, fed)
        self._check(here)
        return open_

    def _largest(self, columns: Array) -> NDArray[np.float64]:
        xp = self.library.functions
        return to_host(xp.max(xp.abs(columns), axis=1))

    def _check(self, places: slice) -> None:
        for bound in self.bound:
            if not (bound[places] < EXACT).all():
                raise GridTooFine(f"column {int(np.argmin(bound < EXACT))}")


def product(left: Array, right: Array) -> Array:
    """The product of two matrices; of a column and a row element by element, which is faster."""
    return left * right if right.shape[0] == 1 else left @ right
