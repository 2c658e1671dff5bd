"""How this backend compiles: the decorators of its kernels.

Division by zero follows IEEE 754, nothing may be reordered or fused, compiled code is kept on disk.
Numba compiles a kernel for the types of its arguments at its first call: every combination of types
once, and a constant in a call counts as a type of its own. So kernels pass variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...reference.arithmetic import sums

Array = NDArray[Any]

_numba: Any = import_module("numba")


def _digest() -> str:
    """Of all source that machine code of this backend is made of."""
    kernels = sorted(Path(__file__).parent.glob("*.py"))
    digest = sha256()
    for source in (*kernels, Path(sums.__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


_SOURCE = _digest()


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's decorator for a kernel.

    Its cache drops machine code when the file changes in which the kernel stands, but keeps it when
    something changes that the kernel imports: after an update of this package old machine code
    would run. So the stamp that it compares is the digest of all source instead.
    """
    decorate = _numba.njit(
        cache=True,
        error_model="numpy",
        fastmath=False,
        nogil=True,
        **options,
    )

    def decorated(function: Callable[..., Any]) -> Any:
        kernel = decorate(function)
        kernel._cache._cache_file._source_stamp = _SOURCE
        _forgive(kernel._cache)
        return kernel

    return decorated


_COMPLAINTS: list[str] = []


def _forgive(kept: Any) -> None:
    """A cache that is damaged or can't be written to costs a compilation and a line, no result."""

    def forgiving(access: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any) -> Any:
            try:
                return access(*arguments)
            except Exception as error:  # what unpickling noise may raise is not limited
                with suppress(Exception):
                    kept.flush()  # an empty index: the next run keeps its code again
                _complain(f"{type(error).__name__}: {error}")
                return None

        return attempt

    kept.load_overload = forgiving(kept.load_overload)
    kept.save_overload = forgiving(kept.save_overload)


def _complain(reason: str) -> None:
    _COMPLAINTS.append(reason)
    if len(_COMPLAINTS) == 1 and sys.stderr is not None:
        print(f"Numba's cache of compiled code was of no use: {reason}", file=sys.stderr)


serial = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # called by other kernels alone
task = _compiled(no_cpython_wrapper=True)  # called by address: `numba_threads`
entry = _compiled(no_cfunc_wrapper=True)
parallel = _compiled(no_cfunc_wrapper=True, parallel=True)
