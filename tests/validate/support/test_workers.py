"""Jobs side by side: every process has one thread, and this one stays as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from waterlevel.validate.support.workers import map_in_processes

NAMES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def lost(job, reason):
    return f"{job}: {reason}"


def test_every_process_has_one_thread_and_this_one_is_left_alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    assert map_in_processes(os.getenv, NAMES, 2, "test", lost) == ["1", "1"]
    assert dict(os.environ) == before


def test_what_was_set_before_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert map_in_processes(os.getenv, NAMES, 2, "test", lost) == ["3", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "NUMBA_NUM_THREADS" not in os.environ


def end_or_answer(job):
    if job == "end":
        os._exit(9)
    return job


def test_a_process_that_is_ended_loses_its_jobs_and_no_others():
    found = map_in_processes(end_or_answer, ["end"], 2, "test", lost)
    assert found == ["end: its process was ended from outside, perhaps for want of memory; "
                     "try --workers 1"]  # fmt: skip


PARENT = """
import sys
from waterlevel.validate.support.workers import map_in_processes
sys.path.insert(0, sys.argv[1])
from waiting import wait
if __name__ == "__main__":
    try:
        map_in_processes(wait, sys.argv[2:], 2, "test", lambda job, reason: reason)
    except KeyboardInterrupt:
        sys.exit(130)
"""
WAITING = """
import os
def wait(path):
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\\n")
    while True:
        pass
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of Unix")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_process_outlives_its_parent(tmp_path, name):
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "parent.py").write_text(PARENT)
    files = [tmp_path / "0", tmp_path / "1"]
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", tmp_path, *files], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files))
        parent.send_signal(getattr(signal, name))
        assert parent.wait(60) in (130, -getattr(signal, name))
        until(lambda: not any(alive(int(file.read_text())) for file in files))
    finally:  # a test that fails leaves nothing that computes
        parent.kill()
        parent.wait()
        for file in files:
            if file.exists() and alive(int(file.read_text() or 0)):
                os.kill(int(file.read_text()), signal.SIGKILL)


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    if pid == 0:  # not yet said
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that nobody has waited for is no longer alive
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
