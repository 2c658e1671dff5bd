"""Files appear whole or not at all."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from waterlevel.validate.support import whole_files


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    whole_files.write_whole(path, b"old")

    def fail(*_):
        raise OSError("planted")

    monkeypatch.setattr(whole_files.os, "replace", fail)
    with pytest.raises(OSError, match="planted"):
        whole_files.write_whole(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path):
    def interrupted() -> None:
        with whole_files.replacing(tmp_path / "file") as beside:
            beside.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path: Path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    whole_files.write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_ends_the_process_leaves_nothing_behind(tmp_path: Path, name: str):
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def told_to_end() -> None:
        with whole_files.replacing(tmp_path / "file") as beside:
            beside.write_bytes(b"half")
            signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        told_to_end()
    assert ended.value.code == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path):
    with pytest.raises(OSError, match="No space left") as full:
        raise_within(tmp_path / "file", OSError(28, "No space left on device"))
    assert full.value.filename == str(tmp_path / "file")


def raise_within(path: Path, error: OSError) -> None:
    with whole_files.replacing(path):
        raise error
