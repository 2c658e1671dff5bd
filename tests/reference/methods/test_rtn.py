"""Rounding to nearest: each weight by itself, and GPTQ without correlations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from waterlevel.reference import BadInput, CodeOverflow, gptq, rtn

from ...helpers import error_feedback, layers
from ...helpers.formats_by_value import FORMATS, magnitudes
from ...helpers.inputs import same_bits


@pytest.mark.parametrize("group_size", [None, 1, 7, 100])
@pytest.mark.parametrize("name", ["int", *FORMATS])
def test_each_weight_goes_to_its_nearest_value(name, group_size):
    n = 23
    W, S = layers.weight(1, 12, n), layers.covariance(2, n, dead=(0, 9))
    W[3], W[-1] = 0, np.abs(W[-1])
    zeroed = W.copy()
    zeroed[:, [0, 9]] = 0
    choices = [(4, False, False)]
    if name == "int":
        choices = list(itertools.product((2, 3, 8), (False, True), (False, True)))
    for bits, asymmetric, mse in choices:
        result = rtn(
            W,
            S,
            bits=bits if name == "int" else None,
            format=name,
            asymmetric=asymmetric,
            mse=mse,
            group_size=group_size,
        )
        values = None if name == "int" else magnitudes(name)
        for start in range(0, n, group_size or n):
            columns = slice(start, start + (group_size or n))
            source = W if group_size is None else zeroed
            grid = error_feedback.find_grid(source[:, columns], bits, not asymmetric, mse, values)
            group = start // (group_size or n)
            same_bits(result.scales.scale[:, group], grid.scale)
            for j in range(n)[columns]:
                codes = grid.codes(zeroed[:, j])
                assert np.array_equal(result.codes[:, j], codes)
                assert np.array_equal(result.dequantized[:, j], grid.values(codes))
                assert result.scales.group[j] == group


def test_without_correlations_gptq_is_rtn():
    # Powers of four: L is a diagonal of powers of two, and Y/L gives W back to the bit.
    n = 40
    W = layers.weight(3, 9, n)
    S = np.diag(4.0 ** (np.arange(n) % 5 - 2))
    for options in (
        {"bits": 3},
        {"bits": 4, "asymmetric": True, "mse": True},
        {"format": "fp4-e2m1"},
        {"spacing": 0.2},
        {"bits": 3, "group_size": 6},
    ):
        plain = rtn(W, S, **options)
        same_bits(gptq(W, S, damping=0.0, **options).dequantized, plain.dequantized)
        same_bits(gptq(W, S, damping=0.0, **options).codes, plain.codes)
        if "group_size" in options:
            options = {**options, "static_groups": True}
        again = gptq(W, S, damping=0.0, actorder=True, **options)
        same_bits(again.dequantized, plain.dequantized)
        same_bits(again.codes, plain.codes)


def test_the_covariance_measures_and_decides_nothing():
    W, S = layers.weight(4, 6, 11), layers.covariance(5, 11)
    one, other = rtn(W, S, spacing=0.3), rtn(W, np.eye(11), spacing=0.3)
    same_bits(one.dequantized, other.dequantized)
    error = one.dequantized - W
    assert one.distortion == pytest.approx(np.trace(error @ S @ error.T) / W.size, rel=1e-13)
    assert other.distortion == pytest.approx((error**2).mean(), rel=1e-13)
    # It need not be positive definite.
    S[:] = 1.0
    total = error.sum(axis=1)
    assert rtn(W, S, spacing=0.3).distortion == pytest.approx((total**2).sum() / W.size, rel=1e-12)


def test_one_spacing_ties_go_to_even_codes():
    W = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -0.0]])
    result = rtn(W, np.eye(6), spacing=1.0)
    assert result.codes.tolist() == [[0, 2, 2, 0, -2, 0]]
    same_bits(result.dequantized, np.array([[0.0, 2.0, 2.0, 0.0, -2.0, 0.0]]))
    same_bits(result.scales.column_scale, np.ones(6))


def test_refusals():
    W = np.array([[0.0, 1e10]])
    with pytest.raises(CodeOverflow, match=r"codes\[0, 1\]"):
        rtn(W, np.eye(2), spacing=1.0)
    with pytest.raises(BadInput, match="negative"):
        rtn(W, -np.eye(2), spacing=1e5)
    with pytest.raises(BadInput, match="not both or neither"):
        rtn(W, np.eye(2))
