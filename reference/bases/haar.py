"""What is a rotation that prefers no direction, and how is one drawn?

A random orthogonal V is *Haar distributed* if U V has the same distribution as V for every fixed
orthogonal U. It is what "a random rotation" means in theory: V then does not know the eigenvectors
of Σ, whatever they are.

A matrix G of independent N(0, 1) entries has this symmetry, U G ~ G, and G = Q R with R's diagonal
positive has exactly one solution. For U G it is (U Q) R, so Q inherits the symmetry and is Haar
distributed. The sign is the point that is easily missed: Householder's method returns some Q with
diagonal elements of R of either sign, by rules of its own, and that Q is *not* Haar distributed.
Column j of Q must be multiplied by the sign of R_jj.

This module stands outside the exact path: a bell-shaped sample and LAPACK's factorisation may
differ in their last bits between machines. V is therefore data. Whoever rotates by it stores it
with the result, and a rotation by the stored V is exact again.

Worked example: for n = 1 the only orthogonal matrices are 1 and -1, and each comes half of the
time. Without the signs it would always be the same one.

>>> values = [float(haar(1, seed).matrix[0, 0]) for seed in range(1000)]
>>> sorted(set(values))
[-1.0, 1.0]
>>> 450 < values.count(1.0) < 550
True

Exercise: all n² entries of V have the same distribution, and the rows have length 1. What is the
mean square of an entry? (Check: 1/n.)

>>> squares = [float(haar(4, seed).matrix[2, 3]) ** 2 for seed in range(2000)]
>>> abs(sum(squares) / len(squares) - 1 / 4) < 0.02
True

Source: F. Mezzadri, "How to generate random matrices from the classical compact groups", Notices of
the AMS 54 (2007).
"""

from __future__ import annotations

import numpy as np

from ..errors import BadInput
from .rotation import MatrixRotation, philox_key


def haar(n: int, seed: int) -> MatrixRotation:
    """A Haar-distributed orthogonal matrix.

    Args:
        n: its order, at least 1. seed: key of the generator, 0 ≤ seed < 2¹²⁸.

    Returns:
        The rotation, V in float64, orthogonal up to a small multiple of n·2⁻⁵³. The same seed
        gives the same V on the same machine with the same libraries; store V (see above).

    Raises:
        BadInput: n or seed out of range.
    """
    if n < 1:
        raise BadInput(f"a rotation needs an order of at least 1, got {n}")
    generator = np.random.Generator(np.random.Philox(key=philox_key(seed)))
    Q, R = np.linalg.qr(generator.standard_normal((n, n)))
    return MatrixRotation(Q * np.where(np.diagonal(R) < 0, -1.0, 1.0), "haar", seed)
