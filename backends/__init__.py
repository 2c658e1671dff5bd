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

import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
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
    """The backend of this name, or at `module:attribute`, or at `file.py:attribute`.

    A module is looked for in the current folder, too, after all others.

    Raises:
        BadInput: there is no such backend. Unusable: there is, but it cannot run here.
    """
    if ":" in name:
        return _from_module(name)
    factories = _factories()
    if name not in factories:
        close = difflib.get_close_matches(name.lower(), factories, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise BadInput(f"no backend is called {name!r}{hint}; there are: {', '.join(factories)}")
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
    named = attribute(name, "backend")
    factory: Callable[[], Any] = named if callable(named) else lambda: named
    return _checked(name, factory)


def attribute(name: str, what: str) -> Any:
    """What stands at `module:attribute` or `file.py:attribute`.

    Args:
        what: it should be, for the message.

    Raises:
        BadInput: it cannot be loaded.
    """
    module, _, wanted = name.rpartition(":")
    file = Path(module)
    folder = str(file.resolve().parent if file.suffix == ".py" else Path.cwd())
    if folder not in sys.path:  # last, so that nothing that is installed is hidden
        sys.path.append(folder)
    try:
        loaded = _from_file(file) if file.suffix == ".py" else import_module(module)
        return getattr(loaded, wanted)
    except Exception as error:  # a foreign module may raise anything
        kind = "" if isinstance(error, ImportError | AttributeError) else type(error).__name__ + " "
        raise BadInput(f"{what} {name!r} cannot be loaded: {kind}{error}") from None


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ImportError(f"there is no file {file}")
    spec = spec_from_file_location(file.stem, file.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)  # where dataclasses and pickle look for it
    spec.loader.exec_module(module)
    return module


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
