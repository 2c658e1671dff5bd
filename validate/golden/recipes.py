"""How are inputs made that are too large to store?

From raw integers of a counter-based generator, by steps that IEEE 754 fixes to the last bit: no
two machines and no two languages can disagree. `RECIPES` describes every recipe in words that
somebody who writes C++ can follow; the index carries the same words.

**The generator.** `raw(key, N)` are the first N numbers of Philox4x64-10 (Salmon et al. 2011), as
`numpy.random.Philox(key=key).random_raw(N)` gives them: the two key words are (key, 0) for
key < 2⁶⁴; the counter, four words, starts at 0 and is *incremented before* each block, so block b
= 0, 1, … is the function at the counter (b + 1, 0, 0, 0); its four words are used in order.

>>> [hex(word) for word in raw(0, 2).tolist()]
['0x2f4ba6408e4d89b', '0x3dd62b0b9ca8c5b2']

**Rounding.** "Rounded" always means: to the dtype of the result, to nearest, ties to even. Shifts,
differences of integers and powers of two are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from ...data import LAYERS
from ...reference.errors import BadInput
from ...reference.operations.numpy_operations import NUMPY

PRECISION = {"float64": 53, "float32": 24}


@dataclass(frozen=True)
class Recipe:
    """One recipe: the function, and the same in words.

    Attributes:
        function: of the parameters by name.
        result: what comes out. parameters: what each means. steps: how, bit by bit.
    """

    function: Callable[..., NDArray]
    result: str
    parameters: Mapping[str, str]
    steps: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """For the index."""
        return {
            "result": self.result,
            "parameters": dict(self.parameters),
            "steps": list(self.steps),
        }


def make(recipe: str, parameters: Mapping[str, Any]) -> NDArray:
    """The array that a recipe gives for these parameters. `BadInput` if there is no such recipe."""
    if recipe not in RECIPES:
        raise BadInput(f"no recipe is called {recipe!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[recipe].function(**parameters)


def raw(key: int, count: int) -> NDArray[np.uint64]:
    """The first `count` raw numbers of Philox4x64-10 with this key."""
    return np.random.Philox(key=key).random_raw(count)


def integers(
    key: int, shape: list[int], low: int, high: int, exponent: int = 0, dtype: str = "float64"
) -> NDArray:
    """Whole numbers low … high, times 2^exponent, in `dtype` (int32 too)."""
    words = raw(key, int(np.prod(shape))).reshape(shape)
    numbers = (words % np.uint64(high - low + 1)).astype(np.int64) + low
    if dtype == "int32":
        return numbers.astype(np.int32)
    return np.ldexp(numbers.astype(dtype), exponent)


def bell(key: int, shape: list[int], exponent: int = 0, dtype: str = "float64") -> NDArray:
    """Sums of four uniforms within ±1, times 2^exponent, all mantissa bits in use."""
    bits = PRECISION[dtype] - 2
    count = int(np.prod(shape))
    words = raw(key, 4 * count).reshape(4, count) >> np.uint64(64 - bits)
    sums = (words.astype(np.int64) - (1 << (bits - 1))).sum(axis=0)  # of integers
    return np.ldexp(sums.astype(dtype), exponent + 1 - bits).reshape(shape)


def feature_sizes(key: int, n: int, octaves: int, dtype: str) -> NDArray:
    """d_j = (1 + u/2⁸)·2^(t mod octaves) with u the lowest byte of a raw number, t the next one."""
    words = raw(key, n)
    significand = 256 + (words & np.uint64(255)).astype(np.int64)
    power = ((words >> np.uint64(8)) & np.uint64(255)).astype(np.int64) % octaves
    return np.ldexp(significand.astype(dtype), (power - 8).astype(np.int32))


def decay(n: int, numerator: int, shift: int, dtype: str) -> NDArray:
    """r_0 = 1, r_(k+1) = r_k·(numerator/2^shift), each rounded."""
    ratio = np.dtype(dtype).type(numerator) / np.dtype(dtype).type(1 << shift)
    r = np.ones(n, dtype)
    for k in range(1, n):
        r[k] = r[k - 1] * ratio
    return r


def structured_covariance(key: int, n: int, octaves: int = 2, dtype: str = "float64") -> NDArray:
    """h_ij = (d_i·d_j)·r_|i-j|, the covariance of a first-order process with uneven features."""
    d, r = feature_sizes(key, n, octaves, dtype), decay(n, 7, 3, dtype)
    place = np.arange(n)
    return (d[:, None] * d) * r[np.abs(place[:, None] - place)]


def structured_factor(key: int, n: int, octaves: int = 2, dtype: str = "float64") -> NDArray:
    """l_ij = d_j·r_(i-j) for i ≥ j, 0 above: a lower triangular factor."""
    d, r = feature_sizes(key, n, octaves, dtype), decay(n, 5, 3, dtype)
    place = np.arange(n)
    distance = place[:, None] - place
    return np.where(distance >= 0, d * r[np.abs(distance)], np.dtype(dtype).type(0))


def identity(n: int, dtype: str = "float64") -> NDArray:
    """The n×n identity."""
    return np.eye(n, dtype=dtype)


def layer_weight(file: str, rows: int, columns: int) -> NDArray:
    """The first rows and columns of a bundled layer's weight, float32."""
    with safe_open(LAYERS / file, framework="numpy") as layer:
        return np.array(layer.get_slice("weight")[:rows, :columns], order="C")


