"""The experiment counts what differs, and its table is made from the report alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from waterlevel.reference.errors import WaterlevelError
from waterlevel.validate.models import reproducibility
from waterlevel.validate.models.evaluation import evaluation_windows
from waterlevel.validate.models.reproducibility import BUNDLED, Run, differences, measure, text
from waterlevel.validate.models.token_files import Tokens

NAMES = ["a", "b"]


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal((8, 4)).astype(np.float32) for name in NAMES}


def test_differences_are_counted_by_bits():
    first, other = weights(), weights()
    assert differences(first, other, NAMES)["differ"] == 0
    other["b"][3, 1] = np.nextafter(other["b"][3, 1], np.float32(9))
    other["b"][3, 2] *= -1
    found = differences(first, other, NAMES)
    assert found == {
        "weights": 64,
        "differ": 2,
        "layers": 2,
        "layers_that_differ": 1,
        "share_of_first_layer": 0.0,
        "share_of_last_layer": 2 / 32,
    }


def windows() -> tuple[np.ndarray, Tokens]:
    numbers = np.arange(40, dtype=np.int64) % 256
    tokens = Tokens(numbers, 40, "test")
    return evaluation_windows(tokens, 8, 2), tokens


@pytest.mark.slow
def test_own_runs_are_alike_and_a_fault_is_seen(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("numba")
    runs = (
        Run("waterlevel", "first"),
        Run("waterlevel", "one thread", threads=1, batch=2, library="numpy"),
    )
    monkeypatch.setattr(reproducibility, "RUNS", runs)
    sequences = np.arange(3 * 16).reshape(3, 16)
    rows = list(measure(BUNDLED, sequences, *windows()))
    assert [row["differ"] for row in rows] == [0, 0]
    assert rows[0]["layers"] == 42
    assert rows[0]["bits_per_byte"] == rows[1]["bits_per_byte"]
    lines = text({"runs": rows}).splitlines()
    assert "0 of 1,916,928" in lines[2]
    run = reproducibility._run

    def planted(run_: Run, directory: Any, given: np.ndarray) -> Any:
        return run(run_, directory, given if run_.name == "first" else given[:, ::-1])

    monkeypatch.setattr(reproducibility, "_run", planted)
    assert [row["differ"] > 0 for row in measure(BUNDLED, sequences, *windows())] == [False, True]


def test_a_run_that_fails_is_one_line():
    with pytest.raises(WaterlevelError, match=r"waterlevel, first: .*BadInput") as failure:
        reproducibility._run(
            Run("waterlevel", "first", library="numpy"), BUNDLED, np.full((1, 4), 256)
        )
    assert "\n" not in str(failure.value)
