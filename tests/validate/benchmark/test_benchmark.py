"""waterlevel bench: what it times is right, its figures are what they say, its tables fit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from waterlevel.reference.errors import BadInput
from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations
from waterlevel.validate.benchmark import block_updated, eager
from waterlevel.validate.benchmark.child import memory_of
from waterlevel.validate.benchmark.rows import MAXIMUM, ROWS, STEP, Inputs, Placed
from waterlevel.validate.benchmark.whole import WHOLE
from waterlevel.validate.cli import bench as benchmark
from waterlevel.validate.cli.main import main

from ...helpers.opaque import OpaqueOperations


class OtherLeft(NumpyOperations):
    """A product by a lower triangle whose sums begin at the other end."""

    name = "other-left"

    def matmul(self, left, right):
        if right[0, 1:].any():
            return super().matmul(left, right)
        return super().matmul(left[:, ::-1], right[::-1])


class Meter:
    """A device that takes 10 ms for everything and copies 1 GB in a second."""

    def describe(self):
        return {"name": "A device", "compute_capability": "9.0"}

    def seconds(self, run):
        run()
        return 0.01

    def memory(self, run):
        return run(), 5e6

    def copy_rate(self):
        return 1e9

    def subtraction_rate(self, dtype):
        return 1e6

    def arrays(self):
        return np


class OnDevice(OpaqueOperations):
    """Matrices that only the operations can look into, and a meter."""

    name = "on-device"
    meter = Meter()


class WithoutArrays(OnDevice):
    """A device for which there is no module of arrays, and where memory cannot be told."""

    class Poor(Meter):
        def arrays(self):
            return None

        def memory(self, run):
            return run(), None

    meter = Poor()


class OtherBitsOnDevice(OnDevice):
    """A device whose cancellation leaves another code."""

    def sic(self, target, codes, *arguments):
        gains = self.__getattr__("sic")(target, codes, *arguments)
        codes.content[1, 2] += 1
        return gains


def bench(capsys, *arguments):
    code = main(["bench", "--sizes", "24", "--repetitions", "1", "--threads", "1", *arguments])
    return code, capsys.readouterr()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(150, 150), (40, 300), (300, 17)])
def test_the_yardstick_does_what_is_timed_beside_it(shape, dtype):
    """A few codes may differ by a rounding; the values are close."""
    inputs = Inputs(*shape, dtype)
    rounding = np.finfo(dtype).eps
    diagonal = inputs.factor.diagonal()
    grid = inputs.grid
    pairs = {
        "gains": (
            inputs.gains(diagonal),
            block_updated.with_gains(STEP, inputs.dtype.type(STEP) / diagonal),
        ),
        "grid": (
            grid,
            block_updated.on_grid(
                grid.scale[:, 0], grid.zero[:, 0].astype(dtype), MAXIMUM, diagonal
            ),
        ),
    }
    for codebook, decide in pairs.values():
        values, codes = inputs.target.copy(), np.zeros(shape, np.int32)
        NUMPY.sic(values, codes, inputs.factor, codebook, 0, shape[1])
        other, other_codes = inputs.target.copy(), np.zeros(shape, np.int32)
        block_updated.sic(other, other_codes, inputs.factor, decide)
        # A decision differs where a number lies within the rounding error of a tie, which happens
        # to about n·ε of them; a row goes another way from there on.
        differing = (codes != other_codes).any(axis=1).mean()
        assert differing <= 100 * shape[1] ** 2 * rounding
        assert len(np.unique(codes)) > 4


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(50, 50), (40, 90), (90, 17)])
def test_eager_code_does_what_is_timed_beside_it(shape, dtype):
    """The same bound as above for the codes; a solve is close to LAPACK's."""
    inputs = Inputs(*shape, dtype)
    diagonal, grid = inputs.factor.diagonal(), inputs.grid
    allowed = 100 * shape[1] ** 2 * np.finfo(dtype).eps
    pairs = {
        "gains": (inputs.gains(diagonal), eager.with_gains(np, STEP, STEP / diagonal)),
        "grid": (grid, eager.on_grid(np, inputs.scale, inputs.zero, MAXIMUM, diagonal)),
    }
    target = inputs.target.copy()
    for codebook, decide in pairs.values():
        values, codes = inputs.target.copy(), np.zeros(shape, np.int32)
        NUMPY.sic(values, codes, inputs.factor, codebook, 0, shape[1])
        other = eager.sic(np, inputs.target, inputs.factor, decide)
        assert (other.dtype, other.shape) == (np.int32, shape)
        assert (codes != other).any(axis=1).mean() <= allowed
    core = eager.watersic(np, inputs.weight, inputs.covariance, STEP)
    expected = eager.sic(np, inputs.target, inputs.factor, pairs["gains"][1])
    assert (core != expected).any(axis=1).mean() <= allowed
    layer = inputs.weight, inputs.covariance, inputs.scale, inputs.zero, MAXIMUM
    expected = eager.sic(np, inputs.target, inputs.factor, pairs["grid"][1])
    for core in (eager.gptq(np, *layer), block_updated.gptq(*layer)):
        assert (core != expected).any(axis=1).mean() <= allowed
    X = eager.solve(np, inputs.weight, inputs.factor)
    # Backward error of a triangular solve: |X Lᵀ - W| ≤ n·ε·|X||L|ᵀ, to first order.
    bound = 1.01 * shape[1] * np.finfo(dtype).eps * (np.abs(X) @ np.abs(inputs.factor.T))
    exact = X.astype(np.float64) @ inputs.factor.T.astype(np.float64)
    assert (np.abs(exact - inputs.weight) <= bound).all()
    assert np.array_equal(inputs.target, target)  # what is handed over is left alone


