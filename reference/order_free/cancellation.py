"""How does the loop of `sic` run on integers, so that its sums may be taken in any order?

Let the open columns be Y = Σ_s Y_s·2^(-ps), integers in slices of p bits, what is fed back
E = Σ E_p and the coupling M = Σ M_q in such slices too. Column k, once decided, changes every
column j < k, slice by slice (what falls below the last slice of Y is left out by definition):

    Y_s[:, j] -= Σ_{p+q=s} E_p[:, k]·M_q[k, j]          for j < k

All are integers. **Bound**: every partial sum for column j, of any subset in any order, is at most

    bound_s[j] = max_i |Y_s[i, j]| + Σ_{k>j} Σ_{p+q=s} max_i |E_p[i, k]|·|M_q[k, j]|

by the triangle inequality. If bound_s[j] < 2⁵³ no sum rounds, and the columns may be cancelled one
by one, in blocks, or recursively as below: decide the right half, subtract its product from the
left half, decide the left half. The bound itself needs no care: its terms are integers ≥ 0, sums of
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
        self.bound = [self._largest(columns) for columns in target]
        self._check()

    def run(self, columns: list[Array], first: int) -> list[Array]:
        """Decide the columns first … first+m-1, the last one first.

        Args:
            columns: Y_s, m×a each: what is open of these columns, all later ones cancelled.

        Returns:
            E_p, m×a each. Exactness: bits, in any order of summation.
        """
        xp, m = self.library.functions, columns[0].shape[0]
        if m == 1:
            decided = self.decide(first, [column[0, :] for column in columns])
            return [xp.reshape(vector, (1, -1)) for vector in decided]
        left = m - next_power_of_two(m) // 2
        right = self.run([column[left:, :] for column in columns], first + left)
        open_ = self.subtract([column[:left, :] for column in columns], first, right, first + left)
        return [
            xp.concat([a, b], axis=0) for a, b in zip(self.run(open_, first), right, strict=True)
        ]

    def subtract(
        self, columns: list[Array], first: int, decided: list[Array], begin: int
    ) -> list[Array]:
        """Cancel decided columns (from `begin` on) in the open columns from `first` on."""
        open_ = list(columns)
        end, stop = begin + decided[0].shape[0], first + columns[0].shape[0]
        largest = [self._largest(fed) for fed in decided]
        for q, matrix in enumerate(self.coupling):
            block = matrix[begin:end, first:stop]
            there = self.library.put(block.T)
            for p, fed in enumerate(decided):
                if p + q < len(open_):
                    self.bound[p + q][first:stop] += largest[p] @ np.abs(block)
                    open_[p + q] = open_[p + q] - there @ fed
        self._check()
        return open_

    def _largest(self, columns: Array) -> NDArray[np.float64]:
        xp = self.library.functions
        return to_host(xp.max(xp.abs(columns), axis=1))

    def _check(self) -> None:
        for bound in self.bound:
            if not (bound < EXACT).all():
                raise GridTooFine(f"column {int(np.argmin(bound < EXACT))}")
