"""How is a golden case defined, before it is computed and written?

A definition says what is called with which inputs, why, and what makes the case worth having: its
*purposes*, conditions on inputs and outputs that are looked at whenever the case is written. A case
that is to catch a fused multiply-add, and would not, is an error of whoever defined it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .case import Case, Output, Source, TensorStore
from .execute import kind_of
from .recipes import make

Inputs = Mapping[str, NDArray]
Outputs = Mapping[str, NDArray]


@dataclass(frozen=True)
class Made:
    """An input that the files do not hold: a recipe and its parameters."""

    recipe: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Purpose:
    """A condition that inputs and outputs of a case must fulfil, in words and as a function."""

    says: str
    holds: Callable[[Inputs, Outputs], bool]


@dataclass(frozen=True, eq=False)
class Definition:
    """A case without its outputs; see `case.Case` for what the fields mean.

    Attributes:
        what: the last part of the id, without the dtype.
        changed_by: names of deviations (`deviations.DEVIATIONS`) that must give other bits here.
        unchanged_by: names of deviations that must give the same bits.
        purposes: further conditions. extra: outputs beside those that `execute` always gives.
    """

    function: str
    tier: str
    what: str
    dtype: str
    comment: str
    inputs: Mapping[str, NDArray | Made]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    size: str = "small"
    changed_by: tuple[str, ...] = ()
    unchanged_by: tuple[str, ...] = ()
    purposes: tuple[Purpose, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """See `case.Case`."""
        return f"{self.function}/{self.tier}/{self.what}-{self.dtype}"

    def arrays(self) -> dict[str, NDArray]:
        """The inputs, new arrays every time."""
        return {
            name: make(given.recipe, given.parameters) if isinstance(given, Made) else given.copy()
            for name, given in self.inputs.items()
        }

    def case(self, store: TensorStore) -> Case:
        """The case with neither outputs nor error; enough to be executed."""
        stored = any(not isinstance(given, Made) for given in self.inputs.values())
        return Case(
            id=self.id,
            kind=kind_of(self.function),
            function=self.function,
            tier=self.tier,
            size=self.size,
            dtype=self.dtype,
            comment=self.comment,
            flags=self.flags,
            parameters=self.parameters,
            inputs={
                name: Source(recipe=given.recipe, parameters=given.parameters)
                if isinstance(given, Made)
                else Source(tensor=f"{self.id}/inputs/{name}")
                for name, given in self.inputs.items()
            },
            outputs={name: Output("tolerance", "") for name in self.extra},
            error=None,
            file=f"{self.function}.safetensors" if stored else None,
            confirmed_by=(),
            store=store,
        )


def bits_of(array: NDArray) -> bytes:
    """What must be equal for two arrays of one shape and dtype to have the same bits."""
    return np.ascontiguousarray(array).tobytes()


def differs(one: NDArray, other: NDArray) -> bool:
    """Whether two arrays differ in a bit, in shape or in dtype."""
    return (one.shape, one.dtype) != (other.shape, other.dtype) or bits_of(one) != bits_of(other)
