"""On which machine, with which libraries, was a report made?"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "safetensors")
GPU_LIBRARIES = ("cupy", "numba-cuda", "cuda-", "nvidia-")
DRIVER = Path("/proc/driver/nvidia/version")
THREADS = (
    "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES",
    "OMP_NUM_THREADS", "NPY_DISABLE_CPU_FEATURES",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """The machine and the software, ready for JSON; what cannot be told is None."""
    return {
        "processor": _processor_name(),
        "architecture": platform.machine(),
        "cores": _cores(),
        "features": _numpy_features(),
        "system": platform.system(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "byte_order": sys.byteorder,
        "libraries": _libraries(),
        "nvidia_driver": _nvidia_driver(),
        "settings": {name: os.environ[name] for name in THREADS if name in os.environ},
    }


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    for distribution in distributions():  # cupy-cuda12x and its like
        name = (distribution.metadata["Name"] or "").lower()
        if name.startswith(GPU_LIBRARIES):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def _nvidia_driver() -> str | None:
    """What the driver in the kernel calls itself; None without one."""
    with suppress(OSError):
        return DRIVER.read_text("utf-8", errors="replace").splitlines()[0].strip()
    return None


def _processor_name() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _numpy_features() -> list[str]:
    """The processor features that NumPy uses here, the baseline apart."""
    features: dict[str, bool] = {}
    with suppress(ImportError, AttributeError):
        from numpy._core._multiarray_umath import __cpu_features__

        features = __cpu_features__
    return sorted(name for name, there in features.items() if there)


def environment_line(found: dict[str, Any]) -> str:
    """The environment in one line for a terminal; parts of the CUDA toolkit stay in the report."""
    libraries = ", ".join(
        f"{name} {number}"
        for name, number in found["libraries"].items()
        if not name.startswith(("cuda-", "nvidia-"))
    )
    return (
        f"{found['processor'] or found['architecture']}, {found['cores']} cores, "
        f"{found['system']} on {found['architecture']}, Python {found['python']}, "
        f"{libraries or 'numpy ' + np.__version__}"
    )


def device_line(found: dict[str, Any]) -> str:
    """What a backend tells of its device (`backends.cuda.meter`), in one line.

    >>> device_line({"name": "A GPU", "compute_capability": "9.0", "memory": 8 * 10**10})
    'A GPU; compute capability 9.0, memory 80 GB'
    """
    said = {
        name.replace("_", " "): f"{value / 1e9:.0f} GB" if name == "memory" else str(value)
        for name, value in found.items()
        if name != "name"
    }
    return f"{found['name']}; " + ", ".join(f"{name} {value}" for name, value in said.items())
