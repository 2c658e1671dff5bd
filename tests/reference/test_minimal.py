"""The one page of `minimal` against the full methods, code for code, on every bundled layer."""

import numpy as np
import pytest

from waterlevel import reference
from waterlevel.data import LAYERS
from waterlevel.reference import minimal
from waterlevel.reference.limit import eigenbasis
from waterlevel.validate.layer_files import covariance_of, read_layer

FILES = sorted(LAYERS.glob("*.safetensors"))
ROWS = 48  # the oracle is slow; a row decides by itself, but for the gains
COARSENESS = (0.5, 1.5)  # of the root mean square of what is rounded


@pytest.fixture(params=FILES, ids=lambda path: path.stem, scope="module")
def layer(request):
    found = read_layer(request.param)
    covariance = covariance_of(found, reference.NUMPY, np.float64)
    weight = found.weight.astype(np.float64)[:ROWS]
    return weight, covariance


def root_mean_square(values):
    return float(np.sqrt(np.mean(values * values)))


@pytest.mark.parametrize("coarseness", COARSENESS)
def test_rtn(layer, coarseness):
    weight, covariance = layer
    spacing = coarseness * root_mean_square(weight)
    full = reference.rtn(weight, covariance, step=spacing).codes
    np.testing.assert_array_equal(minimal.rtn(weight, spacing), full, strict=False)


@pytest.mark.parametrize("actorder", [False, True])
@pytest.mark.parametrize("coarseness", COARSENESS)
def test_gptq(layer, coarseness, actorder):
    weight, covariance = layer
    spacing = coarseness * root_mean_square(weight)
    full = reference.gptq(weight, covariance, step=spacing, actorder=actorder).codes
    np.testing.assert_array_equal(minimal.gptq(weight, covariance, spacing, actorder), full)


@pytest.mark.parametrize("coarseness", COARSENESS)
def test_watersic(layer, coarseness):
    weight, covariance = layer
    spacing = coarseness * root_mean_square(weight @ np.linalg.cholesky(covariance))
    full = reference.watersic(weight, covariance, step=spacing, rescale=False).codes
    np.testing.assert_array_equal(minimal.watersic(weight, covariance, spacing)[0], full)


@pytest.mark.parametrize("coarseness", COARSENESS)
def test_waterfilling(layer, coarseness):
    weight, covariance = layer
    eigenvalues, V = eigenbasis(covariance)
    spacing = coarseness * root_mean_square((weight @ V) * np.sqrt(eigenvalues))
    full = reference.waterfill(weight, covariance, eigenvalues, V, step=spacing).codes
    np.testing.assert_array_equal(minimal.waterfilling(weight, eigenvalues, V, spacing), full)
