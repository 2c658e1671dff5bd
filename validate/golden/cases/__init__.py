"""All definitions, in the order of the index."""

from __future__ import annotations

from ..definition import Definition
from .algorithms import grid_cases
from .invalid import invalid_cases
from .large import large_cases
from .lattice import lattice_cases
from .operations import order_free_cases
from .order import order_cases
from .order_free import exact_sum_cases
from .part import part_cases
from .real import real_cases
from .rounding import rounding_cases
from .scalar import scalar_cases

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
    *exact_sum_cases(),
)
