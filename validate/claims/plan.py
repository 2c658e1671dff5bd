"""Which measurements are made?

The quick set answers every claim in a minute or two; the full one takes all rates on all layers,
more spectra, larger ones, more rows and more repetitions.

How many rows? A column of R bits has about 1.7·2^R symbols that occur (7 standard deviations over a
spacing of √(2πe)·2^(-R)). For Gaussian weights there are at least 16 rows for each of them, which
keeps the bias of a counted entropy below 0.01 bit where all columns have the same rate; WaterSIC's
have not. What is left is computed and taken off (`entropy_bias`). Layers are wide, and pay for it
with fewer rows.

How many repetitions on layers? A type of layer is there once or in every block of a model, and
query, key and value see the same inputs. Gaussian weights are drawn, each time anew, once for every
*different* Σ of a type, or as often as it takes to have `layer_repetitions` numbers for the type.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .measure import ACTORDER, GAUSSIAN, GPTQ, OWN, RTN, WATERFILLING, WATERSIC, Case
from .moments import Layer, Synthetic

RATES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
SYMBOLS = 1.7
ROWS_PER_SYMBOL = 16
LEAST_ROWS, MOST_ROWS = 1024, 8192


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        spectra: synthetic Σ of the general experiments. epsilons: log2 ε of the adversaries.
        n: their order. layers: real ones.
        rates: on synthetic Σ. rows_per_symbol: there. layer_rates, layer_rows: on layers, Gaussian
            weights, twice as many rows at most where the rate wants them. own_rates: on
            layers, their own weights (all rows).
        repetitions: seeds from 0 on. layer_repetitions: the same for a type of layer.
    """

    spectra: tuple[Synthetic, ...]
    epsilons: tuple[int, ...]
    n: int
    layers: tuple[Layer, ...]
    rates: tuple[float, ...]
    rows_per_symbol: int
    layer_rates: tuple[float, ...]
    layer_rows: int
    own_rates: tuple[float, ...]
    repetitions: int
    layer_repetitions: int

    @property
    def adversaries(self) -> tuple[Synthetic, ...]:
        """diag(1, ε), n/2 times, for every ε."""
        return tuple(Synthetic("alternating", e, self.n) for e in self.epsilons)

    @property
    def halves(self) -> tuple[Synthetic, ...]:
        """1 and ε in equal parts, to be rotated, for every ε."""
        return tuple(Synthetic("halves", e, self.n) for e in self.epsilons)

    @property
    def top_rate(self) -> float:
        """The highest on synthetic Σ."""
        return max(self.rates)

    def cases(self) -> Iterator[Case]:
        """Every measurement, in a fixed order and once."""
        yield from self._synthetic()
        yield from self._adversarial()
        yield from self._real()

    def _synthetic(self) -> Iterator[Case]:
        for moment in self.spectra:
            for rotated in (False, True):
                methods = [WATERSIC, GPTQ] + ([RTN] if rotated else [WATERFILLING])
                for seed in range(self.repetitions):
                    for rate in self.rates:
                        for method in methods:
                            rows = rows_for(rate, self.rows_per_symbol)
                            yield Case(
                                moment, rotated, method, GAUSSIAN, moment.damping, rows, rate, seed
                            )

    def _adversarial(self) -> Iterator[Case]:
        worst = Synthetic("alternating", min(self.epsilons), self.n)
        for moment in (*self.adversaries, *self.halves):
            rotated = moment.family == "halves"
            rates = self.rates if moment == worst else (self.top_rate,)
            for seed in range(self.repetitions):
                for rate in rates:
                    for method in (WATERSIC, GPTQ):
                        rows = rows_for(rate, self.rows_per_symbol)
                        yield Case(moment, rotated, method, GAUSSIAN, 0.0, rows, rate, seed)

    def _real(self) -> Iterator[Case]:
        for layer, first, seeds in with_seeds(self.layers, self.layer_repetitions):
            for rotated in (False, True):
                for seed in seeds:
                    if first:
                        yield from self._gaussian_on_layer(layer, rotated, seed)
                    if rotated or seed == seeds[0]:  # without a rotation all runs are the same
                        yield from self._own_on_layer(layer, rotated, seed)

    def _gaussian_on_layer(self, layer: Layer, rotated: bool, seed: int) -> Iterator[Case]:
        for rate in self.layer_rates:
            wanted = rows_for(rate, ROWS_PER_SYMBOL, least=1)
            rows = max(self.layer_rows, min(wanted, 2 * self.layer_rows))
            for method in (WATERSIC, GPTQ):
                yield Case(layer, rotated, method, GAUSSIAN, layer.damping, rows, rate, seed)
            if not rotated:
                yield Case(layer, rotated, WATERSIC, GAUSSIAN, 0.0, rows, rate, seed)

    def _own_on_layer(self, layer: Layer, rotated: bool, seed: int) -> Iterator[Case]:
        rows = layer.shape[0]
        for rate in self.own_rates:
            for method in [GPTQ] if rotated else [WATERSIC, GPTQ, ACTORDER, RTN]:
                yield Case(layer, rotated, method, OWN, layer.damping, rows, rate, seed)


