"""What made the codes: right forms are told and quiet, each planted mistake is named."""

from dataclasses import replace

import numpy as np
import pytest

from waterlevel.data import LAYERS
from waterlevel.reference import NUMPY
from waterlevel.reference.methods.gptq import gptq
from waterlevel.reference.methods.rtn import rtn
from waterlevel.validate.checkpoints.description import QuantizedWeight, from_result
from waterlevel.validate.checkpoints.elements import ELEMENTS
from waterlevel.validate.checkpoints.gptq_deviations import made_by
from waterlevel.validate.layers.layer_files import covariance_of, read_layer

ROWS, GROUP = 32, 96
ACTIVATION = {"desc_act": True}


@pytest.fixture(scope="module")
def layer():
    """32 rows of a real layer, float32 as a model has them, and Σ."""
    file = read_layer(LAYERS / "minilm-02-attention-output.safetensors")
    covariance = covariance_of(file, NUMPY, np.float64).astype(np.float64)
    return file.weight[:ROWS].astype(np.float32), covariance


def quantize(layer, **options):
    weight, covariance = layer
    result = gptq(
        weight.astype(np.float64),
        covariance,
        **{"bits": 4, "asymmetric": True, "group_size": GROUP, "static_groups": True, **options},
    )
    return as_weight(result)


def as_weight(result):
    """As a file has it: scales rounded to float16, after the codes were decided."""
    scales = result.scales
    return QuantizedWeight(
        "w.weight",
        "int",
        4,
        result.codes.astype(np.uint8),
        scales.scale.astype(np.float16).astype(np.float32),
        scales.group.astype(np.int32),
        bits_stored=0,
        scale_dtype="F16",
        zero=scales.zero.astype(np.int16),
    )


def loop(weight, grid, factor, order):
    """GPTQ as it is published, on given grids: errors go to later columns by a row of `factor`."""
    work = weight.astype(np.float64)[:, order].copy()
    codes = np.empty(work.shape, np.int64)
    scale, zero = grid.scale.astype(np.float64), grid.zero.astype(np.float64)
    for place, column in enumerate(order):
        s, z = scale[:, grid.group[column]], zero[:, grid.group[column]]
        codes[:, place] = np.clip(np.rint(work[:, place] / s + z), 0, 15)
        error = (work[:, place] - s * (codes[:, place] - z)) / factor[place, place]
        work[:, place:] -= error[:, None] * factor[place, place:]
    back = np.empty_like(codes)
    back[:, order] = codes
    return replace(grid, codes=back.astype(np.uint8))


def upper(covariance, order, damping=0.01):
    """T upper triangular with Tᵀ T = H⁻¹, columns in this order."""
    H = covariance + damping * np.diag(covariance).mean() * np.eye(len(covariance))
    return np.linalg.cholesky(np.linalg.inv(H[np.ix_(order, order)])).T


def told(layer, weight, **settings):
    text, finding = made_by(weight, *layer, settings, NUMPY)
    return text, None if finding is None else finding.name


@pytest.mark.parametrize("actorder", [False, True])
@pytest.mark.parametrize("damping", [0.01, 0.05])
def test_a_right_form_is_told_and_quiet(layer, actorder, damping):
    weight = quantize(layer, actorder=actorder, damping=damping)
    order = "activation" if actorder else "natural"
    expected = f"{order} order, damping {damping:g}", None
    assert told(layer, weight) == expected
    assert told(layer, weight, damp_percent=damping) == expected


def test_groups_found_in_the_order_of_processing_too(layer):
    weight = quantize(layer, actorder=True, static_groups=False)
    assert told(layer, weight, **ACTIVATION) == ("activation order, damping 0.01", None)


def test_floating_point_elements_too(layer):
    result = gptq(
        layer[0].astype(np.float64), layer[1], format="fp4-e2m1", group_size=GROUP, actorder=True
    )
    rounded = result.scales.scale.astype(np.float32)
    scales = replace(result.scales, scale=rounded.astype(np.float64))
    weight = from_result("w.weight", replace(result, scales=scales))
    assert weight.element is ELEMENTS["fp4-e2m1"]
    assert told(layer, weight) == ("activation order, damping 0.01", None)


def test_natural_order_where_activation_order_is_stated(layer):
    weight = quantize(layer, actorder=False)
    assert told(layer, weight, **ACTIVATION)[1] == "wrong order"
    groups = {"group_0": {"weights": {"actorder": "weight"}}}
    assert told(layer, weight, config_groups=groups)[1] == "wrong order"


def test_a_sort_turned_round(layer):
    weight, covariance = layer
    order = np.argsort(np.diag(covariance), kind="stable")
    wrong = loop(weight, quantize(layer), upper(covariance, order), order)
    assert told(layer, wrong) == ("ascending order, damping 0.01", "wrong order")


def test_the_loop_of_this_test_is_gptq(layer):
    weight, covariance = layer
    order = np.argsort(-np.diag(covariance), kind="stable")
    right = loop(weight, quantize(layer), upper(covariance, order), order)
    assert told(layer, right) == ("activation order, damping 0.01", None)


def test_a_factor_of_another_order(layer):
    weight, covariance = layer
    order = np.argsort(-np.diag(covariance), kind="stable")
    natural = upper(covariance, np.arange(len(covariance)))
    stale = loop(weight, quantize(layer), natural, order)
    assert told(layer, stale)[1] == "stale factor"


def test_updates_that_end_with_their_block(layer):
    weight, covariance = layer
    order = np.arange(len(covariance))
    factor = upper(covariance, order)
    block = order // 128
    lost = loop(weight, quantize(layer), np.where(block[:, None] == block, factor, 0), order)
    assert told(layer, lost)[1] == "lost updates"


@pytest.mark.parametrize("damping", [0.001, 1.0])
def test_another_damping(layer, damping):
    weight = quantize(layer, damping=damping)
    text, finding = told(layer, weight)
    assert (text, finding) == (f"natural order, damping {damping:g}", "damping")


def test_a_damping_that_is_not_the_stated_one(layer):
    weight = quantize(layer, damping=0.01)
    assert told(layer, weight, meta={"damp_percent": 0.1})[1] == "damping"


def test_what_no_form_gives_is_not_judged(layer):
    weight, covariance = layer
    nearest = rtn(weight.astype(np.float64), covariance, bits=4, asymmetric=True, group_size=GROUP)
    assert told(layer, as_weight(nearest)) == ("", None)
    turned = np.random.default_rng(0).permutation(len(covariance))
    other = covariance[np.ix_(turned, turned)]
    assert told((weight, other), quantize(layer)) == ("", None)
