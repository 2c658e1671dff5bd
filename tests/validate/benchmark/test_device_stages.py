"""What a borrowed device is asked next: the time of each stage."""

from __future__ import annotations

import json

import pytest

from waterlevel.backends.cuda.operations import CudaOperations
from waterlevel.validate.benchmark import device_stages

from ...helpers.cuda_emulator import operations_on_cpu


class Meter:
    """A device that is busy for 2 ms whatever it is given."""

    def describe(self):
        return {"name": "none"}

    def seconds(self, run):
        run()
        return 0.002

    def enqueueing(self, run):
        run()
        return 0.001

    def copy_rate(self):
        return 3e12

    def subtraction_rate(self, dtype):
        return 8e12


@pytest.fixture
def measured(tmp_path_factory, monkeypatch):
    operations, _ = operations_on_cpu(tmp_path_factory.mktemp("kernels"))
    operations.meter = Meter()
    monkeypatch.setattr(device_stages, "get", lambda name: operations)
    monkeypatch.setattr(device_stages, "WARM_UP", 4)
    return operations


def test_each_stage_is_told_and_written(measured, tmp_path, capsys):
    report = tmp_path / "stages.json"
    arguments = ["cupy", "--size", "33", "--repetitions", "2", "--json", str(report)]
    assert device_stages.main(arguments) == 0
    stages = json.loads(report.read_text())["stages"]
    lines = capsys.readouterr().out.splitlines()
    assert {line[:34].strip() for line in lines} == stages.keys()
    assert stages["SIC, with gains"] == {"enqueueing": 0.001, "seconds": [0.002, 0.002]}
    assert "2.00 ms   enqueued in     1.00 ms" in lines[-1]


def test_what_was_measured_before_a_failure_is_written(measured, tmp_path, monkeypatch):
    def failing(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(CudaOperations, "sic", failing)
    monkeypatch.setattr(device_stages, "WARM_UP", 0)
    report = tmp_path / "stages.json"
    monkeypatch.setattr(device_stages, "stages", without_warm_up(device_stages.stages))
    with pytest.raises(KeyboardInterrupt):
        device_stages.main(["cupy", "--size", "33", "--json", str(report)])
    measured = json.loads(report.read_text())["stages"]
    assert measured.keys() == {"products subtracted", "copy", "Cholesky", "W·L"}


def without_warm_up(stages):
    return lambda operations, rows, *rest: stages(operations, rows, *rest) if rows else ()


def test_a_backend_without_a_device_is_refused(capsys):
    assert device_stages.main(["numpy"]) == 2
    assert "computes on no device" in capsys.readouterr().err
