"""What does theory say, and where does each of its answers stand?

Everything here is a prediction from Σ, the spectrum or the format alone; no weight is quantised.
Rows of W are N(0, σ²I). Each module derives its formulas and says when they hold:

| question | module |
|---|---|
| What does rounding one Gaussian number cost, at any rate? | `theory.scalar` |
| How far from the limit are WaterSIC, GPTQ and RTN if bits are plenty? | `theory.high_rate` |
| What does a random rotation do to GPTQ? | `theory.rotated` |
| What does WaterSIC do at 1 to 4 bits, and why does the basis matter there? | `theory.low_rate` |
| How well can a product survive whose factors are both quantised? | `theory.products` |
| What does one scale per block cost, for integers and for small floats? | `theory.absmax` |

The limit itself, at every rate, is reverse waterfilling (`limits.waterfilling`). Two algorithms
are the experiments to it: `watersic` and its relatives for a layer, `generic_product` for a product
without calibration.

Worked example, one Σ from beginning to end: eigenvalues from 1 to 1/64 in a random basis. At high
rate GPTQ and RTN pay for their one spacing, WaterSIC pays what every scalar quantiser does, and
the formula for a rotated spectrum knows GPTQ's share without having seen the basis.

>>> import numpy as np
>>> from ..bases.haar import haar
>>> eigenvalues = 2.0 ** -np.linspace(0, 6, 64)
>>> V = haar(64, seed=1).matrix
>>> covariance = (V * eigenvalues) @ V.T
>>> limit = limit_coefficient(covariance)
>>> for coefficient in (watersic_coefficient, gptq_coefficient, rtn_coefficient):
...     print(coefficient.__name__, round(gap(coefficient(covariance), limit), 2))
watersic_coefficient 0.25
gptq_coefficient 0.32
rtn_coefficient 0.73
>>> round(rotated_gptq_gap(eigenvalues), 2)
0.31

At 1 bit things are different: in this basis the errors leak, in that of the eigenvectors not.

>>> for basis in (covariance, np.diag(eigenvalues)):
...     print([round(p.gap, 2) for p in watersic_curve(basis, 1.0, [1.0, 2.0, 4.0])])
[0.35, 0.31, 0.26]
[0.19, 0.25, 0.25]

Exercise: how many bits does WaterSIC save against GPTQ here, and what would one table for all of
its codes take back? (Check: against GPTQ in WaterSIC's order the bound is the very same number, and
what is taken back in fact a little less. GPTQ's own order is the reverse one, with another L.)

>>> backwards = np.arange(64)[::-1]
>>> squares = cholesky_squares(covariance, backwards)
>>> for order in (backwards, None):
...     gptq = gptq_coefficient(covariance, order)
...     print(round(rate_advantage(watersic_coefficient(covariance), gptq), 4))
0.0671
0.0695
>>> [round(bits, 4) for bits in (pooling_bound(squares), pooling_penalty(squares))]
[0.0671, 0.0601]

Sources: Ordentlich & Polyanskiy, "High-Rate Quantized Matrix Multiplication", arXiv 2601.17187, and
its second part, arXiv 2605.13768, both 2026. The first has the formats and products without
calibration (`absmax`, `generic_product`, `products`), the second what Σ is good for (`high_rate`,
`rotated`).

Outside the exact path, all of it: SciPy and LAPACK, each within the tolerance that its module
states.
"""

from __future__ import annotations

from .absmax import (
    absmax_distortion,
    absmax_mean_square,
    blockwise_distortion,
    cell_distortion,
    float_distortion,
    float_distortion_short,
    formula_distortion,
    int_distortion,
)
from .high_rate import (
    adversarial_gap,
    cholesky_squares,
    damping_penalty,
    gap,
    geometric_mean,
    gptq_coefficient,
    high_rate_conditions,
    limit_coefficient,
    limit_distortion,
    pooling_bound,
    pooling_penalty,
    quantizer_distortion,
    rate_advantage,
    rtn_coefficient,
    watersic_coefficient,
)
from .low_rate import (
    Prediction,
    first_order_variances,
    predict_watersic,
    watersic_at_rate,
    watersic_curve,
)
from .products import CRITICAL_RATE, product_distortion, product_limit, product_limit_rate
from .rotated import half_and_half_gap, rotated_cholesky_squares, rotated_gptq_gap
from .scalar import SCALAR_GAP, UniformQuantizer, scalar_gap, spacing_for_entropy, uniform_quantizer

__all__ = [
    "CRITICAL_RATE",
    "SCALAR_GAP",
    "Prediction",
    "UniformQuantizer",
    "absmax_distortion",
    "absmax_mean_square",
    "adversarial_gap",
    "blockwise_distortion",
    "cell_distortion",
    "cholesky_squares",
    "damping_penalty",
    "first_order_variances",
    "float_distortion",
    "float_distortion_short",
    "formula_distortion",
    "gap",
    "geometric_mean",
    "gptq_coefficient",
    "half_and_half_gap",
    "high_rate_conditions",
    "int_distortion",
    "limit_coefficient",
    "limit_distortion",
    "pooling_bound",
    "pooling_penalty",
    "predict_watersic",
    "product_distortion",
    "product_limit",
    "product_limit_rate",
    "quantizer_distortion",
    "rate_advantage",
    "rotated_cholesky_squares",
    "rotated_gptq_gap",
    "rtn_coefficient",
    "scalar_gap",
    "spacing_for_entropy",
    "uniform_quantizer",
    "watersic_at_rate",
    "watersic_coefficient",
    "watersic_curve",
]
