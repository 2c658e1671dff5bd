"""Matrix products in the order of the contract, and the continuing sum of outer products.

A run of k at a time is packed, A negated, and subtracted from C: c - (-a)·b = c + a·b. Steps that
only add zeros to a chain that began at +0.0 change nothing, so of a triangular factor they are left
out: half the work of W·L. (With an infinity or a NaN on the other side they would not be zeros,
and none is left out.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiler import Array, entry
from .packing import pack_columns, pack_rows, packed_buffer, tiles_for
from .tiles import lanes
from .updates import update, whole_extents

MIRRORED = 256  # rows and columns of a block that is copied to the other triangle
DEPTH = 256  # steps packed at a time: a tile of them fits in a core's nearest cache


@entry
def nonzero_extents(packed: Array, depth: int, steps: int, extents: Array) -> None:
    """Writes for each tile the first step that is not all zeros and the one after the last."""
    width = lanes(packed)
    for t in range(len(extents)):
        start = t * depth * width
        first, stop = start, start + steps * width
        while first < stop and packed[first] == 0:
            first += 1
        while first < stop and packed[stop - 1] == 0:
            stop -= 1
        extents[t, 0] = (first - start) // width
        extents[t, 1] = (stop - start + width - 1) // width


def _finite(matrix: NDArray) -> bool:
    """Whether it is certain that there is no infinity and no NaN: their sum would be one, too."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(matrix.sum()))


def _add_products(
    total: NDArray,
    left: NDArray,
    right: NDArray,
    transposed: bool,
    weights: NDArray | None = None,
    skip_zeros: bool = False,
    lower: bool = False,
) -> None:
    """total ← total + A B, or Aᵀ B, step by step; all of it, or what a lower triangle needs."""
    rows, columns = total.shape
    steps = len(right)
    left_packed = packed_buffer(rows, DEPTH, total.dtype)
    right_packed = packed_buffer(columns, DEPTH, total.dtype)
    left_tiles, right_tiles = tiles_for(rows, total.dtype), tiles_for(columns, total.dtype)
    pack_left = pack_columns if transposed else pack_rows
    for k in range(0, steps if total.size else 0, DEPTH):
        here = min(DEPTH, steps - k)
        pack_left(left, range(k, k + here), range(rows), left_packed, DEPTH, sign=-1)
        pack_columns(right, range(k, k + here), range(columns), right_packed, DEPTH)
        left_extents = whole_extents(left_tiles, here)
        right_extents = whole_extents(right_tiles, here)
        if skip_zeros:
            nonzero_extents(left_packed, DEPTH, here, left_extents)
            nonzero_extents(right_packed, DEPTH, here, right_extents)
        some = None if weights is None else weights[k : k + here]
        update(
            *(total, range(rows), range(columns)),
            *(left_packed, left_extents, right_packed, right_extents, DEPTH, some),
            lower=lower,
        )


def matmul(left: NDArray, right: NDArray) -> NDArray:
    """A B: `products.matmul`."""
    product = np.zeros((left.shape[0], right.shape[1]), left.dtype)
    finite = _finite(left) and _finite(right)
    _add_products(product, left, right, transposed=False, skip_zeros=finite)
    return product


def matmul_transposed(left: NDArray, right: NDArray) -> NDArray:
    """Aᵀ B by the same chain.

    Aᵀ A is symmetric to the last bit, for a product does not ask which factor comes first.
    """
    product = np.zeros((left.shape[1], right.shape[1]), left.dtype)
    symmetric = left is right
    finite = _finite(left) and (symmetric or _finite(right))
    _add_products(product, left, right, transposed=True, skip_zeros=finite, lower=symmetric)
    if symmetric:
        _mirror(product)
    return product


def _mirror(matrix: NDArray) -> None:
    """The lower triangle is copied to the upper one, block by block for the cache's sake."""
    n = len(matrix)
    for start in range(0, n, MIRRORED):
        stop = min(start + MIRRORED, n)
        corner = matrix[start:stop, start:stop]
        np.copyto(corner, corner.T.copy(), where=np.tri(stop - start, k=-1, dtype=bool).T)
        for below in range(stop, n, MIRRORED):
            end = min(below + MIRRORED, n)
            matrix[start:stop, below:end] = matrix[below:end, start:stop].T


def accumulate(total: NDArray, left: NDArray, right: NDArray, weights: NDArray | None) -> None:
    """total_ij ← total_ij + w_t·(x_ti·y_tj), token by token, in place."""
    _add_products(total, left, right, transposed=True, weights=weights)
