"""Which measurements are made?

The quick set answers every claim in about two minutes on two cores with NumPy alone; the full one
takes all rates on all layers, more spectra, larger ones and more repetitions.

How many rows? A column of R bits has about 1.7·2^R symbols that occur (7 standard deviations over a
spacing of √(2πe)·2^(-R)). For Gaussian weights there are at least 16 rows for each of them, which
keeps the bias of a counted entropy below 0.01 bit where all columns have the same rate; WaterSIC's
have not. What is left is computed and taken off (`entropy_bias`). Layers are wide, and pay for it
with fewer rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .measure import ACTORDER, GAUSSIAN, GPTQ, OWN, RTN, WATERFILLING, WATERSIC, Case
from .moments import Layer, Synthetic

RATES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
SYMBOLS = 1.7
ROWS_PER_SYMBOL = 16
LEAST_ROWS = 1024


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        spectra: synthetic Σ of the general experiments. epsilons: log2 ε of the adversaries.
        n: their order. layers: real ones.
        rates: on synthetic Σ. layer_rates, layer_rows: on layers, Gaussian
            weights, twice as many rows at most where the rate wants them. own_rates: on
            layers, their own weights (all rows).
        repetitions, layer_repetitions: seeds from 0 on.
    """

    spectra: tuple[Synthetic, ...]
    epsilons: tuple[int, ...]
    n: int
    layers: tuple[Layer, ...]
    rates: tuple[float, ...]
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
                            rows = rows_for(rate)
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
                        yield Case(
                            moment, rotated, method, GAUSSIAN, 0.0, rows_for(rate), rate, seed
                        )

    def _real(self) -> Iterator[Case]:
        for layer in self.layers:
            for rotated in (False, True):
                for seed in range(self.layer_repetitions):
                    yield from self._on_layer(layer, rotated, seed)

    def _on_layer(self, layer: Layer, rotated: bool, seed: int) -> Iterator[Case]:
        damping = layer.damping
        for rate in self.layer_rates:
            rows = max(self.layer_rows, min(rows_for(rate, 1), 2 * self.layer_rows))
            for method in (WATERSIC, GPTQ):
                yield Case(layer, rotated, method, GAUSSIAN, damping, rows, rate, seed)
            if not rotated:
                yield Case(layer, rotated, WATERSIC, GAUSSIAN, 0.0, rows, rate, seed)
        if rotated or seed == 0:  # without a rotation a second run is the first one
            methods = [GPTQ] if rotated else [WATERSIC, GPTQ, ACTORDER, RTN]
            for rate in self.own_rates:
                for method in methods:
                    yield Case(layer, rotated, method, OWN, damping, layer.shape[0], rate, seed)


def rows_for(rate: float, least: int = LEAST_ROWS) -> int:
    """ROWS_PER_SYMBOL for every symbol, as the least power of two times `least`.

    >>> [rows_for(rate) for rate in (1.0, 4.0, 6.0, 8.0)]
    [1024, 1024, 2048, 8192]
    """
    rows = least
    while rows < ROWS_PER_SYMBOL * SYMBOLS * 2.0**rate:
        rows *= 2
    return rows


def quick_plan(layers: tuple[Layer, ...]) -> Plan:
    """About two minutes on two cores."""
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
        layer_rates=RATES,
        layer_rows=2048,
        own_rates=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
        repetitions=8,
        layer_repetitions=3,
    )
