"""Are these two tensors the same, bit by bit, and if not, where do they part?

The first question is asked of the memory, because nearly always the answer is yes. Only a no starts
the search for what somebody needs who is to mend a kernel: the first element that differs, both
values, how far apart they are, how many differ, and where the distance is largest.

Distances are counted in ULPs, here the number of steps from one floating-point number to the next
that lead from one value to the other. The steps go through zero, -0.0 and +0.0 being one place: two
zeros of different sign are 0 ulp apart and differ all the same. Infinity is the step after the
largest number. A NaN is nowhere, and NaNs are told apart by their bits. Between integers, the
distance is the difference.

>>> found = compare_bits(np.array([1.0, 2.0]), np.array([1.0, 2.0000000000000004]))
>>> print(found.message("example", "x"))
example: x[1] = 2.0000000000000004 (0x1.0000000000001p+1), expected 2.0 (0x1.0000000000000p+1); \
1 ulp; 1 of 2 differ
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """How an actual tensor differs from the expected one.

    Attributes:
        layout: that it is missing, or has another dtype or shape, in words; None where the
            elements differ, which the other attributes describe.
        index: of the first element that differs, in C order.
        expected, actual: its two values, as `describe_number` writes them.
        distance: between the two in ULPs (for integers their difference); None with a NaN.
        unit: "ulp", or "" for integers.
        count, size: how many elements differ, of how many.
        largest, largest_index: the largest distance that is defined, and where it is first found.
    """

    layout: str | None = None
    index: Index = ()
    expected: str = ""
    actual: str = ""
    distance: int | None = None
    unit: str = ""
    count: int = 0
    size: int = 0
    largest: int | None = None
    largest_index: Index = ()

    def message(self, case: str, output: str) -> str:
        """One line that needs no knowledge of the test."""
        if self.layout is not None:
            return f"{case}: {output} {self.layout}"
        parts = [
            f"{case}: {output}{place(self.index)} = {self.actual}, expected {self.expected}",
            "no distance, NaN" if self.distance is None else self._amount(self.distance),
            f"{self.count} of {self.size} differ",
        ]
        if self.largest is not None and self.largest_index != self.index:
            parts[-1] += f", at most {self._amount(self.largest)} at {place(self.largest_index)}"
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The attributes, ready for JSON."""
        return {
            "layout": self.layout,
            "index": list(self.index),
            "expected": self.expected,
            "actual": self.actual,
            "distance": self.distance,
            "unit": self.unit,
            "count": self.count,
            "size": self.size,
            "largest": self.largest,
            "largest_index": list(self.largest_index),
        }

    def _amount(self, distance: int) -> str:
        return f"{distance} {self.unit}" if self.unit else f"off by {distance}"


def compare_bits(expected: NDArray, actual: NDArray) -> Difference | None:
    """None if dtype, shape and every bit agree; else how they differ.

    Scalars are compared as arrays without dimensions. Byte order and strides do not matter.
    """
    expected, actual = _native(expected), _native(actual)
    if expected.dtype != actual.dtype:
        return Difference(layout=f"is {actual.dtype}, expected {expected.dtype}")
    if expected.shape != actual.shape:
        return Difference(
            layout=f"has shape {describe_shape(actual.shape)}, "
            f"expected {describe_shape(expected.shape)}"
        )
    if expected.tobytes() == actual.tobytes():
        return None
    places = np.flatnonzero(_differ(expected, actual))
    first = int(places[0])
    left, right = expected.reshape(-1)[places], actual.reshape(-1)[places]
    distances = distances_between(left, right)
    defined = np.flatnonzero(_comparable(left, right))
    largest, largest_place = None, first
    if len(defined):
        k = int(defined[np.argmax(distances[defined])])
        largest, largest_place = int(distances[k]), int(places[k])
    return Difference(
        index=_unravel(first, expected.shape),
        expected=describe_number(left[0]),
        actual=describe_number(right[0]),
        distance=int(distances[0]) if len(defined) and defined[0] == 0 else None,
        unit="ulp" if expected.dtype.kind == "f" else "",
        count=len(places),
        size=expected.size,
        largest=largest,
        largest_index=_unravel(largest_place, expected.shape),
    )


