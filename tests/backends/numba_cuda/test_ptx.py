"""No kernel of the backend numba-cuda fuses, flushes or approximates: its code for a GPU, read.

The kernels are compiled for compute capability 9.0 without a device. In the text (PTX) every
product and sum must carry ".rn", which no assembler fuses. Where the CUDA toolkit is found the
machine code is compared too: it must be the same whether fusing is allowed or not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ...helpers.cuda_machine_code import find_toolkit

pytestmark = pytest.mark.skipif(
    find_spec("numba_cuda") is None,
    reason="the kernels of numba-cuda are compiled by the package numba-cuda (extra test-cuda)",
)


@pytest.fixture(scope="module")
def code():
    """Kernel → what was found in its code."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.helpers.numba_cuda_code"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def kernels(code):
    return {name: found for name, found in code.items() if not name.startswith("planted")}


def test_the_text_of_every_kernel_is_exact(code):
    found = kernels(code)
    assert len(found) >= 80
    assert {name: kernel["faults"] for name, kernel in found.items() if kernel["faults"]} == {}


def test_the_text_is_that_of_the_arithmetic(code):
    calculating = {name for name, kernel in kernels(code).items() if kernel["arithmetic"]}
    for dtype in ("float64", "float32"):
        for name in ("products add_nonzero", "products subtract_descending"):
            assert f"{name} {dtype}" in calculating
        for name in (
            "triangular factor_block",
            "sic decide_column",
            "sic floating",
            "sums grid_terms",
            "elements combine",
        ):
            assert f"{name} {dtype}" in calculating


def test_the_assembler_fuses_nothing(code):
    if find_toolkit() is None:
        pytest.skip("the machine code is made by ptxas, which is missing (extra test-cuda)")
    assert [name for name, kernel in kernels(code).items() if kernel["fused"]] == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_contraction_is_noticed(code, dtype):
    planted = code[f"planted {dtype}"]
    assert planted["faults"] == ["a product and a sum that may be fused"]
    assert planted["fused"] in (True, None)


@pytest.mark.parametrize(
    "line",
    [
        "fma.rn.f64 %fd1, %fd2, %fd3, %fd4;",
        "add.rn.ftz.f32 %f1, %f2, %f3;",
        "div.approx.f32 %f1, %f2, %f3;",
        "div.full.f32 %f1, %f2, %f3;",
        "sqrt.approx.ftz.f32 %f1, %f2;",
        "add.rz.f64 %fd1, %fd2, %fd3;",
        "@%p1 mad.rn.f32 %f1, %f2, %f3, %f4;",
    ],
)
def test_every_forbidden_operation_is_noticed(line):
    from ...helpers.numba_cuda_code import faults_of

    text = ".visible .entry kernel(\n)\n{\n\t%s\n\tret;\n}\n"
    assert faults_of(text % line) != []
    assert faults_of(text % "add.rn.f64 %fd1, %fd2, %fd3;") == []
