"""One shared array for all threads of a block in the simulator of numba.cuda.

The simulator makes a shared array at the first call from a line and finds it again for the others.
It looks and then writes, without a lock: two threads that come at once get an array each, and what
one writes into its own the others never see.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module

import numpy as np

LOCK = threading.Lock()


def share_safely() -> None:
    """Lets the simulator look and write under a lock, for arrays of a fixed size."""
    kernels = import_module("numba.cuda.simulator.kernelapi")

    def array(self, shape, dtype):
        assert shape != 0, "an array of dynamic size is not meant here"
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        with LOCK:
            if place not in self._allocations:
                number = kernels.numpy_support.as_dtype(dtype)
                self._allocations[place] = np.empty(shape, number)
            return self._allocations[place]

    kernels.FakeCUDAShared.array = array
