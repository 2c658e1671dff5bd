"""In which basis should a layer be quantised, and how does one get there and back?

A layer computes W x. For an orthogonal V (Vᵀ V = I) nothing changes if inputs and weights turn
together, and the error turns with them:

    W x = (W V)(Vᵀ x)        W → W V        Σ = E[x xᵀ] → Vᵀ Σ V
    D = tr((Ŵ-W) Σ (Ŵ-W)ᵀ) = tr((Ŵ-W)V · VᵀΣV · ((Ŵ-W)V)ᵀ)

So one may quantise W V against Vᵀ Σ V and take the result back with Vᵀ: the distortion is the same
number in both bases. What does change is how good a method is, and not always for the better:

- On a finite grid an outlier of W makes the grid of its row or group coarse. A random V spreads it
  over all columns, and RTN and GPTQ gain.
- Entropy-coded RTN pays for the mean of Σ_kk at high rate (`theory.high_rate`), which is tr Σ/n in
  every basis: V does nothing for it.
- Entropy-coded GPTQ pays for the mean of L_kk². A random V brings it near the value of a typical
  basis (`theory.rotated`), from above or from below: a good order may be better than any rotation.
- WaterSIC hardly notices at high rate, because Π L_kk² = det Σ is the same in every basis.
- In the basis of the eigenvectors Σ is diagonal, and waterfilling can be applied component by
  component.

**Two kinds of V.** A matrix that somebody gives (a Haar-distributed one, eigenvectors) costs n²
numbers and a full product. The randomised Hadamard matrix costs one seed and n·log₂ n additions:

    V = D·(H_m ⊗ H_(2^p))/√n,    n = m·2^p,    D = diag(±1) at random

(`hadamard` explains H.) The random signs D matter: without them a vector that happens to look like
a column of H would be turned into a single large number. They do not help where Σ is diagonal,
since Dᵀ Σ D = Σ then; such a Σ calls for a Haar matrix.

**The other moments.** The drift moments E[x x̂ᵀ] and E[x̂ x̂ᵀ] turn like Σ, from both sides, and the
residual moment E[(r - r̂) x̂ᵀ], whose rows are outputs, like W.

Worked example: n = 2, H = (1 1; 1 -1), and the signs (+ +) of seed 2. W = (3 1) goes to (4 2)/√2.

>>> rotation = HadamardRotation(2, seed=2)
>>> rotation.signs
array([1., 1.])
>>> W = np.array([[3.0, 1.0]])
>>> np.rint(rotation.rotate_columns(NUMPY, W) * rotation.scale * 2).tolist()
[[4.0, 2.0]]
>>> back = rotation.unrotate_columns(NUMPY, rotation.rotate_columns(NUMPY, W))
>>> bool(np.abs(back - W).max() < 1e-15)
True

Exercise: what becomes of Σ = diag(3, 1) under this V? (Check: the diagonal is even, (3 + 1)/2, and
what was spread is now a correlation, (3 - 1)/2.)

>>> np.rint(rotation.rotate_both(NUMPY, np.diag([3.0, 1.0])))
array([[2., 1.],
       [1., 2.]])

Exercise: and what do the mean of Σ_kk and the mean of L_kk² do on this way? (Check: RTN's stays at
2, GPTQ's falls from 2 to 7/4; the way back, with the same V, is a rotation that GPTQ pays for.)

>>> for S in (np.diag([3.0, 1.0]), np.array([[2.0, 1.0], [1.0, 2.0]])):
...     L = np.linalg.cholesky(S)
...     print(float(np.mean(np.diagonal(S))), round(float(np.mean(np.diagonal(L) ** 2)), 9))
2.0 2.0
2.0 1.75
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.logarithm import inverse_square_root
from ..errors import BadInput
from ..operations import Matrix, Operations
from ..operations.numpy_operations import NUMPY
from .hadamard import base_matrix, base_order


def philox_key(seed: int) -> int:
    """The seed itself, if it is a key of the generator: 0 ≤ seed < 2¹²⁸; else `BadInput`."""
    if not 0 <= seed < 2**128:
        raise BadInput(f"a seed must be from 0 to 2**128 - 1, got {seed}")
    return int(seed)


class Rotation(Protocol):
    """An orthogonal V; the kinds differ in how A V and A Vᵀ are computed."""

    def order(self) -> int:
        """n of the n×n matrix V."""
        ...

    def rotate_columns(self, backend: Operations, matrix: Matrix) -> Matrix:
        """A V for A of a×n, float64 or float32: weights, and all that has inputs as columns."""
        ...

    def unrotate_columns(self, backend: Operations, matrix: Matrix) -> Matrix:
        """A Vᵀ: back to the original basis."""
        ...

    def describe(self) -> dict[str, str | int | None]:
        """What a result must record: kind and seed (None for a V that was not drawn)."""
        ...

    def rotate_both(self, backend: Operations, moment: Matrix) -> Matrix:
        """Vᵀ M V for M of n×n: first B = M V, then (Bᵀ V)ᵀ."""
        right = self.rotate_columns(backend, moment)
        return backend.transpose(self.rotate_columns(backend, backend.transpose(right)))

    def rotate_covariance(self, backend: Operations, covariance: Matrix) -> Matrix:
        """`rotate_both` for a symmetric M, whose rounding errors are made symmetric again."""
        return backend.symmetrize(self.rotate_both(backend, covariance))


@dataclass(frozen=True)
class HadamardRotation(Rotation):
    """V = D·(H_m ⊗ H_(2^p))/√n.

    Attributes:
        n: the order, m·2^p with m ∈ {1, 12, 20, 28, 36}.
        seed: the key of the generator that draws the signs, 0 ≤ seed < 2¹²⁸.

    Raises:
        BadInput: another n (use a Haar rotation there), another seed.

    Exactness of all methods: bits. A V is a product with the signs, `Operations.hadamard`, and one
    product with the rounded 1/√n; A Vᵀ is the transform with H_mᵀ, the same 1/√n, then the signs.
    """

    n: int
    seed: int

    def __post_init__(self) -> None:
        base_order(self.n)
        philox_key(self.seed)

    @cached_property
    def base(self) -> NDArray[np.int8]:
        """H_m."""
        return base_matrix(base_order(self.n))

    @cached_property
    def signs(self) -> NDArray[np.float64]:
        """The diagonal of D: the top bit of the i-th raw number of `Philox(key=seed)`, 0 is +."""
        raw = np.random.Philox(key=philox_key(self.seed)).random_raw(self.n)
        return np.where(raw >> np.uint64(63) == 0, 1.0, -1.0)

    @cached_property
    def scale(self) -> float:
        """1/√n, correctly rounded; in float32 it is this number, rounded again."""
        return inverse_square_root(self.n)

    def order(self) -> int:
        return self.n

    def rotate_columns(self, backend: Operations, matrix: Matrix) -> Matrix:
        dtype = backend.dtype(matrix)
        mixed = backend.hadamard(backend.scale_columns(matrix, self.signs.astype(dtype)), self.base)
        return backend.scale_columns(mixed, np.full(self.n, self.scale, dtype))

    def unrotate_columns(self, backend: Operations, matrix: Matrix) -> Matrix:
        transposed = np.ascontiguousarray(self.base.T)  # H_(2^p) is its own transpose
        factors = self.signs * self.scale  # a sign changes no rounding: one product for both
        return backend.scale_columns(
            backend.hadamard(matrix, transposed), factors.astype(backend.dtype(matrix))
        )

    def describe(self) -> dict[str, str | int | None]:
        return {"kind": "hadamard", "seed": self.seed}


@dataclass(frozen=True, eq=False)
class MatrixRotation(Rotation):
    """V as a matrix of numbers.

    Attributes:
        matrix: V, n×n, float64 or float32; it is converted to the dtype of what it is applied to.
        kind: where it comes from: "haar", "given" or "eigenvectors".
        seed: of a Haar matrix; None for the others.

    Exactness of all methods: bits, given V: A V is `Operations.matmul`. V itself must be stored
    with a result, as LAPACK's Haar matrices and eigenvectors differ between machines.
    """

    matrix: NDArray
    kind: str
    seed: int | None = None

    def order(self) -> int:
        return len(self.matrix)

    def rotate_columns(self, backend: Operations, matrix: Matrix) -> Matrix:
        return backend.matmul(matrix, backend.from_host(self.matrix, backend.dtype(matrix)))

    def unrotate_columns(self, backend: Operations, matrix: Matrix) -> Matrix:
        transposed = np.ascontiguousarray(self.matrix.T)
        return backend.matmul(matrix, backend.from_host(transposed, backend.dtype(matrix)))

    def describe(self) -> dict[str, str | int | None]:
        return {"kind": self.kind, "seed": self.seed}


def given_rotation(
    matrix: NDArray, n: int, kind: str = "given", backend: Operations = NUMPY
) -> MatrixRotation:
    """A rotation from a matrix that somebody supplies, if `check_orthogonal` finds no fault.

    >>> given_rotation(np.array([[1.0, 1.0], [0.0, 1.0]]), 2)
    Traceback (most recent call last):
        ...
    waterlevel.reference.errors.BadInput: rotation is not orthogonal: (VᵀV)[0, 1] differs from the \
