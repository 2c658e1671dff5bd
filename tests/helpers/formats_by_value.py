"""Small float formats by the definition of their fields, and rounding by looking at neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# exponent bits, mantissa bits, bias, largest finite value
FORMATS = {
    "fp4-e2m1": (2, 1, 1, 6.0),
    "fp6-e2m3": (2, 3, 1, 7.5),
    "fp6-e3m2": (3, 2, 3, 28.0),
    "fp8-e4m3": (4, 3, 7, 448.0),
    "fp8-e5m2": (5, 2, 15, 57344.0),
}


def magnitudes(name: str) -> Array:
    exponent_bits, mantissa_bits, bias, largest = FORMATS[name]
    values = []
    for pattern in range(2 ** (exponent_bits + mantissa_bits)):
        e, f = divmod(pattern, 2**mantissa_bits)
        significand = f / 2**mantissa_bits + (e > 0)
        values.append(significand * 2.0 ** (max(e, 1) - bias))
    return np.array([v for v in values if v <= largest])


def nearest_values(x: Array, values: Array) -> Array:
    """Codes: the place of the nearest value with the sign of x; ties to the even place."""
    place = np.arange(len(values))
    distance = np.abs(np.abs(x)[:, None] - values)
    best = np.lexsort((place % 2 + 0 * distance, distance), axis=1)[:, 0]
    return np.where(x < 0, -best, best).astype(float)
