"""Jobs side by side: every process has one thread, and this one stays as it was."""

from __future__ import annotations

import os

from waterlevel.validate.support.workers import map_in_processes

NAMES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def test_every_process_has_one_thread_and_this_one_is_left_alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    assert map_in_processes(os.getenv, NAMES, 2, "test") == ["1", "1"]
    assert dict(os.environ) == before


def test_what_was_set_before_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert map_in_processes(os.getenv, NAMES, 2, "test") == ["3", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "NUMBA_NUM_THREADS" not in os.environ
