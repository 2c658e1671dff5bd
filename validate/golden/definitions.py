"""All definitions, in the order of the index."""

from __future__ import annotations

from .definition import Definition
from .operations_cases import order_free_cases
from .order_cases import order_cases
from .rounding_cases import rounding_cases

DEFINITIONS: tuple[Definition, ...] = (
    *order_free_cases(),
    *order_cases(),
    *rounding_cases(),
)
