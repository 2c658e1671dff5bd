"""The backend numba-cuda and the real package, down to a driver that never runs a kernel.

The simulator knows nothing of compilers and drivers, and compiling alone launches nothing. Here
every kernel is compiled, linked, loaded and launched the way it is on a GPU, with arguments of the
types that it declares, which the package itself does not check. What the driver refuses is a line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMPILER = shutil.which("gcc")
pytestmark = [
    pytest.mark.skipif(
        find_spec("numba_cuda") is None,
        reason="the kernels of numba-cuda are launched by the package numba-cuda (extra test-cuda)",
    ),
    pytest.mark.skipif(
        COMPILER is None or not sys.platform.startswith("linux"),
        reason="the driver that stands in for a device needs gcc and Linux",
    ),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    source = ROOT / "tests" / "helpers" / "driver_without_device.c"
    target = folder / "libcuda.so.1"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", str(source), "-o", str(target), "-ldl"], check=True
    )
    ran = subprocess.run(
        [sys.executable, "-m", "tests.helpers.numba_cuda_launches"],
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_every_kernel_can_be_launched_with_what_it_is_given(found):
    assert found["never"] == []
    assert found["launched"] >= 80


def test_launches_by_numba_are_told_once(found):
    assert found["compiled without cuda.core"] > 1
    (line,) = found["warnings"]
    assert line.startswith("backend numba-cuda launches its kernels through Numba")
    assert "cuda.core" in line.partition("(")[2]
    assert "\n" not in line


def test_copies_go_there_and_back(found):
    assert found["there and back"] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_the_meter_asks_what_the_package_can_tell(found):
    assert found["device"] == {
        "name": "no device",
        "compute_capability": "9.0",
        "memory": 2**30,
        "multiprocessors": 3,
        "cuda_of_driver": "13.0",
        "nvrtc": found["device"]["nvrtc"],
    }
    assert found["device"]["nvrtc"].startswith("13.")
    assert found["seconds"] == 0.002
    assert found["copied"] == 2 * 2**28 * 10 / 0.002


def test_what_the_driver_refuses_is_one_line(found):
    for name in ("memory", "full"):
        assert found[name].startswith("backend numba-cuda: the device is out of memory")
    assert "failed (CUDA_ERROR_LAUNCH_FAILED" in found["lost"]
    assert "the input is unchanged" in found["lost"]
    assert len(found["lost"]) < 300
    assert not any("\n" in found[name] for name in ("memory", "full", "lost"))