def with_seeds(
    layers: Sequence[Layer], repetitions: int
) -> Iterator[tuple[Layer, bool, Sequence[int]]]:
    """(layer, whether it is the first with its Σ, its seeds), one type of layer after the other.

    Each Σ of a type has seeds of its own, `repetitions` in all or, where there are more Σ, one
    for each.
    """
    by_type: dict[str, dict[str, list[Layer]]] = defaultdict(lambda: defaultdict(list))
    for layer in layers:
        by_type[layer.label][layer.moments].append(layer)
    for sharing in by_type.values():
        each = math.ceil(repetitions / len(sharing))
        for place, group in enumerate(sharing.values()):
            for layer in group:
                yield layer, layer is group[0], range(place * each, (place + 1) * each)


def rows_for(rate: float, per_symbol: int, least: int = LEAST_ROWS) -> int:
    """So many for every symbol, as the least power of two times `least`, up to MOST_ROWS.

    >>> [rows_for(rate, 16) for rate in (1.0, 4.0, 6.0, 8.0, 9.0)]
    [1024, 1024, 2048, 8192, 8192]
    """
    rows = least
    while rows < min(per_symbol * SYMBOLS * 2.0**rate, MOST_ROWS):
        rows *= 2
    return rows


def quick_plan(layers: tuple[Layer, ...]) -> Plan:
    """A minute or two."""
    return Plan(
        spectra=(
            Synthetic("autoregressive", 0.9, 64),
            Synthetic("log-normal", 1.0, 64),
            Synthetic("log-normal", 2.0, 64),
        ),
        epsilons=(-4, -8, -12, -16),
        n=64,
        layers=layers,
        rates=RATES,
        rows_per_symbol=ROWS_PER_SYMBOL,
        layer_rates=(1.0, 2.0, 4.0),
        layer_rows=128,
        own_rates=(2.0, 4.0),
        repetitions=4,
        layer_repetitions=3,
    )


def full_plan(layers: tuple[Layer, ...]) -> Plan:
    """Everything."""
    return Plan(
        spectra=(
            Synthetic("autoregressive", 0.9, 192),
            Synthetic("autoregressive", 0.99, 192),
            Synthetic("log-normal", 1.0, 192),
            Synthetic("log-normal", 2.0, 192),
            Synthetic("log-normal", 3.0, 192),
        ),
        epsilons=(-4, -8, -12, -16),
        n=192,
        layers=layers,
        rates=RATES,
        rows_per_symbol=4 * ROWS_PER_SYMBOL,
        layer_rates=RATES,
        layer_rows=2048,
        own_rates=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
        repetitions=8,
        layer_repetitions=5,
    )