def test_eager_gain_of_a_column_without_codes_is_zero():
    codes, values = eager.with_gains(np, 8.0, np.ones(1))(np.full(5, 0.5), 0)
    assert not codes.any()
    assert not values.any()


@pytest.mark.parametrize("name", list(ROWS))
def test_pairs_are_counted(name):
    """By the definition of the operation, one by one."""
    a, n = 3, 5
    below = sum(k for k in range(n))
    factor = sum(1 for j in range(n) for i in range(j, n) for _ in range(j))
    expected = {
        "Cholesky": factor,
        "product W Σ": a * n * n,
        "product W L": a * (below + n),
        "solve X Lᵀ = W": a * below,
        "SIC, gains": a * below,
        "SIC, 4-bit grid": a * below,
        "WaterSIC core": factor + a * (below + n) + a * below,
        "GPTQ core": factor + a * (below + n) + a * below,
    }
    assert ROWS[name].pairs(a, n) == expected[name]


@pytest.mark.parametrize("name", list(ROWS))
def test_numbers_are_counted(name):
    """What goes in and what comes out, the zeros of a triangle left out."""
    a, n = 3, 5
    layer, square, triangle = a * n, n * n, n * (n + 1) // 2
    expected = {
        "Cholesky": 2 * triangle,
        "product W Σ": layer + square + layer,
        "product W L": layer + triangle + layer,
        "solve X Lᵀ = W": layer + triangle + layer,
        "SIC, gains": layer + triangle + 2 * layer,
        "SIC, 4-bit grid": layer + triangle + 2 * layer,
        "WaterSIC core": layer + triangle + 2 * layer,
        "GPTQ core": layer + triangle + 2 * layer,
    }
    assert ROWS[name].numbers(a, n) == expected[name]


@pytest.mark.parametrize("name", list(ROWS))
def test_the_library_equivalent_runs(name):
    inputs = Inputs(20, 30, "float32")
    for need in ROWS[name].needs:
        getattr(inputs, need)
    ROWS[name].library(inputs)
    ROWS[name].eager(np, Placed(inputs, np.asarray))


def test_memory_counts_what_is_held_meanwhile():
    # More than 32 MiB, so that the allocator maps it anew and does not reuse what is resident.
    result, held = memory_of(lambda: np.ones(16_000_000).sum())
    assert result == 16_000_000
    assert held >= 0.9 * 128e6


def test_table_and_report(capsys, tmp_path):
    report = tmp_path / "bench.json"
    code, said = bench(
        capsys, "--backend", "numpy", "--dtype", "float64", "--only", "w", "--json", str(report)
    )
    assert (code, said.err) == (0, "")
    assert max(len(line) for line in said.out.splitlines()[1:]) <= 100
    content = json.loads(report.read_text())
    assert [row["row"] for row in content["rows"]].count("WaterSIC core") == 3
    for row in content["rows"]:
        pairs = ROWS[row["row"]].pairs(row["rows"], row["columns"])
        assert math.isclose(row["pairs_per_second"] * row["seconds"], pairs)
        assert row["times_library"] > 0
        assert row["memory"] >= 0
        assert len(row["probes"]) == 2
        if None not in row["probes"]:  # they need Numba
            assert row["share_of_peak"] == row["pairs_per_second"] / max(row["probes"])


def test_a_device_is_timed_and_measured_by_its_meter(capsys, tmp_path):
    report = tmp_path / "bench.json"
    arguments = ("--dtype", "float32", "--json", str(report))
    code, said = bench(capsys, "--backend", f"{__name__}:OnDevice", *arguments)
    assert (code, said.err) == (0, "")
    assert "A device; compute capability 9.0" in said.out
    header = next(line for line in said.out.splitlines() if "Gpairs/s" in line)
    assert header.split()[-9:] == ["of", "peak", "of", "copy", "MB", "×", "oracle", "×", "eager"]
    content = json.loads(report.read_text())
    assert content["device"] == Meter().describe()
    assert {row["row"] for row in content["rows"]} == set(ROWS)
    for row in content["rows"]:
        shape = row["rows"], row["columns"]
        assert row["seconds"] == 0.01
        assert row["times_library"] == 1.0
        assert row["memory"] == 5.0
        assert math.isclose(row["share_of_peak"], ROWS[row["row"]].pairs(*shape) / 0.01 / 1e6)
        moved = 4 * ROWS[row["row"]].numbers(*shape)
        assert math.isclose(row["share_of_copy"], moved / 0.01 / 1e9)


