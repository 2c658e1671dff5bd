"""Claim 5: the formula for rotated Cholesky diagonals predicts claim 4.

In two steps: the formula against the Cholesky factor of VᵀΣV for the very V that were drawn, which
is a statement about Σ alone; and against the measured distance of GPTQ from WaterSIC at the highest
rate there is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...reference.theory.high_rate import geometric_mean, pooling_bound
from ...reference.theory.rotated import rotated_cholesky_squares
from .estimate import Estimate
from .finding import EQUAL, Finding, decided, labels, listed, verdict
from .measure import GPTQ, WATERSIC, true_gap
from .measurements import Measurements
from .moments import Moment
from .subjects import CONDITIONS, flat, layer_input, real, remarks, synthetic, synthetic_input

ACCURACY = 0.05  # what theory claims for n = 64 and more


def find(measurements: Measurements) -> Finding:
    """The verdict on claim 5."""
    rows = []
    groups = {**synthetic(measurements), **real(measurements)}
    for label, layers in groups.items():
        moments = [m for m in layers if measurements.rates([m], GPTQ)]  # each Σ once
        predictions = [pooling_bound(predicted_squares(measurements, m)) for m in moments]
        claimed = float(np.mean(predictions))
        rows.append(
            decided(label, None, claimed, _cholesky(measurements, moments), EQUAL, ACCURACY)
        )
        top = max(measurements.rates(moments, GPTQ))
        pair = (True, GPTQ), (False, WATERSIC)
        measured = measurements.difference(moments, *pair, top, true_gap)
        if measured is not None:
            rows.append(decided(label, top, claimed, measured, EQUAL, ACCURACY))
    misses = [
        abs(row.measured.mean - row.claimed)
        for row in rows
        if row.claimed is not None and row.holds is not None
    ]
    vague = labels(row for row in rows if row.holds is None)
    sentences = []
    if misses:
        sentences.append(
            f"Off by {np.mean(misses):.3f} bit in the mean, {max(misses):.3f} at most."
        )
    if vague:
        sentences.append(
            f"Not decided (—) for {listed(vague)}, where one rotation differs too much from the "
            "next."
        )
    return Finding(
        name="claim 5",
        claim="The formula for rotated Cholesky diagonals predicts the distance of claim 4.",
        claimed="½ log2(AM(u)/GM(λ)) from the spectrum alone",
        quantity="½ log2(AM/GM) of L_kk² after Haar (Σ alone), and gap of GPTQ after Haar minus "
        "gap of WaterSIC as is (at a rate), bits per weight",
        inputs=(synthetic_input(measurements.plan), layer_input(measurements.plan), CONDITIONS),
        rule=f"within {ACCURACY:g} bit, what theory claims of it from n = 64 on, and tolerance",
        rows=tuple(rows),
        verdict=verdict(rows),
        result=" ".join(sentences),
        notes=remarks(flat(real(measurements))),
    )


def diagonals(measurements: Measurements) -> Iterator[tuple[Moment, NDArray, list[NDArray]]]:
    """For each Σ: the predicted L_kk², and those of each rotation, in units of GM(λ); for figures.

    Descending by place: GPTQ decides its last column with nothing left to make good by, so its
    squares run backwards.
    """
    for moment in flat({**synthetic(measurements), **real(measurements)}):
        predicted = predicted_squares(measurements, moment)
        centre = geometric_mean(predicted)
        drawn = [found[::-1] / centre for found in _rotated(measurements, moment)]
        yield moment, predicted / centre, drawn


def predicted_squares(measurements: Measurements, moment: Moment) -> NDArray[np.float64]:
    """From the eigenvalues of Σ alone."""
    return rotated_cholesky_squares(measurements.eigenvalues[moment])


def _cholesky(measurements: Measurements, moments: list[Moment]) -> Estimate:
    drawn = [[pooling_bound(s) for s in _rotated(measurements, moment)] for moment in moments]
    return Estimate.of([float(np.mean(d)) for d in drawn] if len(drawn) > 1 else drawn[0])


def _rotated(measurements: Measurements, moment: Moment) -> list[NDArray]:
    return [s for (m, rotated, _), s in measurements.squares.items() if m == moment and rotated]
