"""The one page of `minimal` against the full methods, on every bundled layer.

Codes are equal. What is measured on them is equal to within bounds for sums in any order:
(N-1)·2⁻⁵³ times the sum of the absolute values for N terms (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 4.2).
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from waterlevel import reference
from waterlevel.backends import get
from waterlevel.data import LAYERS
from waterlevel.reference import minimal
from waterlevel.reference.limits.gaussian_limit import eigenbasis
from waterlevel.reference.limits.waterfilling import allocate_distortion
from waterlevel.validate.layers.layer_files import covariance_of, read_layer

FILES = sorted(LAYERS.glob("*.safetensors"))
ROUNDING = 2.0**-53
COARSENESS = (0.5, 1.5)  # of the root mean square of what is rounded

# The same bits as the oracle, which the tests of the backend hold, in less time.
FAST = get("numba")


@pytest.fixture(params=FILES, ids=lambda path: path.stem, scope="module")
def whole_layer(request):
    found = read_layer(request.param)
    return found.weight.astype(np.float64), covariance_of(found, FAST, np.float64)


@pytest.fixture(scope="module")
def basis(whole_layer):
    return eigenbasis(whole_layer[1])


@pytest.fixture(params=[48, pytest.param(None, marks=pytest.mark.slow)], ids=["48 rows", "all"])
def layer(request, whole_layer):
    weight, covariance = whole_layer
    return weight[: request.param], covariance


def root_mean_square(values):
    return float(np.sqrt(np.mean(values * values)))


@pytest.mark.parametrize("coarseness", COARSENESS)
def test_rtn(layer, coarseness):
    weight, covariance = layer
    spacing = coarseness * root_mean_square(weight)
    full = reference.rtn(weight, covariance, spacing=spacing, backend=FAST)
    np.testing.assert_array_equal(minimal.rtn(weight, spacing), full.codes)


@pytest.mark.parametrize("actorder", [False, True])
@pytest.mark.parametrize("coarseness", COARSENESS)
def test_gptq(layer, coarseness, actorder):
    weight, covariance = layer
    spacing = coarseness * root_mean_square(weight)
    full = reference.gptq(weight, covariance, spacing=spacing, actorder=actorder, backend=FAST)
    np.testing.assert_array_equal(minimal.gptq(weight, covariance, spacing, actorder), full.codes)


@pytest.mark.parametrize("coarseness", COARSENESS)
def test_watersic_and_its_gap(layer, basis, coarseness):
    weight, covariance = layer
    eigenvalues, V = basis
    spacing = coarseness * root_mean_square((weight @ V) * np.sqrt(eigenvalues))
    full = reference.watersic(
        weight,
        covariance,
        spacing=spacing,
        rescale=False,
        eigenvalues=eigenvalues,
        backend=FAST,
    )
    Z, quantized = minimal.watersic(weight, covariance, spacing)
    np.testing.assert_array_equal(Z, full.codes)
    check_measures(layer, eigenvalues, Z, quantized, full)


@pytest.mark.parametrize("coarseness", COARSENESS)
def test_waterfilling_and_its_gap(layer, basis, coarseness):
    weight, covariance = layer
    eigenvalues, V = basis
    spacing = coarseness * root_mean_square((weight @ V) * np.sqrt(eigenvalues))
    full = reference.waterfilling(
        weight, covariance, eigenvalues=eigenvalues, eigenvectors=V, spacing=spacing, backend=FAST
    )
    Z, quantized = minimal.waterfilling(weight, eigenvalues, V, spacing)
    np.testing.assert_array_equal(Z, full.codes)
    check_measures(layer, eigenvalues, Z, quantized, full)


def check_measures(layer, eigenvalues, Z, quantized, full):
    weight, covariance = layer
    distortion = minimal.distortion(weight, covariance, quantized)
    in_distortion = distortion_bound(weight, covariance, quantized, full.dequantized)
    assert abs(distortion - full.distortion) <= in_distortion
    in_entropy = entropy_bound(Z)
    assert abs(minimal.entropy(Z) - full.rates.rate_column) <= in_entropy
    in_limit = limit_bound(weight, eigenvalues, full.distortion, in_distortion)
    gap = minimal.gap(weight, covariance, Z, quantized)
    assert abs(gap - full.gap) <= in_entropy + in_limit
    assert in_entropy + in_limit < 1e-6  # the bounds say something


def distortion_bound(weight, covariance, quantized, dequantized):
    """What the sums may do on both sides, and the difference of the two Ŵ to first order."""
    rows, columns = weight.shape
    error = np.abs(quantized - weight)
    through = error @ np.abs(covariance)
    sums = 2 * (columns + rows * columns + 3) * ROUNDING * np.sum(through * error)
    moved = 2 * np.sum(np.abs(quantized - dequantized) * through)
    return (sums + moved) / weight.size


def entropy_bound(Z):
    """In a column of S symbols a term p·log2 p has 4 roundings and a sum S; n columns are added."""
    rows, columns = Z.shape
    most_symbols = max(len(np.unique(column)) for column in Z.T)
    return ((most_symbols + columns + 6) * np.log2(rows) + 2) * ROUNDING


def limit_bound(weight, eigenvalues, distortion, in_distortion):
    """The limit R(v, D) at the level θ changes by no more than (max |dv| + |dD|)/(2·θ·ln 2).

    For dR = Σ dv_k/(2n·ln 2·max(v_k, θ)) - dD/(2·θ·ln 2). The eigenvalues of both sides are those
    of a matrix that differs from Σ by n·2⁻⁵³·λ_max (LAPACK Users' Guide, section 4.7; its modest
    factor is seen to be below 1 here), σ² and the mean of n components are sums.
    """
    columns = weight.shape[1]
    variances = np.mean(weight * weight) * eigenvalues
    in_variances = (2 * columns + 2 * weight.size) * ROUNDING * variances.max()
    in_distortion += (columns + 1) * ROUNDING * distortion
    level = allocate_distortion(variances, distortion).water_level
    rate = np.mean(np.log2(np.maximum(variances / level, 1.0))) / 2
    by_rounding = (columns + 5) * ROUNDING * (rate + 1)
    return (in_variances + in_distortion) / (2 * level * np.log(2)) + by_rounding


def test_the_page_stays_one_page():
    source = Path(minimal.__file__).read_text("utf-8")
    first, *rest = ast.parse(source).body
    lines = source.splitlines()[first.end_lineno :]
    assert len(lines) <= 100
    imports = [ast.unparse(node) for node in rest if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports == ["import numpy as np", "from numpy.typing import NDArray"]
    assert all(isinstance(node, ast.FunctionDef) for node in rest[2:])
