"""What the backends on a GPU tell of it and measure on it, by stand-ins for CuPy and numba.cuda."""

from __future__ import annotations

import types

import numpy as np
import pytest

from waterlevel.backends.cuda import meter as device_meter
from waterlevel.backends.cuda.device import Session
from waterlevel.backends.cupy import meter as cupy_meter
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.support import environment

from ..helpers.cuda_emulator import operations_on_cpu

COPIED = 4096  # bytes


class Clock:
    """A device whose copies take 2 ms and whose launches take 5 ms each."""

    def __init__(self):
        self.milliseconds = 0.0

    def event(self):
        clock = self

        class Event:
            def record(self):
                self.at = clock.milliseconds

            def synchronize(self):
                self.waited = True

            def elapsed_time(self, stop):
                assert stop.waited
                return stop.at - self.at

        return Event()

    def copy(self, *_):
        self.milliseconds += 2


def test_a_backend_on_the_cpu_has_none():
    assert device_meter.meter_of(NUMPY) is None
    assert device_meter.meter_of(None) is None


# CuPy --------------------------------------------------------------------------------------------


@pytest.fixture
def by_cupy(tmp_path_factory, monkeypatch):
    """The meter, its clock, and the memory pool that it asks."""
    clock = Clock()
    _, device = operations_on_cpu(tmp_path_factory.mktemp("kernels"))

    def launch(*arguments):
        clock.milliseconds += 5
        return type(device).launch(device, *arguments)

    monkeypatch.setattr(device, "launch", launch)
    pool = types.SimpleNamespace(held=100, kept=50)
    pool.total_bytes = lambda: pool.held + pool.kept
    pool.free_all_blocks = lambda: setattr(pool, "kept", 0)
    properties = {
        "name": b"A GPU",
        "major": 9,
        "minor": 0,
        "totalGlobalMem": 8 * 10**10,
        "multiProcessorCount": 132,
    }
    cuda = types.SimpleNamespace(
        Event=clock.event,
        get_elapsed_time=lambda start, stop: start.elapsed_time(stop),
        Device=lambda: types.SimpleNamespace(id=0),
        nvrtc=types.SimpleNamespace(getVersion=lambda: (13, 0)),
        runtime=types.SimpleNamespace(
            getDeviceProperties=lambda number: properties,
            driverGetVersion=lambda: 13020,
            runtimeGetVersion=lambda: 12090,
        ),
    )
    array = types.SimpleNamespace(data=types.SimpleNamespace(copy_from_device_async=clock.copy))
    cupy = types.SimpleNamespace(
        cuda=cuda,
        zeros=lambda size, dtype: array,
        get_default_memory_pool=lambda: pool,
    )
    monkeypatch.setattr(cupy_meter, "COPIED", COPIED)
    monkeypatch.setattr(cupy_meter, "BLOCKS", 1)
    monkeypatch.setattr(cupy_meter, "TURNS", 3)
    return cupy_meter.CupyMeter(cupy, Session(device)), clock, pool


def test_cupy_describes(by_cupy):
    assert by_cupy[0].describe() == {
        "name": "A GPU",
        "compute_capability": "9.0",
        "memory": 8 * 10**10,
        "multiprocessors": 132,
        "cuda_of_driver": "13.2",
        "cuda_of_runtime": "12.9",
        "nvrtc": "13.0",
    }


def test_cupy_measures(by_cupy):
    meter, clock, pool = by_cupy
    assert meter.seconds(clock.copy) == pytest.approx(2e-3)
    assert meter.copy_rate() == pytest.approx(2 * COPIED / 2e-3)
    threads, chains, turns = 256, 8, 3
    for dtype in (np.float64, np.float32):
        assert meter.subtraction_rate(dtype) == pytest.approx(threads * chains * turns / 5e-3)

    def run():
        pool.held += 30  # is held still
        pool.kept += 7  # was needed for a while
        return "result"

    assert meter.memory(run) == ("result", 37.0)


# numba.cuda --------------------------------------------------------------------------------------


@pytest.fixture
def by_numba(monkeypatch):
    pytest.importorskip("numba", reason="the backend numba-cuda needs the package numba")
    from waterlevel.backends.numba_cuda import meter as numba_cuda_meter

    clock = Clock()
    device = types.SimpleNamespace(
        name=b"A GPU", compute_capability=(9, 0), MULTIPROCESSOR_COUNT=132
    )
    cuda = types.SimpleNamespace(
        event=clock.event,
        get_current_device=lambda: device,
        current_context=lambda: types.SimpleNamespace(get_memory_info=lambda: (1, 8 * 10**10)),
        runtime=types.SimpleNamespace(get_version=lambda: (13, 0)),
    )
    driver = types.SimpleNamespace(driver=types.SimpleNamespace(get_version=lambda: (13, 2)))

    def subtract(dtype, blocks, turns):
        clock.milliseconds += 5
        return None, blocks * turns

    array = types.SimpleNamespace(copy_to_device=clock.copy)
    monkeypatch.setattr(numba_cuda_meter, "cuda", cuda)
    monkeypatch.setattr(numba_cuda_meter, "import_module", lambda name: driver)
    monkeypatch.setattr(numba_cuda_meter, "new", lambda shape, dtype: array)
    monkeypatch.setattr(numba_cuda_meter, "subtract_in_registers", subtract)
    monkeypatch.setattr(numba_cuda_meter, "COPIED", COPIED)
    return numba_cuda_meter, clock


def test_numba_describes(by_numba):
    assert by_numba[0].NumbaCudaMeter().describe() == {
        "name": "A GPU",
        "compute_capability": "9.0",
        "memory": 8 * 10**10,
        "multiprocessors": 132,
        "cuda_of_driver": "13.2",
        "nvrtc": "13.0",
    }


def test_numba_measures(by_numba):
    module, clock = by_numba
    meter = module.NumbaCudaMeter()
    assert meter.seconds(clock.copy) == pytest.approx(2e-3)
    assert meter.copy_rate() == pytest.approx(2 * COPIED / 2e-3)
    assert meter.subtraction_rate(np.float32) == pytest.approx(module.BLOCKS * module.TURNS / 5e-3)
    assert meter.memory(lambda: "result") == ("result", None)


# The report --------------------------------------------------------------------------------------


def test_the_report_names_the_driver_and_every_part_of_cuda(monkeypatch, tmp_path):
    proc = tmp_path / "version"
    monkeypatch.setattr(environment, "DRIVER", proc)
    assert environment.environment()["nvidia_driver"] is None
    proc.write_text("NVRM version: NVIDIA Kernel Module  580.65.06\nGCC version: 12\n")
    installed = {"cupy-cuda13x": "14.2.0", "nvidia-cuda-nvrtc": "13.0.88", "cuda-core": "1.2.2"}
    monkeypatch.setattr(
        environment,
        "distributions",
        lambda: [
            types.SimpleNamespace(metadata={"Name": name}, version=version)
            for name, version in {**installed, "unrelated": "1"}.items()
        ],
    )
    found = environment.environment()
    assert found["nvidia_driver"] == "NVRM version: NVIDIA Kernel Module  580.65.06"
    assert found["libraries"].items() >= installed.items()
    assert "unrelated" not in found["libraries"]
    line = environment.environment_line(found)
    assert "cupy-cuda13x 14.2.0" in line
    assert "nvrtc" not in line
