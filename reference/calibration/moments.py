"""What does a layer need to know about its inputs, and how is it collected?

A layer computes r = W x. Replacing W by Ŵ changes its output by (Ŵ-W) x, and the mean square of
that, over the tokens of a calibration text, is

    E|(Ŵ-W) x|² = tr((Ŵ-W) Σ (Ŵ-W)ᵀ)          Σ = E[x xᵀ]

so Σ, n×n, is all that matters about the inputs: millions of tokens become one matrix. It is the
*uncentred* second moment. The mean of x is not subtracted, because an error is multiplied by x
itself; a feature that always equals 5 matters, although its variance is 0.

**Pairs.** When the layers before are quantised already, the layer sees x̂ in place of x, and a few
more moments of the same form come in. Each is a mean of outer products of a left and a right vector
of the same token:

    | moment | left | right | shape |
    |---|---|---|---|
    | Σ, `covariance` | x | x | n×n |
    | Σ̂, `covariance_quantized` | x̂ | x̂ | n×n |
    | Σ_x, `cross_covariance` | x | x̂ | n×n |
    | Δ, `residual_covariance` | r - r̂ | x̂ | a×n |

(r and r̂ are the residual stream without and with quantisation, where the layer writes to it.) One
accumulator does them all.

**Weights.** Tokens need not count the same. An error in a key or a value does harm only where some
query looks at it, so the tokens of attention inputs are weighted by the attention they receive:

    M = Σ_t w_t·l_t·r_tᵀ / Σ_t w_t

**Order.** Each element is a chain in the order of the tokens, m = m + w_t·(l_ti·r_tj), and the
total weight is another. A chain goes on where it stopped, so batches of any size give the same
bits. The division at the end is one more rounding for each element.

Worked example: x = (1 2) and (3 0). Σ = ½((1 2; 2 4) + (9 0; 0 0)) = (5 1; 1 2). With weights 3 and
1 it is ¼(3·(1 2; 2 4) + (9 0; 0 0)) = (3 1.5; 1.5 3).

>>> x = np.array([[1.0, 2.0], [3.0, 0.0]])
>>> covariance = MomentAccumulator(2, 2)
>>> covariance.add(x, x)
>>> covariance.moment()
array([[5., 1.],
       [1., 2.]])
>>> weighted = MomentAccumulator(2, 2)
>>> weighted.add(x, x, weights=np.array([3.0, 1.0]))
>>> weighted.moment()
array([[3. , 1.5],
       [1.5, 3. ]])

Exercise: with three queries and three keys, each query spreads its attention evenly over the keys
up to its own place: (1), (½ ½), (⅓ ⅓ ⅓). Which token is the most important, if the attention of a
token is averaged over the queries that can see it? (Check: the first, (1 + ½ + ⅓)/3 = 11/18; the
second has (½ + ⅓)/2, the third ⅓. A plain sum would favour early tokens far more.)

>>> attention = np.array([[[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]])
>>> token_importance(attention, causal(3)).tolist()
[0.611111111111111, 0.41666666666666663, 0.3333333333333333]
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arithmetic.sums import tree_sum
from ..errors import BadInput
from ..operations import Matrix, Operations
from ..operations.numpy_operations import NUMPY


class MomentAccumulator:
    """M = Σ_t w_t·l_t·r_tᵀ / Σ_t w_t for tokens that arrive in batches.

    Args:
        left_features, right_features: the lengths of l and r, at least 1.
        dtype: float64 or float32, that of the moment and of all arithmetic but the total weight.
        backend: whose operations do the work.

    Exactness: bits, whatever the sizes of the batches.
    """

    def __init__(
        self,
        left_features: int,
        right_features: int,
        dtype: DTypeLike = np.float64,
        backend: Operations = NUMPY,
    ) -> None:
        if left_features < 1 or right_features < 1:
            raise BadInput(
                f"a moment needs at least one feature, got {left_features}×{right_features}"
            )
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float64, np.float32):
            raise BadInput(f"moments are collected in float64 or float32, not in {self.dtype}")
        self.features = (left_features, right_features)
        self.backend = backend
        self.tokens = 0
        self.total_weight = 0.0
        self._sum = backend.zeros(left_features, right_features, self.dtype)

    def add(self, left: NDArray, right: NDArray, weights: NDArray | None = None) -> None:
        """Take in a batch of tokens.

        Args:
            left: tokens × left_features, a NumPy float dtype, converted to that of the
                moment.
            right: tokens × right_features, the same tokens; the same array for a covariance.
            weights: one number per token, finite and not negative; None for 1 each. They are
                rounded to the dtype of the moment before they are used.

        Raises:
            BadInput: shapes that do not fit, a NaN or infinity (the message names the token,
                counted from the first one ever added), a negative weight. Nothing is added then.
        """
        on_left = self._checked(left, self.features[0], "left")
        on_right = on_left if right is left else self._checked(right, self.features[1], "right")
        tokens = len(left)
        if len(right) != tokens:
            raise BadInput(f"left has {tokens} tokens and right {len(right)}; they come in pairs")
        if weights is not None:
            weights = self._checked_weights(weights, tokens)
        self.backend.accumulate(self._sum, on_left, on_right, weights)
        for weight in [1.0] * tokens if weights is None else weights.tolist():
            self.total_weight += weight
        self.tokens += tokens

    def moment(self) -> Matrix:
        """M, left_features × right_features, on the backend; more tokens may follow.

        Raises:
            BadInput: no token so far, a total weight of 0, or a sum that overflowed.
        """
        if self.total_weight == 0:
            raise BadInput(f"the total weight of {self.tokens} tokens is 0; nothing to average")
        found = self.backend.find_nonfinite(self._sum)
        if found or not math.isfinite(self.total_weight):
            raise BadInput(f"the moment overflowed {self.dtype}; scale the activations or weights")
        return self.backend.divide(self._sum, self.total_weight)

    def _checked(self, batch: NDArray, features: int, name: str) -> Matrix:
        if batch.ndim != 2 or batch.shape[1] != features or batch.dtype.kind != "f":
            raise BadInput(
                f"{name} must be tokens × {features} floats, got shape {batch.shape} in "
                f"{batch.dtype}"
            )
        converted = self.backend.from_host(batch, self.dtype)
        found = self.backend.find_nonfinite(converted)
        if found:
            token, feature, value = found
            raise BadInput(
                f"{name} of token {self.tokens + token}, feature {feature}, is {value} in "
                f"{self.dtype}; leave the token out"
            )
        return converted

    def _checked_weights(self, weights: NDArray, tokens: int) -> NDArray:
        if weights.shape != (tokens,) or weights.dtype.kind != "f":
            raise BadInput(
                f"weights must be {tokens} floats, one per token, got shape {weights.shape} in "
                f"{weights.dtype}"
            )
        with np.errstate(over="ignore"):
            converted = weights.astype(self.dtype)
        wrong = ~(np.isfinite(converted) & np.greater_equal(converted, 0))
        if wrong.any():
            token = int(np.argmax(wrong))
            raise BadInput(
                f"the weight of token {self.tokens + token} is {converted[token]} in "
                f"{self.dtype}; weights are finite and not negative"
            )
        return converted


def causal(tokens: int) -> NDArray[np.bool_]:
    """Who sees whom in a causal model: query q sees the keys 0 … q.

    >>> causal(3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    index = np.arange(tokens)
    return index[:, None] >= index


def token_importance(attention: NDArray, visible: NDArray[np.bool_] | None = None) -> NDArray:
    """The mean attention that each token receives, over heads and the queries that can see it.

        w_k = Σ_h Σ_{q sees k} A_hqk / (heads · number of q that see k)

    Whether q can see k is for `visible` to say, not for the values: an attention of 0 counts where
    the query could have looked. What stands in A where the query cannot see is ignored, so a query
    that is only padding is left out by a row of False. A token that nobody sees has importance 0.

    Args:
        attention: A, heads × queries × keys, after the softmax, a NumPy float dtype.
        visible: queries × keys; `causal(n)` for a causal model, None if all queries see all keys.

    Returns:
        w, one float64 per key. Exactness: bits; `tree_sum` over queries, then over heads.

    Raises:
        BadInput: shapes that do not fit; an attention that is negative or not finite.
    """
    if attention.ndim != 3 or attention.dtype.kind != "f" or 0 in attention.shape:
        raise BadInput(
            f"attention must be heads × queries × keys floats, got shape {attention.shape} in "
            f"{attention.dtype}"
        )
    heads, queries, keys = attention.shape
    if visible is None:
        visible = np.ones((queries, keys), np.bool_)
    if visible.shape != (queries, keys) or visible.dtype != np.bool_:
        raise BadInput(
            f"visible must be {queries}×{keys} booleans, got shape {visible.shape} in "
            f"{visible.dtype}"
        )
    seen = np.where(visible, attention.astype(np.float64), 0.0)
    wrong = ~(np.isfinite(seen) & (seen >= 0))
    if wrong.any():
        head, place = divmod(int(np.argmax(wrong)), queries * keys)
        query, key = divmod(place, keys)
        raise BadInput(
            f"attention[{head}, {query}, {key}] is {seen[head, query, key]:g}; attention is finite "
            "and not negative"
        )
    received = tree_sum(tree_sum(seen.transpose(1, 0, 2)))
    watchers = tree_sum(visible.astype(np.float64))
    return received / (heads * np.maximum(watchers, 1.0))
