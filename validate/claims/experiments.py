"""The experiments, in the order in which they are told."""

from __future__ import annotations

from . import (
    basis,
    families,
    high_rate,
    low_rate,
    recursion,
    rotated_diagonals,
    rotation,
    scalar_waterfilling,
    shared_table as shared_table,
    worst_case as adversary,
)
from .finding import Finding
from .measurements import Measurements

EXPERIMENTS = (
    high_rate.find,
    basis.find,
    adversary.find,
    rotation.find,
    rotated_diagonals.find,
    scalar_waterfilling.find,
    shared_table.find,
    low_rate.find,
    basis.find_at_low_rate,
    families.find,
    recursion.find,
)


def find_all(measurements: Measurements) -> list[Finding]:
    """Every claim with its verdict."""
    return [find(measurements) for find in EXPERIMENTS]
