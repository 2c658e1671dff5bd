"""Near-optimal weight quantisation, from reverse waterfilling to WaterSIC, as a text that runs.

Reading order. Each module opens with the question it answers, then the equation, a derivation, an
example small enough to check by hand, an exercise, and code that looks like the equation.

An afternoon, from reverse waterfilling to WaterSIC; it needs linear algebra and some Python:

1. `waterfilling`            how few bits can a given distortion cost, and who gets them?
2. `distortion`, `limit`     what did a method do to a layer, and what should that have cost?
3. `theory_uniform`          what does rounding one Gaussian number cost?
4. `sic`, `codebooks`        the one loop behind every method, and what it rounds to
5. `rtn`, `gptq`             one spacing for all columns
6. `watersic`                a spacing per column
7. `theory_high_rate`        how far is each of them from the limit, when bits are plenty?
8. `rates`                   how many bits does a weight cost, and which of the answers counts?

The rest of the subject:

9. `rotation`, `haar`, `hadamard`, `waterfilling_quantizer`    another basis
10. `theory_rotated`, `theory_recursion`, `theory`    what a rotation and few bits change
11. `search`, `lattice`, `rescalers`, `huffman`    a spacing for a rate, scales for the codes
12. `grids`, `formats`, `one_scale`    which numbers may a weight be on a finite grid?
13. `moments`, `mixing`, `budget`    where Σ comes from, and many layers at once
14. `absmax`, `theory_absmax`, `theory_products`, `generic_product`    two factors quantised

The arithmetic that makes all of it the same on every machine:

15. `sums`, `products`, `triangular`, `logarithm`, `histogram`
16. `operations`, `numpy_operations`    what a backend must do, and the oracle that does it
17. `preparation`, `results`, `errors`
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
