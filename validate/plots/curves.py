"""Rate and distortion, and the gap between them, against the rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...reference.limits.waterfilling import allocate_rate
from ...reference.theory.scalar import SCALAR_GAP
from ..claims.measure import GPTQ, RTN, WATERFILLING, WATERSIC, Measurement, true_gap
from ..claims.measurements import Measurements
from ..claims.moments import Moment
from ..claims.plan import RATES
from .style import BLUE, GREY, LOOKS, VERMILION, Look, legend_below, new_figure

SHOWN = 4.0  # bits; beyond it everything is parallel


def widest(measurements: Measurements) -> Moment:
    """The synthetic Σ whose eigenvalues are spread most widely."""
    return max(
        measurements.plan.spectra,
        key=lambda m: measurements.eigenvalues[m][-1] / measurements.eigenvalues[m][0],
    )


def rate_distortion(measurements: Measurements) -> tuple[Any, str]:
    """D/σ² against R for every method and the limit, in a rotated basis."""
    moment = widest(measurements)
    figure, axes = new_figure(5.2, 3.7)
    for method in (RTN, GPTQ, WATERSIC):
        found = [
            m
            for rate in measurements.rates([moment], method)
            if rate <= SHOWN
            for m in measurements.find(moment, True, method, rate)[:1]
        ]
        axes.semilogy(
            [m.rate_column - m.bias for m in found],
            [m.relative_distortion for m in found],
            label=method,
            **LOOKS[method].options(),
        )
    rates = np.linspace(0, SHOWN, 81)
    limit = [allocate_rate(measurements.eigenvalues[moment], rate).distortion for rate in rates]
    axes.semilogy(rates, limit, label="limit (reverse waterfilling)", **LOOKS["limit"].options())
    axes.set_xlabel("rate, bits per weight")
    axes.set_ylabel("distortion D/σ²")
    axes.set_xlim(0, SHOWN + 0.1)
    axes.legend()
    return figure, (
        f"Distortion against rate (rate_column) for Gaussian weights and {moment.label}, "
        f"n = {moment.n}, after a Haar rotation. The black line is the limit for Gaussian weights; "
        "no quantiser can get below it. Horizontal distances to it are the gaps."
    )


def gap_against_rate(measurements: Measurements) -> tuple[Any, str]:
    """WaterSIC in two bases with the recursion's prediction, and waterfilling."""
    moments = measurements.plan.spectra
    columns = min(len(moments), 3)
    lines = -(-len(moments) // columns)
    figure, axes = new_figure(
        2.2 + 1.9 * columns, 0.8 + 2.5 * lines, columns, lines, sharey=True, squeeze=False
    )
    for place in axes.flat[len(moments) :]:
        place.remove()
    series = [
        (WATERSIC, True, "WaterSIC after Haar", Look(VERMILION, "s", "--")),
        (WATERSIC, False, "WaterSIC as is", Look(BLUE, "o", "-")),
        (WATERFILLING, False, "waterfilling", LOOKS["waterfilling"]),
    ]
    for place, moment in zip(axes.flat, moments, strict=False):
        place.axhline(SCALAR_GAP, color=GREY, linewidth=1, linestyle=(0, (1, 1)))
        for method, rotated, label, look in series:
            place.plot([], [], label=label, **look.options())
            rates = measurements.rates([moment], method)
            means = [
                measurements.estimate([moment], rotated, method, rate, true_gap) for rate in rates
            ]
            gaps = [m.mean for m in means if m is not None]
            errors = [m.error for m in means if m is not None]
            place.errorbar(rates, gaps, errors, **look.options(capsize=2, linestyle=""))
            if method == WATERSIC:
                expected = [
                    measurements.estimate([moment], rotated, method, rate, _predicted)
                    for rate in rates
                ]
                gaps = [e.mean for e in expected if e is not None]
            place.plot(rates, gaps, **look.options(marker=""))
        place.set_title(moment.label)
        place.set_xlabel("rate, bits per weight")
    axes[0][0].annotate(
        f"{SCALAR_GAP:.4f}", (RATES[-1], SCALAR_GAP), (0, -11), textcoords="offset points",
        ha="right", color=GREY,
    )  # fmt: skip
    for line in axes:
        line[0].set_ylabel("gap to the limit, bits per weight")
        line[0].set_ylim(bottom=0)
    legend_below(figure, axes[0][0], 3)
    return figure, (
        "The gap to the limit against the rate, Gaussian weights; points are means over "
        f"{measurements.plan.repetitions} repetitions with standard errors. All end at "
        "½ log2(2πe/12) = 0.2546 bit (dotted), WaterSIC in every basis. Below about 4 bits the "
        "basis matters to WaterSIC, and its lines, which are the recursion's, say by how much from "
        "Σ alone."
    )


def _predicted(measured: Measurement) -> float:
    assert measured.predicted_gap is not None
    return measured.predicted_gap
