"""How can a vector be mixed thoroughly with additions and subtractions alone?

A Hadamard matrix H of order n has entries ±1 and orthogonal columns: Hᵀ H = n·I, so H/√n is a
rotation (or a reflection) that spreads every coordinate evenly over all others. For n = 2^p
Sylvester's construction H_2n = (H_n H_n; H_n -H_n) needs only p rounds of *butterflies* (x, y) → (x
+ y, x - y). Other orders start from a base H_m and take the Kronecker product H_m ⊗ H_(2^p). The
bases are Paley's, from the quadratic residues of a prime q: χ(i) is +1 for a nonzero square modulo
q, -1 for a non-square, 0 for 0, and Q_ij = χ(i - j). With 1 for a row of ones,

    q ≡ 3 (mod 4), m = q + 1:     H = I + (0 1; -1ᵀ Q)
    q ≡ 1 (mod 4), m = 2(q + 1):  (0 1; 1ᵀ Q) with 0 → (1 -1; -1 -1) and ±1 → ±(1 1; 1 -1)

    m = 12 (q = 11)    m = 20 (q = 19)    m = 28 (q = 13)    m = 36 (q = 17)

so n = m·2^p covers the widths of real layers: 384 = 12·2⁵, 576 = 36·2⁴, 14336 = 28·2⁹, …

In which order the additions are done, and so the bits, is said in `arithmetic.butterflies`.

Worked example: H_12 has orthogonal columns, H_12ᵀ H_12 = 12·I.

>>> import numpy as np
>>> H = base_matrix(12).astype(int)
>>> bool((H.T @ H == 12 * np.eye(12)).all())
True

Exercise: by which m and p is a layer of 5120 inputs rotated? (Check: 5120 = 20·2⁸.)

>>> base_order(5120)
20
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput

PRIMES = {12: 11, 20: 19, 28: 13, 36: 17}


def base_order(n: int) -> int:
    """The m ∈ {1, 12, 20, 28, 36} with n = m·2^p.

    Raises:
        BadInput: there is none.

    >>> [base_order(n) for n in (1, 64, 384, 576, 1536, 14336)]
    [1, 1, 12, 36, 12, 28]
    """
    for m in (1, *PRIMES):
        quotient, remainder = divmod(n, m)
        if remainder == 0 and quotient > 0 and quotient & (quotient - 1) == 0:
            return m
    raise BadInput(
        f"no Hadamard matrix of order {n} is built in (orders are m·2^p with m = 1, 12, 20, 28 "
        "or 36); use a Haar rotation"
    )


def base_matrix(m: int) -> NDArray[np.int8]:
    """H_m for m ∈ {1, 12, 20, 28, 36}, m×m entries ±1, by Paley's constructions."""
    if m == 1:
        return np.ones((1, 1), np.int8)
    q = PRIMES[m]
    squares = {i * i % q for i in range(1, q)}
    character = np.array([0] + [1 if i in squares else -1 for i in range(1, q)], np.int8)
    index = np.arange(q)
    conference = np.ones((q + 1, q + 1), np.int8)
    conference[0, 0] = 0
    conference[1:, 1:] = character[(index[:, None] - index) % q]
    if m == q + 1:
        conference[1:, 0] = -1
        return conference + np.eye(m, dtype=np.int8)
    off_diagonal = np.array([[1, 1], [1, -1]], np.int8)
    diagonal = np.array([[1, -1], [-1, -1]], np.int8)
    identity = np.eye(q + 1, dtype=np.int8)
    return np.kron(conference, off_diagonal) + np.kron(identity, diagonal)
