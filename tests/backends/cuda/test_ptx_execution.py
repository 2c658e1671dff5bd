"""Compiled kernels of both CUDA families, run on this CPU from their PTX: bits, bounds and races.

What runs is what the compilers made for compute capability 9.0, at the real sizes of blocks. Each
access to memory is checked: that it lies in a buffer, that shared memory is written before it is
read, and that a barrier stands between two threads that share a word. See `helpers/ptx`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from waterlevel.backends.cuda.device import SOURCES, Session
from waterlevel.backends.cuda.operations import CudaOperations
from waterlevel.backends.cuda.peak import subtract_in_registers
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers.cuda_emulator import DTYPES
from ...helpers.cuda_machine_code import ARCHITECTURE
from ...helpers.ptx import WatchedDevice, build_programs, translate_cuda
from ...helpers.ptx.golden import LARGE_LAYERS, case_differences, layer_differences
from ...helpers.ptx.translator import translate
from ...helpers.ptx.trials import barriers_missed, difference, trials

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.skipif(
        find_spec("cupy") is None or find_spec("numba_cuda") is None,
        reason="what compiles the CUDA kernels is missing: they are not run from their PTX "
        "(extra test-cuda)",
    ),
    pytest.mark.skipif(
        shutil.which("g++") is None or not sys.platform.startswith("linux"),
        reason="compiled CUDA kernels are run from their PTX by g++ and Linux",
    ),
]


@pytest.fixture(scope="module")
def nvrtc():
    from cupy.cuda import nvrtc

    return nvrtc


@pytest.fixture(scope="module")
def kernels(nvrtc):
    return {dtype: translate_cuda(nvrtc, dtype) for dtype in DTYPES}


@pytest.fixture(scope="module")
def device(kernels, tmp_path_factory):
    return WatchedDevice(build_programs(tmp_path_factory.mktemp("ptx"), kernels))


@pytest.fixture(scope="module")
def operations(device):
    return CudaOperations(device)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Where the driver lies that numba-cuda finds."""
    folder = tmp_path_factory.mktemp("driver")
    source, target = ROOT / "tests" / "helpers" / "driver_without_device.c", folder / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(target), "-ldl"], check=True)
    return folder


def numba_cuda(driver, *arguments):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.helpers.ptx.numba_cuda", *arguments],
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(driver), "NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def faults(found):
    return {name: difference for name, difference in found.items() if difference}


# The family of CuPy ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_cupy_on_all_kinds_of_work(operations, device, dtype):
    used = len(device.launched)
    found = {name: difference(trial, operations, NUMPY) for name, trial in trials(dtype).items()}
    assert faults(found) == {}
    subtract_in_registers(Session(device), dtype, 2, 5)
    ran = {(source, kernel) for source, kernel, name in device.launched[used:]}
    assert ran == {(source, kernel) for source, kernels in SOURCES.items() for kernel in kernels}


def test_cupy_on_golden_cases_and_layers(operations):
    cases = case_differences(operations)
    assert len(cases) > 400
    assert faults(cases) == {}
    layers = layer_differences(operations)
    assert len(layers) > 50
    assert faults(layers) == {}


@pytest.mark.slow
def test_cupy_on_large_layers(operations):
    assert faults(layer_differences(operations, LARGE_LAYERS)) == {}


@pytest.mark.slow
def test_no_barrier_of_cupy_can_be_left_out(operations, device, kernels):
    unreached, unnoticed, noticed = barriers_missed(
        device.libraries, kernels, operations, NUMPY, (np.float64,)
    )
    assert unreached == {}
    assert unnoticed == {f"{kernel} float64": places for kernel, places in REDUNDANT.items()}
    assert noticed > 300


# Where a barrier was left out there was neither a race nor another bit.
REDUNDANT = {
    # what follows is the last column alone, or the factor that a later barrier guards
    "factor_block": [4, 5],
    "gain_panel": [0],
    # after the last level of a fold, which its own thread reads
    "fold_column_products": [4],
    "fold_column_sums": [4],
    # at the end of `fold` and `choose_one`, for a next call that does not come there
    "gain_column": [33, 34, 79, 80, 113],
    "row_inner": [10, 45],
    "grid_error": [10, 45],
    "first_nonfinite": [9],
    "row_extrema": [9, 19],
    "nonzero_steps": [9, 19],
    "row_asymmetry": [9],
}


# The family of numba-cuda ------------------------------------------------------------------------


def test_numba_cuda(driver):
    told = numba_cuda(driver)
    assert told["never"] == []
    assert len(told["found"]) > 500
    assert faults(told["found"]) == {}


