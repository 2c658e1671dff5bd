"""How is a quantiser called that somebody else wrote, and what is taken from what it returns?

It is a callable `(weight, covariance, **parameters)`: two NumPy arrays, a×n and n×n, and those of
the parameters of `waterlevel.gptq` that its signature names. It returns whatever it has of

| name | what | shape |
|---|---|---|
| `dequantized` | Ŵ | a×n |
| `codes` | integers | a×n |
| `scale` | s | a number, a, a×1, a×groups or a×n |
| `zero` | the code that stands for 0 | as `scale` |
| `group` | the group of each column | n |

as a mapping, as an object with such attributes, or Ŵ alone. Arrays may be PyTorch tensors or
anything else that NumPy takes. Codes may count from 0 or from -2^(b-1). All else is derived.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...backends import attribute
from ...reference.errors import BadInput, WaterlevelError
from ...reference.operations.layer import on_host
from ..support.comparison import describe_shape
from ..support.console import one_line

NAMES = ("dequantized", "codes", "scale", "zero", "group")
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


class NoAnswer(WaterlevelError):
    """What came back is no answer; the text says in one line what it was."""


class NotTaken(WaterlevelError):
    """The quantiser raised NotImplementedError: it does not do what is asked for."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a quantiser made of a layer.

    Attributes:
        dequantized: Ŵ, a×n. codes: counted from 0, or None. scale, zero: a×n, or None.
        dtype: the name of that of Ŵ.
    """

    dequantized: NDArray
    codes: NDArray | None
    scale: NDArray | None
    zero: NDArray | None
    dtype: str


@dataclass(frozen=True)
class Quantizer:
    """A callable under a name.

    Attributes:
        parameters: the names that it takes; None for any.
    """

    name: str
    call: Callable[..., Any]
    parameters: frozenset[str] | None

    def takes(self, name: str) -> bool:
        """Whether a parameter can be handed to it."""
        return self.parameters is None or name in self.parameters

    def __call__(
        self, weight: NDArray, covariance: NDArray, parameters: Mapping[str, Any], bits: int | None
    ) -> Answer:
        """Its answer.

        Args:
            bits: of the grid that was asked for; None for a float format.

        Raises:
            NotTaken: it says that it does not do this.
            NoAnswer: it failed, or returned something that is no answer.
        """
        given = {name: value for name, value in parameters.items() if self.takes(name)}
        try:
            returned = self.call(weight.copy(), covariance.copy(), **given)
        except NotImplementedError as error:
            raise NotTaken(one_line(error) or "not implemented") from None
        except Exception as error:  # a foreign function may raise anything
            raise NoAnswer(f"failed with {type(error).__name__}: {one_line(error)}") from None
        return answer_of(returned, weight.shape, bits)


def load_quantizer(name: str) -> Quantizer:
    """The callable at `module:function` or `file.py:function`.

    Raises:
        BadInput: it is not there, or is no callable of (weight, covariance, …).
    """
    if ":" not in name:
        raise BadInput(
            f"quantizer {name!r}: name it as module:function or ./file.py:function, a callable "
            "(weight, covariance, **parameters)"
        )
    found = attribute(name, "quantizer")
    if not callable(found):
        raise BadInput(f"quantizer {name!r} is a {type(found).__name__}, expected a function")
    return as_quantizer(name, found)


def as_quantizer(name: str, call: Callable[..., Any]) -> Quantizer:
    """A callable with what its signature says; BadInput if two arrays cannot be handed to it."""
    try:
        signature = inspect.signature(call)
        signature.bind_partial(None, None)
    except (TypeError, ValueError):
        raise BadInput(f"quantizer {name!r} must take (weight, covariance, …)") from None
    taken = list(signature.parameters.values())
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken):
        return Quantizer(name, call, None)
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return Quantizer(name, call, frozenset(p.name for p in taken if p.kind in kinds))


def answer_of(returned: Any, shape: tuple[int, ...], bits: int | None) -> Answer:
    """What was returned, with everything in a shape of its own.

    Raises:
        NoAnswer: something in it is not as the table above has it.
    """
    parts = _parts(returned)
    given = {name: _array(name, value) for name, value in parts.items()}
    arrays = {name: array for name, (array, _) in given.items()}
    for name in ("dequantized", "codes"):
        if name in arrays and arrays[name].shape != shape:
            raise NoAnswer(
                f"{name} has shape {describe_shape(arrays[name].shape)}, expected "
                f"{describe_shape(shape)}"
            )
    group = _group(arrays.get("group"), shape[1])
    scale, zero = (_spread(name, arrays.get(name), group, shape) for name in ("scale", "zero"))
    codes = arrays.get("codes")
    if codes is not None and not np.array_equal(codes, np.rint(codes.astype(np.float64))):
        raise NoAnswer("codes are not whole numbers")
    if codes is not None and bits is not None:
        codes = codes.astype(np.int64)
        # Codes below 0 beside a zero point that is not are beyond the grid, and no signed ones.
        signed = codes.min() < 0 if zero is None else zero.min() < 0 or not zero.any()
        zero = None if zero is None else zero.astype(np.float64)
        if signed:
            codes = codes + (1 << (bits - 1))
            zero = None if zero is None else zero + (1 << (bits - 1))
    values, dtype = given.get("dequantized", (None, ""))
    if values is None:
        if codes is None or scale is None or bits is None:
            raise NoAnswer(f"Ŵ cannot be had from {', '.join(parts)}: return dequantized as well")
        middle = np.float64(1 << (bits - 1)) if zero is None else zero
        values = scale * (codes - middle).astype(scale.dtype)
        dtype = str(values.dtype)
    if not np.isfinite(values).all():
        i, j = np.argwhere(~np.isfinite(values))[0]
        raise NoAnswer(f"dequantized[{i}, {j}] is {values[i, j]}")
    return Answer(values, codes if bits is not None else None, scale, zero, dtype)


def _parts(returned: Any) -> dict[str, Any]:
    if returned is None:
        raise NoAnswer("returned None, expected Ŵ or a mapping with dequantized, codes, scale, …")
    if isinstance(returned, Mapping):
        found = {name: returned[name] for name in NAMES if returned.get(name) is not None}
        has = ", ".join(map(str, returned)) or "nothing"
    elif hasattr(returned, "shape") or isinstance(returned, list):
        return {"dequantized": returned}
    elif isinstance(returned, tuple) and not hasattr(returned, "_fields"):
        raise NoAnswer(
            f"returned {len(returned)} things without names; return a mapping with some of "
            f"{', '.join(NAMES)}"
        )
    else:
        scales = getattr(returned, "scales", None)  # as the results of this package have them
        places = (returned, scales)
        found = {
            name: value
            for name in NAMES
            if (value := next((getattr(p, name) for p in places if hasattr(p, name)), None))
            is not None
        }
        has = f"a {type(returned).__name__}"
    if not found:
        raise NoAnswer(f"returned {has}, which has none of {', '.join(NAMES)}")
    return found


def _array(name: str, value: Any) -> tuple[NDArray, str]:
    """As a NumPy array of numbers, and the name of the dtype that it had."""
    try:
        kind = str(getattr(value, "dtype", "")).rpartition(".")[2]
        array = on_host(name, value)
    except Exception as error:  # a foreign object may raise anything
        raise NoAnswer(f"{name} is no array ({type(error).__name__}: {one_line(error)})") from None
    if array.dtype.kind not in "fiu" and kind != "bfloat16":
        raise NoAnswer(f"{name} has dtype {array.dtype}, expected numbers")
    if kind == "bfloat16":
        array = array.astype(np.float32)
    return array, kind or str(array.dtype)


def _group(group: NDArray | None, columns: int) -> NDArray[np.int64] | None:
    if group is None:
        return None
    if group.shape != (columns,):
        raise NoAnswer(f"group has shape {describe_shape(group.shape)}, expected {columns}")
    return group.astype(np.int64)


def _spread(
    name: str, array: NDArray | None, group: NDArray[np.int64] | None, shape: tuple[int, ...]
) -> NDArray | None:
    """One number for each weight, where there is one for each row, group, or all."""
    if array is None:
        return None
    rows, columns = shape
    if array.ndim == 0 or array.size == 1:
        return np.full(shape, array.reshape(()))
    if array.shape == (rows,):
        array = array[:, None]
    if array.ndim != 2 or array.shape[0] not in (1, rows):
        raise NoAnswer(
            f"{name} has shape {describe_shape(array.shape)}, expected {rows}×groups, {rows}×1 or "
            f"{describe_shape(shape)}"
        )
    array = np.broadcast_to(array, (rows, array.shape[1]))
    if array.shape[1] == columns:
        return np.ascontiguousarray(array)
    of_column = np.arange(columns) // -(-columns // array.shape[1]) if group is None else group
    if of_column.min() < 0 or of_column.max() >= array.shape[1]:
        least, most = int(of_column.min()), int(of_column.max())
        raise NoAnswer(f"group goes from {least} to {most}; {name} has {array.shape[1]} groups")
    return array[:, of_column]
