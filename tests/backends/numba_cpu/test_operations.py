"""The backend numba gives the bits of the oracle: every operation, ragged sizes, any threads."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from waterlevel.backends.numba_cpu.operations import NumbaOperations
from waterlevel.reference import watersic
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

from ...helpers.codebooks import KINDS, codebooks, far_grid
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

numba = pytest.importorskip("numba", reason="the backend numba needs the package numba")
cpu_target = importlib.import_module("numba.core.registry").cpu_target
NUMBA = NumbaOperations()

# Around a tile of 8, 16 or 32, a run of 64 rows, a panel of 256 columns, a chunk of 512 numbers.
EDGES = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129, 255, 256, 257, 300)
sizes = st.sampled_from(EDGES)
every_dtype = pytest.mark.parametrize("dtype", FLOATS)


@pytest.fixture(params=(1, 2), ids=("one thread", "two threads"))
def threads(request):
    """Runs a test with as many threads."""
    if request.param > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("two threads need NUMBA_NUM_THREADS ≥ 2, which is the number of cores")
    before = numba.get_num_threads()
    numba.set_num_threads(request.param)
    yield request.param
    numba.set_num_threads(before)


def outcome(operations, name, arguments):
    """What an operation returns or raises, and what it leaves of its arguments."""
    own = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        result = getattr(operations, name)(*own)
    except CodeOverflow as error:
        return [np.array([error.row, error.column]), np.array(error.value)], own, str(error)
    except NotPositiveDefinite as error:
        return [np.array(error.pivot), np.array(error.value)], own, str(error)
    if name == "column_histograms":
        return [result.symbols, result.counts, result.offsets], own, ""
    return [] if result is None else [result], own, ""


def compare(name, *arguments) -> None:
    """Both backends return, raise and change the same."""
    found, changed, message = outcome(NUMBA, name, arguments)
    expected, wanted, refusal = outcome(NUMPY, name, arguments)
    assert message == refusal
    assert len(found) == len(expected)
    for part, other in zip(found, expected, strict=True):
        same_bits(part, other)
    if not refusal:  # what a refused call leaves behind is nobody's result
        for part, other in zip(changed, wanted, strict=True):
            if isinstance(part, np.ndarray):
                same_bits(part, other)


# Linear algebra ----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(sizes, sizes, sizes, flavours, keys, dtypes)
def test_products(rows, steps, columns, flavour, key, dtype):
    A, B = (
        numbers(flavour, key + i, shape, dtype)
        for i, shape in enumerate(((rows, steps), (steps, columns)))
    )
    compare("matmul", A, B)
    compare("matmul_transposed", np.ascontiguousarray(A.T), B)
    total, weights = numbers(flavour, key + 2, (rows, columns), dtype), bell(key, (steps,), dtype)
    compare("accumulate", total, np.ascontiguousarray(A.T), B, None)
    compare("accumulate", total, np.ascontiguousarray(A.T), B, weights)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (40, 255), (3, 257), (70, 513)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_product_with_itself_is_computed_once_and_mirrored(shape, dtype):
    A = bell(7, shape, dtype)
    same_bits(NUMBA.matmul_transposed(A, A), NUMPY.matmul_transposed(A, A))


@every_dtype
def test_products_with_empty_sides(dtype):
    for rows, steps, columns in ((0, 3, 4), (3, 0, 4), (3, 4, 0)):
        compare("matmul", np.ones((rows, steps), dtype), np.ones((steps, columns), dtype))


@every_dtype
@pytest.mark.parametrize("where", ["left", "right"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_zeros_of_a_triangle_meet_what_is_not_finite(dtype, where, value):
    """0·∞ is not 0: a step is left out only where all numbers are finite."""
    A, L = bell(1, (40, 300), dtype), np.tril(bell(2, (300, 300), dtype))
    if where == "left":
        A[3, 2] = value
    else:
        L[299, 0] = value
    compare("matmul", A, L)
    compare("matmul", A, np.ascontiguousarray(L.T))
    compare("matmul", np.tril(bell(3, (300, 300), dtype)), L)


@pytest.mark.parametrize("shape", [(5, 700, 3), (700, 5, 600), (1, 1, 1100), (1100, 600, 1)])
@every_dtype
def test_tall_and_wide_products(shape, dtype, threads):
    rows, steps, columns = shape
    A, B = bell(1, (rows, steps), dtype), bell(2, (steps, columns), dtype)
    compare("matmul", A, B)
    compare("matmul", np.tril(A), np.triu(B))


@settings(max_examples=40)
@given(sizes, sizes, keys, st.sampled_from((0, 8)), dtypes)
def test_factors_and_solves(n, rows, key, spread, dtype):
    H = positive_definite(key, n, dtype, spread)
    compare("cholesky", H)
    L, T = NUMPY.cholesky(H), bell(key, (rows, n), dtype)
    compare("solve", T, L)
    start, stop = sorted(integers(key, 0, n, 2).tolist())
    compare("solve_reversed", T, L, start, stop)
    compare("solve_reversed", T, L, 0, n)


@pytest.mark.parametrize("n", [300, 517])
@every_dtype
def test_factors_on_threads(n, dtype, threads):
    H = positive_definite(3, n, dtype)
    compare("cholesky", H)
    L, T = NUMPY.cholesky(H), bell(4, (70, n), dtype)
    compare("solve", T, L)
    compare("solve_reversed", T, L, 0, n)


@every_dtype
@pytest.mark.parametrize("pivot", [0, 5, 127, 128, 199])
@pytest.mark.parametrize("value", [0.0, -1e-3, np.nan, np.inf])
def test_not_positive_definite(dtype, pivot, value):
    H = positive_definite(pivot, 200, dtype)
    H[pivot, pivot] = value
    with pytest.raises(NotPositiveDefinite):
        NUMBA.cholesky(H)
    compare("cholesky", H)


def test_cholesky_reads_the_lower_triangle_alone():
    H = positive_definite(1, 150, np.float64)
    expected = NUMBA.cholesky(H)
    H[np.triu_indices(150, 1)] = np.nan
    same_bits(NUMBA.cholesky(H), expected)


# Cancellation ------------------------------------------------------------------------------------


def cancel(Y, L, codebook, start, stop) -> None:
    compare("sic", Y, np.full(Y.shape, -77, np.int32), L, codebook, start, stop)


@pytest.mark.parametrize("which", KINDS)
@settings(max_examples=40)
@given(sizes, sizes, flavours, st.booleans(), keys, dtypes)
def test_sic(which, rows, n, flavour, with_factor, key, dtype):
    L = lower(key, n, dtype) if with_factor else None
    codebook, _ = codebooks(key, rows, np.ones(n, dtype) if L is None else np.diag(L))[which]
    start, stop = sorted(integers(key, 0, n, 2).tolist())
    Y = numbers(flavour, key, (rows, n), dtype)
    cancel(Y, L, codebook, start, stop)
    cancel(Y, L, codebook, 0, n)


@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize("shape", [(1100, 150), (3, 400), (513, 290)])
@every_dtype
def test_sic_on_threads(which, shape, dtype, threads):
    rows, n = shape
    L = lower(5, n, dtype)
    codebook, _ = codebooks(7, rows, np.diag(L))[which]
    cancel(bell(6, shape, dtype), L, codebook, 0, n)


@every_dtype
def test_zero_points_at_the_ends_of_int32(dtype):
    cancel(bell(1, (20, 30), dtype), None, far_grid(20, 30, dtype), 0, 30)


@pytest.mark.parametrize("name", list(FORMATS))
@every_dtype
def test_float_formats(name, dtype):
    form = FORMATS[name]
    exact = np.concatenate([form.magnitudes, form.midpoints, [2 * form.largest, 1e30]])
    near = np.concatenate([exact, np.nextafter(exact, 0), np.nextafter(exact, np.inf)])
    Y = np.concatenate([near, -near]).astype(dtype)[:, None]
    codebook = FloatGrid(np.ones((len(Y), 1), dtype), np.zeros(1, np.int64), form)
    cancel(Y, None, codebook, 0, 1)


@every_dtype
def test_range_after_range(dtype):
    """As GPTQ's groups use it, with grids that are known only when their turn comes."""
    rows, n = 70, 500
    L, group = lower(1, n, dtype), np.arange(n) // 48
    scale = np.abs(bell(2, (rows, group[-1] + 1), dtype)) + dtype(0.125)
    codebook = AffineGrid(scale, integers(3, -3, 18, *scale.shape).astype(np.int32), group, 15)
    left = {backend.name: bell(4, (rows, n), dtype) for backend in (NUMPY, NUMBA)}
    codes = {name: np.zeros((rows, n), np.int32) for name in left}
    for stop in range(n, 0, -48):
        for backend in (NUMPY, NUMBA):
            name = backend.name
            backend.sic(left[name], codes[name], L, codebook, max(0, stop - 48), stop)
        same_bits(left["numba"], left["numpy"])
    same_bits(codes["numba"], codes["numpy"])


