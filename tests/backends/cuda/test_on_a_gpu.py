"""The script for a machine with a GPU: a verdict for each step, whatever becomes of the others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "on_a_gpu"
FIRST = [
    "machine",
    "bits-cupy",
    "order-free",
    "stages-cupy",
    "bits-numba-cuda",
    "stages-numba-cuda",
    "profile-cupy",
]
SECOND = [
    *(
        f"{kind}-{backend}"
        for kind in ("validate", "sanitize")
        for backend in ("cupy", "numba-cuda")
    ),
    "bench-cupy-core",
    "bench-numba-cuda-float32",
]
# In the place of Python: numba-cuda hangs in its bits, and its stages fail but for the first line.
STAND_IN = """#!/usr/bin/env bash
case "$*" in
    -c*) ;;
    *backends) printf 'cupy yes\\nnumba-cuda yes\\n' ;;
    *"device_bits cupy"*) echo 'cupy: 192 of 192'; echo '{}' >"${@: -1}" ;;
    *"device_bits numba-cuda"*) trap 'echo stopped; exit 130' INT; echo begun; sleep 60 & wait ;;
    *"device_stages cupy"*) echo 'fast' ;;
    *"device_stages numba-cuda"*) echo 'first line'; echo 'out of memory' >&2; exit 2 ;;
    *) echo "$*" ;;
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


def verdicts_of(ran, steps):
    verdicts = dict(line.split(": ", 1) for line in ran.stdout.splitlines()[-len(steps) :])
    assert list(verdicts) == steps
    return verdicts


def results(folder):
    with tarfile.open(folder / "results.tar.gz") as archive:
        return {
            Path(member.name).name: archive.extractfile(member).read().decode()
            for member in archive.getmembers()
            if member.isfile()
        }


def test_every_step_has_a_verdict(tmp_path, stand_in):
    ran = run(tmp_path, PYTHON=stand_in, STEP_SECONDS="2")
    assert ran.returncode == 1
    verdicts = verdicts_of(ran, FIRST)
    for step in ("machine", "bits-cupy", "order-free", "stages-cupy", "profile-cupy"):
        assert verdicts[step].startswith("well, in ")
    assert verdicts["bits-numba-cuda"] == "STOPPED after 2 s"
    assert verdicts["stages-numba-cuda"] == "FAILED with exit code 2: out of memory"


def test_what_was_measured_is_kept_in_two_files(tmp_path, stand_in):
    """A borrowed machine gives few files back; a step that is stopped has told what it knew."""
    run(tmp_path / "out", PYTHON=stand_in, STEP_SECONDS="2")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"log.txt", "results.tar.gz"}
    found = results(tmp_path / "out")
    assert found["bits-cupy.json"] == "{}\n"
    assert found["bits-cupy.txt"] == "cupy: 192 of 192\n"
    assert found["bits-numba-cuda.txt"].startswith("begun\nstopped\n")
    log = (tmp_path / "out" / "log.txt").read_text()
    for line in ("== stages-numba-cuda", "first line", "out of memory", "bits-cupy: well, in "):
        assert line in log


def test_an_end_at_any_moment_leaves_the_steps_before_it(tmp_path, stand_in):
    out, script = tmp_path / "out", [str(SCRIPT), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHON": stand_in}
    with subprocess.Popen(
        script, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        for line in running.stdout:
            if line == "== bits-numba-cuda\n":
                break
        os.killpg(running.pid, signal.SIGKILL)
    assert {"bits-cupy.json", "stages-cupy.txt"} <= results(out).keys()
    assert "fast" in (out / "log.txt").read_text()


def test_all_steps_together_have_a_limit(tmp_path, stand_in):
    ran = run(tmp_path, PYTHON=stand_in, TOTAL_SECONDS="3")
    assert ran.returncode == 1
    verdicts = verdicts_of(ran, FIRST)
    assert verdicts["bits-cupy"].startswith("well, in ")
    assert verdicts["bits-numba-cuda"].startswith("STOPPED after ")
    assert verdicts["profile-cupy"] == "LEFT OUT, 3 s are over"


def test_the_limits_of_a_first_call_fit_together():
    text = SCRIPT.read_text()
    limits = dict(re.findall(r"\[([a-z-]+)\]=(\d+)", text))
    assert sum(int(limits[step]) for step in FIRST) <= 300


def test_the_steps_of_a_second_call(tmp_path, stand_in):
    ran = run(
        tmp_path, *SECOND, PYTHON=stand_in, PATH=f"{Path(stand_in).parent}:{os.environ['PATH']}"
    )
    assert ran.returncode == 1  # there is no compute-sanitizer
    verdicts = verdicts_of(ran, SECOND)
    assert all(verdicts[step].startswith("well, in ") for step in SECOND if "sanitize" not in step)
    found = results(tmp_path)
    assert "--only core --sizes 4096" in found["bench-cupy-core.txt"]
    assert "--dtype float32 --sizes 1024,2048" in found["bench-numba-cuda-float32.txt"]


def test_a_checkout_that_pip_refuses_is_linked(tmp_path):
    """A Python that has the libraries, and neither waterlevel nor a pip that works."""
    python = tmp_path / "python"
    libraries = Path(np.__file__).parent.parent
    python.write_text(
        "#!/usr/bin/env bash\n"
        'if [ "$*" = "-m pip list" ]; then exit 0; fi\n'
        'if [ "$1 $2" = "-m pip" ]; then echo "no setuptools" >&2; exit 1; fi\n'
        f'site=$(mktemp -d); ln -s {libraries}/* "$site"; rm -f "$site"/*.pth "$site"/waterlevel*\n'
        f'PYTHONPATH=$PYTHONPATH:$site exec {sys.executable} -S "$@"\n'
    )
    python.chmod(0o755)
    ran = run(tmp_path / "out", "bits-cupy", PYTHON=str(python), PYTHONPATH="")
    verdict = verdicts_of(ran, ["bits-cupy"])["bits-cupy"]
    assert verdict.startswith("FAILED with exit code 2: device_bits: backend cupy "), ran.stderr


def test_without_a_gpu(tmp_path):
    """The real thing: each step ends with the one line of its command."""
    chosen = ("machine", "bits-cupy", "stages-numba-cuda", "bench-numba-cuda-float32")
    ran = run(tmp_path / "out", *chosen, PYTHON=sys.executable)
    assert ran.returncode == 1
    machine, bits, stages, bench = ran.stdout.splitlines()[-4:]
    assert machine == "machine: FAILED with exit code 1: cupy is not usable here"
    assert "FAILED with exit code 2: device_bits: backend cupy " in bits
    assert "FAILED with exit code 2: device_stages: backend numba-cuda " in stages
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
