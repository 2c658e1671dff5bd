"""Machine code of the CUDA kernels has no contraction, no flushing and no approximation."""

from __future__ import annotations

import re

import numpy as np
import pytest

from waterlevel.backends.cuda.device import SOURCES
from waterlevel.backends.cupy.compiler import compile_kernels, options_of

from ...helpers.cuda_emulator import DTYPES, KERNELS, kernel_names
from ...helpers.cuda_machine_code import (
    ARCHITECTURE,
    EXACT,
    code_sections,
    contracted_sections,
    faults_in_ptx,
    find_toolkit,
    registers,
    to_ptx,
)

TOOLKIT = find_toolkit()
TOGETHER = {"products": 2}  # blocks that a multiprocessor must have room for
needs_toolkit = pytest.mark.skipif(
    TOOLKIT is None,
    reason="nvcc and ptxas are missing: machine code of the CUDA kernels is not inspected "
    "(extra test-cuda)",
)


def test_every_kernel_is_known_to_the_host():
    assert {path.stem for path in KERNELS.glob("*.cu")} == set(SOURCES)
    for source, kernels in SOURCES.items():
        assert set(kernel_names(KERNELS / f"{source}.cu")) == set(kernels)


def test_large_blocks_are_promised_to_the_compiler():
    """A kernel may take 255 registers, and then only 256 threads fit: it has to know of more."""
    headers = "".join(path.read_text("utf-8") for path in KERNELS.glob("*.cuh"))
    for source, kernels in SOURCES.items():
        text = (KERNELS / f"{source}.cu").read_text("utf-8")
        constants = {
            name: int(value) for name, value in re.findall(r"(\w+) = (\d+)[,;]", headers + text)
        }
        for kernel, block in kernels.items():
            bound = re.search(rf"__launch_bounds__\(([\w *]+)(?:, (\d))?\) void {kernel}\(", text)
            threads = None if bound is None else eval(bound[1], {}, constants)
            needed = np.prod(block) > 256 or source in TOGETHER
            assert threads == (np.prod(block) if needed else None), kernel
            assert (bound and bound[2]) == (str(TOGETHER[source]) if source in TOGETHER else None)


@needs_toolkit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", SOURCES)
def test_no_contraction(source, dtype, tmp_path):
    path = tmp_path / f"{source}.ptx"
    ptx = to_ptx(TOOLKIT, KERNELS / f"{source}.cu", [*EXACT, *DTYPES[dtype]], path)
    assert all(f".entry {kernel}(" in ptx for kernel in SOURCES[source])
    assert faults_in_ptx(ptx) == []
    assert ".local" not in ptx  # no thread has an array at an index that is not known
    assert contracted_sections(TOOLKIT, path, tmp_path) == []
    code = code_sections((tmp_path / f"{source}-true.cubin").read_bytes())
    assert set(code) == {f".text.{kernel}" for kernel in SOURCES[source]}
    used = registers(TOOLKIT, path, tmp_path)
    assert used.keys() == SOURCES[source].keys()
    for kernel, block in SOURCES[source].items():
        together = blocks_together(used[kernel], np.prod(block))
        assert together >= TOGETHER.get(source, 1), (kernel, used[kernel], block)


def blocks_together(each, threads):
    """A multiprocessor has 65536 registers; a warp of 32 threads takes them in portions of 256."""
    warps = -(-int(threads) // 32)
    return 65536 // (warps * (-(-each * 32 // 256) * 256))


def test_too_many_registers_are_seen():
    assert blocks_together(64, 1024) == 1
    assert blocks_together(65, 1024) == 0
    assert blocks_together(255, 256) == 1
    assert blocks_together(128, 256) == 2
    assert blocks_together(129, 512) == 0


@needs_toolkit
def test_registers_are_counted(tmp_path):
    """Chains that all live at once need a register each, or two in float64."""
    chains = " ".join(f"float c{i} = a[{i}];" for i in range(50))
    for_ever = " ".join(f"c{i} = c{i} * c{(i + 1) % 50};" for i in range(50))
    total = " + ".join(f"c{i}" for i in range(50))
    statement = f"{chains} for (int t = 0; t < 1000; ++t) {{ {for_ever} }} c[0] = {total};"
    path = tmp_path / "planted.ptx"
    to_ptx(TOOLKIT, planted(statement, tmp_path), EXACT, path)
    assert registers(TOOLKIT, path, tmp_path)["planted"] >= 50


@needs_toolkit
def test_no_contraction_by_the_compiler_of_the_backend(tmp_path):
    """NVRTC makes what runs on a GPU; its PTX and its own machine code."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as missing:
        pytest.skip(
            f"cupy or NVRTC is missing ({str(missing).splitlines()[0]}): what NVRTC makes of the "
            "CUDA kernels is not inspected (extra test-cuda)"
        )
    for source in SOURCES:
        for dtype in DTYPES:
            options = options_of(np.dtype(dtype), ARCHITECTURE)
            path = tmp_path / f"{source}-{dtype}.ptx"
            path.write_bytes(compile_kernels(nvrtc, source, options, nvrtc.getPTX).rstrip(b"\0"))
            assert faults_in_ptx(path.read_text("utf-8")) == []
            assert contracted_sections(TOOLKIT, path, tmp_path) == []
            cubin = code_sections(compile_kernels(nvrtc, source, options, nvrtc.getCUBIN))
            assert set(cubin) == {f".text.{kernel}" for kernel in SOURCES[source]}


PLANTED = {
    "contraction": ("c[0] = c[0] - a[0] * b[0];", ["-fmad=true"], "may be fused"),
    "fused": ("c[0] = __fmaf_rn(a[0], b[0], c[0]);", EXACT, "fma"),
    "flushed": ("c[0] = a[0] + b[0];", ["-fmad=false", "-ftz=true"], "ftz"),
    "approximate": ("c[0] = __fdividef(a[0], b[0]);", EXACT, "approx"),
    "reciprocal root": ("c[0] = rsqrtf(a[0]);", EXACT, "rsqrt"),
    "towards zero": ("c[0] = __fdiv_rz(a[0], b[0]);", EXACT, "div.rz"),
}


@needs_toolkit
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_seen(fault, tmp_path):
    statement, options, word = PLANTED[fault]
    ptx = to_ptx(TOOLKIT, planted(statement, tmp_path), options, tmp_path / "planted.ptx")
    assert any(word in line for line in faults_in_ptx(ptx))


@needs_toolkit
def test_a_contraction_by_the_assembler_is_seen_in_either_step(tmp_path):
    source = planted("c[0] = c[0] - a[0] * b[0];", tmp_path)
    path = tmp_path / "planted.ptx"
    assert faults_in_ptx(to_ptx(TOOLKIT, source, EXACT, path)) == []
    assert contracted_sections(TOOLKIT, path, tmp_path) == []
    assert len(faults_in_ptx(to_ptx(TOOLKIT, source, ["-fmad=true"], path))) == 1
    assert contracted_sections(TOOLKIT, path, tmp_path) == [".text.planted"]


def planted(statement, folder):
    path = folder / "planted.cu"
    kernel = 'extern "C" __global__ void planted(float *c, float *a, float *b)'
    path.write_text(f"{kernel} {{ {statement} }}\n", "utf-8")
    return path
