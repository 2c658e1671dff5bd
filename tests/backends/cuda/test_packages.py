"""With the packages for CUDA and without a device, every command says so in one line."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

PACKAGES = {"cupy": "cupy", "numba-cuda": "numba_cuda"}


def run(*arguments):
    """A command on a machine whose GPUs, if there are any, are hidden."""
    return subprocess.run(
        [sys.executable, "-m", "waterlevel.validate", *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("command", ["validate", "bench", "study"])
@pytest.mark.parametrize("backend", PACKAGES)
def test_one_line_and_no_other_backend(backend, command):
    if find_spec(PACKAGES[backend]) is None:
        pytest.skip(f"the package for the backend {backend} is not installed (extra test-cuda)")
    ran = run(command, "--backend", backend)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert len(ran.stderr.splitlines()) == 1
    assert f"backend {backend} finds no usable " in ran.stderr
    assert "driver" in ran.stderr


def test_the_errors_of_the_libraries_are_known_by_name():
    """What numba-cuda's launches and compilers raise, by the classes that are really there."""
    pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra test-cuda)")
    from cuda.core._utils import cuda_utils

    from waterlevel.backends.numba_cuda.device import CUDA_ERRORS

    raised = {name for name in vars(cuda_utils) if name.endswith("Error")} - set(dir(builtins))
    assert raised >= {"CUDAError", "NVRTCError"}
    assert raised <= set(CUDA_ERRORS)