def compare_outputs(
    expected: Mapping[str, NDArray], actual: Mapping[str, NDArray]
) -> dict[str, Difference]:
    """The outputs that differ, are missing, or were not expected, by name."""
    found: dict[str, Difference] = {}
    for name in [*expected, *(name for name in actual if name not in expected)]:
        if name not in actual:
            found[name] = Difference(layout="is missing")
        elif name not in expected:
            found[name] = Difference(layout="is there, and was not expected")
        elif difference := compare_bits(expected[name], actual[name]):
            found[name] = difference
    return found


def share_equal(expected: Mapping[str, NDArray], actual: Mapping[str, NDArray]) -> float:
    """The share of elements of all expected outputs that `actual` has bit by bit, from 0 to 1.

    An output that is missing or of another dtype or shape has none of them. 1.0 only if all agree.

    >>> share_equal({"x": np.arange(4)}, {"x": np.array([0, 1, 2, 7])})
    0.75
    """
    total = equal = 0
    for name, tensor in expected.items():
        wanted = _native(tensor)
        total += max(1, wanted.size)  # an empty output is one thing that can be right or wrong
        found = None if name not in actual else _native(actual[name])
        if found is not None and (found.dtype, found.shape) == (wanted.dtype, wanted.shape):
            same = wanted.size - int(np.count_nonzero(_differ(wanted, found)))
            equal += same if wanted.size else 1
    extra = sum(name not in expected for name in actual)
    return equal / (total + extra) if total + extra else 1.0


def distances_between(left: NDArray, right: NDArray) -> NDArray[np.uint64]:
    """Distances between elements in ULPs, or differences of integers; without meaning for NaNs.

    Args:
        left, right: of the same dtype and shape; float16, float32, float64, integers, booleans.

    >>> distances_between(np.array([-0.0, -5e-324, 1.0]), np.array([0.0, 5e-324, 2.0])).tolist()
    [0, 2, 4503599627370496]
    """
    if left.dtype.kind == "f":
        left, right = _ordinal(left), _ordinal(right)
    elif left.dtype.kind == "u":
        return np.where(left > right, left - right, right - left).astype(np.uint64)
    wide, other = left.astype(np.int64), right.astype(np.int64)
    greater, less = np.maximum(wide, other), np.minimum(wide, other)
    return greater.view(np.uint64) - less.view(np.uint64)  # modulo 2⁶⁴, so it cannot overflow


def describe_number(value: Any) -> str:
    """A number as the shortest decimal that reads back to it, and as C writes it in hexadecimal.

    >>> describe_number(np.float32(0.1)), describe_number(np.int32(-3))
    ('0.1 (0x1.99999a0000000p-4)', '-3')
    >>> describe_number(np.float64("nan"))
    'nan (bits 0x7ff8000000000000)'
    """
    number = np.asarray(value)
    if number.dtype.kind != "f":
        return str(number.item())
    if np.isnan(number):
        return f"nan (bits 0x{int(_bits(number)):0{2 * number.dtype.itemsize}x})"
    return f"{number[()]!s} ({float(number).hex()})"


def describe_shape(shape: tuple[int, ...]) -> str:
    """A shape as a×b.

    >>> describe_shape((3, 4)), describe_shape(())
    ('3×4', '()')
    """
    return "×".join(map(str, shape)) or "()"


def place(index: Index) -> str:
    """An index as it stands behind the name of a tensor; nothing for a scalar.

    >>> place((3, 4)), place(())
    ('[3, 4]', '')
    """
    return str(list(index)) if index else ""


def _native(tensor: NDArray) -> NDArray:
    array = np.asarray(tensor)
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _bits(tensor: NDArray) -> NDArray:
    return tensor.view(f"u{tensor.dtype.itemsize}")


def _differ(expected: NDArray, actual: NDArray) -> NDArray[np.bool_]:
    if expected.dtype.kind == "f":
        return _bits(expected).reshape(-1) != _bits(actual).reshape(-1)
    return expected.reshape(-1) != actual.reshape(-1)


def _comparable(left: NDArray, right: NDArray) -> NDArray[np.bool_]:
    return (left == left) & (right == right)  # no NaN


def _ordinal(values: NDArray) -> NDArray[np.int64]:
    """The place of each number in the ascending order of all of them; 0 for both zeros."""
    signed = values.view(f"i{values.dtype.itemsize}").astype(np.int64)
    lowest = -(1 << (8 * values.dtype.itemsize - 1))
    return np.where(signed < 0, lowest - signed, signed)


def _unravel(position: int, shape: tuple[int, ...]) -> Index:
    return tuple(int(i) for i in np.unravel_index(position, shape)) if shape else ()
