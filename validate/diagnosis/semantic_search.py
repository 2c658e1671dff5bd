"""Which meaning explains what a quantiser did? One cause for all cases that it explains.

An `Observed` is one run of a program: the layer, what was asked for, what came back. A semantics
*explains* it if, led through the program's own decisions (`semantics.replay`), it would have made
every one of them but for near-ties, and its Ŵ and its scales are the program's.

**Near-ties** are counted, not guessed: the same semantics runs once more with float32 in place of
float64, led in the same way. A weight counts as near a tie if it is no further from it than four
times the largest difference that this makes anywhere to v/s in this layer (for a program that
returns float64, as much less as its numbers are finer). Scales may differ by as much, relatively.

The search tries every deviation of the table on every failing case, and pairs where none will do:
the best `BEAM` single ones with all others. A deviation that would have changed a case that came
out right is refuted by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ..support.console import one_line
from .semantic_deviations import SemanticDeviation, semantic_deviations
from .semantics import ALIKE, LARGEST_TIE, Lead, Replayed, Semantics, replay

BEAM = 4
PART = 1 / 3  # of the time left, for the pairs of one case
NAMED = 3  # cases of a cause
WITNESSES = 6  # right cases that are asked whether they refute a deviation
FACTOR = 4.0  # between two runs of different precision and two programs


@dataclass(frozen=True, eq=False)
class Observed:
    """What a program was asked for and what it gave.

    Attributes:
        name: of the case. weight, covariance: the layer. semantics: what was asked for.
        dequantized: Ŵ. codes: counted from 0, or None. scale, zero: a×n, or None, zero counted as
            the codes are. unit: the relative rounding error of the numbers that Ŵ is given in.
    """

    name: str
    weight: NDArray
    covariance: NDArray
    semantics: Semantics
    dequantized: NDArray
    codes: NDArray | None = None
    scale: NDArray | None = None
    zero: NDArray | None = None
    unit: float = 2.0**-53


@dataclass(frozen=True, eq=False)
class Fit:
    """How well a semantics fits.

    Attributes:
        share: of the weights on which both agree. ties: (row, column) of those that lie next to a
            tie. explained: whether nothing else is left.
        replayed: what the semantics decided, led by the program; None where it cannot run.
    """

    share: float
    ties: tuple[tuple[int, int], ...] = ()
    explained: bool = False
    replayed: Replayed | None = None


def fit(seen: Observed, semantics: Semantics) -> Fit:
    """Hold a semantics against what a program did."""
    lead = Lead(seen.dequantized, seen.codes)
    try:
        with np.errstate(all="ignore"):
            found = replay(seen.weight, seen.covariance, semantics, lead, sampled=True)
    except (np.linalg.LinAlgError, ValueError):
        return Fit(0.0)
    if not isinstance(found, Replayed):
        return Fit(found)
    rough = 256 * max(seen.unit, 2.0**-24)
    decided, made = _agreement(seen, found, rough)
    share = float(np.mean(decided & made))
    if (~decided & (found.from_tie > LARGEST_TIE)).any():
        return Fit(share, replayed=found)
    ties, scales = _noise(seen, semantics, lead, found)
    decided, made = _agreement(seen, found, max(rough, scales))
    allowed = ties + 8 * seen.unit * np.abs(found.position)
    near = (found.from_tie <= allowed) & (np.abs(found.levels - found.followed) < 1.0 + ALIKE)
    share = float(np.mean(decided & made))
    places = tuple((int(i), int(j)) for i, j in np.argwhere(~decided & near & made))
    return Fit(share, places, bool(((decided | near) & made).all()), found)


def _agreement(seen: Observed, found: Replayed, relative: float) -> tuple[NDArray, NDArray]:
    """(where the decision is the same, where Ŵ and the grid are), within a relative tolerance."""
    size = np.maximum(np.abs(found.followed), 1.0)
    decided = np.abs(found.levels - found.followed) <= relative * size
    spacing = np.abs(found.scale[:, found.group])
    apart = np.abs(found.values - seen.dequantized.astype(np.float64))
    made = apart <= relative * spacing * size
    if seen.scale is not None:
        # A program whose Ŵ has another scale than its codes may hand back either.
        given = np.abs(seen.scale.astype(np.float64))
        either = (spacing, np.abs(found.deciding[:, found.group]))
        made &= np.any([np.abs(given - s) <= relative * s for s in either], axis=0)
    if seen.zero is not None:
        made &= np.abs(seen.zero.astype(np.float64) - found.zero[:, found.group]) <= 1e-3
    return decided, made


def _noise(
    seen: Observed, semantics: Semantics, lead: Lead, found: Replayed
) -> tuple[float, float]:
    """How far v/s, and scales relatively, may be off for no other reason than rounding."""
    finer = 2.0**-20 if seen.unit < 2.0**-24 else 1.0
    try:
        with np.errstate(all="ignore"):
            other = replay(seen.weight, seen.covariance, semantics, lead, np.float32)
    except np.linalg.LinAlgError:
        return 1e-6, 0.0
    assert isinstance(other, Replayed)
    inside = np.abs(found.position) < 2.0**10
    off = float(np.max(np.abs(found.position - other.position)[inside], initial=0.0))
    scale = float(np.max(np.abs(other.scale / found.scale - 1)))
    return min(FACTOR * finer * off, LARGEST_TIE), FACTOR * finer * scale


# The search ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cause:
    """One explanation of some cases.

    Attributes:
        names, causes: of one deviation, or of two together; () if what was asked for was done.
        cases: that it explains. others: what explains the same cases as well.
    """

    names: tuple[str, ...]
    causes: tuple[str, ...]
    cases: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] = ()

    def line(self) -> str:
        """For somebody who reads it."""
        return " and ".join(f"{n} ({c})" for n, c in zip(self.names, self.causes, strict=True))


@dataclass(frozen=True)
class Search:
    """What became of a search.

    Attributes:
        causes: most telling first. unexplained: (case, the closest names, their share, the share
            of what was asked for). untried: how many trials there was no time for. seconds: taken.
        seconds_left: that these would take.
    """

    causes: tuple[Cause, ...]
    unexplained: tuple[tuple[str, tuple[str, ...], float, float], ...]
    untried: int
    seconds: float
    seconds_left: float

    def lines(self) -> list[str]:
        """For somebody who reads it."""
        text = []
        if self.untried:
            text.append(
                f"{self.untried} trials were not made for lack of time; they would take about "
                f"{self.seconds_left:.0f} s (--seconds)"
            )
        for cause in self.causes:
            text.append(f"{one_line(cause.line())}")
            text.append(f"  explains {_listed(cause.cases)}")
            text += [f"  or, not told apart here: {' and '.join(names)}" for names in cause.others]
        for case, names, share, plain in self.unexplained:
            nearest = f"; the closest is {' and '.join(names)} ({share:.1%})" if names else ""
            text.append(
                f"{case}: no deviation that was tried explains it ({plain:.1%} of the weights are "
                f"as asked for{nearest})"
            )
        return text


def _listed(cases: Sequence[str]) -> str:
    shown = "; ".join(cases[:NAMED])
    rest = len(cases) - NAMED
    return f"{len(cases)} of the failing cases: {shown}" + (
        f"; and {rest} more" if rest > 0 else ""
    )


Trial = tuple[SemanticDeviation, ...]


def search(
    failing: Sequence[Observed],
    right: Sequence[Observed] = (),
    seconds: float = 60.0,
    announce: Callable[[str], None] = lambda what: None,
) -> Search:
    """Find as few causes as explain all failing cases.

    Args:
        right: cases that came out as asked for; they refute deviations.
        seconds: after which nothing more is tried.
    """
    begin = time.monotonic()
    clock = _Clock(begin + seconds)
    fits: dict[str, dict[Trial, Fit]] = {seen.name: {} for seen in failing}
    table = semantic_deviations()

    def explained(seen: Observed) -> bool:
        return any(found.explained for found in fits[seen.name].values())

    def hand_on(seen: Observed) -> None:
        """What explains one case is tried on the others before anything else is."""
        known = [trial for trial, found in fits[seen.name].items() if found.explained]
        for other in failing:
            if known and not explained(other):
                _try(other, known, fits[other.name], clock)

    for seen in failing:
        if explained(seen):
            continue
        announce(f"diagnosis of {seen.name}")
        _try(seen, ((d,) for d in table), fits[seen.name], clock)
        if not explained(seen):
            announce(f"diagnosis of {seen.name}, pairs")
            pairs = _pairs(seen, fits, table)
            _try(seen, pairs, fits[seen.name], clock.part(PART), until_explained=True)
        hand_on(seen)
    causes, left = _cover(failing, fits, right)
    unexplained = tuple(_closest(seen, fits[seen.name]) for seen in left)
    taken = time.monotonic() - begin
    each = taken / max(1, clock.tried)
    return Search(tuple(causes), unexplained, clock.untried, taken, each * clock.untried)


def _pairs(
    seen: Observed, fits: dict[str, dict[Trial, Fit]], table: Sequence[SemanticDeviation]
) -> Iterable[Trial]:
    """What explains other cases, and what comes closest here, each with everything else."""
    own = fits[seen.name]
    elsewhere = {t for some in fits.values() for t, found in some.items() if found.explained}
    closest = sorted(own, key=lambda trial: -own[trial].share)[:BEAM]
    beam = dict.fromkeys([*(t for t in own if t in elsewhere), *closest])
    return ((*one, d) for one in beam if len(one) == 1 for d in table if d not in one)


class _Clock:
    """A deadline, and how many trials were made before it and how many were not."""

    def __init__(self, deadline: float, whole: _Clock | None = None) -> None:
        self.deadline, self.whole = deadline, whole
        self.tried = self.untried = 0

    def part(self, share: float) -> _Clock:
        """A clock for this share of the time that is left; it counts for this one, too."""
        now = time.monotonic()
        return _Clock(now + share * max(0.0, self.deadline - now), self)

    def over(self) -> bool:
        late = time.monotonic() > self.deadline
        for clock in (self, self.whole):
            if clock is not None:
                clock.tried, clock.untried = clock.tried + (not late), clock.untried + late
        return late


def applied(trial: Trial, semantics: Semantics) -> Semantics:
    """The semantics with one deviation after the other."""
    for deviation in trial:
        semantics = deviation.change(semantics)
    return semantics


def _try(
    seen: Observed,
    trials: Iterable[Trial],
    fits: dict[Trial, Fit],
    clock: _Clock,
    until_explained: bool = False,
) -> None:
    for trial in trials:
        changed = applied(trial, seen.semantics)
        idle = changed == applied(trial[:-1], seen.semantics)
        if idle or changed == seen.semantics or trial in fits or clock.over():
            continue
        found = fit(seen, changed)
        fits[trial] = Fit(found.share, found.ties, found.explained)
        if until_explained and found.explained:
            return


def _cover(
    failing: Sequence[Observed],
    fits: dict[str, dict[Trial, Fit]],
    right: Sequence[Observed],
) -> tuple[list[Cause], list[Observed]]:
    """The fewest explanations of what can be explained, and what is left."""
    causes: list[Cause] = []
    left = list(failing)
    refuted: dict[Trial, int] = {}
    while left:
        explained = {
            trial: tuple(seen.name for seen in left if _explains(fits[seen.name], trial))
            for trial in chain.from_iterable(fits[seen.name] for seen in left)
        }
        most = max((len(cases) for cases in explained.values()), default=0)
        if most == 0:
            break
        best = [trial for trial, cases in explained.items() if len(cases) == most]
        for trial in best:
            if len(best) > 1 and trial not in refuted:
                refuted[trial] = sum(_refutes(seen, trial) for seen in right[:WITNESSES])
        best.sort(key=lambda trial: (len(trial), refuted.get(trial, 0)))
        chosen = best[0]
        same = [
            tuple(d.name for d in trial)
            for trial in best[1:]
            if explained[trial] == explained[chosen]
            and (len(trial), refuted.get(trial, 0)) == (len(chosen), refuted.get(chosen, 0))
        ]
        names, words = tuple(d.name for d in chosen), tuple(d.cause for d in chosen)
        causes.append(Cause(names, words, explained[chosen], tuple(same)))
        left = [seen for seen in left if seen.name not in explained[chosen]]
    return causes, left


def _explains(fits: dict[Trial, Fit], trial: Trial) -> bool:
    return trial in fits and fits[trial].explained


def _refutes(seen: Observed, trial: Trial) -> bool:
    changed = applied(trial, seen.semantics)
    return changed != seen.semantics and not fit(seen, changed).explained


def _closest(seen: Observed, fits: dict[Trial, Fit]) -> tuple[str, tuple[str, ...], float, float]:
    plain = fit(seen, seen.semantics).share
    if not fits:
        return seen.name, (), 0.0, plain
    trial, best = max(fits.items(), key=lambda item: item[1].share)
    return seen.name, tuple(d.name for d in trial) if best.share > plain else (), best.share, plain
