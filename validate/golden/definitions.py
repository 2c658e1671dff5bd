"""All definitions, in the order of the index."""

from __future__ import annotations

from .definition import Definition
from .operations_cases import operations_cases

DEFINITIONS: tuple[Definition, ...] = (*operations_cases(),)
