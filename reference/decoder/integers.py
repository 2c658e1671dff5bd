"""How can a product of two matrices be the same number from every library?

A BLAS adds in whatever order suits its processor, fuses multiplications with additions and splits
sums among threads; each changes the last bits, because additions round. They do not if nothing has
to be rounded. Write both factors as integers times powers of two,

    x_i ≈ u·m_i,  |m_i| ≤ 2^b      w_i ≈ v·k_i,  |k_i| ≤ 2^c      Σ_i x_i·w_i ≈ (u·v)·Σ_i m_i·k_i

A partial sum of n products m_i·k_i, in any order, is an integer of at most n·2^(b+c). float64 holds
every integer up to 2^53. So if

    b + c + ⌈log2 n⌉ ≤ 53

no partial sum rounds, and order, fused multiply-adds, threads and vendor cannot change a bit. The
one rounding is that onto the grid, x → m, and it is written down: m_i = rint(x_i/u), u the power of
two for which the largest |x_i| becomes at most 2^b. A token has a grid of its own, a row of W too.

**Error.** |x_i - u·m_i| ≤ u/2, and u ≤ 2^(1-b)·max|x|, for the largest |x_i| lies above 2^(b-1)·u.
The same for w with c. For the sum, with x and w as they were,

    |error| ≤ 2^-b·max|x|·Σ|w_i| + 2^-c·max|w|·Σ|x_i| + n·2^-(b+c)·max|x|·max|w|

At n = 576 the 53 bits leave 22 for x and 21 for w: float32 keeps 24 of *each number*, this grid 22
of the *largest*. A vector of one giant and many dwarfs loses there: a number 3000 times smaller
than the largest keeps 10 or 11 bits.

Worked example: x = (1, 0.3) on 3 bits. The largest is 1 = ½·2^1, so u = 2^(1-3) = ¼, and m =
(4, rint 1.2) = (4, 1): 0.3 has become ¼.

>>> from .library import ArrayLibrary
>>> library = ArrayLibrary(np)
>>> m, u = grid(library, np.array([[1.0, 0.3]]), 3)
>>> m.tolist(), u.tolist()
([[4.0, 1.0]], [[0.25]])

Exercise: n = 8192 inputs; how many bits are left for x and w, and what is the largest partial sum?
(Check: 53 - 13 = 40, 20 each; 8192·2^20·2^20 = 2^53, which is still held exactly.)

>>> share(8192)
(20, 20)
>>> 8192 * 2**20 * 2**20 == 2**53
True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.sums import tree_sum
from ..errors import BadInput

if TYPE_CHECKING:
    from .library import Array, ArrayLibrary

WIDTH = 53
"""Bits of a float64: every integer up to 2^53 is one."""

LEAST, LARGEST = -400, 400
"""Exponents of grids. Products of two of them, and of 2^53, stay normal numbers. A vector whose
largest element is below 2^-400 is put on the grid of 2^-400."""


def share(n: int) -> tuple[int, int]:
    """The bits of two factors whose n products sum exactly: the first gets the odd bit.

    >>> share(576)
    (22, 21)
    """
    bits = WIDTH - (n - 1).bit_length()
    return bits - bits // 2, bits // 2


def units(largest: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """The powers of two u for which numbers up to `largest` become integers up to 2^bits.

    Raises:
        BadInput: a largest number that is not finite, or above 2^400.
    """
    _, exponents = np.frexp(largest)
    wrong = ~np.isfinite(largest) | (exponents > LARGEST)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise BadInput(
            f"vector {place} of activations or weights reaches {largest.reshape(-1)[place]:g}, "
            f"which is beyond 2^{LARGEST}; the model does not compute with such numbers"
        )
    return np.ldexp(1.0, np.maximum(exponents, LEAST) - bits)


def grid(
    library: ArrayLibrary, x: Array, bits: int, axis: int = -1
) -> tuple[Array, NDArray[np.float64]]:
    """m = rint(x/u) and u, one for all places along `axis` (kept, of length 1; on the host)."""
    unit = units(library.host(library.xp.max(library.xp.abs(x), axis=axis, keepdims=True)), bits)
    return library.rint(x * library.put(1 / unit)), unit


@dataclass(frozen=True)
class Linear:
    """A linear layer y = W x + b, ready to be applied.

    Attributes:
        integers: k, inputs × outputs, on the device.
        unit: v, one power of two for each output, on the device.
        bits: b, those left to the inputs.
        bias: one number for each output, on the device, or None.
        limit: for a layer of values, above every |y| that can occur (host, float64); else None.
    """

    integers: Array
    unit: Array
    bits: int
    bias: Array | None = None
    limit: NDArray[np.float64] | None = None


def prepare(
    library: ArrayLibrary,
    weight: NDArray,
    bias: NDArray | None = None,
    gain: NDArray | None = None,
) -> Linear:
    """W, a×n, on row grids.

    Args:
        weight: any float dtype, on the host.
        bias: length a, or None.
        gain: of the norm whose output the layer receives; asks for `Linear.limit`.

    By Cauchy–Schwarz no input gets past the limit: a normed vector is x_i = g_i·n_i with Σ n_i² ≤
    n, so |Σ_i w_i·x_i| ≤ √n·‖g ⊙ w‖. The grid of x adds at most 2^-b·max|x| to each x_i, and
    max|x| ≤ √n·max|g|: together √n·(‖g ⊙ w‖ + 2^-b·max|g|·Σ|w_i|), and 2^-20 of it for the
    roundings of element-wise operations (a few 2^-53 each, and n of them in the sum, n < 2^30).
    """
    n = weight.shape[1]
    of_inputs, of_weights = share(n)
    host = np.asarray(weight, np.float64)
    unit = units(np.max(np.abs(host), axis=1, keepdims=True), of_weights)
    k = np.rint(host / unit)
    limit = None
    if gain is not None:
        on_grid, g = (k * unit).T, np.asarray(gain, np.float64)
        product = g[:, None] * on_grid
        norm = np.sqrt(tree_sum(product * product))
        spill = np.ldexp(np.max(np.abs(g)), -of_inputs) * tree_sum(np.abs(on_grid))
        limit = np.sqrt(float(n)) * (norm + spill) * (1 + np.ldexp(1.0, -20))
        if bias is not None:
            limit = limit + np.abs(np.asarray(bias, np.float64))
    put = library.put
    return Linear(
        put(np.ascontiguousarray(k.T)),
        put(unit[:, 0]),
        of_inputs,
        None if bias is None else put(bias),
        limit,
    )
