"""Is a number that a user gave one that it can be? One line that says so, for every module.

>>> check_count("group_size", 0)
Traceback (most recent call last):
    ...
waterlevel.reference.errors.BadInput: group_size is 0; it must be a whole number of at least 1
"""

from __future__ import annotations

import numpy as np

from .errors import BadInput


def check_parameter(
    name: str, value: float, least: float, greatest: float = np.inf, exclusive: bool = False
) -> None:
    """Raise BadInput unless least ≤ value ≤ greatest (least < value if exclusive) and finite."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise BadInput(f"{name} is {value!r}; it must be a number")
    low = value > least if exclusive else value >= least
    if not (low and value <= greatest and np.isfinite(value)):
        relation = "above" if exclusive else "at least"
        upper = f" and at most {greatest:g}" if np.isfinite(greatest) else ""
        raise BadInput(f"{name} is {value}; it must be {relation} {least:g}{upper}")


def check_count(name: str, value: int) -> None:
    """Raise BadInput unless value is a whole number of at least 1."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise BadInput(f"{name} is {value!r}; it must be a whole number of at least 1")
