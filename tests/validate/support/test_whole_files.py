"""Files appear whole or not at all."""

from __future__ import annotations

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
