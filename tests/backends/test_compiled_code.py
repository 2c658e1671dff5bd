"""Compiled code stands outside the package, and its folder is never a reason to fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from waterlevel import backends, reference
from waterlevel.backends.compiled_code import cache_folder, kept
from waterlevel.reference.errors import WaterlevelError

VARIABLES = ("NUMBA_CACHE_DIR", "WATERLEVEL_CACHE_DIR", "XDG_CACHE_HOME")
SUM_OF_TWO = """
import json, numpy, sys
from waterlevel.backends.numba_cpu import sums
found = sums.column_inner(numpy.array([[1.0], [2.0]]), numpy.ones((2, 1)))
stats = sums.inner.stats
json.dump([found[0], len(stats.cache_hits), len(stats.cache_misses)], sys.stdout)
"""
NO_HOME = """
import pathlib
def nowhere():
    raise RuntimeError("nobody lives here")
pathlib.Path.home = nowhere
"""


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No variable is set, and the home is empty."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return monkeypatch


def test_the_first_variable_that_is_set_decides(bare, tmp_path):
    home = tmp_path / "home" / ".cache" / "waterlevel"
    assert (cache_folder("numba"), cache_folder("cupy")) == (home / "numba", home / "cupy")
    bare.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("cupy") == tmp_path / "xdg" / "waterlevel" / "cupy"
    bare.setenv("WATERLEVEL_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder("numba") == tmp_path / "own" / "numba"
    bare.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    assert cache_folder("numba") == tmp_path / "numba" / "waterlevel"
    assert cache_folder("cupy") == tmp_path / "own" / "cupy"


def test_no_home_is_one_line(bare):
    def nowhere():
        raise RuntimeError("nobody lives here")

    bare.setattr(Path, "home", nowhere)
    with pytest.raises(WaterlevelError, match="set WATERLEVEL_CACHE_DIR to a folder") as error:
        cache_folder("cupy")
    assert "\n" not in str(error.value)


def test_what_is_kept_is_counted(bare, tmp_path):
    bare.setenv("WATERLEVEL_CACHE_DIR", str(tmp_path))
    assert (kept("cupy").files, kept("cupy").size) == (0, 0)
    (tmp_path / "cupy" / "earlier").mkdir(parents=True)
    (tmp_path / "cupy" / "a").write_bytes(b"123")
    (tmp_path / "cupy" / "earlier" / "b").write_bytes(b"45")
    found = kept("cupy")
    assert (found.folder, found.files, found.size) == (tmp_path / "cupy", 2, 5)


# Numba -------------------------------------------------------------------------------------------


class Copy:
    """A copy of the package, in which a kernel is called in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "waterlevel"
        self.cache = folder / "cache"
        for part, module in {"reference": reference, "backends": backends}.items():
            shutil.copytree(
                Path(module.__file__).parent,
                self.package / part,
                ignore=shutil.ignore_patterns("__pycache__"),
            )

    def run(self, before: str = "", **variables: str) -> tuple[list, str]:
        """[the sum, code found on disk, code compiled], and what was complained about."""
        variables = variables or {"WATERLEVEL_CACHE_DIR": str(self.cache)}
        inherited = {name: v for name, v in os.environ.items() if name not in VARIABLES}
        ran = subprocess.run(
            [sys.executable, "-c", before + SUM_OF_TWO],
            env={**inherited, "PYTHONPATH": str(self.package.parent), **variables},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout), ran.stderr

    def machine_code(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*.nb*") if path.suffix in (".nbi", ".nbc"))


@pytest.fixture
def copy(tmp_path):
    pytest.importorskip("numba", reason="the backend numba needs the package numba")
    return Copy(tmp_path)


def test_the_package_stays_as_it_was(copy):
    assert copy.run() == ([3.0, 0, 1], "")
    assert copy.run() == ([3.0, 1, 0], "")
    assert copy.machine_code(copy.package) == []
    assert copy.machine_code(copy.cache / "numba")


def test_machine_code_is_as_new_as_all_of_the_source(copy):
    """What a kernel imports may change alone, as in an update of the package."""
    assert copy.run()[0] == [3.0, 0, 1]
    trees = copy.package / "backends" / "numba_cpu" / "trees.py"
    source = trees.read_text()
    assert source.count("buffer[i] += buffer[") == 1
    trees.write_text(source.replace("buffer[i] += buffer[", "buffer[i] -= buffer["))
    assert copy.run()[0] == [-1.0, 0, 1]
    trees.write_text(source)
    assert copy.run()[0] == [3.0, 1, 0]  # two versions beside each other do not mix


def test_every_version_has_a_name_of_its_own(monkeypatch):
    machine_code = pytest.importorskip("waterlevel.backends.numba_cpu.machine_code")
    names = {machine_code._stamp()}
    assert names == {machine_code.STAMP}
    changes = {
        "CONTRACT_VERSION": "another",
        "_own_version": lambda: "9.9",
        "_numba.__version__": "9.9",
        "_llvmlite.__version__": "9.9",
        "np.__version__": "9.9",
        "sys.version": "9.9",
        "sums.__file__": __file__,
    }
    for name, value in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"waterlevel.backends.numba_cpu.machine_code.{name}", value)
            names.add(machine_code._stamp())
    assert len(names) == 1 + len(changes)


def test_a_folder_that_cannot_be_written_costs_a_line(copy, tmp_path):
    (tmp_path / "file").write_text("")
    found, said = copy.run(WATERLEVEL_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert found == [3.0, 0, 1]
    assert said.startswith("Numba's cache of compiled code was of no use: ")
    assert str(tmp_path / "file") in said
    assert said.count("\n") == 1
    assert copy.machine_code(tmp_path) == []


@pytest.mark.slow
def test_no_home_costs_a_line(copy):
    found, said = copy.run(before=NO_HOME, LANG="C")
    assert found == [3.0, 0, 1]
    assert "set WATERLEVEL_CACHE_DIR to a folder" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_damaged_cache_costs_a_line_once(copy):
    copy.run()
    for path in copy.machine_code(copy.cache):
        path.write_bytes(b"noise")
    found, said = copy.run()
    assert found[0] == 3.0
    assert said.startswith("Numba's cache of compiled code was of no use: ")
    assert said.count("\n") == 1
    copy.run()
    assert copy.run() == ([3.0, 1, 0], "")


def test_numba_that_is_too_old_is_one_line():
    pytest.importorskip("numba")
    program = (
        "import numba\n"
        "numba.__version__ = '0.61.2'\n"
        "numba.version_info = numba.version_info._replace(short=(0, 61))\n"
        "from waterlevel.backends import get\n"
        "from waterlevel.reference.errors import WaterlevelError\n"
        "try:\n    get('numba')\n"
        "except WaterlevelError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 1
    assert "needs Numba 0.62 or later, and 0.61.2 is installed" in ran.stdout


def test_the_lowest_numba_is_the_one_that_is_promised():
    compiler = pytest.importorskip("waterlevel.backends.numba_cpu.compiler")
    promised = "numba>={}.{}".format(*compiler.LOWEST)
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    assert promised in extras["numba"]
    assert promised in extras["test"]
