"""How this backend compiles: the decorators of its kernels.

Division by zero follows IEEE 754, nothing may be reordered or fused, compiled code is kept on disk.
Numba compiles a kernel for the types of its arguments at its first call: every combination of types
once, and a constant in a call counts as a type of its own. So kernels pass variables.
"""

from __future__ import annotations

from collections.abc import Callable
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
        return kernel

    return decorated


serial = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # called by other kernels alone
task = _compiled(no_cpython_wrapper=True)  # called by address: `numba_threads`
entry = _compiled(no_cfunc_wrapper=True)
parallel = _compiled(no_cfunc_wrapper=True, parallel=True)
