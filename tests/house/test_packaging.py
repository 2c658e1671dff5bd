"""The distribution holds what it promises, and the checkout holds nothing that does not belong."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import waterlevel.data
import waterlevel.reference

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = ("reference", "backends", "validate", "data")
FILES = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"}
TOP_LEVEL = {*FILES, "tests", *PACKAGES}
LARGEST_FILE = 6 * 2**20  # bytes; a layer file of 1536 inputs is a little under 5 MB

# What belongs to a machine and not to the project: a home, the folder of this very checkout, a
# temporary folder with a name, the setting of a package index.
HOMES = {f"{ROOT}/", f"{Path.home()}/"} - {"//"}
FOREIGN = re.compile(
    r"(?<![\w.~])(?:/root/|/home/|/Users/|/tmp/|"
    + "|".join(map(re.escape, HOMES))
    + r")\S|index-url"
)


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so nothing says which files belong to it")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    files = [Path(name) for name in listed.split("\0") if name]
    assert Path("pyproject.toml") in files
    return files


def readme_commands(start: str) -> list[str]:
    """The lines of the README that are commands beginning with `start`."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    return [line for line in lines if re.match(rf"{start}( |$)", line)]


def strangers_at_top(files: list[Path]) -> set[str]:
    return {f.parts[0] for f in files if not f.parts[0].startswith(".")} - TOP_LEVEL


def foreign_words(text: str) -> list[str]:
    return [found.group() for found in FOREIGN.finditer(text)]


def test_metadata():
    metadata = distribution("waterlevel").metadata
    assert metadata["Name"] == "waterlevel"
    assert metadata["Version"] == PROJECT["project"]["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"  # the README
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or ()) == set(
        PROJECT["project"]["optional-dependencies"]
    )


def test_command_resolves_to_a_function():
    (command,) = entry_points(group="console_scripts", name="waterlevel")
    assert callable(command.load())


def test_module_runs_as_the_command(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "waterlevel.validate", "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "study" in done.stdout


@pytest.mark.parametrize("start", ["pip install -e", "pytest"])
def test_readme_gives_each_command_once(start: str):
    """.ci/run takes both from there, so that what is checked is what a reader types."""
    assert len(readme_commands(start)) == 1


def test_every_package_is_declared():
    folders = {
        ".".join(("waterlevel", *init.parent.parts))
        for init in tracked_files()
        if init.name == "__init__.py" and init.parts[0] in PACKAGES
    }
    folders = folders - {"waterlevel.reference.front"} | {"waterlevel"}
    assert folders == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_package_is_typed():
    for name in (*PACKAGES, "reference/front"):
        assert (ROOT / name / "py.typed").is_file()


def test_data_is_found():
    assert (waterlevel.data.LAYERS / "manifest.json").is_file()


def test_top_level_holds_only_what_is_planned():
    assert strangers_at_top(tracked_files()) == set()


def test_no_large_file():
    large = {str(f): (ROOT / f).stat().st_size for f in tracked_files() if (ROOT / f).is_file()}
    assert {f: size for f, size in large.items() if size > LARGEST_FILE} == {}


def test_no_generated_file():
    generated = {"__pycache__", "build", "dist", ".venv", ".hypothesis"}
    found = [f for f in tracked_files() if generated & set(f.parts) or ".egg-info" in str(f)]
    assert found == []


def test_texts_speak_of_the_project_alone():
    found = {}
    for path in tracked_files():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content and path.name != Path(__file__).name:
            found[str(path)] = foreign_words(content.decode("utf-8"))
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize("text", [f"see {ROOT}/x", "(/root/x", "'/tmp/x'", "pip --index-url x"])
def test_a_foreign_word_is_noticed(text: str):
    assert foreign_words(text)


@pytest.mark.parametrize("text", ["a/root/b", "validate/home/x", "the /tmp folder", "tmp/x"])
def test_a_harmless_word_is_not(text: str):
    assert not foreign_words(text)


def test_a_stranger_at_the_top_is_noticed():
    assert strangers_at_top([Path("setup.cfg"), Path(".ci/run"), Path("tests/x.py")]) == {
        "setup.cfg"
    }
