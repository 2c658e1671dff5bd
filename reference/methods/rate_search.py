"""Which spacing gives the rate that was asked for?

A lattice method has one free number, its spacing c. At high rate halving c costs exactly one bit:
rate ≈ constant - log2 c. At low rate the slope is flatter, and because codes are counted the curve
has small steps. So the search runs on x = log2(c/c_0), c_0 the first spacing, where the curve is
nearly a straight line of slope -1, with the secant through the last two points, inside a bracket
that makes sure of an end:

    slope  = (rate - rate_before)/(x - x_before), -1 at first
    x_next = x + (R - rate)/slope

Where the slope is undefined or not negative, the step is 1 in the direction that helps; no step is
longer than 8; where the next point would leave the bracket, the bracket is halved instead. A
spacing so small that codes overflow counts as too fine, like a rate above R: a rows have at most
log2 a bits of entropy in a column, so a higher R can not be met at any spacing. The search ends
when |rate - R| < 0.005 or after 20 evaluations, with the best point seen. As x is relative, a
weight that is 2^p times as large is searched at the same points x, and finds 2^p times the spacing
to the bit.

Worked example: a rate that is exactly 5 - log2 c, and R = 3. From c = 1 the first step has slope -1
and meets c = 4 at once.

>>> points = []
>>> def evaluate(spacing):
...     points.append(spacing)
...     return Trial(spacing, {1.0: 5.0, 4.0: 3.0}[spacing], None)
>>> search_spacing(evaluate, rate=3.0, start=1.0).spacing, points
(4.0, [1.0, 4.0])

Exercise: what does the search do on a curve without slope, say rate = 5 for every c? (Check: it
goes on by steps of 1 in log2 c until its evaluations are used up, and says that R was not met.)

>>> def flat(spacing):
...     return Trial(spacing, 5.0, None)
>>> abs(search_spacing(flat, rate=3.0, start=1.0).rate - 3.0) < TOLERANCE
False
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.logarithm import (
    decimal_exp2,
    decimal_log2,
    exact,
    exp2,
    to_float,
    working_precision,
)
from ..checks import check_parameter
from ..coding.rates import RATE_MEASURES
from ..errors import BadInput, CodeOverflow

TOLERANCE = 0.005
EVALUATIONS = 20
LONGEST_STEP = 8.0
LARGEST_RATE = 1e5  # far beyond any code; 2ˣ is evaluated up to |x| = 10⁶

Codes = TypeVar("Codes")


@dataclass(frozen=True)
class Trial(Generic[Codes]):
    """One evaluation: the spacing, the rate it gave in bits per weight, and the codes."""

    spacing: float
    rate: float
    codes: Codes


@dataclass(frozen=True)
class SpacingChoice:
    """How the user wants the spacing of a lattice to be found: exactly one of two numbers.

    Attributes:
        rate: R in bits per weight, searched for by `rate_measure`.
        spacing: c itself, without a search.
        open_loop: take the spacing from R by the formula, without a search.
        rate_measure: which rate the search aims at, one of `rates.RATE_MEASURES`.
    """

    rate: float | None = None
    spacing: float | None = None
    open_loop: bool = False
    rate_measure: str = "rate"

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.spacing is None):
            raise BadInput("give either a rate or a spacing, not both or neither")
        if self.rate is not None:
            check_parameter("rate", self.rate, 0.0, LARGEST_RATE)
        if self.spacing is not None:
            check_parameter("spacing", self.spacing, 0.0, exclusive=True)
            if self.open_loop:
                raise BadInput(
                    "open_loop finds the spacing from a rate; do not give a spacing with it"
                )
        if self.rate_measure not in RATE_MEASURES:
            raise BadInput(
                f"rate_measure is {self.rate_measure!r}; it must be one of "
                + ", ".join(RATE_MEASURES)
            )

    def parameters(self) -> dict[str, Any]:
        """For the record of a result."""
        return dict(vars(self))


def spacing_choice(
    rate: float | None, spacing: float | None, open_loop: bool = False, rate_measure: str = "rate"
) -> SpacingChoice | None:
    """The `SpacingChoice` of a user's arguments, or None if they do not speak of a spacing."""
    if rate is None and spacing is None and not open_loop:
        return None
    return SpacingChoice(rate, spacing, open_loop, rate_measure)