OVERFLOWS = {
    "lattice": lambda rows, n, dtype: UniformLattice(1e-3),
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
@pytest.mark.parametrize("coupled", [False, True])
@every_dtype
def test_overflow_is_the_oracles(which, value, coupled, dtype):
    """The first column in order of decision, and in it the first row."""
    rows, n = 50, 150
    codebook = OVERFLOWS[which](rows, n, dtype)
    L = np.eye(n, dtype=dtype) if coupled else None
    for places in ([(49, 149)], [(0, 0)], [(40, 20), (3, 19), (49, 21), (48, 21)], [(7, 140)]):
        Y = bell(1, (rows, n), dtype)
        for row, column in places:
            Y[row, column] = value
        Y[5, 21] = 1e18  # too large for a lattice, and not for a grid
        with pytest.raises(CodeOverflow):
            NUMBA.sic(Y.copy(), np.zeros(Y.shape, np.int32), L, codebook, 0, n)
        cancel(Y, L, codebook, 0, n)


@every_dtype
def test_largest_codes(dtype):
    """The last numbers that fit in int32, and the first that do not."""
    edge = np.array(
        [[2.0**31 - 128, -(2.0**31), 2.0**31, np.nextafter(-(2.0**31), -np.inf)]], dtype
    )
    for column in range(4):
        for lmmse in (False, True):
            codebook = ScaledLattice(1.0, np.ones(1, dtype), lmmse)
            cancel(np.ascontiguousarray(edge[:, column : column + 1]), None, codebook, 0, 1)


# Sums, histograms, transforms --------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.sampled_from((1, 2, 3, 31, 33, 511, 512, 513, 1024, 1500)),
    st.sampled_from((1, 5, 31, 32, 33, 70)),
    flavours,
    keys,
    dtypes,
)
def test_sums(length, other, flavour, key, dtype):
    A, B = (numbers(flavour, key + i, (other, length), dtype) for i in (0, 3))
    compare("row_inner", A, B)
    compare("column_inner", np.ascontiguousarray(A.T), np.ascontiguousarray(B.T))
    scale = np.abs(bell(key, (other,), dtype)) + dtype(0.125)
    compare("grid_error", A, scale, integers(key, 0, 15, other).astype(np.int32), 15)


