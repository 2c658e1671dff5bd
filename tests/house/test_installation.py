"""Installed, used, installed from the checkout, used, removed: nothing is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USE = """
import numpy
from waterlevel.backends import get
found = get({backend!r}).column_inner(numpy.array([[1.0], [2.0]]), numpy.ones((2, 1)))
assert found == [3.0]
import waterlevel.reference
print(waterlevel.reference.__file__)
"""


class Environment:
    """A virtual environment that sees the packages of this one, and a checkout of its own."""

    def __init__(self, folder: Path) -> None:
        self.source, self.home = folder / "source", folder / "home"
        left_out = shutil.ignore_patterns(
            ".git", ".venv", "__pycache__", "*.egg-info", "build", "dist", "tests"
        )
        shutil.copytree(ROOT, self.source, ignore=left_out)
        venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
        self.bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        (self.site,) = (folder / "venv").rglob("site-packages")
        seen = [entry for entry in sys.path if "site-packages" in entry or "dist-packages" in entry]
        (self.site / "seen.pth").write_text("\n".join(seen))

    def call(self, *words: str) -> str:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "NUMBA", "WATERLEVEL", "XDG"))
        }
        done = subprocess.run(
            words,
            cwd=self.home.parent,
            env={**inherited, "HOME": str(self.home), "USERPROFILE": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pip(self, *words: str) -> None:
        self.call(sys.executable, "-m", "pip", "--python", str(self.python), "-q", *words)

    @property
    def python(self) -> Path:
        return self.bin / "python"

    def use(self) -> Path:
        """Runs what compiles and keeps code; the file of the package that was used."""
        try:
            version("numba")
            backend = "numba"
        except PackageNotFoundError:
            backend = "numpy"
        return Path(self.call(str(self.python), "-c", USE.format(backend=backend)).strip())

    def installed(self) -> set[Path]:
        return {path for path in self.site.rglob("*") if path.is_file()}

    def compiled(self) -> list[Path]:
        folders = (self.site, self.source)
        return [path for folder in folders for path in folder.rglob("*.nb[ic]")]


@pytest.fixture
def environment(tmp_path):
    try:
        tools = {name: int(version(name).split(".")[0]) for name in ("pip", "setuptools")}
    except PackageNotFoundError as error:
        pytest.skip(f"this environment cannot install without a network: no {error.name}")
    if tools["pip"] < 23 or tools["setuptools"] < 77:
        pytest.skip("this environment cannot install without a network: pip 23, setuptools 77")
    return Environment(tmp_path)


INSTALL = ("install", "--no-index", "--no-deps", "--no-build-isolation")


@pytest.mark.slow
def test_nothing_is_left(environment):
    before = environment.installed()
    environment.pip(*INSTALL, str(environment.source))
    assert environment.site in environment.use().parents
    assert environment.compiled() == []
    environment.call(str(environment.bin / "waterlevel"), "backends")

    environment.pip(*INSTALL, "-e", str(environment.source))
    left = {path.relative_to(environment.site).parts[0] for path in environment.installed()}
    assert "waterlevel" not in left, left
    assert not (environment.site / "waterlevel").exists()
    assert environment.source in environment.use().parents
    assert environment.compiled() == []

    environment.pip("uninstall", "-y", "waterlevel")
    assert environment.installed() == before
    assert not (environment.site / "waterlevel").exists()
