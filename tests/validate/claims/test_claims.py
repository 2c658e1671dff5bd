"""`waterlevel claims`: measurements, verdicts that can fail, report and JSON."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from waterlevel.data import LAYERS
from waterlevel.reference import watersic
from waterlevel.reference.coding.histogram import column_histograms
from waterlevel.reference.limits.gaussian_limit import covariance_eigenvalues
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.reference.theory.scalar import SCALAR_GAP, spacing_for_entropy
from waterlevel.validate.claims import estimate, experiments, report
from waterlevel.validate.claims.entropy_bias import counted_biases, entropy_bias
from waterlevel.validate.claims.estimate import Estimate
from waterlevel.validate.claims.finding import (
    ABOVE,
    AT_MOST,
    EQUAL,
    FAILS,
    HOLDS,
    OPEN,
    PARTLY,
    Finding,
    Row,
    decided,
    from_rate,
    shown,
    verdict,
)
from waterlevel.validate.claims.measure import (
    GPTQ,
    OWN,
    WATERFILLING,
    WATERSIC,
    Case,
    Measurement,
    basis_of,
    corrected_entropies,
    measure,
)
from waterlevel.validate.claims.measurements import Measurements, measure_plan
from waterlevel.validate.claims.moments import Layer, Synthetic, layer_of
from waterlevel.validate.claims.plan import RATES, Plan, full_plan, quick_plan
from waterlevel.validate.cli import claims as command
from waterlevel.validate.cli.main import main

GRID = "The weights already lie on a 4-bit grid."
NAMES = [
    *(f"claim {number}" for number in range(1, 8)),
    *(f"objection {number}" for number in range(1, 4)),
    "recursion",
]


def tiny_plan(layers: tuple[Layer, ...]) -> Plan:
    return Plan(
        spectra=(Synthetic("autoregressive", 0.9, 16), Synthetic("log-normal", 1.0, 16)),
        epsilons=(-4, -8),
        n=16,
        layers=layers,
        rates=(1.0, 2.0, 6.0),
        rows_per_symbol=16,
        layer_rates=(1.0, 3.0),
        layer_rows=256,
        own_rates=(2.0,),
        repetitions=3,
        layer_repetitions=3,
    )


def tinier_plan(layers: tuple[Layer, ...]) -> Plan:
    """Enough for every experiment to have something to say."""
    return replace(
        tiny_plan(layers),
        spectra=(Synthetic("log-normal", 1.0, 8),),
        epsilons=(-4,),
        n=8,
        rates=(1.0, 4.0),
        repetitions=2,
        layer_repetitions=2,
    )


def write_layers(directory: Path) -> Path:
    """Two families, one of them with a remark."""
    for seed, (family, kind, remarks) in enumerate(
        (("minilm", "attention input", []), ("smollm2", "feed-forward in", [GRID]))
    ):
        generator = np.random.default_rng(seed)
        x = generator.standard_normal((200, 12)) * np.geomspace(3, 0.3, 12)
        x += 0.5 * generator.standard_normal((200, 1))
        described = {"family": family, "type": kind, "remarks": remarks}
        tensors = {"weight": generator.standard_normal((96, 12)), "covariance": x.T @ x / 200}
        metadata = {"waterlevel": json.dumps(described)}
        save_file(tensors, directory / f"{family}.safetensors", metadata=metadata)
    return directory


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_layers(tmp_path_factory.mktemp("layers"))


@pytest.fixture(scope="module")
def measurements(layers: Path) -> Measurements:
    found = tuple(layer_of(path)[0] for path in sorted(layers.glob("*.safetensors")))
    return measure_plan(tiny_plan(found), "numpy", workers=1)


@pytest.fixture(scope="module")
def findings(measurements: Measurements) -> dict[str, Finding]:
    return {finding.name: finding for finding in experiments.find_all(measurements)}


# What is measured


def test_a_measurement_is_what_the_library_gives(measurements: Measurements):
    moment = Synthetic("log-normal", 1.0, 16)
    case = next(
        c for c in measurements.by_case
        if c.moment == moment and c.rotated and c.method == WATERSIC and c.rate == 2.0
    )  # fmt: skip
    basis = basis_of(moment, True, case.seed, NUMPY)
    found = measure(case, basis, NUMPY)
    generator = np.random.Generator(np.random.Philox(key=2**64 + case.seed))
    W = generator.standard_normal((case.rows, 16)) @ basis.rotation
    expected = watersic(
        W, basis.covariance, rate=2.0, rate_measure="rate_column", damping=0.0, rescale=False,
        dead_threshold=0.0,
    )  # fmt: skip
    assert found.rate_column == expected.rates.rate_column
    assert found.distortion == expected.distortion
    # Eigenvalues with and without eigenvectors come from different LAPACK paths.
    assert found.gap == pytest.approx(expected.gap, abs=1e-9)
    assert found.relative_distortion == expected.distortion / expected.weight_mean_square
    # Floating-point logarithms in place of decimals: 16 columns of some 20 symbols.
    assert np.mean(found.column_rates) == pytest.approx(found.rate_column, abs=1e-12)
    assert found.rate_column <= found.rate_classes + 1e-12
    assert found.rate_classes < found.rate_pooled


def test_rotation_keeps_the_problem():
    moment = Synthetic("autoregressive", 0.9, 16)
    as_is, rotated = (basis_of(moment, rotated, 1, NUMPY) for rotated in (False, True))
    V = rotated.rotation
    assert V is not None
    np.testing.assert_allclose(V @ rotated.covariance @ V.T, as_is.covariance, atol=1e-13)
    np.testing.assert_allclose(rotated.eigenvalues, as_is.eigenvalues, rtol=1e-12)
    assert np.prod(rotated.squares) == pytest.approx(np.prod(as_is.squares), rel=1e-11)


def test_weights_do_not_know_the_rotation():
    # Both are drawn by keys; with the same key V would be the QR factor of the first rows of W.
    moment = Synthetic("log-normal", 1.0, 16)
    V = basis_of(moment, True, 0, NUMPY).rotation
    generator = np.random.Generator(np.random.Philox(key=2**64))
    Q, _ = np.linalg.qr(generator.standard_normal((16, 16)))
    assert V is not None
    assert np.max(np.abs(np.abs(Q) - np.abs(V))) > 0.1


def test_own_weights_are_those_of_the_file(measurements: Measurements):
    layer = measurements.plan.layers[0]
    (found,) = measurements.find(layer, False, WATERSIC, 2.0, OWN)
    S = layer.covariance(NUMPY)
    expected = watersic(
        layer.weight(), S, rate=2.0, rate_measure="rate_column", damping=1e-4, rescale=False,
        dead_threshold=0.0, eigenvalues=covariance_eigenvalues(S),
    )  # fmt: skip
    assert found.rate_column == expected.rates.rate_column
    assert found.gap == pytest.approx(expected.gap, abs=1e-9)
    assert found.predicted_gap is None


@pytest.mark.parametrize("plan", [quick_plan, full_plan])
def test_plans(plan: Callable[[tuple[Layer, ...]], Plan]):
    layers = tuple(layer_of(path)[0] for path in sorted(LAYERS.glob("*.safetensors")))
    planned = plan(layers)
    cases = list(planned.cases())
    assert len(cases) == len(set(cases))
    assert planned.rates == RATES == (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
    for moment in planned.spectra:
        for rotated in (False, True):
            rates = {c.rate for c in cases if c.moment == moment and c.rotated == rotated}
            assert rates == set(RATES)
    for layer in layers:
        assert {c.rotated for c in cases if c.moment == layer} == {False, True}
    assert {layer.family for layer in layers} == {"minilm", "smollm2"}
    assert len({layer.type for layer in layers}) == 4


# How far a number can be trusted


@pytest.mark.parametrize(("entropy", "rows"), [(3.0, 64), (6.0, 512), (8.0, 512)])
def test_the_bias_of_a_counted_entropy(entropy: float, rows: int):
    generator = np.random.default_rng(rows)
    codes = np.rint(generator.standard_normal((rows, 600)) / spacing_for_entropy(entropy))
    counted = corrected_entropies(column_histograms(codes.astype(np.int32)))
    error = np.std(counted, ddof=1) / math.sqrt(len(counted))
    assert np.mean(counted) - entropy == pytest.approx(entropy_bias(entropy, rows), abs=4 * error)
    assert abs(entropy_bias(entropy, rows)) > 4 * error  # so that the test can fail
    # Counting, and asking how wrong the count is, leads back.
    start = entropy + entropy_bias(entropy, rows)
    back = start - counted_biases(np.array([start]), rows)[0]
    assert back == pytest.approx(entropy, abs=0.01)


def test_tolerance_covers_the_truth():
    generator = np.random.default_rng(5)
    means = [Estimate.of(generator.standard_normal(4).tolist()) for _ in range(2000)]
    covered = np.mean([abs(m.mean) <= m.tolerance for m in means])
    # 99% of 2000 with a standard deviation of 0.22%; 4 of them.
    assert abs(covered - estimate.CONFIDENCE) < 0.009


# Verdicts


def rows_of(*outcomes: bool | None) -> list[Row]:
    return [
        Row("Σ", float(i + 1), Estimate.of([0.0]), 0.0, EQUAL, 0.1, outcome)
        for i, outcome in enumerate(outcomes)
    ]


def test_verdicts():
    assert verdict(rows_of(True, True, None)) == HOLDS
    assert verdict(rows_of(True, False)) == PARTLY
    assert verdict(rows_of(False, None)) == FAILS
    assert verdict(rows_of(None)) == verdict([]) == OPEN
    assert from_rate(rows_of(True, False, True, True)) == 3.0
    assert from_rate(rows_of(True, True, False)) is None
    assert shown(rows_of(True)[0]).holds is None


def test_what_cannot_be_seen_confirms_nothing():
    vague = Estimate.of([0.0, 0.2])  # t = 63.7: a tolerance of 6 bits
    for relation in (EQUAL, AT_MOST, ABOVE):
        assert decided("Σ", 1.0, 0.1, vague, relation).holds is None
    far = Estimate.of([100.0, 100.2])
    assert decided("Σ", 1.0, 0.1, far, EQUAL).holds is False
    assert decided("Σ", 1.0, 0.1, far, AT_MOST).holds is False
    assert decided("Σ", 1.0, 0.1, far, ABOVE).holds is True


@pytest.mark.parametrize(
    ("relation", "below", "at", "above"),
    [(EQUAL, False, True, False), (AT_MOST, True, True, False), (ABOVE, False, False, True)],
)
def test_relations(relation: str, below: bool, at: bool, above: bool):
    for measured, expected in ((0.8, below), (1.05, at), (0.95, at), (1.2, above)):
        row = decided("Σ", 1.0, 1.0, Estimate.of([measured], 0.06), relation, allowance=0.04)
        assert row.holds == expected
        assert row.tolerance == pytest.approx(0.1)


def tampered(
    measurements: Measurements, change: Callable[[Measurement], Measurement]
) -> Measurements:
    found = {case: change(measured) for case, measured in measurements.by_case.items()}
    return replace(measurements, by_case=found)


def shifted(where: Callable[[Case], bool], **by: float) -> Callable[[Measurement], Measurement]:
    def change(measured: Measurement) -> Measurement:
        if not where(measured.case):
            return measured
        moved = {name: getattr(measured, name) + amount for name, amount in by.items()}
        return replace(measured, **moved)

    return change


# What would make each claim wrong, and how much of it then fails.
WRONG: dict[str, tuple[Callable[[Case], bool], dict[str, float], str]] = {
    "claim 1": (lambda c: c.method == WATERSIC, {"gap": 0.1}, FAILS),
    "claim 2": (lambda c: c.method == WATERSIC and c.rotated, {"gap": 0.1}, FAILS),
    "claim 3": (lambda c: c.method == GPTQ and c.moment.n == 16, {"gap": -0.5}, PARTLY),
    "claim 4": (lambda c: c.method == GPTQ and c.rotated, {"gap": 1.0}, FAILS),
    "claim 5": (lambda c: c.method == GPTQ and c.rotated, {"gap": 1.0}, PARTLY),
    "claim 6": (lambda c: c.method == WATERFILLING, {"gap": 0.3}, FAILS),
    "claim 7": (lambda c: c.method == WATERSIC, {"rate_classes": 0.3}, PARTLY),
    "objection 1": (lambda c: c.method == WATERSIC, {"gap": 1.0}, FAILS),
    "objection 2": (lambda c: c.method == WATERSIC and c.rotated, {"gap": 1.0}, FAILS),
    "objection 3": (lambda c: c.method == WATERSIC, {"gap": 3.0}, FAILS),
    "recursion": (lambda c: c.method == WATERSIC, {"gap": 0.2}, FAILS),
}


def test_there_is_a_wrong_number_for_every_claim():
    assert list(WRONG) == NAMES


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_number_is_caught(
    measurements: Measurements, findings: dict[str, Finding], name: str
):
    where, by, expected = WRONG[name]
    wrong = tampered(measurements, shifted(where, **by))
    found = {f.name: f for f in experiments.find_all(wrong)}[name]
    assert found.verdict == expected
    refuted = [sum(row.holds is False for row in f.rows) for f in (findings[name], found)]
    assert refuted[0] < refuted[1]


def test_the_claims_of_theory_on_a_small_set(findings: dict[str, Finding]):
    assert list(findings) == NAMES
    for name in ("claim 1", "claim 2", "claim 6"):
        assert findings[name].verdict == HOLDS, report.text([findings[name]], [], [], 1024)
    # At 1 bit after Haar the gap is above 0.2546; that is the point of the objections.
    for name in ("objection 1", "objection 2"):
        assert findings[name].verdict == PARTLY


def test_every_row_decides_by_its_own_numbers(findings: dict[str, Finding]):
    for finding in findings.values():
        for row in finding.rows:
            assert math.isfinite(row.measured.mean)
            if row.holds is not None and row.relation == EQUAL:
                assert row.claimed is not None
                assert row.tolerance is not None
                within = abs(row.measured.mean - row.claimed) <= row.tolerance
                assert row.holds == within


def test_a_low_rate_does_not_refute_a_limit(
    measurements: Measurements, findings: dict[str, Finding]
):
    low = lambda c: c.method == WATERSIC and c.rate == 1.0  # noqa: E731
    wrong = experiments.find_all(tampered(measurements, shifted(low, gap=0.5)))[0]
    assert wrong.verdict == findings["claim 1"].verdict == HOLDS


def test_sentences_are_made_of_the_measured_numbers(
    measurements: Measurements, findings: dict[str, Finding]
):
    # ε = 2^-4 and 2^-8: ½ log2((1 + ε)/(2√ε)) grows by 0.959 from one to the other.
    assert "each ε 16 times smaller adds 0.96 to 0.96 bit." in findings["claim 3"].result
    worst = lambda c: isinstance(c.moment, Synthetic) and c.moment.parameter == -8  # noqa: E731
    more = experiments.find_all(tampered(measurements, shifted(worst, gap=0.5)))[2]
    assert "each ε 16 times smaller adds 1.46 to 1.46 bit." in more.result
    tops = {row.label: row for row in findings["claim 1"].rows if row.holds is not None}
    tolerances = [row.tolerance for row in tops.values() if row.tolerance is not None]
    span = f"within {min(tolerances):.3f} to {max(tolerances):.3f}"
    assert span in findings["claim 1"].result


# The command


def run(*arguments: object) -> int:
    return main(["claims", "--backend", "numpy", *map(str, arguments)])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "quick_plan", tinier_plan)


@pytest.mark.usefixtures("tiny")
def test_report_and_json(layers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "claims.json"
    assert run("--layers", layers, "--json", target, "--workers", 1) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    for name in NAMES:
        assert f"\n{name.capitalize()}. " in printed
    assert "limit for Gaussian weights" in " ".join(printed.split())

    found: dict[str, Any] = json.loads(target.read_text())
    assert [finding["name"] for finding in found["findings"]] == NAMES
    for finding in found["findings"]:
        assert finding["verdict"] in (HOLDS, PARTLY, FAILS, OPEN)
        assert finding["claim"] in " ".join(printed.split())
        assert finding["result"] in " ".join(printed.split())
        assert finding["rows"]
        assert finding["inputs"]
        for row in finding["rows"]:
            assert row["measured"]["repetitions"] >= 1
    plan = tinier_plan(tuple(layer_of(path)[0] for path in sorted(layers.glob("*.safetensors"))))
    assert len(found["measurements"]) == len(list(plan.cases()))
    assert {layer["name"] for layer in found["layers"]} == {"minilm", "smollm2"}
    assert all(set(layer["input"]) == {"weight", "covariance"} for layer in found["layers"])
    assert (found["set"], found["backend"]) == ("quick", "numpy")


@pytest.mark.usefixtures("tiny")
def test_the_same_every_time_and_in_any_number_of_processes(
    layers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    printed, written = [], []
    for workers in (1, 1, 2):
        target = tmp_path / "claims.json"
        assert run("--layers", layers, "--json", target, "--workers", workers) == 0
        printed.append(capsys.readouterr().out.replace("2 processes", "1 process"))
        written.append(json.loads(target.read_text()))
        written[-1].pop("environment")  # may tell of the threads that processes are given
    assert printed[0] == printed[1] == printed[2]
    assert written[0] == written[1] == written[2]


@pytest.mark.usefixtures("tiny")
def test_the_grid_of_weights_is_told_wherever_their_numbers_are(
    layers: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("--layers", layers, "--workers", 1) == 0
    sections = capsys.readouterr().out.split("\n\n")
    with_numbers = [s for s in sections if "    smollm2" in s]
    assert len(with_numbers) >= 6
    for section in with_numbers:
        assert f"smollm2: {GRID}" in section


def test_wide_layers_are_left_out_by_name():
    kept, left_out, failed = command.find_layers(LAYERS, wide_too=False)
    everything, none, _ = command.find_layers(LAYERS, wide_too=True)
    assert left_out == ["minilm-02-feed-forward-out"]
    assert len(kept) + 1 == len(everything) == len(list(LAYERS.glob("*.safetensors")))
    assert none == failed == []


def spoilt_directory(tmp_path: Path, kind: str) -> Path:
    directory = tmp_path / kind
    if kind != "missing":
        directory.mkdir()
    if kind == "garbage":
        (directory / "x.safetensors").write_text("hello")
    if kind == "indefinite":
        S = np.eye(3)
        S[0, 1] = S[1, 0] = 9.0
        tensors = {"weight": np.ones((4, 3)), "covariance": S}
        save_file(tensors, directory / "x.safetensors")
    return directory


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("kind", "message"),
    [("garbage", "not a whole safetensors file"), ("indefinite", "not positive definite")],
)
@pytest.mark.usefixtures("tiny")
def test_a_bad_layer_takes_nothing_from_the_others(
    layers: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    message: str,
    workers: int,
):
    layers = Path(shutil.copytree(layers, tmp_path / "layers"))
    reports = []
    for expected in (0, 2):
        target = tmp_path / "claims.json"
        assert run("--layers", layers, "--json", target, "--workers", workers) == expected
        reports.append(json.loads(target.read_text("utf-8")))
        bad = spoilt_directory(tmp_path, kind) / "x.safetensors" if expected == 0 else None
        if bad is not None:
            bad.rename(layers / "bad.safetensors")
    without, beside = reports
    (line,) = beside.pop("failed")
    assert without.pop("failed") == []
    assert beside == without
    printed = capfd.readouterr()
    assert printed.err == f"waterlevel claims: {line}\n"
    assert str(layers / "bad.safetensors") in line
    assert message in line


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no directory"),
        ("empty", "holds no layer file"),
        ("garbage", "not a whole safetensors file"),
        ("indefinite", "not positive definite"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_bad_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, message: str):
    directory = spoilt_directory(tmp_path, kind)
    target = tmp_path / "claims.json"
    assert run("--layers", directory, "--json", target, "--workers", 1) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("waterlevel claims: ")
    assert message in printed.err
    assert str(directory) in printed.err
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "--workers is 0; it must be at least 1"),
        (["--json", "no/such/folder/x.json"], "there is no directory"),
        (["--backend", "abacus"], "no backend is called 'abacus'"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_bad_options(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_a_gap_at_high_rate_is_that_of_every_scalar_quantiser():
    assert pytest.approx(0.2546, abs=5e-5) == SCALAR_GAP