@every_dtype
def test_sums_of_more_chunks_than_one_holds(dtype):
    A = bell(1, (1, 512 * 512 + 513), dtype)
    compare("row_inner", A, np.ones_like(A))
    compare("column_inner", A.T.copy(), np.ones_like(A.T))


@every_dtype
def test_empty_sums(dtype):
    for shape in ((0, 3), (3, 0)):
        compare("row_inner", np.ones(shape, dtype), np.ones(shape, dtype))
        compare("column_inner", np.ones(shape, dtype), np.ones(shape, dtype))


@settings(max_examples=40)
@given(sizes, sizes, st.sampled_from((0, 1, 40, 10**6, 2**31 - 1)), keys)
def test_histograms(rows, columns, largest, key):
    compare("column_histograms", integers(key, -largest, largest, rows, columns).astype(np.int32))


@pytest.mark.parametrize("n", [1, 2, 12, 20, 28, 36, 64, 96, 576])
@every_dtype
def test_hadamard(n, dtype, threads):
    A = np.where(bell(1, (19, n), dtype) > 1, dtype(-0.0), bell(2, (19, n), dtype))
    compare("hadamard", A, hadamard.base_matrix(hadamard.base_order(n)))


# Algorithms --------------------------------------------------------------------------------------


@every_dtype
def test_watersic(dtype, threads):
    weight, covariance = bell(1, (90, 150), dtype), positive_definite(2, 150, dtype)
    found = watersic(weight, covariance, rate=2.5, backend=NUMBA)
    expected = watersic(weight, covariance, rate=2.5)
    same_bits(found.codes, expected.codes)
    same_bits(found.dequantized, expected.dequantized)


# Machine code ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["float64", pytest.param("float32", marks=pytest.mark.slow)])
def machine_code(request, tmp_path_factory):
    """Kernel → what its machine code is made of, compiled anew."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.helpers.numba_machine_code", request.param],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("numba"))},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_no_fused_multiply_add_in_any_kernel(machine_code):
    kernels = {name: found for name, found in machine_code.items() if name != "planted"}
    assert len(kernels) >= 30
    assert all(found["specialisations"] > 0 for found in kernels.values())
    assert {name: found["fused"] for name, found in kernels.items() if found["fused"]} == {}
    # What was looked at is the code of the loops, not of something that calls them.
    multiplying = {name for name, found in kernels.items() if found["multiplies"]}
    assert multiplying >= {"update_block", "solve_tile", "factor_panel", "decide_tile"}
    assert multiplying >= {"decide_block", "advance_tile", "inner"}


def test_a_fused_multiply_add_is_noticed(machine_code):
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    if platform.machine() == "x86_64" and "+fma" not in features:
        pytest.skip("the processor compiled for has no fused multiply-add")
    assert machine_code["planted"]["fused"]


# Availability ------------------------------------------------------------------------------------


def test_one_line_where_numba_is_missing():
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "from waterlevel.backends.numba_cpu.operations import NumbaOperations\n"
        "from waterlevel.reference.errors import WaterlevelError\n"
        "try:\n    NumbaOperations()\n"
        "except WaterlevelError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 1
    assert "pip install 'waterlevel[numba]'" in ran.stdout
