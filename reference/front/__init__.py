"""Near-optimal weight quantisation, to the bit: RTN, GPTQ, WaterSIC and waterfilling.

>>> import numpy as np, waterlevel
>>> W = np.random.default_rng(0).standard_normal((64, 32))
>>> waterlevel.watersic(W, np.eye(32), rate=3.0)  # doctest: +ELLIPSIS
    method: watersic, rate 3
     layer: 64×32, float64 on numpy
      rate: ... bits per weight
distortion: ..., the squared error of the output per weight
       gap: ... bit above the limit of ...

`rtn`, `gptq`, `watersic` and `waterfilling` take the weight W (a×n) and the covariance Σ of its
inputs (n×n); `backend="numba"` is fast and gives the same bits. `prepare` checks a layer once for
several methods, `load` reads what `result.save` or `waterlevel quantize` wrote, `backend` finds a
backend by name. `order_free` and `order_free_grid` compute the same methods on arrays of any
library, with one result from all of them, and so does `load_decoder` for a whole model. The text
that explains all of it is `help(waterlevel.reference)`.

This page stands in a folder of `reference`, because the folders at the top level are the packages
themselves. What it offers is imported when it is asked for: the command line needs none of it to
print its help.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # by the places of the files, where a type checker looks
    __version__: str
    from ...backends import get as backend
    from ...validate.layers.result_files import load
    from ...validate.models.loading import load_decoder
    from .. import (
        BadInput,
        CodeOverflow,
        GridScales,
        LatticeScales,
        NotPositiveDefinite,
        Quantized,
        RateNotMet,
        WaterlevelError,
        gptq,
        rtn,
        waterfilling,
        watersic,
    )
    from ..operations.layer import Layer, prepare
    from ..order_free import (
        NoGrid,
        OrderFreeCodes,
        OrderFreeGrid,
        order_free,
        order_free_cholesky,
        order_free_grid,
    )

PLACES = {
    "rtn": "reference",
    "gptq": "reference",
    "watersic": "reference",
    "waterfilling": "reference",
    "Layer": "reference.operations.layer",
    "prepare": "reference.operations.layer",
    "backend": "backends",
    "load": "validate.layers.result_files",
    "order_free": "reference.order_free",
    "order_free_grid": "reference.order_free",
    "order_free_cholesky": "reference.order_free",
    "load_decoder": "validate.models.loading",
    "Quantized": "reference",
    "GridScales": "reference",
    "LatticeScales": "reference",
    "OrderFreeCodes": "reference.order_free",
    "OrderFreeGrid": "reference.order_free",
    "WaterlevelError": "reference",
    "BadInput": "reference",
    "CodeOverflow": "reference",
    "NotPositiveDefinite": "reference",
    "RateNotMet": "reference",
    "NoGrid": "reference.order_free",
}
__all__ = [  # noqa: RUF022 - in the order in which a reader needs them
    "rtn",
    "gptq",
    "watersic",
    "waterfilling",
    "Layer",
    "prepare",
    "backend",
    "load",
    "order_free",
    "order_free_grid",
    "order_free_cholesky",
    "load_decoder",
    "Quantized",
    "GridScales",
    "LatticeScales",
    "OrderFreeCodes",
    "OrderFreeGrid",
    "WaterlevelError",
    "BadInput",
    "CodeOverflow",
    "NotPositiveDefinite",
    "RateNotMet",
    "NoGrid",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("waterlevel")
    if name in PLACES:
        module = import_module(f"waterlevel.{PLACES[name]}")
        return getattr(module, "get" if name == "backend" else name)
    raise AttributeError(f"module 'waterlevel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
