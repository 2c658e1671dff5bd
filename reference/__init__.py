"""Near-optimal weight quantisation, from reverse waterfilling to WaterSIC, as a text that runs.

Reading order. Each module opens with the question it answers, then the equation, a derivation, an
example small enough to check by hand, an exercise, and code that looks like the equation.

The subject:

1. `waterfilling`            how few bits can a given distortion cost, and who gets them?
2. `limit`, `distortion`     what does that mean for a layer, and what did a method reach?
3. `rates`, `huffman`        how many bits does a weight cost, and which of the answers counts?
4. `codebooks`, `formats`, `grids`   which numbers may a weight be?
5. `sic`                     the one loop behind every method
6. `rtn`, `gptq`, `one_scale`        one scale for all columns
7. `watersic`, `rescalers`   a spacing per column
8. `waterfilling_quantizer`, `rotation`, `hadamard`, `haar`   another basis
9. `search`, `lattice`       a spacing for a given rate
10. `moments`, `mixing`, `budget`    where Σ comes from, and many layers at once
11. `theory` and the modules it names    what all of this should cost, by formula
12. `absmax`, `generic_product`      two factors quantised, without calibration

The arithmetic that makes all of it the same on every machine:

13. `sums`, `products`, `triangular`, `logarithm`, `histogram`
14. `operations`, `numpy_operations`  what a backend must do, and the oracle that does it
15. `preparation`, `results`, `errors`
"""

from .errors import BadInput, CodeOverflow, NotPositiveDefinite, WaterlevelError
from .gptq import gptq
from .numpy_operations import NUMPY
from .operations import Operations
from .results import GridScales, LatticeScales, Quantized
from .rtn import rtn
from .waterfilling_quantizer import waterfill
from .watersic import watersic

__all__ = [
    "NUMPY",
    "BadInput",
    "CodeOverflow",
    "GridScales",
    "LatticeScales",
    "NotPositiveDefinite",
    "Operations",
    "Quantized",
    "WaterlevelError",
    "gptq",
    "rtn",
    "waterfill",
    "watersic",
]
