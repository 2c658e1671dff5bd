"""The script for a machine with a GPU: a verdict for each step, whatever becomes of the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "on_a_gpu"
STEPS = [
    "machine",
    "validate-cupy",
    "validate-numba-cuda",
    "bench-cupy-core",
    "bench-cupy-float64",
    "bench-cupy-float32",
    "bench-numba-cuda-core",
    "bench-numba-cuda-float64",
    "bench-numba-cuda-float32",
]
# In the place of Python: numba-cuda hangs in validation, and bench fails but for one step.
STAND_IN = """#!/usr/bin/env bash
case "$*" in
    -c*) ;;
    *backends) printf 'cupy yes\\nnumba-cuda yes\\n' ;;
    *"validate --backend cupy"*) echo 'cupy keeps the contract' ;;
    *"validate --backend numba-cuda"*) sleep 60 ;;
    *"bench --backend cupy --only core --sizes 4096"*) echo 'fast' ;;
    *"bench --backend"*) echo 'first line'; echo 'out of memory' >&2; exit 2 ;;
esac
"""


def run(*arguments, **environment):
    return subprocess.run(
        [str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def stand_in(tmp_path):
    path = tmp_path / "python"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return str(path)


def test_every_step_has_a_verdict(tmp_path, stand_in):
    ran = run(tmp_path / "out", PYTHON=stand_in, STEP_SECONDS="2")
    assert ran.returncode == 1
    verdicts = dict(line.split(": ", 1) for line in ran.stdout.splitlines()[-len(STEPS) :])
    assert list(verdicts) == STEPS
    assert verdicts["machine"].startswith("well, in ")
    assert verdicts["validate-cupy"].startswith("well, in ")
    assert verdicts["validate-numba-cuda"] == "STOPPED after 2 s"
    assert verdicts["bench-cupy-core"].startswith("well, in ")
    for name in STEPS[4:]:
        assert verdicts[name] == "FAILED with exit code 2: out of memory"
    assert (tmp_path / "out" / "validate-cupy.txt").read_text() == "cupy keeps the contract\n"


def test_all_well(tmp_path, stand_in):
    ran = run(tmp_path / "out", "validate-cupy", "machine", PYTHON=stand_in)
    assert ran.returncode == 0, ran.stderr
    assert [line.split(": ")[0] for line in ran.stdout.splitlines()[-2:]] == [
        "validate-cupy",
        "machine",
    ]


def test_without_a_gpu(tmp_path):
    """The real thing: each step ends with the one line of its command."""
    chosen = ("machine", "validate-cupy", "bench-numba-cuda-float32")
    ran = run(tmp_path / "out", *chosen, PYTHON=sys.executable)
    assert ran.returncode == 1
    machine, validate, bench = ran.stdout.splitlines()[-3:]
    assert machine == "machine: FAILED with exit code 1: cupy is not usable here"
    assert "FAILED with exit code 2: waterlevel validate: backend cupy " in validate
    assert "FAILED with exit code 2: waterlevel bench: backend numba-cuda " in bench


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "OUT [STEP…]"), (["out", "lunch"], "there is no step lunch")],
)
def test_bad_usage(arguments, said, tmp_path):
    ran = run(*(tmp_path / a if a == "out" else a for a in arguments), PYTHON=sys.executable)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr


def test_a_python_that_is_not_there(tmp_path):
    ran = run(tmp_path / "out", PYTHON="no-such-python")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "there is no no-such-python\n"
