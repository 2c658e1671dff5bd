"""Large cases by digest: the program notices a difference, and (slow) there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from waterlevel.backends import get
from waterlevel.data import DIRECTORY
from waterlevel.reference.contract import CONTRACT_VERSION
from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations
from waterlevel.validate.conformance import large_digests
from waterlevel.validate.conformance.large_digests import ORACLE_COLUMNS, digests, summarize
from waterlevel.validate.conformance.random_layers import SAME_BITS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "reference/EXACTNESS.md").read_text("utf-8")
SMALL = [(10, 12)]
REPORT = DIRECTORY / "reports" / "large-digests.json"


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


def test_the_committed_report():
    """Every setting, and none skipped; one digest for each case; what the code gives here today."""
    report = json.loads(REPORT.read_text("utf-8"))
    assert report["equal"]
    assert report["differ"] == {}
    assert {report["contract"], CONTRACT_VERSION} <= SAME_BITS
    ways = report["ways"]
    assert set(ways) == {"oracle", *large_digests.settings()} | set(large_digests.FEATURES) | {
        f"2 threads, {layer}" for layer in ("workqueue", "omp", "tbb")
    }
    wide = [case for case in report["cases"] if int(case.split()[0].split("×")[1]) > ORACLE_COLUMNS]
    for name, way in ways.items():
        left_out = len(wide) if name == "oracle" else 0
        assert way["cases"] == len(report["cases"]) - left_out
    assert 0 < len(wide) < len(report["cases"])
    assert f"{len(report['cases'])} outputs of layers" in PAGE
    assert {ways[name]["vector_bytes"] for name in large_digests.FEATURES} == {16, 32, 64}
    for layer in ("workqueue", "omp", "tbb"):
        assert ways[f"2 threads, {layer}"]["layer"] == layer
    pytest.importorskip("numba", reason="the cases take minutes without the package numba")
    found = digests(get("numba"), [(333, 896)], 896)
    assert len(found) == 64
    assert found == {case: report["cases"][case] for case in found}


@pytest.mark.slow
def test_all_digests_are_equal():
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "waterlevel.validate.conformance.large_digests",
            "--expect",
            str(REPORT),
        ],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
