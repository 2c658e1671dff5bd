"""What is divided away before every group of linear layers?

Its length. With g a gain for each feature, learnt with the model, and ε a small number,

    RMS(x)_i = g_i·x_i/√(mean_j x_j² + ε)

The mean square is the only sum. x goes onto a grid of (53 - ⌈log2 n⌉)/2 bits (`integers`), the
squares of integers sum exactly, and what follows is one number a token, on the host: division by n,
times the unit squared (a power of two), plus ε, root, reciprocal, one rounding each. Then two
multiplications for each element of the *unrounded* x.

**Error.** The grid changes x_j by at most 2^-b·max|x| ≤ 2^-b·√n·rms(x), all of them together the
length of x by that relative amount or less: 2^-20·√n in the worst case of one giant (where it is in
fact nothing), 2^-b times a small factor where all are alike.

Worked example: x = (3, 4), g = (1, 2), ε = 0: mean square 12.5, x/√12.5 = (0.8485…, 1.1314…).

>>> from .library import ArrayLibrary
>>> normed = rms_norm(ArrayLibrary(np), np.array([[3.0, 4.0]]), np.array([1.0, 2.0]), 0.0)
>>> normed.round(6).tolist()
[[0.848528, 2.262742]]

Exercise: what becomes of a vector of zeros? (Check: 0·1/√ε = 0; without ε it would be NaN.)

>>> rms_norm(ArrayLibrary(np), np.zeros((1, 2)), np.ones(2), 1e-6).tolist()
[[0.0, 0.0]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .integers import grid, share
from .library import Array, ArrayLibrary


def inverse_root(
    square: NDArray[np.float64], unit: NDArray[np.float64], n: int, epsilon: float
) -> NDArray[np.float64]:
    """1/√(mean square + ε), for sums of squares of integers worth `unit` each; on the host."""
    return 1.0 / np.sqrt((square / n) * (unit * unit) + epsilon)


def rms_norm(library: ArrayLibrary, x: Array, gain: Array, epsilon: float) -> Array:
    """RMS(x) over the last axis. Exactness: bits."""
    n = x.shape[-1]
    m, unit = grid(library, x, share(n)[1])
    square = library.host(library.xp.sum(m * m, axis=-1, keepdims=True))
    y = x * library.put(inverse_root(square, unit, n, epsilon))
    y *= gain
    return y
