"""Which measurements `waterlevel claims` makes, and what they may be trusted with."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from waterlevel.reference.coding.histogram import column_histograms, grouped_histograms
from waterlevel.reference.coding.rates import CLASSES, column_classes
from waterlevel.validate.claims import experiments, report
from waterlevel.validate.claims.finding import OPEN
from waterlevel.validate.claims.measure import (
    GAUSSIAN,
    GPTQ,
    OWN,
    WATERSIC,
    corrected_entropies,
    true_gap,
)
from waterlevel.validate.claims.measurements import DOUBTFUL, Measurements, measure_plan
from waterlevel.validate.claims.moments import Layer, layer_of
from waterlevel.validate.claims.plan import MOST_ROWS, rows_for, with_seeds
from waterlevel.validate.claims.shared_table import hidden_by_sorting

from .test_claims import shifted, tampered, tinier_plan


def write_blocks(directory: Path) -> tuple[Layer, ...]:
    """Three blocks with a query and a key, which see the same inputs, and one other layer."""
    for block in range(3):
        generator = np.random.default_rng(block)
        x = generator.standard_normal((100, 12)) * np.geomspace(2, 0.5, 12)
        for name in ("query", "key"):
            save_layer(directory / f"{block}-{name}", "attention input", x, generator)
    generator = np.random.default_rng(9)
    x = generator.standard_normal((100, 12))
    save_layer(directory / "0-output", "attention output", x, generator)
    return tuple(layer_of(path)[0] for path in sorted(directory.glob("*.safetensors")))


def save_layer(path: Path, kind: str, x: np.ndarray, generator: np.random.Generator) -> None:
    tensors = {"weight": generator.standard_normal((24, 12)), "covariance": x.T @ x / len(x)}
    metadata = {"waterlevel": json.dumps({"family": "tiny", "type": kind})}
    save_file(tensors, path.with_suffix(".safetensors"), metadata=metadata)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layer, ...]:
    return write_blocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def measurements(blocks: tuple[Layer, ...]) -> Measurements:
    return measure_plan(tinier_plan(blocks), "numpy", workers=1)


def test_layers_with_the_same_inputs_share_a_second_moment(blocks: tuple[Layer, ...]):
    shared = Counter(layer.moments for layer in blocks)
    assert sorted(shared.values()) == [1, 2, 2, 2]


@pytest.mark.parametrize(("repetitions", "each"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_seeds_of_layers(blocks: tuple[Layer, ...], repetitions: int, each: int):
    inputs = [layer for layer in blocks if layer.type == "attention input"]
    seeded = list(with_seeds(inputs, repetitions))
    assert {layer for layer, _, _ in seeded} == set(inputs)
    firsts = [(layer, seeds) for layer, first, seeds in seeded if first]
    assert len({layer.moments for layer, _ in firsts}) == len(firsts) == 3
    # No two Σ share a seed, and so weights; the layers of one Σ share all of them.
    drawn = [seed for _, seeds in firsts for seed in seeds]
    assert drawn == list(range(3 * each))
    for layer, _, seeds in seeded:
        assert seeds == next(s for other, s in firsts if other.moments == layer.moments)


def test_a_type_that_is_there_once_is_repeated(blocks: tuple[Layer, ...]):
    (output,) = [layer for layer in blocks if layer.type == "attention output"]
    assert list(with_seeds([output], 5)) == [(output, True, range(5))]


def test_each_second_moment_counts_once(measurements: Measurements):
    inputs = [layer for layer in measurements.plan.layers if layer.type == "attention input"]
    gaussian = measurements.estimate(inputs, False, WATERSIC, 1.0, true_gap)
    own = measurements.estimate(inputs, False, WATERSIC, 2.0, true_gap, OWN)
    assert gaussian is not None
    assert own is not None
    assert (gaussian.repetitions, own.repetitions) == (3, 6)
    findings = {finding.name: finding for finding in experiments.find_all(measurements)}
    for name, repetitions in (("claim 4", 3), ("claim 5", 3), ("objection 3", 6)):
        found = [r for r in findings[name].rows if r.label.startswith("tiny attention input")]
        assert found
        assert {row.measured.repetitions for row in found} == {repetitions}
    furthest = {r.rate: r.measured.mean for r in findings["claim 4"].rows if "furthest" in r.label}
    for rate in (1.0, 3.0):
        each = [
            measurements.difference([moment], (True, GPTQ), (False, WATERSIC), rate, true_gap)
            for moment in inputs
        ]
        assert furthest[rate] == max(found.mean for found in each if found is not None)


def test_repetitions_are_found_in_the_order_of_their_seeds(measurements: Measurements):
    for measured in measurements.by_case.values():
        case = measured.case
        found = measurements.find(
            case.moment, case.rotated, case.method, case.rate, case.weights, case.damping
        )
        assert measured in found
        seeds = [other.case.seed for other in found]
        assert seeds == sorted(set(seeds))
    (output,) = [layer for layer in measurements.plan.layers if layer.type == "attention output"]
    assert measurements.rates([output], GPTQ) == [1.0, 3.0]
    assert measurements.rates([output], GPTQ, OWN) == [2.0]
    assert measurements.find(output, False, WATERSIC, 9.0, GAUSSIAN) == []


def test_the_report_tells_layers_by_type(measurements: Measurements):
    printed = report.text([], measurements.plan.layers, [], 1024)
    assert "  tiny attention input: 6 layers with 3 Σ, 24×12.\n" in printed
    assert "  tiny attention output: 0-output, 24×12.\n" in printed


def test_rows_have_an_end():
    assert rows_for(3.0, 64) == 1024
    assert rows_for(12.0, 64) == MOST_ROWS
    assert rows_for(2.0, 16, least=1) == 128


def test_what_is_in_doubt_about_own_weights_stays_in_doubt(measurements: Measurements):
    def advantages(where: Measurements):
        found = {finding.name: finding for finding in experiments.find_all(where)}["objection 3"]
        return found, [row for row in found.rows if row.label.endswith("best GPTQ")]

    finding, rows = advantages(measurements)
    assert finding.verdict != OPEN
    assert all(row.measured.bias > 0 for row in rows)
    # Counts that may be wrong by a bit decide nothing.
    doubtful, wrong = advantages(tampered(measurements, shifted(lambda c: True, bias=1.0)))
    assert doubtful.verdict == OPEN
    for row in wrong:
        assert row.measured.bias == pytest.approx(2 * DOUBTFUL, abs=0.1)


@pytest.mark.parametrize("rows", [64, 256])
def test_sorting_hides_what_classes_cost(rows: int):
    """Columns that are all alike: classes of them cost nothing, and seem to save something."""
    generator = np.random.default_rng(rows)
    seeming = []
    for _ in range(20):
        codes = np.rint(2 * generator.standard_normal((rows, 320))).astype(np.int32)
        columns = column_histograms(codes)
        classes = grouped_histograms(columns, column_classes(columns), CLASSES)
        one = grouped_histograms(columns, np.zeros(320, np.int64), 1)
        seeming.append(np.mean(corrected_entropies(classes)) - corrected_entropies(one)[0])
    error = np.std(seeming, ddof=1) / math.sqrt(len(seeming))
    assert np.mean(seeming) < -4 * error
    assert np.mean(seeming) > -hidden_by_sorting(rows)


def test_too_few_rows_decide_nothing_about_classes(measurements: Measurements):
    findings = {finding.name: finding for finding in experiments.find_all(measurements)}
    rows = [row for row in findings["claim 7"].rows if row.label.endswith("16 classes")]
    real = [row for row in rows if row.label.startswith("tiny")]  # 256 rows
    synthetic = [row for row in rows if row not in real]  # 1024 rows
    assert real
    assert synthetic
    assert {row.holds for row in real} == {None}
    assert None not in {row.holds for row in synthetic}