identity by 1, more than the tolerance 6.66134e-15
    """
    check_orthogonal(matrix, n, backend, "rotation" if kind == "given" else kind)
    return MatrixRotation(matrix, kind)


def check_orthogonal(
    matrix: NDArray, n: int, backend: Operations = NUMPY, name: str = "rotation"
) -> None:
    """Refuse a V that is no n×n orthogonal matrix: |VᵀV - I| ≤ 30·n·u for every element.

    The tolerance. u is the unit roundoff of the dtype of V, 2⁻⁵³ or 2⁻²⁴. Rounding the elements of
    an orthogonal V changes v_i·v_j by at most 2u (Cauchy-Schwarz, columns of length 1), and
    the product that is computed here, in float64, adds at most n·2⁻⁵³. A factorisation in floating
    point leaves more: Householder's is orthogonal up to a modest multiple of n·u. LAPACK's own
    tests accept ‖I - VᵀV‖ ≤ 30·n·u, and so does this one, so that what LAPACK returns is let in.

    Args:
        matrix: V. n: the number of columns of the weight. backend: computes VᵀV.
        name: what the user calls V.

    Raises:
        BadInput: names the shape, the dtype, the element that is not finite or the largest
            deviation from the identity.
    """
    V = np.asarray(matrix)
    if V.shape != (n, n) or V.dtype not in (np.float64, np.float32):
        raise BadInput(
            f"{name} must be {n}×{n} in float64 or float32, got shape {V.shape} in {V.dtype}"
        )
    on_backend = backend.from_host(V, np.float64)
    found = backend.find_nonfinite(on_backend)
    if found:
        row, column, value = found
        raise BadInput(f"{name}[{row}, {column}] is {value}; every element must be finite")
    product = backend.to_host(backend.matmul_transposed(on_backend, on_backend))
    deviation = np.abs(product - np.eye(n))
    row, column = divmod(int(np.argmax(deviation)), n)
    tolerance = 30 * n * float(np.finfo(V.dtype).eps) / 2
    if not deviation[row, column] <= tolerance:
        raise BadInput(
            f"{name} is not orthogonal: (VᵀV)[{row}, {column}] differs from the identity by "
            f"{deviation[row, column]:g}, more than the tolerance {tolerance:g}"
        )
