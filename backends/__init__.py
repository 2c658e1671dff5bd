"""Which implementations of the operations are there, and which of them run here?

A backend is an object that fulfils `waterlevel.reference.operations.Operations`. `get` finds one by
name, `available` tells of all. Nothing is imported before it is asked for, and a backend that
cannot run here says why in one line; asking for it by name is then an error and never a silent
fallback.

Third parties add theirs through the entry-point group `waterlevel.backends`, whose entries are
callables without arguments that return a backend, or name `module:attribute` directly.

>>> get("numpy").name
'numpy'
>>> get("abacus")  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
waterlevel.reference.errors.BadInput: no backend is called 'abacus'; there are: numpy, numba, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..reference.errors import BadInput, WaterlevelError
from ..reference.operations import Operations
from ..reference.operations.numpy_operations import NumpyOperations

GROUP = "waterlevel.backends"


def _numba() -> Operations:
    from .numba_cpu.operations import NumbaOperations

    return NumbaOperations()


def _cupy() -> Operations:
    from .cupy.operations import CupyOperations

    return CupyOperations()


def _numba_cuda() -> Operations:
    from .numba_cuda.operations import NumbaCudaOperations

    return NumbaCudaOperations()


BUILT_IN: dict[str, Callable[[], Operations]] = {
    "numpy": NumpyOperations,
    "numba": _numba,
    "cupy": _cupy,
    "numba-cuda": _numba_cuda,
}


class Unusable(WaterlevelError):
    """A backend that cannot run here; the text says why, and what would help."""


@dataclass(frozen=True)
class Availability:
    """One line of `available`: a name, and why it cannot be used (None if it can)."""

    name: str
    reason: str | None


def get(name: str) -> Operations:
    """The backend of this name, or at `module:attribute`.

    Raises:
        BadInput: there is no such backend. Unusable: there is, but it cannot run here.
    """
    if ":" in name:
        return _from_module(name)
    factories = _factories()
    if name not in factories:
        raise BadInput(f"no backend is called {name!r}; there are: {', '.join(factories)}")
    return _checked(name, factories[name])


def available() -> list[Availability]:
    """Every backend that is built in or registered, usable or not."""
    found = []
    for name in _factories():
        try:
            get(name)
        except Unusable as reason:
            found.append(Availability(name, str(reason)))
        else:
            found.append(Availability(name, None))
    return found


def _factories() -> dict[str, Callable[[], Operations]]:
    registered = {entry.name: _loader(entry) for entry in entry_points(group=GROUP)}
    return {**registered, **BUILT_IN}


def _loader(entry: EntryPoint) -> Callable[[], Operations]:
    return lambda: entry.load()()


def _from_module(name: str) -> Operations:
    module, _, attribute = name.partition(":")
    try:
        named: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"backend {name!r} cannot be loaded: {error}") from None
    factory: Callable[[], Any] = named if callable(named) else lambda: named
    return _checked(name, factory)


def _checked(name: str, factory: Callable[[], Operations]) -> Operations:
    try:
        backend = factory()
    except WaterlevelError as reason:
        raise Unusable(str(reason)) from reason
    except Exception as error:
        raise Unusable(f"backend {name!r} cannot run here: {error}") from error
    missing = [
        operation
        for operation in sorted(vars(Operations))
        if not operation.startswith("_") and not hasattr(backend, operation)
    ]
    if missing:
        raise Unusable(f"backend {name!r} lacks the operations {', '.join(missing)}")
    return backend
