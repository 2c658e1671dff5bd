"""What does a layer see of a text, if the text may be read by many, in any order?

`moments` adds token by token, in one chain: only one reader. Here a *sequence* is the unit. Within
one, M = Σ_t l_t·r_tᵀ is exact: each column of the tokens L (T×n) goes onto a grid of its own, of
(53 - ⌈log2 T⌉)/2 bits, and integers sum exactly (`integers`). Across sequences the order is that of
`tree_sum`: x_i and x_{i+m/2} first. A sequence may be computed by anybody, anywhere, and arrive in
any order: a node of the tree is formed when both of its children are there. If they come in the
order of `SequenceSum.order`, which walks the tree, no more than ten matrices wait.

Which moment it is depends on the pair: (x, x) for Σ, (x̂, x̂) for Σ̂, (x, x̂) for Σ_x, (r - r̂, x̂)
for Δ.

**Error.** An element l of column i is off by at most 2^-b·max_t|l_ti|, b = 21 bits at 2048 tokens.

Worked example: x = (1 2), (3 0): 1 + 9, 2 + 0, 4. And three sequences in the order of the tree:

>>> from .passes import Passes
>>> x = np.array([[1.0, 2.0], [3.0, 0.0]])
>>> sequence_moment(Passes(np), x, x).tolist()
[[10.0, 2.0], [2.0, 4.0]]
>>> three = SequenceSum(3)
>>> three.order()
[0, 2, 1]
>>> for i in three.order():
...     three.add(i, np.array([[float(i + 1)]]))
>>> three.total().tolist()
[[6.0]]

Exercise: which sequences are added first, of five? (Check: the tree has eight places; 0 and 4 meet
first, the others are alone in their pairs, and 0 + 4 meets 2.)

>>> SequenceSum(5).order()
[0, 4, 2, 1, 3]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.sums import CHUNK, next_power_of_two, tree_sum
from ..errors import BadInput
from .integers import WIDTH, grid
from .library import Array, ArrayLibrary


def sequence_moment(library: ArrayLibrary, left: Array, right: Array) -> NDArray[np.float64]:
    """Σ_t l_t·r_tᵀ of one sequence, on the host.

    Args:
        left, right: tokens × features; the same array for a covariance (symmetric to the bit).

    Exactness: bits.
    """
    xp = library.xp
    bits = (WIDTH - (left.shape[0] - 1).bit_length()) // 2
    m, unit_left = grid(library, left, bits, axis=0)
    k, unit_right = (m, unit_left) if right is left else grid(library, right, bits, axis=0)
    sums = library.host(library.product(xp.permute_dims(m, (1, 0)), k) + library.zero)
    return (sums * unit_left.T) * unit_right


class SequenceSum:
    """The `tree_sum` of the moments of `count` sequences, which may arrive in any order."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise BadInput(f"moments need at least one sequence, got {count}")
        self.count = count
        self._added: set[int] = set()
        self._waiting: dict[tuple[int, int, int], NDArray[np.float64]] = {}

    def order(self) -> list[int]:
        """The sequences as the tree meets them: fewest matrices wait."""
        found = []
        for start in range(0, self.count, CHUNK):
            size = min(CHUNK, self.count - start)
            width = self._width()
            bits = width.bit_length() - 1
            for i in range(width):
                place = int(format(i, f"0{bits}b")[::-1], 2) if bits else 0
                if place < size:
                    found.append(start + place)
        return found

    def add(self, index: int, moment: NDArray[np.float64]) -> None:
        """Take in the moment of sequence `index`.

        Raises:
            BadInput: an index that is out of range, or was added before.
        """
        if not 0 <= index < self.count or index in self._added:
            raise BadInput(f"sequence {index} of {self.count} is out of range or was added before")
        self._added.add(index)
        chunk, place = divmod(index, CHUNK)
        size = min(CHUNK, self.count - chunk * CHUNK)
        width = self._width()
        while width > 1:
            half = width // 2
            partner = place + half if place < half else place - half
            if self._occupied(partner, width, size):
                other = self._waiting.pop((chunk, width, partner), None)
                if other is None:
                    break
                moment = moment + other if place < half else other + moment
            width, place = half, place % half
        self._waiting[chunk, width, place] = moment

    def total(self) -> NDArray[np.float64]:
        """The sum. Raises BadInput unless every sequence was added."""
        if len(self._added) < self.count:
            missing = next(i for i in range(self.count) if i not in self._added)
            raise BadInput(f"the moment of sequence {missing} of {self.count} is missing")
        chunks = -(-self.count // CHUNK)
        return tree_sum(np.stack([self._waiting[chunk, 1, 0] for chunk in range(chunks)]))

    def _width(self) -> int:
        return min(CHUNK, next_power_of_two(self.count))

    @staticmethod
    def _occupied(place: int, width: int, size: int) -> bool:
        """Whether a node of this row of the tree has any sequence below it."""
        return place < min(width, size)
