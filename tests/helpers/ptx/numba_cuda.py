"""The backend numba-cuda with kernels that run: its compiled PTX, translated, in place of launches.

As a program, under the driver of `driver_without_device.c`, it prints JSON: what differs from the
oracle, by trial, golden case and layer, and which kernels were never launched. With the argument
`barriers` it leaves out each barrier once instead, with `layers` it takes large layers.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from waterlevel.backends.numba_cuda import launch, operations, peak
from waterlevel.reference.operations.numpy_operations import NUMPY

from ..cuda_emulator import complaint, fits_any_device
from ..numba_cuda_code import compiled, import_kernels
from . import build_programs, permit
from .golden import LARGE_LAYERS, case_differences, layer_differences
from .translator import Translated, translate
from .trials import barriers_missed, difference, trials


def translated() -> tuple[dict[str, list[Translated]], dict[int, tuple[str, str]]]:
    """By dtype, all kernels; and for the id of each `Kernel` its library and its name there."""
    import_kernels()
    programs: dict[str, list[Translated]] = {"float64": [], "float32": []}
    places = {}
    for factory, dtypes in launch.FACTORIES:
        for dtype in dtypes:
            for name, kernel in vars(factory(dtype)).items():
                library = "float32" if dtype is np.float32 else "float64"
                module = factory.__module__.rpartition(".")[2]
                label = f"{module}_{name}_{np.dtype(dtype).name}"
                known = programs[library]
                first = known[-1].barriers.stop if known else 0
                known += translate(compiled(kernel.function, kernel.types), first, label)
                places[id(kernel)] = library, label
    return programs, places


class Launcher:
    """What a launch of a `Kernel` does here."""

    def __init__(
        self, libraries: dict[str, ctypes.CDLL], places: dict[int, tuple[str, str]]
    ) -> None:
        self.libraries, self.places = libraries, places
        self.launched: dict[str, int] = {}

    def launch(self, kernel, blocks, threads, *arguments) -> None:
        grid, block = (part if isinstance(part, tuple) else (part,) for part in (blocks, threads))
        if 0 in grid:
            return
        name, label = self.places[id(kernel)]
        library = self.libraries[name]
        assert fits_any_device(grid, block), f"{label}: no device has {grid} blocks of {block}"
        numbers = [
            np.dtype(str(kind)).type(argument) if isinstance(argument, int) else argument
            for kind, argument in zip(kernel.types, arguments, strict=True)
        ]
        words = [
            np.uint64(word) if isinstance(word, int) else word for word in launch.words_of(numbers)
        ]
        sizes = (ctypes.c_int * 128)()
        count = getattr(library, f"describe_{label}")(sizes)
        given = [word.dtype.itemsize for word in words]
        assert given == list(sizes[:count]), f"{label} takes {list(sizes[:count])}, not {given}"
        arrays = [array for array in arguments if not isinstance(array, int | np.generic)]
        memory = {(a.device_ctypes_pointer.value, a.size * a.dtype.itemsize) for a in arrays}
        permit(library, sorted((start, size) for start, size in memory if size))
        cells = [np.array(word) for word in words]
        pointers = (ctypes.c_void_p * count)(*(cell.ctypes.data for cell in cells))
        shape = [(ctypes.c_uint * 3)(*(*map(int, part), 1, 1)[:3]) for part in (grid, block)]
        self.launched[label] = self.launched.get(label, 0) + 1
        turn = self.launched[label] % 2
        failed = getattr(library, f"launch_{label}")(*shape, pointers, turn, 0)
        assert not failed, f"{label}: {complaint(library)}"


def main() -> int:
    programs, places = translated()
    with tempfile.TemporaryDirectory() as folder:
        launcher = Launcher(build_programs(Path(folder), programs), places)
    launch.Kernel.__call__ = lambda kernel, *arguments: launcher.launch(kernel, *arguments)
    backend = operations.NumbaCudaOperations()  # which checks the device
    if sys.argv[1:] == ["barriers"]:
        missed = barriers_missed(launcher.libraries, programs, backend, NUMPY)
        print(json.dumps(dict(zip(("unreached", "unnoticed", "noticed"), missed, strict=True))))
        return 0
    if sys.argv[1:] == ["layers"]:
        print(json.dumps(layer_differences(backend, LARGE_LAYERS)))
        return 0
    found = {}
    for dtype in (np.float64, np.float32):
        peak.subtract_in_registers(dtype, 2, 5)
        for name, trial in trials(dtype).items():
            found[f"{name} {np.dtype(dtype).name}"] = difference(trial, backend, NUMPY)
    found |= case_differences(backend) | layer_differences(backend)
    never = sorted({label for _, label in places.values()} - set(launcher.launched))
    print(json.dumps({"found": found, "never": never}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
