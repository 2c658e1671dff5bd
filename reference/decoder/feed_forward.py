"""What happens between the two halves of a feed-forward layer?

Each feature of `up` is let through as far as its `gate` is open (SwiGLU):

    SwiGLU(g, u) = g·σ(g)·u,        σ(g) = 1/(1 + e^-g)

With e = e^-|g| ≤ 1 (`exponential`) σ(g) is 1/(1 + e) for g ≥ 0 and e/(1 + e) otherwise; no
overflow. All is element by element: log2 e·|g| rounded and put on the grid 2^-26, e with a relative
error below 2^-24, then one addition, one division and two products, rounded once each. So the
relative error of σ, and of the result, is below 2^-24 + |g|·2^-52 + 2^-26.

Worked example: g = 0 halves: 0·½·u = 0; g = ln 3 = 1.0986… has e = 1/3, σ = ¾.

>>> import numpy as np
>>> from .library import ArrayLibrary
>>> g = np.array([[0.0, 1.0986122886681098, -1.0986122886681098]])
>>> swiglu(ArrayLibrary(np), g, np.ones((1, 3)) / g[0, 1]).round(7).tolist()
[[0.0, 0.75, -0.25]]

Exercise: for a gate far below 0, what is left? (Check: g·e^g, next to nothing.)

>>> abs(swiglu(ArrayLibrary(np), np.array([[-3000.0]]), np.ones((1, 1)))).item() < 1e-15
True
"""

from __future__ import annotations

from .exponential import LOG2_E, UNIT, power_of_two
from .library import Array, ArrayLibrary


def swiglu(library: ArrayLibrary, gate: Array, up: Array) -> Array:
    """g·σ(g)·u, element by element. Exactness: bits."""
    xp = library.xp
    t = xp.abs(gate)
    t *= LOG2_E
    t *= -UNIT
    e, one = power_of_two(library, library.rint(t)), library.put(UNIT)
    open_ = xp.where(gate >= 0, one, e)
    e += one
    open_ /= e
    open_ *= gate
    open_ *= up
    return open_
