"""What does a decoder ask of an array library?

Little: exact products of matrices, and element-wise operations that IEEE 754 rounds once (+, -, *,
/, rint, abs, max). Any namespace of the Python array API standard has them, so the same lines run
on NumPy, PyTorch, JAX and CuPy. Two rules keep the bits the same:

- a product is followed by an addition only if it is exact (a power of two, or integers that fit): a
  compiler that fuses the two then changes nothing;
- a square root is taken on the host, where it is correctly rounded: one number a token.

An assignment such as x *= y changes an array in place where a library allows that, which saves
NumPy the time for a new one, and makes a new one elsewhere. So it may stand only where x belongs to
the function that says it.

A sum that is zero may be -0.0 or +0.0, as a library likes; whoever shows it adds +0.0 first.

Worked example:

>>> library = ArrayLibrary(np)
>>> library.product(np.array([[2.0, 3.0]]), np.array([[5.0], [-1.0]])).tolist()
[[7.0]]

Exercise: which of the two may a compiler fuse without harm, a·b + c with a = 0.1, b = 0.1, c =
-0.01 or with a = 0.1, b = 0.25, c = -0.01? (Check: the second; 0.1·0.25 is exact.)

>>> from fractions import Fraction
>>> [Fraction(0.1) * Fraction(b) == Fraction(0.1 * b) for b in (0.1, 0.25)]
[False, True]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = Any
"""A float64 array of the library."""


class ArrayLibrary:
    """A namespace of the array API standard, with the ways to and from the host."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.zero = self.put(0.0)

    def put(self, values: ArrayLike) -> Array:
        """A host array as float64 on the device."""
        return self.xp.asarray(np.asarray(values, np.float64), dtype=self.xp.float64)

    def host(self, x: Array) -> NDArray[np.float64]:
        """An array of the library on the host."""
        for name in ("cpu", "get"):  # PyTorch, CuPy
            if hasattr(x, name):
                x = getattr(x, name)()
                break
        return np.asarray(x)

    def rint(self, x: Array) -> Array:
        """The nearest integers, ties to even; x may be overwritten."""
        return np.rint(x, out=x) if isinstance(x, np.ndarray) else self.xp.round(x)

    def product(self, a: Array, b: Array) -> Array:
        """A B for matrices of integers whose sums are exact; here alone products are summed.

        Exactness: bits, but for the sign of a zero.
        """
        return self.xp.matmul(a, b)
