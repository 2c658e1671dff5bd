"""Backends are found by name, and one that cannot run says why in one line."""

from __future__ import annotations

import builtins

import pytest

from waterlevel import backends
from waterlevel.reference import NUMPY, BadInput
from waterlevel.reference.operations.numpy_operations import NumpyOperations


class Incomplete:
    """Has a name, and no operation but one."""

    name = "incomplete"

    def matmul(self, left, right):
        return left


class Broken(NumpyOperations):
    """Cannot be made."""

    def __init__(self):
        raise RuntimeError("no such device")


def test_every_built_in_backend_is_listed():
    names = [found.name for found in backends.available()]
    assert names[-4:] == ["numpy", "numba", "cupy", "numba-cuda"]
    assert backends.get("numpy").name == "numpy"


def test_an_unknown_name_names_the_known_ones():
    with pytest.raises(BadInput, match="'abacus'; there are: numpy"):
        backends.get("abacus")


@pytest.mark.parametrize("attribute", ["NumpyOperations", "NUMPY"])
def test_module_and_attribute_name_a_class_or_an_object(attribute):
    found = backends.get(f"waterlevel.reference.operations.numpy_operations:{attribute}")
    assert isinstance(found, type(NUMPY))


@pytest.mark.parametrize("name", ["no.such.module:x", "math:no_such_attribute", ":x", "math:"])
def test_what_cannot_be_loaded_is_bad_input_in_one_line(name):
    with pytest.raises(BadInput) as caught:
        backends.get(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [("Incomplete", "lacks the operations accumulate, cholesky"), ("Broken", "no such device")],
)
def test_what_cannot_run_says_why(attribute, reason):
    with pytest.raises(backends.Unusable, match=reason) as caught:
        backends.get(f"{__name__}:{attribute}")
    assert "\n" not in str(caught.value)


def test_without_numba_the_backend_says_how_to_get_it(monkeypatch):
    original = builtins.__import__

    def without_numba(name, globals=None, locals=None, fromlist=(), level=0):
        if name == "numba" or (level and "triangular" in (fromlist or ())):
            raise ImportError("No module named 'numba'")
        return original(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without_numba)
    with pytest.raises(backends.Unusable, match=r"pip install 'waterlevel\[numba\]'"):
        backends.get("numba")
    assert "numba" in {found.name for found in backends.available() if found.reason}
