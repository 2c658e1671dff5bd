"""How do the kernels become machine code, and where is it kept?

NVRTC, the compiler that CuPy itself depends on, turns each `.cu` file into a cubin for the device
at hand, once for each float dtype. CuPy's own way of compiling is not taken: it appends `-ftz=true`
to every option, and float32 subnormals would be flushed to zero. The cubin is kept on disk under a
name that is a digest of all that went into it, so a change of a source, an option or the version
of NVRTC (13.0, say) never meets old code.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...reference.errors import WaterlevelError
from ..compiled_code import CACHE_VARIABLE, cache_folder

KERNELS = Path(__file__).parent / "kernels"
EXACT = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")


def cubin(nvrtc: Any, source: str, dtype: np.dtype, architecture: str) -> Path:
    """The machine code of `<source>.cu` for one float dtype, compiled unless it is there.

    Args:
        nvrtc: the module `cupy.cuda.nvrtc`. architecture: for instance "sm_90".

    Raises:
        WaterlevelError: the compiler refuses, or the cache cannot be written.
    """
    options = options_of(dtype, architecture)
    digest = hashlib.sha256(repr((options, nvrtc.getVersion())).encode())
    for path in (*sorted(KERNELS.glob("*.cuh")), KERNELS / f"{source}.cu"):
        digest.update(path.read_bytes())
    target = (
        cache_folder("cupy")
        / f"{source}-{dtype.name}-{architecture}-{digest.hexdigest()[:32]}.cubin"
    )
    if not target.exists():
        _write_whole(target, compile_kernels(nvrtc, source, options, nvrtc.getCUBIN))
    return target


def options_of(dtype: np.dtype, architecture: str) -> tuple[str, ...]:
    """What NVRTC is told."""
    defines = ("-DWATERLEVEL_FLOAT32",) if dtype == np.float32 else ()
    return ("--std=c++17", f"--gpu-architecture={architecture}", *EXACT, *defines)


def compile_kernels(
    nvrtc: Any, source: str, options: tuple[str, ...], result: Callable[[Any], bytes]
) -> bytes:
    """What `result`, `nvrtc.getCUBIN` or `nvrtc.getPTX`, returns for `<source>.cu`.

    Raises:
        WaterlevelError: the compiler refuses.
    """
    text = (KERNELS / f"{source}.cu").read_text("utf-8")
    program = nvrtc.createProgram(text, f"{source}.cu", [], [])
    try:
        nvrtc.compileProgram(program, (*options, f"--include-path={KERNELS}"))
        return result(program)
    except nvrtc.NVRTCError as error:
        complaint = " ".join(nvrtc.getProgramLog(program).split())[:200]
        raise WaterlevelError(
            f"NVRTC cannot compile {source}.cu ({error}: {complaint}); "
            "does the version of CUDA know this device?"
        ) from error
    finally:
        nvrtc.destroyProgram(program)


def _write_whole(target: Path, content: bytes) -> None:
    """Write beside and rename, so that no other process ever reads a part."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(beside, target)
        except OSError:
            os.unlink(beside)
            raise
    except OSError as error:
        raise WaterlevelError(
            f"compiled kernels cannot be kept in {target.parent} ({error.strerror}); "
            f"set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
