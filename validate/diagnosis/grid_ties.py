"""Rows that part at a tie by construction, where two right programs may differ.

On a symmetric grid the weight of largest magnitude gives the scale, and if it is negative it lies
half-way between codes 0 and 1 (`reference.methods.one_scale`). That holds as long as nothing was
fed back to it since its grid was found: everywhere with RTN, at place 0 with GPTQ and one grid per
row or static groups, and at the first place of every block with GPTQ's other groups. A row whose
*first* different code is such a one is counted; what follows in it is a consequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def rows_parted_at_ties(
    codes: NDArray[np.int32],
    others: NDArray[np.int32],
    zero: NDArray[np.int32],
    method: str,
    parameters: Mapping[str, Any],
    order: NDArray[np.int64],
) -> int:
    """How many rows part at such a place; 0 where the grid has none.

    Args:
        codes, others: a×n, of the two. zero: the zero points of the first.
        method, parameters: how both were made, as results record it.
        order: the columns in the order of processing.
    """
    bits = parameters.get("bits")
    symmetric = isinstance(bits, int) and bool((zero == 2 ** (bits - 1)).all())
    if method not in ("rtn", "gptq") or not symmetric or parameters.get("mse"):
        return 0
    differ = (codes != others)[:, order]
    rows = np.flatnonzero(differ.any(axis=1))
    place = np.argmax(differ[rows], axis=1)
    here, there = codes[rows, order[place]], others[rows, order[place]]
    tied = (np.minimum(here, there) == 0) & (np.maximum(here, there) == 1)
    if method == "gptq":
        updated = parameters.get("group_size") and not parameters.get("static_groups")
        tied &= place % parameters["block_size"] == 0 if updated else place == 0
    return int(np.count_nonzero(tied))
