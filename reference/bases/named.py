"""How does a user say which rotation is meant?

By an object, which has its seed, or by the name of a kind, with seed 0.

>>> rotation_of("hadamard", 4)
HadamardRotation(n=4, seed=0)
>>> rotation_of(None, 4) is None
True

Exercise: which orders has "hadamard"? (Check: not 7; "haar" has every order.)

>>> rotation_of("haar", 7).describe()
{'kind': 'haar', 'seed': 0}
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import BadInput
from .haar import haar
from .rotation import HadamardRotation, Rotation

KINDS: dict[str, Callable[[int, int], Rotation]] = {"hadamard": HadamardRotation, "haar": haar}


def rotation_of(rotation: Rotation | str | None, columns: int) -> Rotation | None:
    """The rotation that is meant, of the order n = columns.

    Raises:
        BadInput: another name; an order that the kind does not have.
    """
    if not isinstance(rotation, str):
        return rotation
    if rotation not in KINDS:
        raise BadInput(f"rotation is {rotation!r}; it must be one of {', '.join(KINDS)}")
    return KINDS[rotation](columns, 0)