def test_what_cannot_be_told_of_a_device_is_a_dash(capsys):
    arguments = ("--dtype", "float64", "--only", "cholesky")
    code, said = bench(capsys, "--backend", f"{__name__}:WithoutArrays", *arguments)
    assert (code, said.err) == (0, "")
    cells = said.out.splitlines()[-1].split()
    assert cells[-1] == "—"
    assert cells[-3] == "—"


def test_growth_is_told_where_there_are_two_sizes(capsys):
    code = main(
        ["bench", "--sizes", "8,16", "--repetitions", "1", "--only", "chol", "--backend", "numpy"]
    )
    assert code == 0
    assert "grows with n to the power" in capsys.readouterr().out


def test_other_bits_are_refused_and_other_rows_told(capsys, tmp_path):
    report = tmp_path / "bench.json"
    options = ("--only", "product", "--dtype", "float32", "--json", str(report))
    code, said = bench(capsys, "--backend", f"{__name__}:OtherLeft", *options)
    assert code == 2
    content = json.loads(report.read_text())
    assert {row["row"] for row in content["rows"]} == {"product W Σ"}
    assert {row["row"] for row in content["failed"]} == {"product W L"}
    lines = said.err.splitlines()
    assert lines[0].startswith("product W L, 24×24 float32 could not be measured: ")
    assert len(lines) == len(content["failed"]) == 3
    assert all("other bits than the oracle" in line for line in lines)
    code, said = bench(
        capsys, "--backend", f"{__name__}:OtherBitsOnDevice", "--only", "4-bit grid", "--quick"
    )
    assert code == 2
    assert (said.out, len(said.err.splitlines())) == ("", 3)
    assert "other bits than the oracle" in said.err


def test_what_was_measured_before_an_interruption_is_kept(capsys, monkeypatch, tmp_path):
    left = [3]

    def measure(job, measure=benchmark.measure):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return measure(job)

    monkeypatch.setattr(benchmark, "measure", measure)
    report = tmp_path / "bench.json"
    options = ("--dtype", "float32", "--only", "core", "--backend", "numpy", "--json", str(report))
    code, said = bench(capsys, *options)
    assert code == 130
    assert said.err == "interrupted: 3 of 6 rows are not measured\n"
    assert said.out.count("WaterSIC core") == 3
    content = json.loads(report.read_text())
    assert len(content["rows"]) == content["unmeasured"] == 3
    left[0] = 0
    code, said = bench(capsys, *options[:-2])
    assert (code, said.out) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--sizes", "8,x"], "not a list of numbers"),
        (["--sizes", "2"], "too small"),
        (["--only", "sorting"], "no row"),
        (["--repetitions", "0"], "at least 1"),
        (["--threads", "0"], "at least 1"),
        (["--json", "nowhere/bench.json"], "nowhere"),
    ],
)
def test_bad_options(capsys, arguments, reason):
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr()
    assert reason in said.err
    assert (said.out, len(said.err.splitlines())) == ("", 1)


def test_sizes_are_sorted():
    assert benchmark.parse_sizes("64,8,64") == [8, 64]
    with pytest.raises(BadInput):
        benchmark.parse_sizes("")


def test_whole_methods_are_told_in_multiples_of_their_cores(capsys, tmp_path):
    target = tmp_path / "whole.json"
    arguments = ["--whole", "--only", "static", "--sizes", "16", "--dtype", "float32"]
    assert main(["bench", *arguments, "--repetitions", "2", "--json", str(target)]) == 0
    report = json.loads(target.read_text())
    assert [row["row"] for row in report["rows"]] == [next(n for n in WHOLE if "static" in n)] * 3
    for row in report["rows"]:
        taken = row["all_seconds"]
        ratios = [b / a for a, b in zip(taken["core"], taken["whole"], strict=True)]
        assert row["times_core"] == pytest.approx(sum(ratios) / 2)
        assert row["memory"] >= 0
    told = capsys.readouterr().out
    assert "× core" in told
    assert "× BLAS" not in told


def test_the_core_of_a_whole_method_is_a_row():
    assert {whole.core for whole in WHOLE.values()} == {"WaterSIC core", "GPTQ core"} <= set(ROWS)
    inputs = Inputs(6, 8, "float64")
    for whole in WHOLE.values():
        assert whole.run(inputs, NUMPY)
