"""Which part of a forward pass is worth writing twice?

Products of matrices belong to a BLAS. What is left are passes over all elements: onto a grid, back
from it, norms, turns, softmax, SwiGLU. `Passes` does them by the functions of the lessons, an array
operation at a time, on any library. Every one of them is exact or rounds where it says so, and so a
compiled loop that does a whole pass at once (`backends.numba_cpu.decoder`) gives the same bits: it
replaces methods of this class, and the decoder does not know.

Worked example: a linear layer y = W x + b with W = (2 0; 0 1), b = (1, 0):

>>> from .integers import prepare
>>> passes = Passes(np)
>>> layer = prepare(passes, np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0]))
>>> passes.linear(passes.gridded(np.array([[3.0, 0.5]]), layer), layer).tolist()
[[7.0, 0.5]]

Exercise: how many integers does the layer multiply for these two inputs, and how wide are they?
(Check: 53 - 1 bits for two products: 26 each.)

>>> layer.bits
26
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import attention, exponential, feed_forward, integers, normalization, rotary
from .integers import Linear
from .library import Array, ArrayLibrary


class Passes(ArrayLibrary):
    """The element-wise passes, by the operations of an array library."""

    def grid(self, x: Array, bits: int) -> tuple[Array, NDArray[np.float64]]:
        """`integers.grid`, along the last axis."""
        return integers.grid(self, x, bits)

    def rescale(
        self,
        sums: Array,
        unit: NDArray[np.float64],
        layer: Linear,
        residual: Array | None,
    ) -> Array:
        """residual + (sums·u·v + bias); `sums` may be overwritten."""
        sums += self.zero
        sums *= self.put(unit)
        sums *= layer.unit
        if layer.bias is not None:
            sums += layer.bias
        if residual is not None:
            sums += residual
        return sums

    def rms_norm(self, x: Array, gain: Array, epsilon: float) -> Array:
        """`normalization.rms_norm`."""
        return normalization.rms_norm(self, x, gain, epsilon)

    def rotate(self, q: Array, cosine: Array, sine: Array) -> Array:
        """`rotary.rotate`."""
        return rotary.rotate(self, q, cosine, sine)

    def attention_weights(
        self, scores: Array, factor: Array, unit: Array, seen: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """`attention.attention_weights`."""
        return attention.attention_weights(self, scores, factor, unit, seen)

    def swiglu(self, gate: Array, up: Array) -> Array:
        """`feed_forward.swiglu`; `gate` may be overwritten."""
        return feed_forward.swiglu(self, gate, up)

    def exponentials(self, t: Array, bits: int) -> Array:
        """Σ rint(2^(t/2^26 + bits)) over the last axis, integers t ≤ 0."""
        scale = float(np.ldexp(1.0, bits - exponential.BITS))
        powers = exponential.power_of_two(self, t)
        powers *= scale
        return self.xp.sum(self.rint(powers), axis=-1)

    def gridded(self, x: Array, layer: Linear) -> tuple[Array, NDArray[np.float64]]:
        """x as layers with as many inputs take it."""
        return self.grid(x, layer.bits)

    def linear(
        self,
        gridded: tuple[Array, NDArray[np.float64]],
        layer: Linear,
        residual: Array | None = None,
    ) -> Array:
        """residual + (W x + b)."""
        m, unit = gridded
        return self.rescale(self.product(m, layer.integers), unit, layer, residual)
