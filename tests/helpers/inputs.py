"""Deterministic inputs from raw integers, friendly and hostile, and the comparison of bits."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

FLOATS = (np.float64, np.float32)
MANTISSA = {np.dtype(np.float64): 53, np.dtype(np.float32): 24}

# What Hypothesis draws: it shrinks to the smallest of these, in the order written.
dtypes = st.sampled_from(FLOATS)
keys = st.integers(0, 2**32)
ragged = st.sampled_from((1, 2, 3, 5, 17, 63, 64, 65, 129))


def raw(key: int, *shape: int) -> NDArray[np.uint64]:
    """Raw numbers of the counter-based generator."""
    return np.random.Philox(key=key).random_raw(int(np.prod(shape))).reshape(shape)


def integers(key: int, low: int, high: int, *shape: int) -> NDArray[np.int64]:
    """Whole numbers low … high."""
    return (raw(key, *shape) % np.uint64(high - low + 1)).astype(np.int64) + low


def bell(key: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Sums of four uniforms, within ±2; all mantissa bits in use, every step exact."""
    bits = MANTISSA[np.dtype(dtype)] - 2
    words = (raw(key, 4, *shape) >> np.uint64(64 - bits)).astype(np.int64) - 2 ** (bits - 1)
    return np.ldexp(words.sum(axis=0).astype(dtype), 1 - bits)


def _wide(key: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    return np.ldexp(bell(key, shape, dtype), integers(key + 1, -20, 20, *shape).astype(np.int32))


def _ties(key: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    return integers(key, -9, 9, *shape).astype(dtype) / np.dtype(dtype).type(2)


def _subnormal(key: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    return bell(key, shape, dtype) * np.finfo(dtype).tiny / np.dtype(dtype).type(8)


def _huge(key: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    return np.ldexp(bell(key, shape, dtype), np.finfo(dtype).maxexp - 3)


def _zeros(key: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    zero = np.copysign(np.dtype(dtype).type(0), bell(key, shape, dtype))
    return np.where(raw(key + 1, *shape) % 3 == 0, bell(key + 2, shape, dtype), zero)


FLAVOURS = {
    "bell": bell,
    "wide": _wide,
    "ties": _ties,
    "zeros": _zeros,
    "subnormal": _subnormal,
    "huge": _huge,
}
flavours = st.sampled_from(list(FLAVOURS))


def numbers(flavour: str, key: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    return FLAVOURS[flavour](key, shape, dtype)


def lower(key: int, n: int, dtype: DTypeLike) -> NDArray:
    """A lower triangular factor with a diagonal between 1/4 and 5.

    What stands off it falls like 1/√n, so that a loop over n columns does not blow up.
    """
    factor = np.tril(bell(key, (n, n), dtype), -1) / np.dtype(dtype).type(2 << n.bit_length() // 2)
    diagonal = np.abs(bell(key + 1, (n,), dtype)) + np.dtype(dtype).type(0.25)
    diagonal = np.ldexp(diagonal, integers(key + 2, 0, 2, n).astype(np.int32) - 1)
    np.fill_diagonal(factor, np.maximum(diagonal, np.dtype(dtype).type(0.25)))
    return factor


def positive_definite(key: int, n: int, dtype: DTypeLike, spread: int = 0) -> NDArray:
    """(Gᵀ G + I) / 1024 for integers G, column j of it scaled by up to 2^±spread; exact."""
    G = integers(key, -16, 16, n + 3, n)
    H = np.einsum("ti,tj->ij", G, G) + np.eye(n, dtype=np.int64)
    power = integers(key + 1, -spread, spread, n).astype(np.int32)
    return np.ldexp(H.astype(dtype), power[:, None] + power - 10)


def same_bits(actual: NDArray, expected: NDArray) -> None:
    """Dtype, shape and every bit; a NaN equals a NaN, whose payload the contract leaves open."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    unsigned = np.dtype(f"u{actual.dtype.itemsize}")
    differ = np.ascontiguousarray(actual).view(unsigned).reshape(actual.shape) != (
        np.ascontiguousarray(expected).view(unsigned).reshape(expected.shape)
    )
    differ &= ~((actual != actual) & (expected != expected))
    if differ.any():
        where = tuple(int(i) for i in np.argwhere(differ)[0])
        found, wanted = float(actual[where]), float(expected[where])
        raise AssertionError(
            f"{int(differ.sum())} of {differ.size} differ, the first at {list(where)}: "
            f"{found!r} ({found.hex()}) instead of {wanted!r} ({wanted.hex()})"
        )
