"""Words that several experiments share: which Σ stand behind a label, and what to say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .measurements import Measurements
from .moments import LAYER_DAMPING, Layer, Moment, Synthetic
from .plan import Plan

BASES = {False: "as is", True: "Haar"}
EXACT_NUMBER = 0.00005  # half a unit of the last digit of 0.2546
UNDAMPED = "Spacing searched for rate_column; no damping, rescalers or side information."
CONDITIONS = (
    "Spacing searched for rate_column; no rescalers or side information; no damping on synthetic "
    f"Σ, {LAYER_DAMPING:g} for all methods on layers."
)


def in_basis(label: str, rotated: bool) -> str:
    """A label with its basis."""
    return f"{label}, {BASES[rotated]}"


def synthetic_input(plan: Plan) -> str:
    """What the synthetic measurements were made of."""
    return (
        f"Gaussian weights, n = {', '.join(str(n) for n in sorted({m.n for m in plan.spectra}))}, "
        f"{plan.repetitions} repetitions with new weights and rotations; AR(1) as it stands, log-"
        "normal spectra (ln λ at the quantiles of a normal distribution) in their eigenbasis."
    )


def layer_input(plan: Plan) -> str:
    """What the measurements with Gaussian weights on layers were made of."""
    count = len({layer.moments for layer in plan.layers})
    return (
        f"{count} second moments Σ of {_models(plan.layers)}, with Gaussian weights "
        f"({plan.layer_rows} rows or more), drawn {plan.layer_repetitions} times or more for each "
        "type of layer; where a type has several Σ the spread between them is the uncertainty."
    )


def own_input(plan: Plan) -> str:
    """What the measurements with the layers' own weights were made of."""
    return (
        f"{len(plan.layers)} layers of {_models(plan.layers)} with their own weights "
        f"({_range(layer.shape[0] for layer in plan.layers)} rows)."
    )


def remarks(moments: Iterable[Moment]) -> tuple[str, ...]:
    """What all layers of a family say of themselves; what only some say stands in the list."""
    said: dict[str, list[tuple[str, ...]]] = {}
    for moment in moments:
        if isinstance(moment, Layer):
            said.setdefault(moment.family, []).append(moment.remarks)
    return tuple(
        f"{family}: {remark}"
        for family, each in said.items()
        for remark in each[0]
        if all(remark in others for others in each)
    )


def flat(labels: dict[str, list[Moment]]) -> list[Moment]:
    """All Σ of these labels."""
    return [moment for moments in labels.values() for moment in moments]


def synthetic(measurements: Measurements) -> dict[str, list[Moment]]:
    """The synthetic Σ of the general experiments, by label."""
    return measurements.labels(Synthetic)


def real(measurements: Measurements) -> dict[str, list[Moment]]:
    """The layers, by label."""
    return measurements.labels(Layer)


def families(plan: Plan) -> list[str]:
    """Of the layers' models, in their order."""
    return list(dict.fromkeys(layer.family for layer in plan.layers))


def _models(layers: Sequence[Layer]) -> str:
    return " and ".join(dict.fromkeys(layer.family for layer in layers)) or "no model"


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return f"{found[0]}–{found[-1]}" if len(found) > 1 else "".join(map(str, found))
