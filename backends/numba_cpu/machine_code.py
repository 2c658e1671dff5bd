"""Where does Numba keep the machine code of this backend, and when does it compile anew?

Numba would keep it beside the source, that is in the package, where an uninstallation leaves it
behind, and would drop it when the file changes in which a kernel stands, but not when something
changes that the kernel imports: after an update of this package old machine code would run. So the
code is kept in `compiled_code.cache_folder`, in a folder whose name is a digest of everything that
it is made of. What Numba adds by itself are the types of the arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ...reference.arithmetic import sums
from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import WaterlevelError
from ..compiled_code import cache_folder

_numba: Any = import_module("numba")
_llvmlite: Any = import_module("llvmlite")
_caching: Any = import_module("numba.core.caching")
_target: Any = import_module("numba.core.registry").cpu_target.target_context


def _stamp() -> str:
    """The contract, the versions of what compiles, the processor, a digest of all source."""
    made_of = (
        CONTRACT_VERSION, _own_version(), _numba.__version__, _llvmlite.__version__, np.__version__,
        sys.version, _target.codegen().magic_tuple(),
    )  # fmt: skip
    digest = sha256(repr(made_of).encode())
    for source in (*sorted(Path(__file__).parent.glob("*.py")), Path(sums.__file__)):
        digest.update(source.read_bytes())
    return f"contract-{CONTRACT_VERSION}-numba-{_numba.__version__}-{digest.hexdigest()[:32]}"


def _own_version() -> str:
    try:
        return version("waterlevel")
    except PackageNotFoundError:  # the source alone, which is digested
        return "uninstalled"


STAMP = _stamp()


def keep(kernel: Any) -> None:
    """Give a kernel that is not compiled yet its place on disk.

    Without a home it has none, and is compiled in every process.
    """
    try:
        folder = cache_folder("numba") / STAMP
    except WaterlevelError as error:
        _complain(str(error))
    else:
        kernel._cache = _Cache(kernel.py_func, folder)


class _Place(_caching._CacheLocator):
    def __init__(self, function: Any, folder: Path) -> None:
        self._folder = folder
        self._py_file = function.__code__.co_filename  # which Numba names in warnings
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return STAMP

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Named(_caching.CompileResultCacheImpl):
    """How the files of a function are called, and what is in them: as Numba does it elsewhere."""

    def __init__(self, function: Any, folder: Path) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Place(function, folder)
        name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


class _Cache(_caching.FunctionCache):
    """Numba's cache of a function in a folder of ours.

    A cache that is damaged or can't be written to costs a compilation and a line, no result.
    """

    def __init__(self, function: Any, folder: Path) -> None:
        self._impl_class = partial(_Named, folder=folder)
        super().__init__(function)

    def load_overload(self, *arguments: Any) -> Any:
        return self._attempt(super().load_overload, *arguments)

    def save_overload(self, *arguments: Any) -> None:
        self._attempt(super().save_overload, *arguments)

    def _attempt(self, access: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return access(*arguments)
        except Exception as error:  # what unpickling noise may raise is not limited
            with suppress(Exception):
                self.flush()  # an empty index: the next run keeps its code again
            _complain(f"{type(error).__name__}: {error}")
            return None


_COMPLAINTS: list[str] = []


def _complain(reason: str) -> None:
    _COMPLAINTS.append(reason)
    if len(_COMPLAINTS) == 1 and sys.stderr is not None:
        print(f"Numba's cache of compiled code was of no use: {reason}", file=sys.stderr)
