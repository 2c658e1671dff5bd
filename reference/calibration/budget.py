"""How do many layers share one rate, if none of them hits its target exactly?

A model may cost R bits per weight on average. Layer ℓ has N_ℓ weights and is quantised at a rate
R_ℓ that a search brings near its target, not onto it. The budget is in bits:

    B = R·Σ N_ℓ

and each layer, when its turn comes, aims at what the layers before it left:

    target = (B - Σ_done N_ℓ·R_ℓ) / Σ_open N_ℓ

If every layer met its target, all targets would be R: nothing is saved for a layer that is said to
be important. The rule only carries over what the searches missed. A layer that cost a little more
than planned lowers the targets of those that follow, and what remains at the end is the miss of the
last layer alone.

Worked example: two layers of 100 weights at 3 bits make 600 bits. The first one costs 3.25 bits a
weight, so 275 bits are left for the 100 weights of the second.

>>> budget = RateBudget({"query": 100, "key": 100}, rate=3.0)
>>> budget.next_rate()
3.0
>>> budget.spend("query", 3.25)
>>> budget.next_rate()
2.75

Exercise: at which rate of the first of these layers is there nothing left for the second? (Check:
at 6 bits, and the budget refuses it.)

>>> budget = RateBudget({"query": 100, "key": 100}, rate=3.0)
>>> budget.spend("query", 6.0)
Traceback (most recent call last):
    ...
waterlevel.reference.errors.BadInput: layer query at 6 bits leaves 0 bits for the 100 weights \
that are still open; quantise it at a lower rate, or raise the global rate
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import BadInput


class RateBudget:
    """What is left of a global rate.

    Args:
        sizes: the number of weights, a·n, of each layer by its name, at least 1.
        rate: R, in bits per weight, finite and positive.

    Attributes:
        open_sizes: the layers not yet spent, with their sizes.
        remaining_bits: B less what was spent; the last layer may push it below 0.

    Raises:
        BadInput: no layer, a size below 1, a rate that is not as above.

    Exactness: bits; float64, one rounding for each product, difference and quotient, in the order
    of the calls.
    """

    def __init__(self, sizes: Mapping[str, int], rate: float) -> None:
        if not sizes:
            raise BadInput("a budget needs at least one layer")
        for layer, size in sizes.items():
            if size < 1:
                raise BadInput(f"layer {layer} has {size} weights; a layer has at least one")
        if not 0 < rate < math.inf:
            raise BadInput(f"the global rate must be positive and finite, got {rate} bits")
        self.open_sizes = dict(sizes)
        self.remaining_bits = rate * self._open_weights()

    def next_rate(self) -> float:
        """The target of the next layer, whichever it is, in bits per weight.

        Raises:
            BadInput: every layer has been spent.
        """
        if not self.open_sizes:
            raise BadInput("every layer of the budget has been quantised; there is no next one")
        return self.remaining_bits / self._open_weights()

    def spend(self, layer: str, rate: float) -> None:
        """Enter what a layer really cost.

        Args:
            layer: its name; each layer is spent once, in any order.
            rate: what was reached, in bits per weight, finite and not negative.

        Raises:
            BadInput: an unknown layer, one that was spent already, a rate that is not as above or
                that leaves nothing for the layers that are still open. The budget is unchanged.
        """
        if layer not in self.open_sizes:
            raise BadInput(f"layer {layer} is not open in this budget: unknown, or spent before")
        if not 0 <= rate < math.inf:
            raise BadInput(f"the rate of layer {layer} must be finite and not negative, got {rate}")
        size = self.open_sizes[layer]
        open_after = self._open_weights() - size
        remaining = self.remaining_bits - size * rate
        if open_after and remaining <= 0:
            raise BadInput(
                f"layer {layer} at {rate:g} bits leaves {remaining:g} bits for the {open_after} "
                "weights that are still open; quantise it at a lower rate, or raise the global rate"
            )
        del self.open_sizes[layer]
        self.remaining_bits = remaining

    def _open_weights(self) -> int:
        weights = 0
        for size in self.open_sizes.values():
            weights += size
        return weights