def open_loop_spacing(mean_squares: NDArray, diagonal: NDArray, rate: float) -> float:
    """The spacing at which theory expects the rate R, for columns of Gaussian weights.

    log2 c = ½·mean_k log2(12·s_k·L_kk²) - R, from R ≈ mean_k ½·log2(s_k·L_kk² / (c²/12)), the
    Shannon rate of column k at noise c²/12. A uniform quantiser with an ideal code needs
    ½·log2(2πe/12) = 0.2546 bit more, so this is the start of the search and not its end.

    Args:
        mean_squares: s_k of each column of W, float64. diagonal: L_kk, the same length; ones where
            there is no factor. Columns with s_k = 0 are left out; without any other, c = 1.

    Exactness: bits; the whole expression in 50-digit decimal, rounded once.

    Two columns with 12·s·L² = 108 and 48: c = (108·48)^(1/4)/2^R.

    >>> open_loop_spacing(np.array([1.0, 1.0]), np.array([3.0, 2.0]), rate=1.0)
    4.242640687119285
    """
    there = mean_squares > 0
    if not there.any():
        return 1.0
    with working_precision():
        total = exact(0)
        for square, element in zip(mean_squares[there], diagonal[there], strict=True):
            length = exact(float(element))
            total += decimal_log2(12 * exact(float(square)) * length * length)
        return to_float(decimal_exp2(total / (2 * int(np.count_nonzero(there))) - exact(rate)))


def search_spacing(
    evaluate: Callable[[float], Trial[Codes]], rate: float, start: float
) -> Trial[Codes]:
    """The best trial that the search of this module sees.

    Args:
        evaluate: quantises with a spacing. rate: R, bits per weight. start: the first spacing.

    Returns:
        The first of the trials that are closest to R; R is met if it is closer than TOLERANCE.

    Raises:
        CodeOverflow: at the first spacing already.

    Exactness: bits, if `evaluate` has them; x is a float64, 2ˣ is rounded once.
    """
    trial = best = evaluate(start)
    x, slope = 0.0, -1.0
    low, high = -np.inf, np.inf  # too fine at low, too coarse at high
    for _ in range(EVALUATIONS - 1):
        miss = rate - trial.rate
        if abs(miss) < TOLERANCE:
            break
        if miss < 0:
            low = max(low, x)
        else:
            high = min(high, x)
        step = miss / slope if slope < 0 else -np.copysign(1.0, miss)
        x_next = float(x + min(max(step, -LONGEST_STEP), LONGEST_STEP))
        if not low < x_next < high:
            if np.isfinite(low) and np.isfinite(high):
                x_next = (low + high) / 2
            else:
                x_next = low + 1.0 if np.isfinite(low) else high - 1.0
        try:
            trial_next = evaluate(start * exp2(x_next))
        except CodeOverflow:
            low, slope = x_next, 0.0
            continue
        slope = (trial_next.rate - trial.rate) / (x_next - x) if x_next != x else 0.0
        x, trial = x_next, trial_next
        if abs(rate - trial.rate) < abs(rate - best.rate):
            best = trial
    return best


def find_spacing(
    choice: SpacingChoice,
    evaluate: Callable[[float], Trial[Codes]],
    open_loop: Callable[[float], float],
    coarsest: float,
    least_rate: float,
) -> tuple[Trial[Codes], bool]:
    """The trial that the user's choice asks for, and whether its rate was met.

    Args:
        open_loop: spacing by formula, from a rate. coarsest: a spacing at which every code is 0.
        least_rate: what the rate cannot fall below; a target at or below it is out of reach and
            gets the coarsest result.

    Returns:
        (trial, met); met is True where no search was asked for.
    """
    if choice.spacing is not None:
        return evaluate(choice.spacing), True
    assert choice.rate is not None
    if choice.open_loop:
        return evaluate(open_loop(choice.rate)), True
    if choice.rate <= least_rate:
        return evaluate(coarsest), False
    best = search_spacing(evaluate, choice.rate, open_loop(choice.rate))
    return best, abs(best.rate - choice.rate) < TOLERANCE
