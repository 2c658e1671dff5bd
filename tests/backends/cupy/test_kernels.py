"""Every CUDA kernel, run on the CPU by the host code of its backend: the bits of the oracle."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from waterlevel.backends.cuda.device import ELEMENTS, SOURCES, Session
from waterlevel.backends.cuda.peak import CHAINS, FACTOR, subtract_in_registers
from waterlevel.reference.bases import hadamard
from waterlevel.reference.errors import CodeOverflow, NotPositiveDefinite
from waterlevel.reference.grids.codebooks import (
    AffineGrid,
    FloatGrid,
    ScaledLattice,
    UniformLattice,
)
from waterlevel.reference.grids.float_formats import FORMATS
from waterlevel.reference.operations.numpy_operations import NUMPY

from ...helpers import cuda_emulator
from ...helpers.codebooks import KINDS, codebooks
from ...helpers.cuda_emulator import CpuDevice, compile_kernels, fits_any_device, operations_on_cpu
from ...helpers.inputs import (
    FLOATS,
    bell,
    dtypes,
    flavours,
    integers,
    keys,
    lower,
    numbers,
    positive_definite,
    same_bits,
)

every_dtype = pytest.mark.parametrize("dtype", FLOATS)
# Around a panel of 32 columns, a tile of 64, 16 steps, 64 rows of a block.
sizes = st.sampled_from((1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97))


@pytest.fixture(scope="module")
def cuda(tmp_path_factory):
    return operations_on_cpu(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def compare(cuda):
    """Both backends return, raise and change the same, for an operation and its host arguments."""
    operations, _ = cuda

    def call(backend, name, arguments):
        own = [
            backend.from_host(a, a.dtype) if isinstance(a, np.ndarray) and a.ndim == 2 else a
            for a in arguments
        ]
        if name in ("hadamard", "with_diagonal", "grid_error"):
            own[1:] = arguments[1:]
        try:
            result = getattr(backend, name)(*own)
        except CodeOverflow as error:
            return [np.array([error.row, error.column]), np.array(error.value)], str(error)
        except NotPositiveDefinite as error:
            return [np.array(error.pivot), np.array(error.value)], str(error)
        if name == "column_histograms":
            return [result.symbols, result.counts, result.offsets], ""
        results = list(result) if isinstance(result, tuple) else [result]
        changed = [o for o, a in zip(own, arguments, strict=True) if o is not a]
        return [to_host(backend, r) for r in (*results, *changed)], ""

    def to_host(backend, value):
        matrix = not isinstance(value, np.ndarray) and hasattr(value, "shape")
        return backend.to_host(value) if matrix else np.asarray(value, object_or_not(value))

    def object_or_not(value):
        return object if value is None else None

    def compare(name, *arguments):
        found, message = call(operations, name, arguments)
        expected, refusal = call(NUMPY, name, arguments)
        assert message == refusal
        assert len(found) == len(expected)
        for part, other in zip(found, expected, strict=True):
            if other.dtype == object:
                assert part.item() is None
            else:
                same_bits(part, other)

    return compare


# Linear algebra ----------------------------------------------------------------------------------


@settings(max_examples=25)
@given(sizes, sizes, sizes, flavours, keys, dtypes)
def test_products(compare, rows, steps, columns, flavour, key, dtype):
    A = numbers(flavour, key, (rows, steps), dtype)
    B = numbers(flavour, key + 1, (steps, columns), dtype)
    transposed = np.ascontiguousarray(A.T)
    compare("matmul", A, B)
    compare("matmul_transposed", transposed, B)
    total, weights = numbers(flavour, key + 2, (rows, columns), dtype), bell(key, (steps,), dtype)
    compare("accumulate", total, transposed, B, None)
    compare("accumulate", total, transposed, B, weights)


@every_dtype
def test_what_is_not_finite_passes_through_products(compare, dtype):
    A, B = np.tril(bell(1, (70, 70), dtype)), np.tril(bell(2, (70, 70), dtype))
    A[3, 2], B[69, 0] = np.inf, np.nan
    compare("matmul", A, B)
    zero = np.zeros((70, 70), dtype)
    compare("accumulate", -zero, zero, np.abs(bell(3, (70, 70), dtype)), None)
    compare("accumulate", -zero, -zero, np.abs(bell(3, (70, 70), dtype)), None)


@every_dtype
def test_empty_sides(compare, dtype):
    for rows, steps, columns in ((0, 3, 4), (3, 0, 4), (3, 4, 0)):
        compare("matmul", np.ones((rows, steps), dtype), np.ones((steps, columns), dtype))
        compare("transpose", np.ones((rows, steps), dtype))
    for shape in ((0, 3), (3, 0)):
        compare("row_inner", np.ones(shape, dtype), np.ones(shape, dtype))
        compare("column_inner", np.ones(shape, dtype), np.ones(shape, dtype))


@settings(max_examples=20)
@given(sizes, sizes, keys, st.sampled_from((0, 8)), dtypes)
def test_factors_and_solves(compare, n, rows, key, spread, dtype):
    H = positive_definite(key, n, dtype, spread)
    H[np.triu_indices(n, 1)] = np.nan  # only the lower triangle is read
    compare("cholesky", H)
    L, T = NUMPY.cholesky(H), bell(key, (rows, n), dtype)
    compare("solve", T, L)
    start, stop = sorted(integers(key, 0, n, 2).tolist())
    compare("solve_reversed", T, L, start, stop)
    compare("solve_reversed", T, L, 0, n)


@every_dtype
@pytest.mark.parametrize("pivot", [0, 5, 31, 32, 79])
@pytest.mark.parametrize("value", [0.0, -1e-3, np.nan, np.inf])
def test_not_positive_definite(compare, cuda, dtype, pivot, value):
    H = positive_definite(pivot, 80, dtype)
    H[pivot, pivot] = value
    operations, _ = cuda
    with pytest.raises(NotPositiveDefinite):
        operations.cholesky(operations.from_host(H, dtype))
    compare("cholesky", H)


# Cancellation ------------------------------------------------------------------------------------


def cancel(compare, Y, L, codebook, start, stop):
    compare("sic", Y, np.full(Y.shape, -77, np.int32), L, codebook, start, stop)


@pytest.mark.parametrize("which", KINDS)
@settings(max_examples=12)
@given(sizes, sizes, flavours, st.booleans(), keys, dtypes)
def test_sic(compare, which, rows, n, flavour, with_factor, key, dtype):
    L = lower(key, n, dtype) if with_factor else None
    codebook, _ = codebooks(key, rows, np.ones(n, dtype) if L is None else np.diag(L))[which]
    start, stop = sorted(integers(key, 0, n, 2).tolist())
    Y = numbers(flavour, key, (rows, n), dtype)
    cancel(compare, Y, L, codebook, start, stop)
    cancel(compare, Y, L, codebook, 0, n)


@every_dtype
def test_gains_over_several_chunks_of_rows(compare, cuda, dtype):
    L = lower(5, 34, dtype)
    for rows in (512, 513, 1100):
        codebook, _ = codebooks(7, rows, np.diag(L))["scaled"]
        cancel(compare, bell(6, (rows, 34), dtype), L, codebook, 0, 34)
        with column_by_column(cuda[0]):
            cancel(compare, bell(6, (rows, 34), dtype), L, codebook, 0, 34)


def test_blocks_meet_where_all_have_room_and_nowhere_else(cuda):
    operations, device = cuda
    codebook = ScaledLattice(0.5, np.ones(3), lmmse=True)
    for chunks, kernel in ((device.resident, "gain_panel"), (device.resident + 1, "gain_column")):
        used, rows = len(device.launched), 512 * chunks
        target, codes = (operations.zeros(rows, 3, dtype) for dtype in (np.float64, np.int32))
        operations.sic(target, codes, None, codebook, 0, 3)
        assert {name for source, name, _ in device.launched[used:] if "gain" in source} == {kernel}


def test_blocks_that_would_wait_for_ever_are_told(cuda, monkeypatch):
    """A launch that is not cooperative: the second block begins when the first has ended."""
    monkeypatch.setattr(cuda_emulator, "COOPERATIVE", frozenset())
    operations, _ = cuda
    target, codes = (operations.zeros(600, 3, dtype) for dtype in (np.float64, np.int32))
    with pytest.raises(AssertionError, match="gain_panel: blocks wait for each other for ever"):
        operations.sic(target, codes, None, ScaledLattice(0.5, np.ones(3), lmmse=True), 0, 3)


@every_dtype
def test_a_gain_without_codes_is_zero(compare, dtype):
    cancel(
        compare, bell(1, (9, 3), dtype), None, ScaledLattice(64.0, np.ones(3, dtype), True), 0, 3
    )


@pytest.mark.parametrize("name", list(FORMATS))
@every_dtype
def test_float_formats(compare, name, dtype):
    form = FORMATS[name]
    exact = np.concatenate([form.magnitudes, form.midpoints, [2 * form.largest, 1e30]])
    near = np.concatenate([exact, np.nextafter(exact, 0), np.nextafter(exact, np.inf)])
    Y = np.concatenate([near, -near]).astype(dtype)[:, None]
    codebook = FloatGrid(np.ones((len(Y), 1), dtype), np.zeros(1, np.int64), form)
    cancel(compare, Y, None, codebook, 0, 1)


OVERFLOWS = {
    "lattice": lambda rows, n, dtype: UniformLattice(1e-3),
    "unscaled": lambda rows, n, dtype: ScaledLattice(1e-3, np.ones(n, dtype), False),
    "gains": lambda rows, n, dtype: ScaledLattice(1e-3, np.ones(n, dtype), True),
    "affine": lambda rows, n, dtype: AffineGrid(
        np.ones((rows, 1), dtype), np.zeros((rows, 1), np.int32), np.zeros(n, np.int64), 15
    ),
    "float": lambda rows, n, dtype: FloatGrid(
        np.ones((rows, 1), dtype), np.zeros(n, np.int64), FORMATS["fp8-e4m3"]
    ),
}


@pytest.mark.parametrize("which", OVERFLOWS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@every_dtype
def test_overflow_is_the_oracles(compare, which, value, dtype):
    """The first column in order of decision, and in it the first row."""
    rows, n = 66, 70
    codebook = OVERFLOWS[which](rows, n, dtype)
    for L in (None, lower(1, n, dtype)):
        for places in ([(65, 69)], [(0, 0)], [(40, 20), (3, 19), (65, 37), (48, 37)]):
            Y = bell(1, (rows, n), dtype)
            for row, column in places:
                Y[row, column] = value
            Y[5, 21] = 1e18  # too large for a lattice, and not for a grid
            cancel(compare, Y, L, codebook, 0, n)


@every_dtype
def test_largest_codes(compare, dtype):
    """The last numbers that fit in int32, and the first that do not."""
    edge = [2.0**31 - 128, -(2.0**31), 2.0**31, np.nextafter(dtype(-(2.0**31)), dtype(-np.inf))]
    for number in edge:
        for lmmse in (False, True):
            codebook = ScaledLattice(1.0, np.ones(1, dtype), lmmse)
            cancel(compare, np.array([[number]], dtype), None, codebook, 0, 1)


# Sums, checks, moves -----------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    st.sampled_from((1, 2, 3, 31, 33, 511, 512, 513, 1100)),
    st.sampled_from((1, 5, 31, 32, 33)),
    flavours,
    keys,
    dtypes,
)
def test_sums(compare, length, other, flavour, key, dtype):
    A, B = (numbers(flavour, key + i, (other, length), dtype) for i in (0, 3))
    compare("row_inner", A, B)
    compare("column_inner", np.ascontiguousarray(A.T), np.ascontiguousarray(B.T))
    scale = np.abs(bell(key, (other,), dtype)) + dtype(0.125)
    compare("grid_error", A, scale, integers(key, 0, 15, other).astype(np.int32), 15)


@every_dtype
def test_sums_of_more_chunks_than_one_holds(compare, dtype):
    A = bell(1, (1, 512 * 512 + 513), dtype)
    compare("row_inner", A, np.ones_like(A))
    compare("column_inner", A.T.copy(), np.ones_like(A.T))


@settings(max_examples=25)
@given(sizes, sizes, flavours, keys, dtypes)
def test_elements_and_moves(compare, rows, n, flavour, key, dtype):
    A, B = (numbers(flavour, key + i, (rows, n), dtype) for i in (0, 3))
    H = numbers(flavour, key, (n, n), dtype)
    with np.errstate(all="ignore"):
        compare("symmetrize", H)
        compare("combine", 0.3, A, -1.7, B)
        compare("multiply", A, B)
        compare("divide", A, 3.1)
        compare("scale_rows", A, bell(key, (rows,), dtype))
        compare("scale_columns", A, bell(key, (n,), dtype))
        for other in FLOATS:
            compare("convert", A, other)
    compare("transpose", A)
    compare("take", A, integers(key, 0, rows - 1, 7), None)
    compare("take", A, None, integers(key, -n, n - 1, 9))
    compare("scatter_columns", A, np.arange(n)[::-1] * 2, 2 * n + 1)
    compare("diagonal", H)
    compare("with_diagonal", H, bell(key, (n,), dtype))
    start, stop = sorted(integers(key, 0, n - 1, 2).tolist())
    compare("row_extrema", A, start, stop + 1)
    compare("largest_magnitude", A)
    compare("find_asymmetry", H)
    compare("find_nonfinite", A)


@every_dtype
def test_int_and_back(compare, dtype):
    whole = integers(1, -(2**31), 2**31 - 1, 9, 40).astype(np.int32)
    compare("convert", whole, dtype)
    compare("convert", np.array([[0.5, -1.9, 2.0**30, -(2.0**31)]], dtype), np.int32)
    compare("transpose", whole)
    compare("take", whole, np.array([3, 3]), np.array([39, 0]))


@every_dtype
def test_what_is_not_finite_is_found(compare, dtype):
    for places in ([(0, 0)], [(8, 300)], [(5, 299), (5, 2), (7, 0)]):
        for value in (np.nan, np.inf, -np.inf):
            A, H = bell(1, (9, 301), dtype), bell(2, (301, 301), dtype)
            for row, column in places:
                A[row, column] = H[row, column] = value
            compare("find_nonfinite", A)
            compare("largest_magnitude", A)
            compare("row_extrema", A, 0, 301)
            with np.errstate(all="ignore"):
                compare("find_asymmetry", H)


def test_the_first_of_equal_asymmetries(compare):
    H = np.zeros((300, 300))
    H[7, 280] = H[9, 3] = H[3, 270] = 1.0
    compare("find_asymmetry", H)


@settings(max_examples=20)
@given(sizes, sizes, st.sampled_from((0, 1, 40, 10**6, 2**31 - 1)), keys)
def test_histograms(compare, rows, columns, largest, key):
    compare("column_histograms", integers(key, -largest, largest, rows, columns).astype(np.int32))


def test_histogram_of_the_extreme_codes(compare):
    codes = np.array([[2**31 - 1, -(2**31), 0]] * 3 + [[5, -(2**31), 2**31 - 1]] * 2, np.int32)
    compare("column_histograms", codes)
    compare("column_histograms", integers(1, -3, 3, 700, 2).astype(np.int32))


@pytest.mark.parametrize("n", [1, 2, 12, 20, 28, 36, 64, 96, 576])
@every_dtype
def test_hadamard(compare, n, dtype):
    A = np.where(bell(1, (5, n), dtype) > 1, dtype(-0.0), bell(2, (5, n), dtype))
    compare("hadamard", A, hadamard.base_matrix(hadamard.base_order(n)))


def test_every_kernel_runs_in_both_dtypes(cuda):
    """Each operation once, with every codebook, and the probe: no other kernel is left."""
    operations, device = cuda
    used = len(device.launched)
    for dtype in FLOATS:
        every_operation(operations, dtype)
        with column_by_column(operations):
            every_operation(operations, dtype)
        subtract_in_registers(Session(device), dtype, 1, 1)
    expected = {
        (source, kernel, np.dtype(dtype).name)
        for source, kernels in SOURCES.items()
        for kernel in kernels
        for dtype in (FLOATS if source != "histogram" else FLOATS[:1])
    }
    assert set(device.launched[used:]) == expected


@contextmanager
def column_by_column(operations):
    """Cancels with a launch for each column, as where the device has no room for all blocks."""
    operations.meeting = False
    yield
    operations.meeting = True


def every_operation(operations, dtype):
    rows, n = 513, 36
    A, H = (operations.from_host(M, dtype) for M in (bell(1, (rows, n), dtype), np.eye(n)))
    codes, ones = operations.zeros(rows, n, np.int32), np.ones(n, dtype)
    operations.transpose(A)
    operations.take(A, np.arange(3), None)
    operations.scatter_columns(A, np.arange(n), n + 1)
    operations.with_diagonal(H, operations.diagonal(H))
    operations.convert(operations.convert(codes, dtype), np.int32)
    operations.convert(codes, np.int32)
    operations.take(operations.transpose(codes), np.arange(3), None)
    operations.with_diagonal(codes, operations.diagonal(codes))
    operations.row_extrema(A, 0, n)
    operations.convert(A, np.float32 if dtype is np.float64 else np.float64)
    operations.find_nonfinite(A)
    operations.find_asymmetry(H)
    operations.largest_magnitude(A)
    operations.symmetrize(H)
    operations.combine(1.0, A, 2.0, A)
    operations.multiply(A, A)
    operations.divide(A, 3.0)
    operations.scale_rows(A, np.ones(rows, dtype))
    operations.scale_columns(A, ones)
    operations.row_inner(A, A)
    operations.column_inner(A, A)
    operations.grid_error(H, ones, np.zeros(n, np.int32), 3)
    operations.column_histograms(codes)
    operations.matmul(A, H)
    operations.matmul_transposed(A, A)
    operations.accumulate(H, A, A, np.zeros(rows, dtype))
    operations.solve_reversed(operations.solve(A, operations.cholesky(H)), H, 0, n)
    operations.hadamard(A, hadamard.base_matrix(36))
    operations.hadamard(operations.take(A, None, np.arange(4)), hadamard.base_matrix(1))
    for codebook, _ in codebooks(1, rows, ones).values():
        operations.sic(operations.take(A, None, None), codes, H, codebook, 0, n)


@every_dtype
def test_what_measures_a_rate_calculates(cuda, dtype):
    session, turns = Session(cuda[1]), 5
    out, products = subtract_in_registers(session, dtype, 2, turns)
    chains, total = np.arange(1, CHAINS + 1).astype(dtype), dtype(0)
    for _ in range(turns):
        chains = chains - chains * dtype(FACTOR)
    for chain in chains:
        total = total + chain
    same_bits(session.download(out), np.full(2 * ELEMENTS, total))
    assert products == 2 * ELEMENTS * CHAINS * turns


# The device itself -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A device with kernels that are wrong, each in one way."""
    folder = tmp_path_factory.mktemp("planted")
    source = folder / "planted.cu"
    source.write_text(
        'extern "C" __global__ void outside(real *a, integer i) { a[i] = 1; }\n'
        'extern "C" __global__ void racing(real *a) {\n'
        "    __shared__ real held[8];\n"
        "    held[threadIdx.x] = threadIdx.x;\n"
        "    a[threadIdx.x] = held[7 - threadIdx.x];\n"
        "}\n",
        "utf-8",
    )
    return CpuDevice(compile_kernels(folder, [source]))


