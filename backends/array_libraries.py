"""Array libraries by name, as namespaces of the Python array API standard.

"numpy" needs nothing; "torch" and "cupy" go through array-api-compat, which gives them the names of
the standard; "jax" has them and is switched to float64.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ..reference.errors import BadInput

NAMESPACES = {
    "torch": ("array_api_compat.torch", "torch array-api-compat"),
    "cupy": ("array_api_compat.cupy", "cupy-cuda13x array-api-compat"),
    "jax": ("jax.numpy", "jax"),
}


def namespace(library: Any) -> Any:
    """The namespace of a library by its name; a namespace is handed back as it is.

    Raises:
        BadInput: a name that is not known, or a library that is not installed.

    >>> namespace("numpy").__name__
    'numpy'
    """
    if not isinstance(library, str):
        return library
    if library == "numpy":
        return np
    if library not in NAMESPACES:
        raise BadInput(f"unknown array library {library!r}; use numpy, {', '.join(NAMESPACES)}")
    module, packages = NAMESPACES[library]
    try:
        if library == "jax":
            import_module("jax").config.update("jax_enable_x64", True)
        return import_module(module)
    except ImportError as error:
        raise BadInput(f"{library} cannot be used: {error}; pip install {packages}") from None
