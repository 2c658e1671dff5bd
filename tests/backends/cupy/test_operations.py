"""The backend cupy: golden cases through its kernels and host code, and its manners without a GPU.

What runs here is everything but `cupy_device`: the CPU takes the place of the GPU. That module is
handed modules that behave like CuPy where something is missing, lost or full.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from typing import ClassVar

import numpy as np
import pytest

from waterlevel import backends
from waterlevel.backends.compiled_code import CACHE_VARIABLE
from waterlevel.backends.cuda.device import COOPERATIVE, DeviceArray
from waterlevel.backends.cuda.operations import CudaOperations
from waterlevel.backends.cupy import compiler as cuda_compiler, device as cupy_device
from waterlevel.backends.cupy.operations import check_bits
from waterlevel.reference import watersic
from waterlevel.reference.errors import WaterlevelError
from waterlevel.reference.grids.codebooks import ScaledLattice, UniformLattice
from waterlevel.reference.operations import Operations
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.conformance.outcomes import judge, run_case
from waterlevel.validate.golden.case import load_index
from waterlevel.validate.probes.questions import probe

from ...helpers.codebooks import far_grid
from ...helpers.cuda_emulator import CpuDevice, fits_any_device, operations_on_cpu
from ...helpers.inputs import bell, lower, positive_definite, same_bits

CASES = [case for case in load_index().cases if case.size == "small"]
ALGORITHMS = [case for case in CASES if case.kind == "algorithm"]


@pytest.fixture(scope="module")
def cuda(tmp_path_factory):
    return operations_on_cpu(tmp_path_factory.mktemp("kernels"))


def run_cases(cases, operations):
    lines = [judge(case, run_case(case, case.load_inputs(), operations)) for case in cases]
    assert [line for found in lines for line in found] == []


def test_every_small_golden_case_of_the_operations(cuda):
    cases = [case for case in CASES if case.kind == "operation"]
    assert len(cases) > 400
    asked = {name for name in vars(Operations) if not name.startswith("_")} - {"name", "to_host"}
    assert {case.function for case in cases} >= asked
    run_cases(cases, cuda[0])


def test_golden_cases_of_the_algorithms(cuda):
    """One of each function, tier and dtype; the slow test has them all."""
    chosen = {
        (case.function, case.tier, case.dtype): case
        for case in reversed(ALGORITHMS)
        if case.tier != "real" and "everything" not in case.id
    }
    assert {function for function, _, _ in chosen} == {case.function for case in ALGORITHMS}
    run_cases(chosen.values(), cuda[0])


@pytest.mark.slow
def test_every_small_golden_case_of_the_algorithms(cuda):
    run_cases(ALGORITHMS, cuda[0])


@pytest.mark.slow
def test_probes(cuda):
    findings = probe(cuda[0])
    assert len(findings) > 100
    assert [finding.message for finding in findings if not finding.passed] == []


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_zero_points_at_the_ends_of_int32(cuda, dtype):
    found = []
    for operations in (NUMPY, cuda[0]):
        target = operations.from_host(bell(1, (20, 30), dtype), dtype)
        codes = operations.zeros(20, 30, np.int32)
        operations.sic(target, codes, None, far_grid(20, 30, dtype), 0, 30)
        found.append((operations.to_host(target), operations.to_host(codes)))
    for part, expected in zip(found[1], found[0], strict=True):
        same_bits(part, expected)
    assert np.abs(found[0][0]).max() == 2.0**30


# The host enqueues -------------------------------------------------------------------------------


def core(operations, dtype, rows, n):
    """The core of a method, as (what it is called, what is to be run)."""
    L, Y = lower(1, n, dtype), bell(2, (rows, n), dtype)
    H = operations.from_host(positive_definite(3, n, dtype), dtype)
    factor, target = operations.from_host(L, dtype), operations.from_host(Y, dtype)
    codes = operations.zeros(rows, n, np.int32)
    spacing = np.ones(n, dtype)
    yield "cholesky", lambda: operations.cholesky(H)
    yield "matmul", lambda: operations.matmul(target, factor)
    yield "solve", lambda: operations.solve(target, factor)
    for codebook in (UniformLattice(1.0), ScaledLattice(1.0, spacing, lmmse=True)):
        yield "sic", lambda c=codebook: operations.sic(target, codes, factor, c, 0, n)


def test_no_column_waits_for_the_host(cuda):
    operations, device = cuda
    for name, run in core(operations, np.float64, 70, 100):
        waits, first = len(device.waits), len(device.launched)
        run()
        last = len(device.launched)
        assert last - first >= (1 if name == "matmul" else 7)
        # Copies come before the first kernel of the operation (the second of a factorisation, whose
        # first makes the work copy) or after the last one.
        allowed = {first, last} | ({first + 1} if name == "cholesky" else set())
        assert set(device.waits[waits:]) <= allowed, name


def test_memory_is_that_of_the_result_and_a_panel(cuda):
    operations, device = cuda
    rows, n = 1030, 200
    allowed = {
        "cholesky": n * n * 8,
        "matmul": rows * n * 8,
        "solve": rows * n * 8,
        "sic": 32 * rows * 8,  # a panel of 32 columns
    }
    vectors = 64 * (rows + n)
    for name, run in core(operations, np.float64, rows, n):
        device.peak = before = device.held
        run()
        assert device.peak - before <= allowed[name] + vectors, name
        assert device.held == before  # everything is freed again


class Recorder:
    """A device without memory that notes the grids of launches, and answers with zeros."""

    def __init__(self):
        self.grids = []

    def allocate(self, size, clear):
        return None, 0

    def upload(self, array):
        return None, 0

    def resident_blocks(self, source, kernel, dtype, threads):
        return 0

    def download(self, buffer, shape, dtype):
        return np.full(shape, -1 if dtype == np.int64 else 0, dtype)  # -1: nothing went wrong

    def launch(self, source, kernel, dtype, grid, block, series):
        for arguments in series:
            assert fits_any_device(grid, block), (kernel, grid)
            self.grids.append((kernel, len(arguments)))


def test_grids_fit_every_device():
    """More rows than 65535 tiles hold, the most of a grid in all dimensions but the first."""
    device, rows, n = Recorder(), 5_000_000, 40
    operations = CudaOperations(device)
    A, H = (DeviceArray(None, 0, shape, np.dtype(np.float32)) for shape in ((rows, n), (n, n)))
    codes = DeviceArray(None, 0, (rows, n), np.dtype(np.int32))
    operations.transpose(A)
    operations.matmul(A, H)
    operations.matmul_transposed(A, A)
    operations.accumulate(H, A, A, None)
    operations.solve(A, H)
    operations.solve_reversed(A, H, 3, n)
    operations.row_inner(A, A)
    operations.column_inner(A, A)
    operations.row_extrema(A, 0, n)
    for codebook in (UniformLattice(1.0), ScaledLattice(1.0, np.ones(n, np.float32), lmmse=True)):
        operations.sic(A, codes, H, codebook, 0, n)
    assert len(device.grids) > 60


# Without a GPU -----------------------------------------------------------------------------------


class FakeStream:
    """The default stream, to be entered; what is enqueued is done when somebody waits for it."""

    def __init__(self):
        self.entered = 0
        self.enqueued = []

    def __enter__(self):
        self.entered += 1

    def __exit__(self, *reason):
        self.entered -= 1

    def synchronize(self):
        for work in self.enqueued:
            work()
        self.enqueued.clear()


class FakeGpu:
    """The current device; what is entered is on the list."""

    entered: ClassVar[list[int]] = []
    compute_capability, id = "90", 0

    def __enter__(self):
        self.entered.append(self.id)

    def __exit__(self, *reason):
        self.entered.pop()


class FakeArray:
    """What `cupy.empty(size, uint8)` is, in the memory of a `CpuDevice`.

    `set` copies late, as the copy of a device may: from the array as it is then.
    """

    def __init__(self, device, stream, size, clear=False):
        self._buffer, address = device.allocate(size, clear)
        self._stream = stream
        self.data = types.SimpleNamespace(ptr=address)

    def set(self, array):
        assert self._stream.entered
        self._stream.enqueued.append(lambda: np.copyto(self._buffer.content, array))

    def get(self):
        assert self._stream.entered
        return self._buffer.content.copy()


class FakeCupy(types.ModuleType):
    """As much of CuPy as the backend uses; a test may break any part of it."""

    def __init__(self, device: CpuDevice):
        super().__init__("cupy")
        runtime_error, driver_error, out_of_memory, refusal = (
            type(name, (base,), {})
            for name, base in (
                ("CUDARuntimeError", RuntimeError),
                ("CUDADriverError", RuntimeError),
                ("OutOfMemoryError", MemoryError),
                ("NVRTCError", RuntimeError),
            )
        )
        self._device = device
        self.compiled = []
        nvrtc = types.SimpleNamespace(
            NVRTCError=refusal,
            getVersion=lambda: (13, 0),
            createProgram=lambda text, name, headers, names: name,
            compileProgram=lambda program, options: self.compiled.append((program, options)),
            getCUBIN=lambda program: program.encode(),
            getProgramLog=lambda program: "a word\nand another",
            destroyProgram=lambda program: None,
        )
        self.cuda = types.ModuleType("cupy.cuda")
        self.cuda.nvrtc = nvrtc
        self.cuda.runtime = types.SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda number: {"multiProcessorCount": 3},
            CUDARuntimeError=runtime_error,
        )
        self.cuda.driver = types.SimpleNamespace(
            CUDADriverError=driver_error,
            occupancyMaxActiveBlocksPerMultiprocessor=lambda function, threads, shared: 1,
        )
        self.cuda.memory = types.SimpleNamespace(OutOfMemoryError=out_of_memory)
        self.cuda.Device = FakeGpu
        stream = FakeStream()
        self.cuda.Stream = types.SimpleNamespace(null=stream)
        self.empty = lambda size, dtype: FakeArray(device, stream, size)
        self.zeros = lambda size, dtype: FakeArray(device, stream, size, clear=True)

    def RawModule(self, path, enable_cooperative_groups):
        source, dtype, *_ = path.rpartition("/")[2].split("-")
        assert cuda_compiler.Path(path).read_text() == f"{source}.cu"
        assert enable_cooperative_groups == (source in COOPERATIVE)

        def get_function(kernel):
            def enqueue(grid, block, arguments):
                assert self.cuda.Stream.null.entered
                assert FakeGpu.entered == [0]
                self._device.launch(source, kernel, np.dtype(dtype), grid, block, [arguments])

            enqueue.kernel = types.SimpleNamespace(ptr=1)
            return enqueue

        return types.SimpleNamespace(get_function=get_function)


@pytest.fixture
def cupy(cuda, monkeypatch, tmp_path):
    fake = FakeCupy(CpuDevice(cuda[1].libraries))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "cupy.cuda", fake.cuda)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return fake


def refusal() -> str:
    """Why the backend cannot be had: one line."""
    with pytest.raises(backends.Unusable) as caught:
        backends.get("cupy")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_backend_by_its_name(cupy):
    operations = backends.get("cupy")
    assert operations.name == "cupy"
    weight, covariance = bell(1, (40, 33), np.float32), positive_definite(2, 33, np.float32)
    found = watersic(weight, covariance, rate=2.5, backend=operations)
    expected = watersic(weight, covariance, rate=2.5)
    same_bits(found.codes, expected.codes)
    same_bits(found.dequantized, expected.dequantized)


def test_kernels_are_compiled_exactly_and_once(cupy):
    backends.get("cupy")
    assert {program for program, _ in cupy.compiled} == {"checks.cu", "products.cu"}
    assert len(cupy.compiled) == 4  # float64 and float32
    for _, options in cupy.compiled:
        assert {"--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"} <= set(
            options
        )
        assert "--gpu-architecture=sm_90" in options
    backends.get("cupy")
    assert len(cupy.compiled) == 4  # the second time they lie in the cache


def test_nothing_is_computed_by_cupy():
    """The device layer allocates, copies and launches: no attribute of CuPy but these is named."""
    used = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(cupy_device)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "cupy"
    }
    assert used <= {"cuda", "empty", "zeros", "RawModule"}


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "pip install 'waterlevel[cuda13]'" in refusal()


def test_without_a_device(cupy):
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    assert "needs an NVIDIA GPU" in refusal()


def test_with_an_old_driver(cupy):
    def too_old():
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorInsufficientDriver: too old\nreally")

    cupy.cuda.runtime.getDeviceCount = too_old
    assert "cudaErrorInsufficientDriver: too old)" in refusal()
    assert "driver" in refusal()


def test_without_a_compiler(cupy):
    def missing():
        raise RuntimeError("no libnvrtc.so.13\nanywhere")

    cupy.cuda.nvrtc.getVersion = missing
    assert "finds no NVRTC" in refusal()


def test_a_refusal_of_the_compiler(cupy):
    def refuse(program, options):
        raise cupy.cuda.nvrtc.NVRTCError("NVRTC_ERROR_COMPILATION")

    cupy.cuda.nvrtc.compileProgram = refuse
    assert "NVRTC cannot compile checks.cu" in refusal()
    assert "a word and another" in refusal()


def test_a_cache_that_cannot_be_written(cupy, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert CACHE_VARIABLE in refusal()


def test_a_full_disk_leaves_nothing_half_written(cupy, monkeypatch, tmp_path):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cuda_compiler.os, "replace", full)
    assert "No space left on device" in refusal()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


class Inexact:
    """A device with one product, that of the oracle but for one element."""

    def __init__(self, row, column, value):
        self.wrong = row, column, value

    def from_host(self, array, dtype):
        return array

    def to_host(self, matrix):
        return matrix

    def matmul(self, left, right):
        row, column, value = self.wrong
        product = NUMPY.matmul(left, right)
        product[row, column] = value
        return product


@pytest.mark.parametrize(("dtype", "fused"), [(np.float64, 2.0**-56), (np.float32, 2.0**-28)])
def test_a_device_that_fuses_or_flushes_is_refused(dtype, fused):
    check_bits(Inexact(0, 0, 0.0), np.dtype(dtype))
    check_bits(Inexact(1, 1, np.finfo(dtype).smallest_normal / 2), np.dtype(dtype))
    for wrong in (Inexact(0, 0, fused), Inexact(1, 1, 0.0)):
        with pytest.raises(WaterlevelError, match="does not keep the arithmetic"):
            check_bits(wrong, np.dtype(dtype))


@pytest.mark.parametrize(
    ("part", "error", "word"),
    [
        ("memory", "OutOfMemoryError", "no memory left"),
        ("driver", "CUDADriverError", "failed"),
        ("runtime", "CUDARuntimeError", "failed"),
    ],
)
def test_what_fails_later_is_one_line_and_leaves_the_host_alone(cupy, part, error, word):
    operations = backends.get("cupy")
    matrix = bell(1, (9, 9), np.float64)
    before = matrix.copy()
    on_device = operations.from_host(matrix, np.float64)

    def fail(*_):
        raise getattr(getattr(cupy.cuda, part), error)("what\nhappened")

    cupy.empty = cupy.zeros = fail
    for call in (
        lambda: operations.from_host(matrix, np.float64),
        lambda: operations.matmul(on_device, on_device),
    ):
        with pytest.raises(WaterlevelError, match=word) as caught:
            call()
        assert "\n" not in str(caught.value)
    same_bits(matrix, before)


def test_memory_that_the_driver_does_not_have(cupy):
    def fail(*_):
        raise cupy.cuda.driver.CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")

    operations = backends.get("cupy")
    cupy.empty = fail
    with pytest.raises(WaterlevelError, match="no memory left"):
        operations.from_host(np.ones((2, 2)), np.float64)
