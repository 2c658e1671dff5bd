"""How does a user say which backend is meant?

By the object itself, or by a name. The names belong to `waterlevel.backends`, which knows this
package; so that this package need not know it, it is imported when the first name is looked up.

>>> operations_of(None).name, operations_of("numpy").name
('numpy', 'numpy')
>>> operations_of("abacus")  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
waterlevel.reference.errors.BadInput: no backend is called 'abacus'; there are: numpy, numba, ...

Exercise: what is a backend that is no name? (Check: what it is.)

>>> from .numpy_operations import NUMPY
>>> operations_of(NUMPY) is NUMPY
True
"""

from __future__ import annotations

from importlib import import_module

from . import Operations
from .numpy_operations import NUMPY


def operations_of(backend: Operations | str | None) -> Operations:
    """The operations that are meant: None is the oracle, a name is looked up.

    Raises:
        BadInput: there is no such backend, or it cannot run here; the line says why.
    """
    if backend is None:
        return NUMPY
    if not isinstance(backend, str):
        return backend
    return import_module("...backends", __package__).get(backend)