def test_a_write_outside_a_buffer_is_noticed(planted):
    array = Session(planted).zeros((4,), np.float64)
    arguments = [np.uint64(array.address), np.int64(4)]
    with pytest.raises(AssertionError, match="outside"):
        planted.launch("planted", "outside", array.dtype, (1,), (1,), [arguments])


def test_wrong_arguments_are_noticed(planted):
    for arguments in ([np.uint64(0)], [np.uint64(0), np.int32(4)]):
        with pytest.raises(AssertionError, match="takes"):
            planted.launch("planted", "outside", np.dtype(np.float64), (1,), (1,), [arguments])


def test_a_missing_synchronisation_shows(planted):
    session = Session(planted)
    found = []
    for _ in range(2):
        array = session.zeros((8,), np.float64)
        planted.launch("p", "racing", array.dtype, (1,), (8,), [[np.uint64(array.address)]])
        found.append(session.download(array).tolist())
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("grid", "block"), [((1, 65536), (1,)), ((2**31,), (1,)), ((1,), (33, 32)), ((0,), (1,))]
)
def test_a_launch_that_no_device_has_is_noticed(planted, grid, block):
    assert fits_any_device((2**31 - 1, 65535), (32, 32))
    with pytest.raises(AssertionError, match="no device has"):
        planted.launch("planted", "outside", np.dtype(np.float64), grid, block, [()])
