"""How does a layer get the same codes from any library, matrix product, order and processor?

The ordered contract (`arithmetic`) fixes the order of every sum. A program that calls a BLAS, a
GPU's matrix product or tensor cores can not follow it. Here the sums are arranged so that none of
them rounds: their order can not matter, and a page of anybody's array code finds the same bits.

Reading order:

1. `slices`         when does a sum of products not round?
2. `cancellation`   the loop of `sic` on integers, and the bound that proves it exact
3. `lattice`        WaterSIC with gains, entropy-coded GPTQ, RTN; a spacing for a rate
4. `finite`         GPTQ on finite grids with any scale, groups, zero points, float formats
5. `factor`         a Cholesky factor from exact products
6. `arrays`         what may differ from one array library to the next, and what may not

`FOR_OTHER_LANGUAGES.md` beside this file says the same without a word of Python, for whoever writes
kernels: which integers, which roundings.

Both contracts find the same codes but for ties within the grid of this one. Where the ordered one
asks for kernels of its own, this one runs on what is there; where both exist, each proves the
other.

Worked example: all that is needed for a layer is W and the moment of its inputs.

>>> import numpy as np
>>> W, H = np.array([[0.4, 0.4]]), np.array([[1.0, 0.8], [0.8, 1.0]])
>>> order_free(W, order_free_cholesky(H), 1.0, method="gptq", order=[0, 1]).codes
array([[0, 1]], dtype=int32)

Exercise: how does the covariance change when the columns are decided in another order? (Check: not
at all for this symmetric one; in general `factor` is that of H with rows and columns order[::-1].)

>>> order_free(W, order_free_cholesky(H), 1.0, method="gptq", order=[1, 0]).codes
array([[1, 0]], dtype=int32)
"""

from .factor import order_free_cholesky
from .finite import OrderFreeGrid, order_free_grid
from .lattice import NoGrid, OrderFreeCodes, order_free

__all__ = [
    "NoGrid",
    "OrderFreeCodes",
    "OrderFreeGrid",
    "order_free",
    "order_free_cholesky",
    "order_free_grid",
]
