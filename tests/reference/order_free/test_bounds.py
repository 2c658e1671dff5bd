"""The bounds of the pages hold on data, and codes differ from the ordered oracle at ties only."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest

from waterlevel.reference.arithmetic.products import matmul
from waterlevel.reference.grids.codebooks import ScaledLattice, UniformLattice
from waterlevel.reference.operations.sic import sic
from waterlevel.reference.order_free import order_free, order_free_cholesky, order_free_grid
from waterlevel.reference.order_free.arrays import library_of
from waterlevel.reference.order_free.factor import factor_error
from waterlevel.reference.order_free.finite import grid_deviation_bound
from waterlevel.reference.order_free.lattice import LatticeProblem
from waterlevel.reference.order_free.slices import exponents, product_error, product_transposed

from ...helpers.exact_order_free import exact
from ...helpers.inputs import bell
from .layers import NAMES, layer


def exact_product(W: np.ndarray, L: np.ndarray) -> list[list[F]]:
    X, Y = exact(W), exact(L)
    return [
        [sum((row[k] * Y[k][j] for k in range(len(Y))), F(0)) for j in range(len(Y))] for row in X
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_as_close_as_its_bound_says(name: str):
    W, L = layer(name, 4, 40)
    found = product_transposed(library_of(W), W.astype(np.float64), L)
    T = exact_product(W, L)
    largest = F(0)
    for i in range(len(W)):
        for j in range(len(L)):
            unit = F(2) ** int(found.row_exponent[i] + found.column_exponent[j])
            error = abs(F(float(found.value[j, i])) - T[i][j] / unit)
            largest = max(largest, error)
    assert largest <= product_error(len(L))
    assert largest * 2**20 > product_error(len(L)) or name == "one column"  # it says something


@pytest.mark.parametrize("n", [1, 33, 70])
def test_the_factor_is_as_close_as_its_bound_says(n: int):
    X = bell(4, (n + 3, n), np.float64) * np.exp2(np.arange(n) % 5)
    H = X.T @ X
    L = exact(order_free_cholesky(H))
    e = exponents(np.sqrt(np.diag(H))[:, None], 1, "row")
    for i in range(n):
        for j in range(i + 1):
            error = abs(F(float(H[i, j])) - sum(L[i][k] * L[j][k] for k in range(j + 1)))
            assert error <= F(2) ** int(e[i] + e[j]) * F(factor_error(n))


def exact_targets(W: np.ndarray, L: np.ndarray, unit: list[F], fed: list[list[F]]) -> list[list[F]]:
    """y* of every place: (W L - fed L) / unit, without what column j itself feeds back."""
    n, T, X = len(L), exact_product(W, L), exact(L)
    return [
        [
            (T[i][j] - sum((fed[i][k] * X[k][j] for k in range(j + 1, n)), F(0))) / unit[j]
            for j in range(n)
        ]
        for i in range(len(W))
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("method", "spacing"), [("watersic", 0.4), ("watersic", 0.01), ("gptq", 0.2)]
)
def test_codes_differ_from_the_oracle_at_ties_only(name: str, method: str, spacing: float):
    W, L = layer(name, 5, 24)
    n, watersic = len(L), method == "watersic"
    found = order_free(W, L, spacing, method=method)
    diagonal = [F(float(x)) for x in np.diag(L)]
    spacings = [F(spacing) / d if watersic else F(spacing) for d in diagonal]
    fed = [
        [int(z) * F(float(g)) * s for z, g, s in zip(row, found.gains, spacings, strict=True)]
        for row in found.codes
    ]
    target = exact_targets(W, L, [s * d for s, d in zip(spacings, diagonal, strict=True)], fed)
    problem = LatticeProblem(
        library_of(W), W.astype(np.float64), L, np.arange(n), watersic, watersic
    )
    assert found.fraction_bits is not None
    bound = problem.deviation_bound(spacing, found.fraction_bits, found.codes, found.gains)
    assert bound.max() < 0.01
    for i in range(len(W)):
        for j in range(n):
            assert abs(target[i][j] - int(found.codes[i, j])) <= F(0.5) + F(bound[i, j])
    # The oracle: its sums of at most n + 2 terms round once a term, γ_n·Σ|terms| in all.
    alpha = np.array([float(s) for s in spacings])
    Y, codes = matmul(W.astype(np.float64), L), np.zeros(W.shape, np.int32)
    book = ScaledLattice(spacing, alpha, True) if watersic else UniformLattice(spacing)
    sic(Y, codes, L, book, 0, n)
    sizes = np.abs(W) @ np.abs(L) + np.abs([[float(x) for x in row] for row in fed]) @ np.abs(L)
    ordered = (3 * n + 8) * 2.0**-53 * sizes / (alpha * np.diag(L))
    for i in range(len(W)):
        wrong = np.flatnonzero(codes[i] != found.codes[i])
        if len(wrong):
            j = int(wrong[-1])  # the first that was decided
            y = target[i][j]
            assert abs(abs(y - round(y)) - F(0.5)) <= F(bound[i, j]) + F(ordered[i, j])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [3, 8])
def test_grids_stay_as_close_as_their_bound_says(name: str, bits: int):
    """The code of every place is the nearest one to the exact y*, but for the bound."""
    W, L = layer(name, 5, 24)
    n = len(L)
    found = order_free_grid(W, L, bits, order=np.arange(n)[::-1])  # the last column first
    fed = exact(found.dequantized)
    target = exact_targets(W, L, [F(float(x)) for x in np.diag(L)], fed)
    rows, columns = exponents(W.astype(float), 1, "row"), exponents(L, 0, "column")
    assert found.slice_bits is not None
    bound = grid_deviation_bound(found.slice_bits, W - found.dequantized, (rows, columns))
    for i in range(len(W)):
        scale = F(float(found.scale[i, 0]))
        for j in range(n):
            level = target[i][j] / scale + int(found.zero[i, 0])
            # over L_kk and the scale; each of the three roundings left is below 2⁻⁵⁰ of the level
            allowed = F(bound[i, j]) / (F(float(L[j, j])) * scale) + abs(level) * F(2) ** -50
            nearest = min(max(level, F(0)), F(2**bits - 1))
            assert abs(nearest - int(found.codes[i, j])) <= F(0.5) + allowed
