"""How this backend compiles: the decorators of its kernels.

Division by zero follows IEEE 754, nothing may be reordered or fused, compiled code is kept on disk.
Numba compiles a kernel for the types of its arguments at its first call: every combination of types
once, and a constant in a call counts as a type of its own. So kernels pass variables.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from .machine_code import keep

Array = NDArray[Any]

LOWEST = (0, 62)  # older ones bring LLVM 15, which knows no `ptr` and compiles the kernels wrongly

_numba: Any = import_module("numba")
if _numba.version_info.short < LOWEST:
    raise WaterlevelError(
        f"backend numba needs Numba {LOWEST[0]}.{LOWEST[1]} or later, and {_numba.__version__} is "
        "installed: pip install --upgrade 'waterlevel[numba]'"
    )


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's decorator for a kernel, whose machine code is kept where `machine_code` says."""
    decorate = _numba.njit(error_model="numpy", fastmath=False, nogil=True, **options)

    def decorated(function: Callable[..., Any]) -> Any:
        kernel = decorate(function)
        keep(kernel)
        return kernel

    return decorated


serial = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # called by other kernels alone
task = _compiled(no_cpython_wrapper=True)  # called by address: `threads`
entry = _compiled(no_cfunc_wrapper=True)
parallel = _compiled(no_cfunc_wrapper=True, parallel=True)
