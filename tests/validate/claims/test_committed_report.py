"""The committed report of `waterlevel claims --full`: it says what today's rules and formulas say.

data/reports/claims-full.json is what the command wrote, but for the single measurements.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from waterlevel.data import DIRECTORY, LAYERS
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.reference.theory.high_rate import adversarial_gap, pooling_bound
from waterlevel.reference.theory.rotated import rotated_cholesky_squares
from waterlevel.reference.theory.scalar import SCALAR_GAP
from waterlevel.validate.claims.estimate import Estimate
from waterlevel.validate.claims.finding import ABOVE, AT_MOST, EQUAL, decided, verdict
from waterlevel.validate.claims.measure import basis_of
from waterlevel.validate.claims.moments import FAMILIES, Synthetic, layer_of
from waterlevel.validate.claims.plan import full_plan

from .test_claims import NAMES

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "data/reports/CLAIMS.md").read_text("utf-8")
REPORT: dict[str, Any] = json.loads((DIRECTORY / "reports" / "claims-full.json").read_text("utf-8"))
FINDINGS = {finding["name"]: finding for finding in REPORT["findings"]}


def estimate(row: dict[str, Any]) -> Estimate:
    measured = dict(row["measured"])
    if measured["error"] is None:  # JSON has no NaN
        measured["error"] = float("nan")
    return Estimate(**measured)


def rows(name: str, part: str) -> dict[float | None, dict[str, Any]]:
    """Of one finding and label, by rate."""
    return {row["rate"]: row for row in FINDINGS[name]["rows"] if row["label"] == part}


def test_it_is_the_full_set_on_the_bundled_layers():
    assert list(FINDINGS) == NAMES
    assert (REPORT["set"], REPORT["contract"], REPORT["left_out"]) == (
        "full",
        "1",
        [],
    )  # contract 2 moved groups, of which there are none
    assert REPORT["environment"]["libraries"]["numpy"]
    found = [layer_of(path) for path in sorted(LAYERS.glob("*.safetensors"))]
    told = {layer["name"]: layer["input"] for layer in REPORT["layers"]}
    assert told == {layer.name: digests for layer, digests in found}
    plan = full_plan(tuple(layer for layer, _ in found))
    assert {row["rate"] for row in FINDINGS["claim 1"]["rows"]} == set(plan.rates)
    for moment in plan.spectra:
        (repeated,) = {r["measured"]["repetitions"] for r in rows("claim 2", moment.label).values()}
        assert repeated == plan.repetitions


def test_every_row_decides_as_the_rule_says():
    decides = 0
    for finding in FINDINGS.values():
        for row in finding["rows"]:
            if row["holds"] is None or row["relation"] not in (EQUAL, AT_MOST, ABOVE):
                continue
            if finding["name"] == "claim 6" and row["rate"] <= 1.5:
                continue  # whether it is *below* 0.2546 decides there
            allowance = row["tolerance"] - estimate(row).tolerance
            again = decided(
                row["label"], row["rate"], row["claimed"], estimate(row), row["relation"], allowance
            )
            assert allowance >= -1e-15
            assert again.holds == row["holds"], row
            decides += 1
    assert decides > 500


@pytest.mark.parametrize("name", ["claim 4", "claim 7", "objection 1", "objection 2", "recursion"])
def test_verdicts_follow_from_rows(name: str):
    class Outcome:
        def __init__(self, holds: bool | None) -> None:
            self.holds = holds

    found = [Outcome(row["holds"]) for row in FINDINGS[name]["rows"]]
    assert verdict(found) == FINDINGS[name]["verdict"]  # pyright: ignore[reportArgumentType]


def test_what_was_claimed_is_what_the_formulas_say_today():
    for exponent in (-4, -8, -12, -16):
        claimed = rows("claim 3", f"diag(1, 2^{exponent})")[8.0]["claimed"]
        assert claimed == pytest.approx(adversarial_gap(2.0**exponent), rel=1e-12)
    assert {row["claimed"] for row in FINDINGS["claim 1"]["rows"]} == {SCALAR_GAP}


@pytest.mark.parametrize(("family", "parameter"), [("autoregressive", 0.9), ("log-normal", 2.0)])
def test_what_needs_no_weights_comes_out_again(family: str, parameter: float):
    """Cholesky diagonals of the same rotations, to what LAPACKs differ by."""
    moment = Synthetic(family, parameter, 192)
    row = rows("claim 5", moment.label)[None]
    eigenvalues = np.linalg.eigvalsh(FAMILIES[family](192, parameter))
    predicted = pooling_bound(rotated_cholesky_squares(eigenvalues))
    drawn = [pooling_bound(basis_of(moment, True, seed, NUMPY).squares) for seed in range(8)]
    assert row["claimed"] == pytest.approx(predicted, abs=1e-9)
    assert row["measured"]["mean"] == pytest.approx(np.mean(drawn), abs=1e-9)


def test_what_the_text_of_the_recursion_says_of_it():
    gaps = rows("recursion", "AR(1) ρ=0.99, as is")
    assert round(gaps[1.0]["measured"]["mean"], 3) == 0.006
    outside = [row for row in FINDINGS["recursion"]["rows"] if row["holds"] is False]
    assert outside == [gaps[1.0]]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_tells_what_was_found(name: str):
    told = re.findall(rf"^\| {name} \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    assert told == [(FINDINGS[name]["verdict"], FINDINGS[name]["result"].replace("|", "\\|"))]