def layer_covariance(file: str, columns: int, dtype: str = "float64") -> NDArray:
    """The leading block of a bundled layer's Σ = F Fᵀ, by the chain of `matmul`."""
    with safe_open(LAYERS / file, framework="numpy") as layer:
        packed = layer.get_slice("covariance_factor")[: columns * (columns + 1) // 2]
    factor = np.zeros((columns, columns), dtype)
    factor[np.tril_indices(columns)] = packed
    return NUMPY.matmul(factor, np.ascontiguousarray(factor.T))


DTYPE = "float64 or float32"
KEY = "of the generator, 0 ≤ key < 2⁶⁴"
SIZES_OF_FEATURES = (
    "w = raw(key, n); d_j = (256 + (w_j AND 255))·2^(((w_j >> 8) AND 255) mod octaves - 8), exact"
)

RECIPES = {
    "integers": Recipe(
        integers,
        "whole numbers low … high, times 2^exponent",
        {
            "key": KEY,
            "shape": "of the result",
            "low": "least",
            "high": "greatest",
            "exponent": "power of two, default 0",
            "dtype": f"{DTYPE}, default float64; or int32, without exponent",
        },
        (
            "w = raw(key, number of elements), in C order",
            "x = ((w mod (high - low + 1)) + low)·2^exponent; w is unsigned; exact",
        ),
    ),
    "bell": Recipe(
        bell,
        "sums of four uniforms within ±1, times 2^exponent; all bits of the significand in use",
        {
            "key": KEY,
            "shape": "of the result",
            "exponent": "power of two, default 0",
            "dtype": f"{DTYPE}, default float64",
        },
        (
            "b = 51 for float64, 22 for float32; N = number of elements",
            "w = raw(key, 4·N)",
            "s_i = Σ_(q = 0 … 3) ((w_(q·N + i) >> (64 - b)) - 2^(b-1)), in signed 64-bit integers",
            "x_i = s_i·2^(exponent + 1 - b), exact, in C order",
        ),
    ),
    "structured_covariance": Recipe(
        structured_covariance,
        "n×n, h_ij = (d_i·d_j)·r_|i-j|; symmetric and positive definite",
        {
            "key": KEY,
            "n": "order",
            "octaves": "spread of the features, default 2",
            "dtype": f"{DTYPE}, default float64",
        },
        (
            SIZES_OF_FEATURES,
            "r_0 = 1, r_(k+1) = r_k·(7/8), rounded",
            "h_ij = (d_i·d_j)·r_|i-j|: two products, each rounded",
        ),
    ),
    "structured_factor": Recipe(
        structured_factor,
        "n×n lower triangular, l_ij = d_j·r_(i-j)",
        {
            "key": KEY,
            "n": "order",
            "octaves": "spread of the features, default 2",
            "dtype": f"{DTYPE}, default float64",
        },
        (
            SIZES_OF_FEATURES,
            "r_0 = 1, r_(k+1) = r_k·(5/8), rounded",
            "l_ij = d_j·r_(i-j), rounded, for i ≥ j; +0.0 above the diagonal",
        ),
    ),
    "identity": Recipe(
        identity,
        "the n×n identity",
        {"n": "order", "dtype": f"{DTYPE}, default float64"},
        ("1.0 on the diagonal, +0.0 elsewhere",),
    ),
    "layer_weight": Recipe(
        layer_weight,
        "the leading block of a weight in data/layers, float32",
        {"file": "in data/layers", "rows": "how many", "columns": "how many"},
        ("tensor `weight` of the file, its first rows and columns",),
    ),
    "layer_covariance": Recipe(
        layer_covariance,
        "the leading block of a covariance in data/layers",
        {"file": "in data/layers", "columns": "order n", "dtype": f"{DTYPE}, default float64"},
        (
            "tensor `covariance_factor` of the file holds F, lower triangular, row by row in "
            "float32: f_00, f_10, f_11, f_20, …; take the first n·(n+1)/2 numbers, in `dtype`",
            "c_ij: c = +0.0, then c = c + f_ik·f_jk for k = 0 … n-1, product and sum each rounded",
        ),
    ),
}
