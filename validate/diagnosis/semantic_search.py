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
from .semantics import Lead, Replayed, Semantics, replay

BEAM = 4
FACTOR = 4.0  # between two runs of different precision and two programs
LARGEST_TIE = 0.02  # spacings: further than this from a tie nothing is near it
PROMISING = 0.8  # of the first columns: what agrees on fewer is not followed to the end
HOPELESS = 0.05  # of the weights: where more disagree, nobody asks whether they are near ties


@dataclass(frozen=True, eq=False)
class Observed:
    """What a program was asked for and what it gave.

    Attributes:
        name: of the case. weight, covariance: the layer. semantics: what was asked for.
        dequantized: Ŵ. codes: counted from 0, or None. scale, zero: a×n, or None, zero counted as
            the codes are. precision: the dtype that the program computes in, as its outputs say.
    """

    name: str
    weight: NDArray
    covariance: NDArray
    semantics: Semantics
    dequantized: NDArray
    codes: NDArray | None = None
    scale: NDArray | None = None
    zero: NDArray | None = None
    precision: np.dtype = np.dtype(np.float64)


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
            found = replay(seen.weight, seen.covariance, semantics, lead, hopeless=PROMISING)
    except (np.linalg.LinAlgError, ValueError):
        return Fit(0.0)
    if isinstance(found, float):
        return Fit(found)
    rough = max(_finest(seen), 2.0**-24)
    decided, made = _agreement(seen, found, 256 * rough)
    share = float(np.mean(decided & made))
    if share < 1 - HOPELESS:
        return Fit(share, replayed=found)
    noise, scale_noise = _noise(seen, semantics, lead, found)
    decided, made = _agreement(seen, found, max(256 * rough, scale_noise))
    near = ~decided & (found.from_tie <= noise) & (np.abs(found.levels - found.followed) < 1.01)
    share = float(np.mean(decided & made))
    places = tuple((int(i), int(j)) for i, j in np.argwhere(near & made))
    return Fit(share, places, bool(((decided | near) & made).all()), found)


def _agreement(seen: Observed, found: Replayed, relative: float) -> tuple[NDArray, NDArray]:
    """(where the decision is the same, where Ŵ and the grid are), within a relative tolerance."""
    size = np.maximum(np.abs(found.followed), 1.0)
    decided = np.abs(found.levels - found.followed) <= relative * size
    spacing = np.abs(found.scale[:, found.group])
    apart = np.abs(found.values - seen.dequantized.astype(np.float64))
    made = apart <= relative * spacing * size
    if seen.scale is not None:
        made &= np.abs(np.abs(seen.scale.astype(np.float64)) - spacing) <= relative * spacing
    if seen.zero is not None:
        made &= np.abs(seen.zero.astype(np.float64) - found.zero[:, found.group]) <= 1e-3
    return decided, made


def _finest(seen: Observed) -> float:
    """The relative spacing of the numbers that Ŵ is given in."""
    unit = {2: 2.0**-8, 4: 2.0**-24, 8: 2.0**-53}
    return unit.get(seen.precision.itemsize, 2.0**-24)


def _noise(
    seen: Observed, semantics: Semantics, lead: Lead, found: Replayed
) -> tuple[float, float]:
    """How far v/s, and scales relatively, may be off for no other reason than rounding."""
    finer = 2.0**-20 if seen.precision == np.float64 else 1.0
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
        for cause in self.causes:
            text.append(f"{', '.join(cause.cases)}: {one_line(cause.line())}")
            text += [f"  or, not told apart here: {' and '.join(names)}" for names in cause.others]
        for case, names, share, plain in self.unexplained:
            nearest = f"; the closest is {' and '.join(names)} ({share:.1%})" if names else ""
            text.append(
                f"{case}: no deviation that was tried explains it ({plain:.1%} of the weights are "
                f"as asked for{nearest})"
            )
        if self.untried:
            text.append(
                f"{self.untried} trials were not made for lack of time; they would take about "
                f"{self.seconds_left:.0f} s"
            )
        return text


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
    for seen in failing:
        announce(f"diagnosis of {seen.name}")
        _try(seen, ((d,) for d in table), fits[seen.name], clock)
    causes, left = _cover(failing, fits, right, clock)
    for seen in left:  # pairs
        announce(f"pairs for {seen.name}")
        known = [c.names for c in causes]
        singles = sorted(fits[seen.name].items(), key=lambda item: -item[1].share)[:BEAM]
        first = [trial for trial in fits[seen.name] if tuple(d.name for d in trial) in known]
        beam = dict.fromkeys([*first, *(trial for trial, _ in singles)])
        pairs = ((*one, d) for one in beam for d in table if d not in one)
        _try(seen, pairs, fits[seen.name], clock, until_explained=True)
        if any(f.explained for f in fits[seen.name].values()):
            rest = [other for other in left if other is not seen]
            exact = [t for t, f in fits[seen.name].items() if f.explained]
            for other in rest:
                _try(other, exact, fits[other.name], clock)
    more, left = _cover(left, fits, right, clock)
    unexplained = tuple(_closest(seen, fits[seen.name]) for seen in left)
    each = (time.monotonic() - begin) / max(1, clock.tried)
    return Search((*causes, *more), unexplained, clock.untried,
                  time.monotonic() - begin, each * clock.untried)  # fmt: skip


class _Clock:
    def __init__(self, deadline: float) -> None:
        self.deadline, self.tried, self.untried = deadline, 0, 0

    def over(self) -> bool:
        late = time.monotonic() > self.deadline
        self.tried, self.untried = self.tried + (not late), self.untried + late
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
    clock: _Clock,
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
                refuted[trial] = sum(_refutes(seen, trial) for seen in right)
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


def _closest(
    seen: Observed, fits: dict[Trial, Fit]
) -> tuple[str, tuple[str, ...], float, float]:
    plain = fit(seen, seen.semantics).share
    if not fits:
        return seen.name, (), 0.0, plain
    trial, best = max(fits.items(), key=lambda item: item[1].share)
    return seen.name, tuple(d.name for d in trial) if best.share > plain else (), best.share, plain
