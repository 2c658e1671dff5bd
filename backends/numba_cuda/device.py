"""Can this backend run here, and what is said when it cannot?

Every answer is one line of a `WaterlevelError`; nothing falls back to another device. Numba itself
ships an older `numba.cuda`, which is used for its simulator alone: a device needs the package
numba-cuda. The simulator runs only where NUMBA_ENABLE_CUDASIM asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...reference.errors import WaterlevelError
from ...reference.operations import Operations
from ...reference.operations.numpy_operations import NUMPY

INSTALL = "pip install 'waterlevel[cuda13]' (or [cuda12], as the driver needs)"
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


def require_package() -> None:
    """Numba's CUDA target, or its simulator where that was asked for, can be imported and used.

    Raises:
        WaterlevelError: it cannot; the text says why.
    """
    simulator_wanted = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    package = "numba" if simulator_wanted else "numba_cuda"
    if find_spec(package) is None:
        name = package.replace("_", "-")
        raise WaterlevelError(f"backend numba-cuda needs the package {name}: {INSTALL}")
    try:
        config, cuda = import_module("numba").config, import_module("numba.cuda")
    except ImportError as error:
        raise WaterlevelError(
            f"backend numba-cuda cannot import numba.cuda ({_one_line(error)}): {INSTALL}"
        ) from error
    if bool(config.ENABLE_CUDASIM) != simulator_wanted:
        raise WaterlevelError(
            "backend numba-cuda found Numba's simulator in place of a device, or the reverse; set "
            "NUMBA_ENABLE_CUDASIM=1 for the simulator or unset it, before numba is imported"
        )
    if not cuda.is_available():
        raise WaterlevelError(
            f"backend numba-cuda finds no usable CUDA device ({_driver_reason()}); it needs an "
            "NVIDIA GPU and a driver that supports the installed CUDA version"
        )


def _driver_reason() -> str:
    try:
        import_module("numba.cuda").get_current_device()
    except Exception as error:  # whatever the driver or its loader has to say
        return _one_line(error)
    return "the driver gives no reason"


def check_device(backend: Operations) -> None:
    """A few numbers that show contraction, flushing to zero and wrong divisions.

    Raises:
        WaterlevelError: the device gives other bits than the oracle, or nothing at all.
    """
    for dtype in (np.float64, np.float32):
        epsilon, tiny = np.finfo(dtype).eps, np.finfo(dtype).smallest_subnormal
        left = np.array([[1 + epsilon, 1 + epsilon], [3 * tiny, tiny]], dtype)
        right = np.array([[1 + epsilon, 1], [-1 - epsilon, 1]], dtype)

        def bits(
            operations: Operations, left: Any = left, right: Any = right, dtype: Any = dtype
        ) -> bytes:
            A, B = operations.from_host(left, dtype), operations.from_host(right, dtype)
            product = operations.to_host(operations.matmul(A, B))
            return product.tobytes() + operations.to_host(operations.divide(A, 3.0)).tobytes()

        if bits(backend) != bits(NUMPY):
            raise WaterlevelError(
                f"backend numba-cuda gives other bits than the oracle in {np.dtype(dtype).name} on "
                "this device; update the driver and numba-cuda, or use another backend"
            )


def guarded(operations: type) -> type:
    """The class with every operation guarded: what CUDA reports becomes one line for the user."""
    for name, method in list(vars(operations).items()):
        if callable(method) and not (name.startswith("_") and name != "__init__"):
            setattr(operations, name, _guarded(method))
    return operations


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except WaterlevelError:
            raise
        except Exception as error:
            reason = _reason(error)
            if reason is None:
                raise
            raise WaterlevelError(f"backend numba-cuda: {reason}") from error

    return call


def _reason(error: Exception) -> str | None:
    """What to tell of an error of CUDA; None for any other, which is a fault of this package."""
    no_memory = getattr(error, "code", None) == OUT_OF_MEMORY or "OUT_OF_MEMORY" in str(error)
    if isinstance(error, MemoryError) or no_memory:
        return (
            "the device is out of memory; free some, take a smaller layer or fewer rows, or use "
            "--backend numba"
        )
    if type(error).__name__ in CUDA_ERRORS:
        return (
            f"the CUDA device or its driver failed ({_one_line(error)}); the input is unchanged: "
            "run it again in a new process, or use --backend numba"
        )
    return None


# By name: Numba keeps some in modules that other versions, and the simulator, do not have. Launches
# and compilers go through the package cuda-core, whose errors are no relatives of Numba's.
CUDA_ERRORS = (
    "CUDAError",
    "NVRTCError",
    "nvJitLinkError",
    "nvvmError",
    "CudaAPIError",
    "CudaDriverError",
    "CudaRuntimeError",
    "CudaSupportError",
    "CCSupportError",
    "LinkerError",
    "NvrtcError",
    "NvrtcCompilationError",
    "NvrtcSupportError",
    "NvvmError",
    "NvvmSupportError",
)


def _one_line(error: BaseException) -> str:
    """Its first sentence; cuda-core explains at length."""
    return " ".join(str(error).split()).partition(". ")[0].rstrip(" :.")
