"""The backend numba-cuda in Numba's simulator gives the bits of the oracle, operation by operation.

The simulator shows what the kernels compute and in which order, not what a GPU's compiler makes of
them: that is `test_numba_cuda.test_ptx`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from waterlevel import backends
from waterlevel.backends.numba_cuda.device import guarded
from waterlevel.reference.errors import BadInput, WaterlevelError
from waterlevel.reference.operations import Operations

from ...helpers.cuda_emulator import fits_any_device

OPERATIONS = sorted(name for name in vars(Operations) if not name.startswith("_"))
needs_numba = pytest.mark.skipif(
    find_spec("numba") is None, reason="numba's CUDA simulator needs the package numba"
)


def run(*arguments, simulator):
    """A new process: Numba is asked for its simulator before it is imported, or never."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": str(int(simulator))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def simulated():
    """Operation → case → what differs from the oracle."""
    ran = run("-m", "tests.helpers.numba_cuda_cases", simulator=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


# An allocation lasts long enough for the other thread to come and look.
TWO_THREADS = """
import threading, time
import numpy as np
from numba import float64
from numba.cuda.simulator import kernelapi
from tests.helpers.simulated_sharing import share_safely

share_safely()
empty, shared, found = np.empty, kernelapi.FakeCUDAShared(0), []

def slow_empty(*arguments):
    time.sleep(0.2)
    return empty(*arguments)

np.empty = slow_empty
threads = [threading.Thread(target=lambda: found.append(shared.array(4, float64))) for _ in "ab"]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(found), found[0] is found[1])
"""


@needs_numba
def test_threads_of_the_simulator_share_one_array():
    assert run("-c", TWO_THREADS, simulator=True).stdout == "2 True\n"


@needs_numba
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "name"])
def test_every_operation_gives_the_bits_of_the_oracle(simulated, operation):
    cases = simulated[operation]
    assert any(case.startswith("golden") for case in cases)
    assert any(case.endswith("float64") for case in cases)
    assert any(case.endswith("float32") for case in cases)
    assert {case: difference for case, difference in cases.items() if difference} == {}


@needs_numba
def test_an_algorithm_runs_on_it(simulated):
    assert simulated["watersic"] == {"float64": "", "float32": ""}


@needs_numba
def test_what_measures_a_rate_calculates(simulated):
    assert simulated["peak"] == {"float64": "", "float32": ""}


@needs_numba
def test_another_order_is_noticed(simulated):
    assert "differ, the first at" in simulated["planted"]["another order"]


# Availability ------------------------------------------------------------------------------------

ASK = """
from waterlevel import backends
try:
    print(backends.get("numba-cuda").name)
except backends.Unusable as reason:
    print("unusable:", reason)
"""


@needs_numba
def test_it_is_usable_where_the_simulator_is_asked_for():
    ran = run("-c", ASK, simulator=True)
    assert (ran.returncode, ran.stdout) == (0, "numba-cuda\n"), ran.stderr


def test_without_a_device_it_says_why_in_one_line():
    ran = run("-c", ASK, simulator=False)
    assert ran.returncode == 0, ran.stderr
    if ran.stdout == "numba-cuda\n":
        pytest.skip("there is a CUDA device here")
    assert len(ran.stdout.splitlines()) == 1
    assert ran.stdout.startswith("unusable: backend numba-cuda ")
    wanted = "pip install 'waterlevel[cuda13]'" if find_spec("numba_cuda") is None else "NVIDIA GPU"
    assert wanted in ran.stdout


def test_a_simulator_that_comes_too_late_is_refused():
    pytest.importorskip("numba", reason="numba's CUDA simulator needs the package numba")
    late = "import os, numba; os.environ['NUMBA_ENABLE_CUDASIM'] = '1'\n" + ASK
    ran = run("-c", late, simulator=False)
    assert ran.returncode == 0, ran.stderr
    assert "unset it, before numba is imported" in ran.stdout


class CudaAPIError(Exception):
    """As Numba's: a code and what the driver says."""

    def __init__(self, code, message):
        super().__init__(code, message)
        self.code = code


class CUDAError(Exception):
    """As cuda-core's, by which numba-cuda launches: a text alone."""


@guarded
class Failing:
    """Every operation fails with what it is given."""

    def matmul(self, error):
        raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CudaAPIError(2, "CUDA_ERROR_OUT_OF_MEMORY"), "the device is out of memory"),
        (MemoryError(), "the device is out of memory"),
        (CUDAError("CUDA_ERROR_OUT_OF_MEMORY: no\nmore"), "the device is out of memory"),
        (CUDAError("CUDA_ERROR_LAUNCH_FAILED: it\nfailed"), "failed .CUDA_ERROR_LAUNCH_FAILED"),
        (CudaAPIError(719, "launch\nfailure"), r"failed \(\(719, .*run it again in a new process"),
    ],
)
def test_a_failing_device_is_one_line(error, said):
    with pytest.raises(WaterlevelError, match=said) as caught:
        Failing().matmul(error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [BadInput("a refusal"), KeyError("a fault of the package")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught:
        Failing().matmul(error)
    assert caught.value is error


def test_it_is_built_in():
    assert "numba-cuda" in backends.BUILT_IN


@needs_numba
def test_grids_fit_every_device(monkeypatch):
    """More rows than 65535 tiles hold: the most of a grid in all dimensions but the first."""
    from waterlevel.backends.numba_cuda import (
        launch as numba_cuda_launch,
        products as numba_cuda_products,
        sums as numba_cuda_sums,
    )

    grids = []
    monkeypatch.setattr(
        numba_cuda_launch.Kernel,
        "__call__",
        lambda self, blocks, threads, *arguments: grids.append((blocks, threads)),
    )
    rows, n = range(5_000_000), range(40)
    matrix, sums = (
        SimpleNamespace(shape=shape, dtype=np.dtype(np.float32))
        for shape in ((len(rows), len(n)), (-(-len(rows) // 512), len(n)))
    )
    numba_cuda_products.update("subtract_lower", matrix, matrix, matrix, rows, n, n)
    numba_cuda_products.update("subtract_descending", matrix, matrix, matrix, rows, n, n)
    monkeypatch.setattr(numba_cuda_products, "upload", lambda array: array)
    numba_cuda_products.accumulate(matrix, matrix, matrix, np.ones(2))
    numba_cuda_sums.fold_chunks("in_columns", matrix, matrix, len(rows), sums)
    assert len(grids) == 4
    for blocks, threads in grids:
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        assert fits_any_device(grid, threads), grid
