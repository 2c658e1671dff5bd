"""All definitions, in the order of the index."""

from __future__ import annotations

from .algorithms_cases import grid_cases
from .definition import Definition
from .invalid_cases import invalid_cases
from .large_cases import large_cases
from .lattice_cases import lattice_cases
from .operations_cases import order_free_cases
from .order_cases import order_cases
from .part_cases import part_cases
from .real_cases import real_cases
from .rounding_cases import rounding_cases
from .scalar_cases import scalar_cases

DEFINITIONS: tuple[Definition, ...] = (
    *order_free_cases(),
    *order_cases(),
    *rounding_cases(),
    *grid_cases(),
    *lattice_cases(),
    *part_cases(),
    *scalar_cases(),
    *real_cases(),
    *invalid_cases(),
    *large_cases(),
)
