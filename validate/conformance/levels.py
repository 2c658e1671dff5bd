"""How close must an outside kernel come, if the same bits are not what it promises?

Four levels, each for an algorithm as a whole; a kernel reaches a level if every case does.

| level | what must hold |
|---|---|
| `bits` | every bit of every output |
| `order-free bits` | every bit of every output of an order-free function |
| `codes` | codes, zero points, groups equal, and the rates that follow from them; floats within \
the bounds of `error_bounds`, which are derived and not chosen |
| `rate-distortion` | rate and distortion within a margin of the oracle's, whatever the codes |

**Without an order of sums.** A kernel that calls a BLAS or uses tensor cores can not follow the
order that `bits` asks for. It can have every bit of the order-free functions all the same, for
there no sum rounds (`reference/order_free/FOR_OTHER_LANGUAGES.md`). They are judged by themselves,
and the one level there is, is all or nothing: `order-free bits`.

**Why codes.** Inference multiplies with the codes. A kernel on BLAS with the right formulas has
them all on most layers, and differs in last bits of scales; a wrong formula does not.

**Why rate and distortion.** A kernel on tensor cores rounds its products to 11 bits or fewer. Some
weights then fall on the other side of a tie, later columns see other errors, and in the end many
codes differ; but a layer so quantised may be as good. Measured in bits, as D counts 4 to the bit,

    |rate - rate₀| ≤ margin,    |½·log2((D + f)/(D₀ + f))| ≤ margin,    margin = 0.01 + 3.65/√(a·n).

0.01 is twice the tolerance of the rate search. f = 2⁻²²·tr(W Σ Wᵀ)/(a·n) is what products of 11
bits cost in any case: relative errors of 2⁻¹¹ leave an output with an error of that energy, however
fine the grid (at 8 bits it is a hundredth of a bit, below that nothing). The rest of the margin is
chance: other codes make other rounding errors, uniform ones of variance c²/12 whose squares have
the relative variance 4/5. So the D of two independent runs differ by √(1.6/(a·n)) of D, which is
0.912/√(a·n) bit, and four times that is allowed. Below 64 weights this says nothing, and such cases
are not judged on this level.

A refusal must be the same on every level: the type of the error and, for a factorisation, the
pivot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import NotPositiveDefinite, WaterlevelError
from ...reference.methods.rate_search import TOLERANCE
from ...reference.operations.numpy_operations import NUMPY
from ..golden.case import SIZES, Case
from ..golden.execute_order_free import ORDER_FREE
from ..support.comparison import describe_shape
from .error_bounds import Analysis, energy, rescaled_bounds
from .outcomes import Failure, Outcome, run_case

ALGORITHMS = ("rtn", "gptq", "watersic", "waterfilling")
BITS, CODES, RATE_DISTORTION, NONE = "bits", "codes", "rate-distortion", "none"
ORDER_FREE_BITS = "order-free bits"
LEVELS = (BITS, ORDER_FREE_BITS, CODES, RATE_DISTORTION, NONE)
LEAST_WEIGHTS = 64
TINY = 2.0**-1022
SEARCHED = 2 * TOLERANCE
PRODUCTS = 2.0**-22

INTEGERS = ("codes", "zero", "group", "rate_met")
RATES = ("rate", "rate_column", "rate_pooled", "rate_huffman")


@dataclass(frozen=True)
class Reached:
    """The level that a backend reaches for one algorithm.

    Attributes:
        cases: how many were run. why: what keeps it from the next level, in one line; None for
            `bits`.
    """

    algorithm: str
    level: str
    cases: int
    why: str | None

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return vars(self).copy()


def reached_levels(runs: Sequence[tuple[Case, Outcome, bool]]) -> list[Reached]:
    """The level of each algorithm that has a case.

    Args:
        runs: (case, outcome, whether every bit is right) of cases of ALGORITHMS or ORDER_FREE.
    """
    return [
        (_reached_order_free if algorithm in ORDER_FREE else _reached)(algorithm, some)
        for algorithm in (*ALGORITHMS, *ORDER_FREE)
        if (some := [run for run in runs if run[0].function == algorithm])
    ]


def _reached_order_free(function: str, runs: Sequence[tuple[Case, Outcome, bool]]) -> Reached:
    wrong = [case.id for case, _, passed in runs if not passed]
    if not wrong:
        return Reached(function, ORDER_FREE_BITS, len(runs), None)
    why = f"{wrong[0]}: differs, as {len(wrong)} of {len(runs)} cases do"
    return Reached(function, NONE, len(runs), why)


def _reached(algorithm: str, runs: Sequence[tuple[Case, Outcome, bool]]) -> Reached:
    wrong = [(case, outcome) for case, outcome, passed in runs if not passed]
    if not wrong:
        return Reached(algorithm, BITS, len(runs), None)
    large = [case for case, _ in wrong if case.size == SIZES[-1]]
    if large:
        why = f"{large[0].id}: differs, and is too large to run the oracle beside it"
        return Reached(algorithm, NONE, len(runs), why)
    comparisons = [_Comparison(case, outcome) for case, outcome in wrong]
    missed = next((why for c in comparisons if (why := c.not_codes())), None)
    if missed is None:
        why = f"{wrong[0][0].id}: codes are equal, last bits of floats are not"
        return Reached(algorithm, CODES, len(runs), why)
    for comparison in comparisons:
        if why := comparison.not_rate_distortion():
            return Reached(algorithm, NONE, len(runs), why)
    judged = [case for case, _, _ in runs if _weights(case) >= LEAST_WEIGHTS]
    if not judged:
        why = f"no case has the {LEAST_WEIGHTS} weights that rate and distortion need; {missed}"
        return Reached(algorithm, NONE, len(runs), why)
    return Reached(algorithm, RATE_DISTORTION, len(runs), missed)


def margin(weights: int) -> float:
    """What rate and ½·log2 D may be off by, in bits, on a layer of that many weights.

    >>> round(margin(64), 3), round(margin(4096 * 4096), 4)
    (0.466, 0.0109)
    """
    return SEARCHED + 3.65 / math.sqrt(weights)


def _weights(case: Case) -> int:
    return int(case.load_inputs()["weight"].size)


class _Comparison:
    """A foreign outcome of one case beside that of the oracle."""

    def __init__(self, case: Case, outcome: Outcome) -> None:
        self.case, self.actual = case, outcome
        self.inputs = case.load_inputs()
        self.oracle = run_case(case, self.inputs, NUMPY)
        self.unlike = self._unlike()

    def _unlike(self) -> str | None:
        """Which output can't be compared at all, or None."""
        if not isinstance(self.oracle, Mapping) or not isinstance(self.actual, Mapping):
            return None
        for name, right in self.oracle.items():
            found = self.actual.get(name)
            if found is None:
                return f"{self.case.id}: {name} is missing"
            if np.shape(found) != np.shape(right):
                shapes = f"{describe_shape(np.shape(found))}, expected"
                return f"{self.case.id}: {name} has shape {shapes} {describe_shape(right.shape)}"
            if np.asarray(found).dtype.kind not in ("b" if right.dtype.kind == "b" else "fiu"):
                return f"{self.case.id}: {name} has dtype {np.asarray(found).dtype}"
        return None

    def not_codes(self) -> str | None:
        """Why this is not on the level `codes`, or None."""
        if not isinstance(self.oracle, Mapping) or not isinstance(self.actual, Mapping):
            return self._refused_otherwise()
        if self.unlike is not None:
            return self.unlike
        for name in (*INTEGERS, *RATES):
            if name in self.oracle:
                unequal = int(np.count_nonzero(self.oracle[name] != self.actual[name]))
                if unequal:
                    return f"{self.case.id}: {unequal} of {self.oracle[name].size} {name} differ"
        return self._floats_off()

    def _floats_off(self) -> str | None:
        assert isinstance(self.oracle, Mapping)
        assert isinstance(self.actual, Mapping)
        if self.case.function == "watersic" and self.case.parameters.get("rescale", True):
            return self._rescaled_off()
        dtype = np.dtype(self.case.parameters.get("dtype", self.case.dtype))
        bounds = Analysis(self.case, self.inputs, self.oracle, dtype).bounds()
        for name, bound in bounds.items():
            apart = _apart(self.oracle[name], self.actual[name])
            if not np.all(apart <= bound):
                place = int(np.argmax(np.nan_to_num(apart - bound, nan=np.inf)))
                return (
                    f"{self.case.id}: {name} is {apart.flat[place]:.3g} off, rounding explains "
                    f"{np.broadcast_to(bound, apart.shape).flat[place]:.3g}"
                )
        return None

    def _rescaled_off(self) -> str | None:
        assert isinstance(self.oracle, Mapping)
        assert isinstance(self.actual, Mapping)
        dtype = np.dtype(self.case.parameters.get("dtype", self.case.dtype))
        apart, apart_in_distortion = rescaled_bounds(self.inputs, self.oracle, dtype)
        difference = self.actual["dequantized"].astype(np.float64) - self.oracle["dequantized"]
        off = abs(float(self.actual["distortion"]) - float(self.oracle["distortion"]))
        for what, found, bound in (
            ("dequantized, as a distortion,", energy(self.inputs, difference), apart),
            ("distortion", off, apart_in_distortion),
        ):
            if not found <= bound:
                return (
                    f"{self.case.id}: {what} is {found:.3g} off, the end of the rescalers explains "
                    f"{bound:.3g}"
                )
        return None

    def not_rate_distortion(self) -> str | None:
        """Why this is not on the level `rate-distortion`, or None (or too small to judge)."""
        if not isinstance(self.oracle, Mapping) or not isinstance(self.actual, Mapping):
            return self._refused_otherwise()
        if self.unlike is not None:
            return self.unlike
        weights = int(self.inputs["weight"].size)
        if weights < LEAST_WEIGHTS:
            return None
        allowed = margin(weights)
        rate, rate0 = (float(found["rate"]) for found in (self.actual, self.oracle))
        if not abs(rate - rate0) <= allowed:
            return (
                f"{self.case.id}: rate {rate:.4f}, the oracle's {rate0:.4f}, margin {allowed:.4f}"
            )
        D, D0 = (float(found["distortion"]) for found in (self.actual, self.oracle))
        floor = PRODUCTS * energy({"covariance": self.inputs["covariance"]}, self.inputs["weight"])
        off = 0.0 if D == D0 else 0.5 * math.log2(max(D + floor, TINY) / max(D0 + floor, TINY))
        if not abs(off) <= allowed:
            return (
                f"{self.case.id}: distortion {D:.4g}, the oracle's {D0:.4g}: {off:+.4f} bit, "
                f"margin {allowed:.4f}"
            )
        return None

    def _refused_otherwise(self) -> str | None:
        names = [_name_of(outcome) for outcome in (self.actual, self.oracle)]
        if names[0] == names[1]:
            return None
        return f"{self.case.id}: {names[0]}, the oracle: {names[1]}"


def _name_of(outcome: Outcome) -> str:
    if isinstance(outcome, Failure):
        return f"failed with {outcome.text}"
    if isinstance(outcome, NotPositiveDefinite):
        return f"NotPositiveDefinite at pivot {outcome.pivot}"
    return type(outcome).__name__ if isinstance(outcome, WaterlevelError) else "accepted"


def _apart(one: NDArray, two: NDArray) -> NDArray:
    """Magnitudes of the differences; 0 for equal infinities, NaN where only one is NaN."""
    left, right = np.asarray(one, np.float64), np.asarray(two, np.float64)
    with np.errstate(invalid="ignore"):
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        return np.atleast_1d(np.where(same, 0.0, np.abs(left - right)))
