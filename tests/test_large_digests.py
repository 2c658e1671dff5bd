"""Large cases by digest: the program notices a difference, and (slow) there is none."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from waterlevel.reference.numpy_operations import NUMPY, NumpyOperations
from waterlevel.validate import large_digests
from waterlevel.validate.large_digests import digests, summarize

SMALL = [(10, 12)]


class OtherOrder(NumpyOperations):
    """The sums of one operation begin with the last number."""

    def column_inner(self, left, right):
        return super().column_inner(np.roll(left, 1, axis=0), np.roll(right, 1, axis=0))


def test_a_difference_is_named():
    ways = {
        "oracle": {"digests": digests(NUMPY, SMALL, 99)},
        "other": {"digests": digests(OtherOrder(), SMALL, 99)},
        "absent": {"skipped": "not there"},
    }
    report = summarize(ways)
    assert not report["equal"]
    assert set(report["differ"]) == {
        f"10×12 {dtype} column_inner" for dtype in large_digests.DTYPES
    }
    assert len(report["cases"]) + len(report["differ"]) == len(ways["oracle"]["digests"])
    assert summarize({"a": ways["oracle"], "b": ways["oracle"]})["equal"]


def test_the_oracle_leaves_wide_layers_out_by_name():
    found = digests(NUMPY, [(3, 12), (3, 20)], 12)
    assert found
    assert all(case.startswith("3×12 ") for case in found)


@pytest.mark.slow
def test_all_digests_are_equal():
    ran = subprocess.run(
        [sys.executable, "-m", "waterlevel.validate.large_digests"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
