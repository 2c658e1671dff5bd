"""Near-optimal weight quantisation, from reverse waterfilling to WaterSIC, as a text that runs.

Reading order. Each module opens with the question it answers, then the equation, a derivation, an
example small enough to check by hand, an exercise, and code that looks like the equation.

Five minutes: `minimal`, every method and the gap on one page of plain NumPy.

An afternoon, from reverse waterfilling to WaterSIC; it needs linear algebra and some Python:

1. `limits.waterfilling`    how few bits can a given distortion cost, and who gets them?
2. `limits.distortion`, `limits.gaussian_limit`
   what did a method do to a layer, and what should that have cost?
3. `theory.scalar`    what does rounding one Gaussian number cost?
4. `operations.sic`, `grids.codebooks`    the one loop behind every method, and what it rounds to
5. `methods.rtn`, `methods.gptq`    one spacing for all columns
6. `methods.watersic`    a spacing per column
7. `theory.high_rate`    how far is each of them from the limit, when bits are plenty?
8. `coding.rates`    how many bits does a weight cost, and which of the answers counts?

The rest of the subject:

9. `bases.rotation`, `bases.haar`, `bases.hadamard`, `methods.waterfilling_quantizer`
   another basis
10. `theory.rotated`, `theory.low_rate`, `theory`    what a rotation and few bits change
11. `methods.rate_search`, `methods.lattice`, `methods.rescalers`, `coding.huffman`
    a spacing for a rate, scales for the codes
12. `methods.grid_fitting`, `grids.float_formats`, `methods.one_scale`
    which numbers may a weight be on a finite grid?
13. `calibration.moments`, `calibration.mixing`, `calibration.budget`
    where Σ comes from, and many layers at once
14. `methods.absmax`, `theory.absmax`, `theory.products`, `theory.generic_product`
    two factors quantised

Layers and whole models, over integers, so that no sum rounds and nothing can differ:

15. `order_free`, `order_free.slices`, `order_free.cancellation`, `order_free.lattice`,
    `order_free.finite`, `order_free.factor`, `order_free.arrays`
16. `decoder`, `decoder.integers`, `decoder.decoder`, `decoder.configuration`, `decoder.attention`,
    `decoder.exponential`, `decoder.normalization`, `decoder.rotary`, `decoder.feed_forward`,
    `decoder.likelihood`, `decoder.sequence_moments`, `decoder.passes`, `decoder.library`

The arithmetic that makes all of it the same on every machine:

17. `arithmetic.sums`, `arithmetic.products`, `arithmetic.triangular`, `arithmetic.butterflies`,
    `arithmetic.logarithm`, `coding.histogram`
18. `operations`, `operations.numpy_operations`
    what a backend must do, and the oracle that does it
19. `operations.layer`, `operations.named`, `bases.named`, `methods.preparation`,
    `methods.results`, `checks`, `errors`, `contract`

**Who knows whom.** A folder imports only folders that stand below it in this list: `decoder`,
`order_free`, `theory`, `methods`, `calibration`, `limits`, `bases`, `operations`, `grids`,
`coding`, `arithmetic`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import BadInput, CodeOverflow, NotPositiveDefinite, RateNotMet, WaterlevelError
    from .methods.gptq import gptq
    from .methods.results import GridScales, LatticeScales, Quantized
    from .methods.rtn import rtn
    from .methods.waterfilling_quantizer import waterfilling
    from .methods.watersic import watersic
    from .operations import Operations
    from .operations.numpy_operations import NUMPY

# Imported when it is asked for: an error's name should not cost SciPy.
PLACES = {
    "NUMPY": ".operations.numpy_operations",
    "BadInput": ".errors",
    "CodeOverflow": ".errors",
    "GridScales": ".methods.results",
    "LatticeScales": ".methods.results",
    "NotPositiveDefinite": ".errors",
    "Operations": ".operations",
    "Quantized": ".methods.results",
    "RateNotMet": ".errors",
    "WaterlevelError": ".errors",
    "gptq": ".methods.gptq",
    "rtn": ".methods.rtn",
    "waterfilling": ".methods.waterfilling_quantizer",
    "watersic": ".methods.watersic",
}
__all__ = [
    "NUMPY",
    "BadInput",
    "CodeOverflow",
    "GridScales",
    "LatticeScales",
    "NotPositiveDefinite",
    "Operations",
    "Quantized",
    "RateNotMet",
    "WaterlevelError",
    "gptq",
    "rtn",
    "waterfilling",
    "watersic",
]


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(PLACES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
