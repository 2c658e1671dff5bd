"""Every worked example in a docstring of the package is run, and gives what it says.

All modules are imported for it: where the optional packages are missing, this also shows that no
module needs them before it is used.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import sys
from types import ModuleType

import pytest

import waterlevel.backends
import waterlevel.data
import waterlevel.reference
import waterlevel.validate

# Modules that only a module of the same folder imports, once its extra is there.
OF_AN_EXTRA = {
    "waterlevel.validate.models.small_model": "transformers",
    "waterlevel.validate.models.training_steps": "torch",
}

PACKAGES = (waterlevel.reference, waterlevel.backends, waterlevel.validate, waterlevel.data)

# Every other module of reference/ is a text with a worked example.
WITHOUT_EXAMPLE = {
    "waterlevel.reference": "empty",
    "waterlevel.reference.decoder": "reading order",
    "waterlevel.reference.contract": "one number",
    "waterlevel.reference.errors": "names only",
    **dict.fromkeys(
        (
            f"waterlevel.reference.{folder}"
            for folder in [
                "methods",
                "calibration",
                "limits",
                "bases",
                "grids",
                "coding",
                "arithmetic",
            ]
        ),
        "says what its folder holds",
    ),
    "waterlevel.reference.operations": "a protocol: signatures only",
}
# What explains nothing new needs no exercise either.
WITHOUT_EXERCISE = {
    *WITHOUT_EXAMPLE,
    "waterlevel.reference.checks",
    "waterlevel.reference.operations.numpy_operations",
}


def module_names() -> list[str]:
    found = ["waterlevel"]
    for package in PACKAGES:
        inside = pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=refuse)
        found += [package.__name__, *(module.name for module in inside)]
    # Importing the former would run it; the latter is `waterlevel`, by the place of its file.
    return [name for name in found if not name.endswith((".__main__", "reference.front"))]


def refuse(package: str) -> None:
    raise ImportError(f"{package} cannot be imported, so its modules cannot be listed")


def run(name: str) -> doctest.TestResults:
    return doctest.testmod(importlib.import_module(name))


@pytest.mark.parametrize("name", module_names())
def test_examples_give_what_they_say(name: str):
    if name in OF_AN_EXTRA:
        pytest.importorskip(OF_AN_EXTRA[name])
    result = run(name)
    assert result.failed == 0
    if name.startswith("waterlevel.reference") and name not in WITHOUT_EXAMPLE:
        assert result.attempted > 0, "a module of reference/ needs a worked example"


def lessons() -> list[str]:
    reference = "waterlevel.reference"
    return [n for n in module_names() if n.startswith(reference) and n not in WITHOUT_EXERCISE]


@pytest.mark.parametrize("name", lessons())
def test_a_lesson_opens_with_its_question_and_has_an_exercise(name: str):
    text = importlib.import_module(name).__doc__ or ""
    opening = " ".join(text.partition("\n\n")[0].split())
    assert opening.endswith("?"), f"{name} opens with {opening!r}"
    exercise = " ".join(text.split()).partition("Exercise: ")[2]
    assert "(Check: " in exercise, f"{name} has no exercise with its check"


def test_a_wrong_example_is_noticed(monkeypatch: pytest.MonkeyPatch):
    planted = ModuleType("planted")
    planted.__doc__ = ">>> 1 + 1\n3\n"
    monkeypatch.setitem(sys.modules, "planted", planted)
    assert run("planted") == doctest.TestResults(failed=1, attempted=1)


def test_lists_name_modules_that_exist():
    assert {*WITHOUT_EXAMPLE, *OF_AN_EXTRA} <= set(module_names())
