"""How does one program run on the arrays of every library?

NumPy, PyTorch, JAX, CuPy and others agree on the functions of the Python array API standard, up to
small differences that the package `array_api_compat` takes away. An algorithm asks its argument for
the library it comes from and calls that library's `round`, `max` and `@`. This is safe for bits
only where the result of a call does not depend on the library:

- **integers** in float64, as long as nothing exceeds 2⁵³ (`slices`): sums and matrix products;
- **one correctly rounded operation**, each element by itself: + - * / and rounding to integers.

Not safe: a square root (not always correctly rounded), a sum that rounds, numbers below 2⁻¹⁰²² (XLA
takes them for zero), and a division of many numbers by one: PyTorch on a GPU and XLA on a CPU
multiply by its rounded reciprocal, XLA even where a column divides a matrix. So the host takes
reciprocals itself, or both sides of a division are given the same shape. Vectors of n numbers and
scalars stay in NumPy on the host.

Worked example: an array of NumPy needs no other package.

>>> import numpy as np
>>> library = library_of(np.ones((2, 2), np.float32))
>>> library.put([[0.5, 2.0]])
array([[0.5, 2. ]])

Exercise: what does a number that binary32 holds become in float64, and why may it be widened
anywhere? (Check: itself; every binary32 number is a binary64 number, so no rounding takes place.)

>>> to_host(np.array([0.1], np.float32))[0] == np.float32(0.1)
np.True_

Source: Python array API standard, 2023.12.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BadInput

Array = Any  # of any library


@dataclass(frozen=True)
class Library:
    """The functions of an array library, and the device on which its arrays are made."""

    functions: Any
    device: Any = None

    def put(self, values: ArrayLike) -> Array:
        """Host numbers as float64 of the library, on its device."""
        host = np.require(values, np.float64, ["C", "W"])
        if self.device is None:
            return self.functions.asarray(host)
        return self.functions.asarray(host, device=self.device)

    def integers(self, array: Array) -> Array:
        """Whole numbers that fit, as int32."""
        return self.functions.astype(array, self.functions.int32, copy=True)


class _NumPy:
    """NumPy itself; its `astype` came with version 2.1."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def astype(array: NDArray, dtype: Any, copy: bool) -> NDArray:
        return array.astype(dtype, copy=copy)


def library_of(array: Array) -> Library:
    """The library that an array belongs to.

    Raises:
        BadInput: an array of no known library, `array_api_compat` missing, or no float64 there.
    """
    if isinstance(array, (np.ndarray, np.generic, list, tuple)):
        return Library(_NumPy())
    try:
        compat: Any = importlib.import_module("array_api_compat")
    except ModuleNotFoundError:
        raise BadInput(
            f"arrays of {type(array).__module__.partition('.')[0]} need the package "
            "array-api-compat; pip install 'waterlevel[order-free]', or pass NumPy arrays"
        ) from None
    try:
        library = Library(compat.array_namespace(array), compat.device(array))
    except TypeError:
        raise BadInput(f"weight is {type(array).__name__}, which is no array") from None
    _need_float64(library, type(array).__module__.partition(".")[0])
    return library


def _need_float64(library: Library, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX warns and gives float32
            wide = library.put([1.0]).dtype == library.functions.float64
    except (TypeError, RuntimeError, AttributeError):
        wide = False
    if not wide:
        remedy = "move the arrays to a device that has it"
        if name.startswith("jax"):
            remedy = 'call jax.config.update("jax_enable_x64", True) before any array is made'
        raise BadInput(f"{name} has no float64 here, which exact sums need; {remedy}")


def to_host(array: Array) -> NDArray[np.float64]:
    """The numbers of any array as float64 in NumPy, to be read; exact for narrower formats."""
    if hasattr(array, "detach"):  # torch: NumPy has no bfloat16
        array = array.detach().double().cpu().numpy()
    elif hasattr(array, "get") and hasattr(array, "device"):  # CuPy
        array = array.get()
    return np.asarray(array).astype(np.float64, copy=False)


def checked_matrix(name: str, array: Array) -> NDArray[np.float64]:
    """A matrix on the host, finite; raises BadInput otherwise."""
    host = to_host(array)
    if host.ndim != 2 or 0 in host.shape:
        raise BadInput(f"{name} has shape {host.shape}; it must be a matrix with rows and columns")
    finite = np.isfinite(host)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise BadInput(
            f"{name}[{row}, {column}] is {host[row, column]}; every element must be finite"
        )
    return host
