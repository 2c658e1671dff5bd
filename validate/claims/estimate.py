"""How far can a measured number be trusted?

Repetitions with different weights (and different rotations) give a mean and its standard error s.
With few repetitions s is itself uncertain, which Student's t knows: with K of them the mean lies
within t·s of its expectation in 99% of all cases, t = 9.9 for K = 3, 5.8 for 4, 3.5 for 8. On top
of that comes what repeating does not show, whatever is in doubt about the bias of a counted entropy
(`entropy_bias`):

    tolerance = t·s + |bias|

>>> estimate = Estimate.of([0.25, 0.26, 0.27], bias=0.001)
>>> round(estimate.mean, 6), round(estimate.error, 6), round(estimate.tolerance, 4)
(0.26, 0.005774, 0.0583)

A single number has no standard error; then only its bias is known.

>>> Estimate.of([0.25], bias=0.001).tolerance
0.001
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.99


@dataclass(frozen=True)
class Estimate:
    """A mean over repetitions.

    Attributes:
        mean: of the numbers. error: the mean's standard error, NaN for a single number.
        repetitions: how many. bias: what repeating does not show, in absolute value.
    """

    mean: float
    error: float
    repetitions: int
    bias: float

    @classmethod
    def of(cls, numbers: Sequence[float], bias: float = 0.0) -> Estimate:
        """Of at least one number."""
        count = len(numbers)
        error = statistics.stdev(numbers) / math.sqrt(count) if count > 1 else math.nan
        return cls(statistics.fmean(numbers), error, count, abs(bias))

    @property
    def tolerance(self) -> float:
        """t·s + |bias|."""
        if self.repetitions == 1:
            return self.bias
        student = float(stdtrit(self.repetitions - 1, (1 + CONFIDENCE) / 2))
        return student * self.error + self.bias
