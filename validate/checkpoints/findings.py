"""What can be seen in one quantised weight, with the weight before quantisation beside it.

Each check returns its evidence in one line, or nothing. Thresholds are far from what a correct
quantiser does and from what the fault does; each is stated where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .description import QuantizedWeight, even_groups
from .elements import ELEMENTS

# A scale rounded to bfloat16 after the codes were decided moves v/s by at most 2^-8 of its size, 8
# on 4 bits: by 1/32, a code changes in at most 3 % of the weights, and in .5 % on average over the
# grid (mean |v/s| about 3, mean rounding a quarter of the spacing). Calibration changes far more.
SAME_CODES = 0.98
ANOTHER_READING = 0.25  # of the squared error; a wrong zero point alone costs several spacings²
UNUSED = 0.25  # of the codes of a grid of at most 4 bits: bell-shaped weights use them all
SATURATED = 0.02  # of the weights; the MSE search clips fewer than 1 in 100
WASTED = 0.5  # of the groups use at most half of the grid
SUBNORMAL = 0.01  # of the scales
# A wrong reading shows in any row: some are enough, and many readings are tried.
SAMPLE = 256  # rows
CALIBRATED = ("gptq", "awq", "int", "pack-quantized", "nvfp4", "mxfp4-pack")
SMALLEST_NORMAL = {"F16": 2.0**-14, "F8_E4M3": 2.0**-6, "BF16": 2.0**-126, "F32": 2.0**-126}


@dataclass(frozen=True)
class Finding:
    """What is wrong, by name; in which weight (or the whole model); how it shows."""

    name: str
    where: str
    evidence: str


def relative_error(dequantized: NDArray[np.float32], original: NDArray) -> float:
    """|Ŵ - W|²/|W|², in float64; 0 for W = 0 = Ŵ."""
    energy = float(np.einsum("ij,ij->", original, original, dtype=np.float64))
    difference = dequantized - original
    error = float(np.einsum("ij,ij->", difference, difference, dtype=np.float64))
    return error / energy if energy else (0.0 if error == 0 else float("inf"))


def entropy(codes: NDArray) -> float:
    """Of all codes together, bits per weight (float64; plug-in estimate)."""
    counts = np.bincount(codes.reshape(-1).view(np.uint8), minlength=256)
    share = counts[counts > 0] / codes.size
    return float(-(share * np.log2(share)).sum()) + 0.0


def examine(weight: QuantizedWeight, original: NDArray) -> Iterator[Finding]:
    """All findings in one weight of the same shape as the original.

    A weight that was read wrongly has that finding alone: what else it shows follows from it.
    """
    rows = np.unique(np.linspace(0, len(original) - 1, SAMPLE).astype(np.int64))
    sample = some_rows(weight, rows)
    found = [
        Finding(name, weight.name, evidence)
        for name in READINGS
        if (evidence := another_reading(name, sample, original[rows]))
    ]
    if weight.shape[0] == weight.shape[1] and (evidence := transposed(sample, original, rows)):
        found.append(Finding("transposed", weight.name, evidence))
    if found:
        yield from found
        return
    for name, check in CHECKS.items():
        if evidence := check(weight, original):
            yield Finding(name, weight.name, evidence)


def some_rows(weight: QuantizedWeight, rows: NDArray[np.int64]) -> QuantizedWeight:
    """The same weight with these rows alone."""
    parts = {
        name: None if table is None else table[rows]
        for name, table in (
            ("codes", weight.codes),
            ("scale", weight.scale),
            ("zero", weight.zero),
            ("offset", weight.offset),
        )
    }
    return replace(weight, **parts)


def rtn_codes(weight: QuantizedWeight, original: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
    """The codes of rounding to nearest on the same grid, and where the grid ends before the weight.

    A weight that lies more than half a spacing (of the last two values) outside counts as clipped.
    """
    scale = weight.scale.take(weight.group, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.nan_to_num(original / scale, posinf=0, neginf=0)
    if weight.element is not None:
        values = np.unique(weight.element.values[np.isfinite(weight.element.values)])
        place = np.searchsorted((values[1:] + values[:-1]) / 2, level)
        beyond = np.abs(level) > values[-1] + (values[-1] - values[-2]) / 2
        return values[place], beyond
    if weight.zero is not None:
        level = level + weight.zero.take(weight.group, axis=1)
    low, high = grid_ends(weight)
    return np.clip(np.rint(level), low, high), (level < low - 0.5) | (level > high + 0.5)


def grid_ends(weight: QuantizedWeight) -> tuple[int, int]:
    """The least and the greatest code of an integer grid."""
    if weight.codes.dtype == np.int8:
        half = 1 << (weight.bits - 1)
        return -half, half - 1
    return 0, (1 << weight.bits) - 1


def no_calibration(weight: QuantizedWeight, original: NDArray) -> str | None:
    """Codes that rounding to nearest gives too; FP8 and int8 are not calibrated as a rule."""
    if not weight.format.startswith(CALIBRATED) or weight.bits >= 8 or weight.offset is not None:
        return None
    nearest, _ = rtn_codes(weight, original)
    found = weight.codes if weight.element is None else weight.element.decode(weight.codes)
    share = float((found == nearest).mean())
    if share < SAME_CODES:
        return None
    return f"{share:.4%} of the codes are those of rounding to nearest on the same grid"


def readings(weight: QuantizedWeight) -> Iterator[tuple[str, str, QuantizedWeight]]:
    """Other ways to read the same bytes: name of the fault, what is done, the weight."""
    if weight.zero is not None:
        for shift in (1, -1):
            moved = replace(weight, zero=weight.zero + np.int16(shift))
            yield "zeros off by one", f"with {shift:+d} on every zero point", moved
    if weight.bits == 4 and weight.shape[1] % 2 == 0:
        swapped = weight.codes.reshape(weight.shape[0], -1, 2)[..., ::-1].reshape(weight.shape)
        yield "nibble order", "with the halves of each byte swapped", replace(weight, codes=swapped)
    columns, groups = weight.shape[1], weight.scale.shape[1]
    if groups and columns % groups == 0:
        even = even_groups(columns, columns // groups)
        if not np.array_equal(even, weight.group):
            yield "g_idx ignored", "with groups one after the other", replace(weight, group=even)


def another_reading(name: str, weight: QuantizedWeight, original: NDArray) -> str | None:
    """Whether one of the readings of this name has a far smaller error."""
    as_read = None
    for fault, how, other in readings(weight):
        if fault != name:
            continue
        if as_read is None:
            as_read = relative_error(weight.dequantize(), original)
        error = relative_error(other.dequantize(), original)
        if error < ANOTHER_READING * as_read:
            return f"{how} the relative error is {error:.3g} in place of {as_read:.3g}"
    return None


def transposed(sample: QuantizedWeight, original: NDArray, rows: NDArray[np.int64]) -> str | None:
    """Rows of a square weight that fit the columns of the original far better."""
    dequantized = sample.dequantize()
    as_read = relative_error(dequantized, original[rows])
    error = relative_error(dequantized, original[:, rows].T)
    if error >= ANOTHER_READING * as_read:
        return None
    return f"transposed the relative error is {error:.3g} in place of {as_read:.3g}"


def unused_codes(weight: QuantizedWeight, original: NDArray) -> str | None:
    """A quarter of the codes of a small grid that no weight uses."""
    if weight.bits > 4 or weight.codes.size < 64 << weight.bits:
        return None
    counts = np.bincount(weight.codes.reshape(-1).view(np.uint8), minlength=256)
    unused = (1 << weight.bits) - int((counts > 0).sum())
    if weight.element is not None and counts[1 << (weight.bits - 1)] == 0:
        unused -= 1  # -0 is nothing that anybody needs
    if unused < UNUSED * (1 << weight.bits):
        return None
    return f"{unused} of {1 << weight.bits} codes are never used"


def saturation(weight: QuantizedWeight, original: NDArray) -> str | None:
    """Weights that lie outside their grid."""
    _, beyond = rtn_codes(weight, original)
    share = float(beyond.mean())
    return f"{share:.2%} of the weights lie outside their grid" if share > SATURATED else None


def scale_underflow(weight: QuantizedWeight, original: NDArray) -> str | None:
    """Scales that are 0 where the weights are not, or that lost digits."""
    smallest = SMALLEST_NORMAL.get(weight.scale_dtype)
    magnitude = np.abs(weight.scale.astype(np.float64)) * (weight.global_scale or 1.0)
    zero = magnitude == 0
    if zero.any():
        alive = np.abs(original).max(axis=1) > 0
        lost = zero & alive[:, None]
        if lost.any():
            row, group = np.argwhere(lost)[0]
            used = original[row, weight.group == group]
            if np.abs(used).max(initial=0) > 0:
                return f"{int(zero.sum())} scales are 0, the first in row {row}, group {group}"
    if smallest is None:
        return None
    share = float(((magnitude < smallest) & ~zero).mean())
    if share <= SUBNORMAL:
        return None
    return f"{share:.2%} of the scales are subnormal in {weight.scale_dtype}: digits are lost"


def range_wasted(weight: QuantizedWeight, original: NDArray) -> str | None:
    """Groups that use at most half of their grid, because of where its zero point is."""
    width = weight.even_width()
    if weight.element is not None or weight.zero is None or width < 1 << weight.bits:
        return None
    codes = weight.codes.reshape(weight.shape[0], -1, width).astype(np.int16)
    used = codes.max(axis=2) - codes.min(axis=2) + 1
    share = float((used <= 1 << (weight.bits - 1)).mean())
    if share < WASTED:
        return None
    return f"{share:.0%} of the groups use at most half of their {1 << weight.bits} codes"


def scale_rule(weight: QuantizedWeight, original: NDArray) -> str:
    """By which rule a block's maximum became its power of two: floor, even, ceil or nvidia.

    The exponent of the scale for FP4 with largest value 6 = 1.5·2²:

        floor   ⌊log2 max⌋ - 2
        even    the same, of max rounded to one digit after the point
        ceil    ⌈log2 max⌉ - 2
        nvidia  ⌈log2(max/6)⌉

    Returns the names that reproduce at least 99 % of the blocks, or "none".
    """
    if weight.element is not ELEMENTS["fp4-e2m1"] or weight.scale_dtype != "F8_E8M0":
        return ""
    groups = weight.scale.shape[1]
    largest = np.abs(original.reshape(len(original), groups, -1)).max(axis=2).astype(np.float64)
    live = largest > 0
    largest, exponent = largest[live], np.log2(weight.scale[live])
    fraction, power = np.frexp(largest)  # fraction in [1/2, 1)
    floor = power - 1
    rules = {
        "floor": floor - 2,
        "even": floor - 2 + (fraction >= 0.875),
        "ceil": floor - 2 + (fraction > 0.5),
        "nvidia": floor - 2 + (fraction > 0.75),
    }
    fits = [name for name, found in rules.items() if (found == exponent).mean() >= 0.99]
    return ", ".join(fits) or "none"


READINGS = ("zeros off by one", "nibble order", "g_idx ignored")
CHECKS = {
    "no calibration": no_calibration,
    "unused codes": unused_codes,
    "saturation": saturation,
    "scale underflow": scale_underflow,
    "asymmetric range wasted": range_wasted,
}
