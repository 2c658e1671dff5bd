"""What becomes of features that calibration never saw, with RTN and GPTQ."""

from __future__ import annotations

import numpy as np
import pytest

from waterlevel.reference import gptq, rtn
from waterlevel.reference.errors import BadInput

from ...helpers import layers
from ...helpers.inputs import same_bits

DEAD = (1, 5, 6)
LIVE = [0, 2, 3, 4, 7, 8]
W, S = layers.weight(81, 10, 9), layers.covariance(82, 9, dead=DEAD)
SEEN = S + np.diag([1.0 if j in DEAD else 0.0 for j in range(9)])  # alone, and with energy 1
GRIDS = [
    {"bits": 3},
    {"bits": 4, "asymmetric": True, "group_size": 3},
    {"format": "fp4-e2m1", "group_size": 2},
    {"spacing": 0.3},
    {"rate": 3.5, "rate_measure": "rate_column"},
]
METHODS = {
    "rtn": rtn,
    "gptq": gptq,
    "gptq actorder": lambda *layer, **options: gptq(*layer, actorder=True, **options),
}


@pytest.mark.parametrize("options", GRIDS, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_unseen_weights_are_rounded_to_nearest(method, options):
    found = METHODS[method](W, S, unseen="rtn", **options)
    alone = METHODS[method](W, SEEN, **options)
    same_bits(found.codes, alone.codes)
    same_bits(found.dequantized, alone.dequantized)
    assert found.dequantized[:, DEAD].any(axis=0).all()
    assert found.parameters["unseen"] == "rtn"


@pytest.mark.parametrize("method", METHODS)
def test_seen_weights_are_not_touched_by_the_choice(method):
    zeroed = METHODS[method](W, S, spacing=0.3)
    rounded = METHODS[method](W, S, spacing=0.3, unseen="rtn")
    assert zeroed.parameters["unseen"] == "zero"
    assert not zeroed.dequantized[:, DEAD].any()
    same_bits(rounded.dequantized[:, LIVE], zeroed.dequantized[:, LIVE])
    assert (np.abs(rounded.dequantized - W)[:, DEAD] <= 0.15 * (1 + 1e-12)).all()
    assert rounded.distortion == zeroed.distortion  # no distortion covers what was not seen


@pytest.mark.parametrize("method", [rtn, gptq])
def test_any_other_word_is_refused(method):
    with pytest.raises(BadInput, match="unseen is 'keep'; it must be 'zero' or 'rtn'"):
        method(W, S, bits=4, unseen="keep")
