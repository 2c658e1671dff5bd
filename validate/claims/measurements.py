"""All measurements, made once and found again by what they are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from numpy.linalg import LinAlgError
from numpy.typing import NDArray

from ...backends import get
from ...reference.errors import WaterlevelError
from ..support.console import describe
from ..support.workers import map_in_processes
from .estimate import Estimate
from .measure import GAUSSIAN, Case, Measurement, measure_all
from .moments import Layer, Moment
from .plan import Plan

DOUBTFUL = 0.25
"""The part of a computed bias that stays in the tolerance: codes are not quite Gaussian."""

Value = Callable[[Measurement], float]
Place = tuple[Moment, bool, int]
"""A Σ, whether it is rotated, and the seed of rotation and weights."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured.

    Attributes:
        plan: what was to be measured.
        by_case: in the order of the plan.
        squares: L_kk² in the order of GPTQ, for each place.
        eigenvalues: of each Σ, ascending.
        failed: a line for each Σ that could not be measured; it is not in the plan any more.
    """

    plan: Plan
    by_case: Mapping[Case, Measurement]
    squares: Mapping[Place, NDArray]
    eigenvalues: Mapping[Moment, NDArray]
    failed: Sequence[str] = ()

    def labels(self, kind: type[Moment] | None = None) -> dict[str, list[Moment]]:
        """The Σ that go under each label, those of the general experiments alone."""
        found: dict[str, list[Moment]] = defaultdict(list)
        for moment in (*self.plan.spectra, *self.plan.layers):
            if kind is None or isinstance(moment, kind):
                found[moment.label].append(moment)
        return dict(found)

    def rates(self, moments: Iterable[Moment], method: str, weights: str = GAUSSIAN) -> list[float]:
        """At which a method was measured on any of these Σ, ascending."""
        found = {rate for moment in moments for rate in self._rates[moment, method, weights]}
        return sorted(found)

    def find(
        self,
        moment: Moment,
        rotated: bool,
        method: str,
        rate: float,
        weights: str = GAUSSIAN,
        damping: float | None = None,
    ) -> list[Measurement]:
        """The repetitions, by seed; without a damping, at the usual one of this Σ."""
        usual = moment.damping if damping is None else damping
        return self._repetitions.get((moment, rotated, method, rate, weights, usual), [])

    @cached_property
    def _repetitions(self) -> dict[tuple[object, ...], list[Measurement]]:
        found: dict[tuple[object, ...], list[Measurement]] = defaultdict(list)
        for c, measured in self.by_case.items():
            key = (c.moment, c.rotated, c.method, c.rate, c.weights, c.damping)
            found[key].append(measured)
        return dict(found)

    @cached_property
    def _rates(self) -> dict[tuple[object, ...], set[float]]:
        found: dict[tuple[object, ...], set[float]] = defaultdict(set)
        for c in self.by_case:
            found[c.moment, c.method, c.weights].add(c.rate)
        return found

    def estimate(
        self,
        moments: Sequence[Moment],
        rotated: bool,
        method: str,
        rate: float,
        value: Value,
        weights: str = GAUSSIAN,
        damping: float | None = None,
    ) -> Estimate | None:
        """The mean of a value over repetitions, or over layers where a label has several."""
        found = [self.find(moment, rotated, method, rate, weights, damping) for moment in moments]
        return _estimate(
            [[(value(m), DOUBTFUL * abs(m.bias)) for m in group] for group in found if group]
        )

    def difference(
        self,
        moments: Sequence[Moment],
        minuend: tuple[bool, str],
        subtrahend: tuple[bool, str],
        rate: float,
        value: Value,
        weights: str = GAUSSIAN,
    ) -> Estimate | None:
        """Of a value between two (rotated, method), repetition by repetition on the same weights.

        A single run stands against every repetition of the other side.
        """
        groups = []
        for moment in moments:
            left, right = (
                self.find(moment, rotated, method, rate, weights)
                for rotated, method in (minuend, subtrahend)
            )
            if not left or not right:
                continue
            if len(right) == 1:
                right = right * len(left)
            pairs = zip(left, right, strict=True)
            groups.append(
                [(value(a) - value(b), DOUBTFUL * (abs(a.bias) + abs(b.bias))) for a, b in pairs]
            )
        return _estimate(groups)


def _estimate(groups: list[list[tuple[float, float]]]) -> Estimate | None:
    if not groups:
        return None
    if len(groups) > 1:  # the spread between layers, not that of repetitions, is the uncertainty
        means = [sum(number for number, _ in group) / len(group) for group in groups]
        biases = [bias for group in groups for _, bias in group]
        return Estimate.of(means, sum(biases) / len(biases))
    (group,) = groups
    return Estimate.of([number for number, _ in group], sum(bias for _, bias in group) / len(group))


def measure_plan(plan: Plan, backend: str, workers: int) -> Measurements:
    """Make every measurement of a plan.

    Args:
        backend: its name. workers: processes side by side.

    A layer of which one measurement fails is left out as a whole, so that means are over the same
    measurements for every layer, and said in `failed`.
    """
    groups: dict[Place, list[Case]] = defaultdict(list)
    for case in plan.cases():
        groups[case.moment, case.rotated, case.seed].append(case)
    # The long ones first, so that no process has to be waited for at the end.
    order = sorted(groups, key=lambda place: -sum(c.rows * c.moment.n**2 for c in groups[place]))
    made = map_in_processes(
        partial(_measure_group, backend=backend),
        [groups[place] for place in order],
        workers,
        "claims",
        lambda cases, reason: _failure(cases[0].moment, reason),
    )
    reasons = {
        place[0]: group for place, group in zip(order, made, strict=True) if isinstance(group, str)
    }
    kept = replace(plan, layers=tuple(layer for layer in plan.layers if layer not in reasons))
    whole = {
        place: group
        for place, group in zip(order, made, strict=True)
        if not isinstance(group, str) and place[0] not in reasons
    }
    found = {m.case: m for measurements, _, _ in whole.values() for m in measurements}
    return Measurements(
        kept,
        {case: found[case] for case in plan.cases() if case in found},
        {place: squares for place, (_, squares, _) in whole.items()},
        # Any basis has the same eigenvalues but for rounding; the one as it stands is preferred.
        {
            place[0]: eigenvalues
            for place, (_, _, eigenvalues) in sorted(
                whole.items(), key=lambda pair: (-pair[0][1], -pair[0][2])
            )
        },
        tuple(reasons.values()),
    )


def _measure_group(
    cases: Sequence[Case], backend: str
) -> tuple[list[Measurement], NDArray, NDArray] | str:
    """What was measured, or why the layer failed; a synthetic Σ may not fail."""
    moment = cases[0].moment
    try:
        return measure_all(cases, get(backend))
    except (WaterlevelError, OSError, MemoryError, LinAlgError) as error:
        if not isinstance(moment, Layer):
            raise
        return _failure(moment, describe(error))


def _failure(moment: Moment, reason: str) -> str:
    where = str(moment.path) if isinstance(moment, Layer) else moment.label
    return f"{where}: {reason.removeprefix(f'{where}: ')}"