@pytest.mark.slow
def test_numba_cuda_on_large_layers(driver):
    assert faults(numba_cuda(driver, "layers")) == {}


@pytest.mark.slow
def test_no_barrier_of_numba_cuda_can_be_left_out(driver):
    told = numba_cuda(driver, "barriers")
    assert told["unreached"] == {}
    assert told["unnoticed"] == {
        f"numba_cuda_{kernel}_{dtype} {dtype}": places
        for dtype in DTYPES
        for kernel, places in REDUNDANT_OF_NUMBA_CUDA.items()
    }
    assert told["noticed"] > 100


REDUNDANT_OF_NUMBA_CUDA = {
    "triangular_factor_block": [2],  # after the last column, which changes nothing but itself
    "sic_decide_column": [2],  # between two folds of different numbers
    "sic_scaled": [0],  # a lattice without a diagonal needs the factor later
}


# What is seen ------------------------------------------------------------------------------------

KERNEL = 'extern "C" __global__ void planted(double *a, long long n) {{ {} }}'
SHARED = "__shared__ double held[32]; int t = threadIdx.x; "
PLANTED = [
    ("", "a[threadIdx.x] = n;"),
    ("", SHARED + "held[t] = n; __syncthreads(); a[t] = held[31 - t];"),
    ("", SHARED + "held[t] = n; __syncwarp(); a[t] = held[31 - t];"),
    ("", "a[threadIdx.x] = __shfl_down_sync(0xffffffff, (double)n, 3);"),
    ("outside of every buffer", "a[threadIdx.x + n] = 1;"),
    (
        "outside of shared memory",
        SHARED + "held[t + n] = 1; __syncthreads(); a[t] = held[31 - t];",
    ),
    (
        "read before it is written",
        SHARED + "if (t < 31) held[t] = 1; __syncthreads(); a[t] = held[31 - t];",
    ),
    (
        "read and written at once, shared",
        SHARED + "held[t] = t; __syncthreads(); double x = held[31 - t]; held[t] = x; a[t] = x;",
    ),
    (
        "written twice at once, shared",
        SHARED + "held[t / 2] = t; __syncthreads(); a[t] = held[t / 2];",
    ),
    ("at once, global", "a[threadIdx.x] = 1; a[31 - threadIdx.x] += n;"),
    ("at once, global .*, block 1", "a[threadIdx.x] = blockIdx.x;"),
    ("disagree about a barrier", "if (threadIdx.x < n) __syncthreads(); a[threadIdx.x] = 1;"),
    (
        "not by a whole warp",
        "a[threadIdx.x] = __shfl_down_sync(0xffffffff, (double)n, 3, 16);",
    ),
]


@pytest.mark.parametrize(("fault", "body"), PLANTED)
def test_what_is_wrong_is_seen(fault, body, nvrtc, tmp_path):
    program = nvrtc.createProgram(KERNEL.format(body), "planted.cu", [], [])
    nvrtc.compileProgram(program, ("--std=c++17", f"--gpu-architecture={ARCHITECTURE}"))
    ptx = nvrtc.getPTX(program).rstrip(b"\0").decode()
    device = WatchedDevice(build_programs(tmp_path, {"float64": translate(ptx)}))
    array = Session(device).zeros((32,), np.float64)
    grid = (2,) if "block" in fault else (1,)

    def launch():
        arguments = [np.uint64(array.address), np.int64(7)]
        device.launch("planted", "planted", array.dtype, grid, (32,), [arguments])

    if fault:
        with pytest.raises(AssertionError, match=fault):
            launch()
    else:
        launch()
        assert (device.download(array.buffer, (32,), array.dtype) == 7).all()


@pytest.mark.parametrize(
    "instruction",
    [
        "fma.rn.f64 %fd1, %fd2, %fd3, %fd4;",
        "add.rz.f64 %fd1, %fd2, %fd3;",
        "div.full.f32 %f1, %f2, %f3;",
        "mul.rn.ftz.f32 %f1, %f2, %f3;",
        "sqrt.approx.f32 %f1, %f2;",
        "cvt.rzi.f64.f64 %fd1, %fd2;",
        "ld.local.f64 %fd1, [%rd1];",
        "bar.sync 1, 32;",
        "mul.rn.f64 %fd1, %f1, %fd2;",
    ],
)
def test_what_is_not_known_is_refused(instruction):
    text = ".visible .entry kernel(\n\n)\n{\n%s\nret;\n}\n"
    with pytest.raises(ValueError, match="kernel: "):
        translate(text % instruction)
    assert translate(text % "add.rn.f64 %fd1, %fd2, %fd3;")[0].name == "kernel"
