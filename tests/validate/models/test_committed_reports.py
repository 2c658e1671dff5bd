"""The committed reports of the small model: complete, reproduced, and what the page says."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from waterlevel.backends import get
from waterlevel.data import DIRECTORY, MODELS
from waterlevel.validate.models import load_decoder
from waterlevel.validate.models.comparison import METHODS, subjects
from waterlevel.validate.models.reproducibility import RUNS
from waterlevel.validate.models.token_files import read_tokens

REPORTS = DIRECTORY / "reports"
PAGE = (Path(__file__).resolve().parents[3] / "data/reports/MODELS.md").read_text("utf-8")
TABLE = json.loads((REPORTS / "small-model.json").read_text("utf-8"))
TWICE = json.loads((REPORTS / "reproducibility.json").read_text("utf-8"))
SMALL = MODELS / "pydoc-2m"
RATES = (2.0, 2.5, 3.0, 4.0)
COLUMN_RATES = (2.0, 2.5, 3.0, 3.75)
ROWS = {row["model"]: row for row in TABLE["models"]}
GPTQ = ("gptq", "gptq-actorder", "gptq-rotated")


def find(method: str, rate: float) -> dict[str, Any]:
    return ROWS[f"{method} {rate:g}"]


def lost(row: dict[str, Any]) -> float:
    """Bits a byte above the original."""
    return row["more_bits_per_token"]["mean"] * TABLE["tokens_per_byte"]


def divergence(row: dict[str, Any]) -> float:
    return row["divergence"]["mean"]


def at(method: str, column: float, figure: Any) -> float:
    """At this `rate_column`, log-linear between the rates on both sides."""
    points = [(find(method, r)["rates"]["rate_column"], math.log(figure(find(method, r))))
              for r in RATES]  # fmt: skip
    for (a, x), (b, y) in pairwise(points):
        if a <= column <= b:
            return math.exp(x + (y - x) * (column - a) / (b - a))
    raise AssertionError(f"{method} has no rates around {column}")


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def equal_rate() -> str:
    found = line("", *(f"{rate:g} bits" for rate in RATES)) + "|---" * 5 + "|\n"
    for method in METHODS:
        rows = [find(method, rate) for rate in RATES]
        scale = TABLE["tokens_per_byte"]
        cells = [
            f"{lost(row):.4f} ± {row['more_bits_per_token']['error'] * scale:.4f}, "
            f"{divergence(row):.4f} ± {row['divergence']['error']:.4f}"
            for row in rows
        ]
        found += line(method, *cells)
    return found


def equal_column_rate() -> str:
    found = line("", *(f"{rate:g} bits" for rate in COLUMN_RATES)) + "|---" * 5 + "|\n"
    for method in METHODS:
        pairs = [(at(method, c, lost), at(method, c, divergence)) for c in COLUMN_RATES]
        found += line(method, *(f"{a:.4f}, {b:.4f}" for a, b in pairs))
    return found


def twice() -> str:
    found = line("package", "run", "weights that differ", "layers", "last layer", "bits/byte")
    found += "|---" * 6 + "|\n"
    for run in TWICE["runs"]:
        share = run["differ"] / run["weights"]
        found += line(
            run["package"],
            run["run"],
            f"{run['differ']:,} ({share:.1%})" if run["differ"] else "0",
            f"{run['layers_that_differ']} of {run['layers']}",
            f"{run['share_of_last_layer']:.1%}" if run["differ"] else "0",
            f"{run['bits_per_byte']['mean']:.4f}",
        )
    return found


def test_the_table_is_complete_and_its_rates_are_met():
    assert TABLE["windows"] == 332
    assert TABLE["calibration"] == {"length": 256, "seed": 0, "sequences": 64}
    assert set(ROWS) == {"pydoc-2m", *(f"{m} {r:g}" for m in METHODS for r in RATES)}
    for method in METHODS:
        for rate in RATES:
            row = find(method, rate)
            assert row["target"] == rate
            assert abs(row["rates"]["rate"] - rate) <= 0.005
    assert abs(ROWS["pydoc-2m"]["bits_per_byte"]["mean"] - 1.7046) < 1e-4


def test_the_page_has_the_tables_of_the_reports():
    for made in (equal_rate(), equal_column_rate(), twice()):
        assert made in PAGE, made


def test_what_the_page_says_of_the_methods():
    """At equal column rates WaterSIC is ahead of every GPTQ; at equal rates not everywhere."""
    for column in COLUMN_RATES:
        best = min(at(method, column, divergence) for method in GPTQ)
        least = min(at(method, column, lost) for method in GPTQ)
        for method in ("watersic-damped", "watersic-drift"):
            assert at(method, column, divergence) < best
            assert at(method, column, lost) < least
    for rate in RATES[1:]:
        best = min(lost(find(method, rate)) for method in GPTQ)
        assert lost(find("watersic-damped", rate)) < lost(find("watersic", rate)) < best
    for rate in RATES:
        best = min(divergence(find(method, rate)) for method in GPTQ)
        assert best < min(divergence(find(m, rate)) for m in METHODS if m.startswith("watersic"))


def test_who_gets_the_same_model_twice():
    keys = [(run["package"], run["run"], run["threads"], run["batch"]) for run in TWICE["runs"]]
    assert keys == [(run.package, run.name, run.threads, run.batch) for run in RUNS]
    for run in TWICE["runs"]:
        assert run["weights"] == 1_916_928
        alike = run["package"] == "waterlevel" or run["run"] in ("first", "again")
        assert (run["differ"] == 0) == alike
    bits = [run["bits_per_byte"] for run in TWICE["runs"]]
    assert max(b["mean"] for b in bits) - min(b["mean"] for b in bits) < 0.001


@pytest.mark.slow
@pytest.mark.parametrize(("method", "rate"), [("gptq-rotated", 2.5), ("watersic-drift", 3.0)])
def test_a_model_of_the_table_is_made_again_to_the_bit(method: str, rate: float):
    pytest.importorskip("numba")
    decoder = load_decoder(SMALL, "numba")
    tokens = read_tokens(SMALL, [SMALL / "calibration.txt"], decoder.configuration.vocabulary)
    sequences = tokens.windows(256, 64, 0)
    (made,) = subjects(decoder, sequences, [method], [rate], get("numba"), batch=1)
    assert made.sha256 == find(method, rate)["weights_sha256"]
    assert made.rates == find(method, rate)["rates"]
