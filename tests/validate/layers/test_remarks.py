"""What is said of a layer: nothing where all is well, one line where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from waterlevel.reference import gptq, rtn
from waterlevel.reference.errors import BadInput
from waterlevel.reference.limits.gaussian_limit import covariance_eigenvalues
from waterlevel.validate.layers.remarks import (
    on_covariance,
    on_grid,
    output_energy,
    relative_error,
    side_information_rate,
)

from ...helpers.inputs import bell
from ...helpers.layers import covariance, weight

W, SIGMA = weight(70, 8, 24), covariance(71, 24)


def said(S, tokens=None, rotated=False) -> list[str]:
    return on_covariance(S, covariance_eigenvalues(S), rotated, tokens)


def test_nothing_is_said_where_all_is_well():
    assert said(SIGMA) == []
    assert said(SIGMA, tokens=24) == []


def test_features_that_calibration_never_saw():
    S = covariance(71, 24, dead=(1, 3, 5, 7, 9))
    (line,) = said(S)
    assert line.startswith("calibration never saw 5 of 24 features (columns 1, 3, 5, 7, …): their")
    assert not gptq(W, S, bits=4).dequantized[:, [1, 3, 5, 7, 9]].any()
    (line,) = said(S, rotated=True)
    assert "become 0" not in line
    (line,) = on_covariance(S, covariance_eigenvalues(S), False, rounded=True)
    assert "become 0" not in line


def test_fewer_tokens_than_inputs():
    X = bell(72, (6, 24), np.float64)
    S = X.T @ X / 6
    assert said(S)[0].startswith("covariance has rank 6 of 24")
    (line,) = said(S, tokens=6)
    assert line.startswith("calibration had 6 tokens for 24 inputs")
    float32 = (X.astype(np.float32).T @ X.astype(np.float32)) / np.float32(6)
    assert said(float32)[0].startswith("covariance has rank 6 of 24")


def test_a_few_directions_less_are_nothing_to_speak_of():
    X = bell(73, (400, 24), np.float64)
    centred = X - X.mean(axis=1, keepdims=True)  # as a normalisation leaves it
    S = centred.T @ centred / 400
    assert np.linalg.matrix_rank(S) == 23
    assert said(S) == []
    X[:, 20:] = X[:, :4]
    (line,) = said(X.T @ X / 400)
    assert line.startswith("covariance has rank 20 of 24")


def test_a_sum_in_place_of_a_mean():
    (line,) = said(SIGMA * 65536)
    assert line.startswith("covariance looks like a sum over tokens and not a mean")
    massive = SIGMA.copy()
    massive[3, 3] = 1e6  # one feature with massive activations is no sum
    assert said(massive) == []


def test_a_covariance_that_is_zero():
    with pytest.raises(BadInput, match="calibration saw no input of this layer"):
        said(np.zeros((24, 24)))


def test_relative_error():
    result = rtn(W, SIGMA, bits=4)
    energy = np.trace(W @ SIGMA @ W.T) / W.size
    assert output_energy(W, SIGMA) == pytest.approx(energy, rel=1e-12)
    assert relative_error(result.distortion, energy) == result.distortion / energy
    assert relative_error(0.0, output_energy(0 * W, SIGMA)) is None


def test_codes_at_the_ends_and_unused_levels():
    row = np.array([[-7.0, -3.0, 0.0, 3.0, 7.0, 7.0]])
    found = on_grid(rtn(row, np.eye(6), bits=3, asymmetric=True))
    assert found == {"codes_at_ends": 3, "levels": 8, "unused_levels": 3}
    found = on_grid(rtn(row, np.eye(6), format="fp4-e2m1"))
    assert found is not None
    assert (found["codes_at_ends"], found["levels"]) == (3, 15)
    assert on_grid(rtn(row, np.eye(6), spacing=1.0)) is None


@pytest.mark.parametrize("measure", ["rate", "rate_column", "rate_pooled"])
def test_side_information_is_what_a_result_without_entropy_costs(measure):
    """A spacing so wide that every code is 0."""
    result = gptq(W, SIGMA, spacing=1e6)
    least = side_information_rate("gptq", result.parameters, *W.shape, measure)
    assert not result.codes.any()
    assert least == getattr(result.rates, measure)
