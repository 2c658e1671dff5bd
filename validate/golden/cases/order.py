"""Cases of the operations with full significands: another order of a sum gives other bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....reference.bases.hadamard import base_matrix
from .. import flags
from ..case import DTYPES
from ..definition import Definition
from ..ingredients import factor, positive_definite, weight
from ..recipes import bell, integers
from .operations import BASES

CHAINS = ("reversed-chain", "pairwise-chain", "tree-chain", "fused-multiply-add")
SUMS = ("left-to-right-sum", "reversed-sum", "pairwise-sum", "numpy-sum")
OTHER_PRECISION = {"float64": "float32-accumulation", "float32": "float64-accumulation"}
ORDERED = (flags.ORDER, flags.FUSED)
STEP = 0.375


def _changing_chains(length: int, dtype: str) -> tuple[str, ...]:
    """Deviations of a chain of so many products that must give other bits."""
    if length < 10:
        return CHAINS[:1] + CHAINS[-1:]
    blocks = tuple(f"blocked-chain-{size}" for size in (32, 64, 128) if length > size + 8)
    return (*CHAINS, *blocks, OTHER_PRECISION[dtype])


def _changing_sums(length: int, dtype: str) -> tuple[str, ...]:
    """Deviations of a sum of so many numbers that must give other bits."""
    blocks = tuple(f"blocked-sum-{size}" for size in (32, 64, 128) if length > size)
    chunks = ("tree-without-chunks", "tree-chunk-256") if length > 512 else ()
    return (*SUMS, *blocks, *chunks, OTHER_PRECISION[dtype])


def order_cases() -> Iterator[Definition]:
    """Tier order."""
    for dtype in DTYPES:
        yield from _sums(dtype)
        yield from _products(dtype)
        yield from _factors(dtype)
        yield from _mixed(dtype)
        yield from _cancellation(dtype)


def _sums(dtype: str) -> Iterator[Definition]:
    for size in (37, 512, 513, 1100):
        for function, shape in (("row_inner", [7, size]), ("column_inner", [size, 7])):
            yield Definition(
                function,
                "order",
                f"{shape[0]}x{shape[1]}",
                dtype,
                f"sums of {size} products by tree_sum",
                {"left": bell(200, shape, 0, dtype), "right": bell(201, shape, 0, dtype)},
                flags=(flags.ORDER, flags.CHUNK),
                changed_by=_changing_sums(size, dtype),
            )


def _products(dtype: str) -> Iterator[Definition]:
    for rows, inner, columns in ((6, 97, 5), (2, 200, 3), (33, 65, 34), (2, 300, 17)):
        what = f"{rows}x{inner}x{columns}"
        left, right = bell(210, [rows, inner], 0, dtype), bell(211, [inner, columns], 0, dtype)
        yield Definition(
            "matmul",
            "order",
            what,
            dtype,
            f"chains of {inner} products",
            {"left": left, "right": right},
            flags=(*ORDERED, flags.RAGGED),
            changed_by=_changing_chains(inner, dtype),
        )
        yield Definition(
            "matmul_transposed",
            "order",
            what,
            dtype,
            f"chains of {inner} products, the left matrix transposed",
            {"left": np.ascontiguousarray(left.T), "right": right},
            flags=(*ORDERED, flags.RAGGED),
            changed_by=_changing_chains(inner, dtype),
        )
    tokens, other = bell(212, [77, 5], 0, dtype), bell(213, [77, 6], 0, dtype)
    importance = np.abs(bell(214, [77], 0, dtype))
    for what, weights in (("plain-77x5x6", None), ("weighted-77x5x6", importance)):
        inputs = {"total": bell(215, [5, 6], 0, dtype), "left": tokens, "right": other}
        if weights is not None:
            inputs["weights"] = weights
        yield Definition(
            "accumulate",
            "order",
            what,
            dtype,
            "the chain goes on from what the sum holds: w·(x·y), then the addition",
            inputs,
            flags=ORDERED,
            changed_by=_changing_chains(77, dtype),
        )


def _factors(dtype: str) -> Iterator[Definition]:
    for n in (5, 17, 65, 100):
        H = positive_definite(220, n, dtype)
        yield Definition(
            "cholesky",
            "order",
            f"n{n}",
            dtype,
            "subtractions from the open element, for k = 0, 1, 2, … in this order",
            {"matrix": H},
            flags=(*ORDERED, flags.RAGGED),
            changed_by=_changing_chains(n, dtype),
        )
        L, target = factor(221, n, dtype), bell(222, [4, n], 0, dtype)
        yield Definition(
            "solve",
            "order",
            f"4xn{n}",
            dtype,
            "X Lᵀ = T, from the first column to the last",
            {"target": target, "factor": L},
            flags=(*ORDERED, flags.RAGGED),
            changed_by=_changing_chains(n, dtype),
        )
        yield Definition(
            "solve_reversed",
            "order",
            f"4xn{n}",
            dtype,
            "X L = T, from the last column to the first",
            {"target": target, "factor": L},
            {"start": 0, "stop": n},
            (*ORDERED, flags.RAGGED),
            changed_by=_changing_chains(n, dtype),
        )
    yield Definition(
        "solve_reversed",
        "order",
        "range-4xn100",
        dtype,
        "columns 7 … 79 alone",
        {"target": bell(223, [4, 100], 0, dtype), "factor": factor(224, 100, dtype)},
        {"start": 7, "stop": 80},
        (*ORDERED, flags.RANGE),
        changed_by=_changing_chains(73, dtype),
    )


def _mixed(dtype: str) -> Iterator[Definition]:
    for m in BASES:
        n = 4 * m if m > 1 else 64
        yield Definition(
            "hadamard",
            "order",
            f"3xn{n}-base{m}",
            dtype,
            "butterflies by distance 1, 2, 4, …, then the base, one run after the other",
            {"matrix": bell(230, [3, n], 0, dtype), "base": base_matrix(m)},
            flags=(flags.ORDER,),
        )
    size, rows = 700, 6
    yield Definition(
        "grid_error",
        "order",
        f"{rows}x{size}",
        dtype,
        "Σ d·d·√d by tree_sum",
        {
            "matrix": weight(231, rows, size, dtype),
            "scale": np.array([0.1, 0.0625, 0.03, 0.07, 0.05, 0.11], dtype),
            "zero": np.array([3, 8, 8, 7, 4, 8], np.int32),
        },
        {"maximum": 15},
        (flags.ORDER, flags.CHUNK, flags.FUSED),
        changed_by=(*_changing_sums(size, dtype), "fused-multiply-add"),
    )


def _cancellation(dtype: str) -> Iterator[Definition]:
    for n in (17, 70):
        L, target = factor(240, n, dtype), bell(241, [6, n], 0, dtype)
        # A column that is decided shows no order: what is left in columns 0 … 4 does.
        span = {"start": 5, "stop": n}
        flagged = (*ORDERED, flags.RAGGED)
        changed = ("fused-multiply-add", "reversed-chain", "dot-product-first")
        common = {"target": target, "factor": L}
        yield Definition(
            "sic",
            "order",
            f"uniform-6xn{n}",
            dtype,
            "one spacing",
            common,
            {"codebook": "uniform", "spacing": STEP, **span},
            flagged,
            changed_by=changed,
        )
        spacing = np.dtype(dtype).type(STEP) / L.diagonal()
        for lmmse in (True, False):
            name = "scaled" if lmmse else "scaled-without-gains"
            yield Definition(
                "sic",
                "order",
                f"{name}-6xn{n}",
                dtype,
                "a spacing for each column" + (", and its gain" if lmmse else ""),
                {**common, "spacing": spacing},
                {"codebook": "scaled", "step": STEP, "lmmse": lmmse, **span},
                flagged,
                changed_by=changed,
            )
        group = np.arange(n, dtype=np.int64) // 16
        scale = np.abs(bell(242, [6, int(group[-1]) + 1], -3, dtype)) + np.dtype(dtype).type(0.125)
        zero = integers(243, [*scale.shape], 4, 11, 0, "int32")
        yield Definition(
            "sic",
            "order",
            f"affine-6xn{n}",
            dtype,
            "a grid for each row and group of 16 columns",
            {**common, "scale": scale, "zero": zero, "group": group},
            {"codebook": "affine", "maximum": 15, **span},
            flagged,
            changed_by=changed,
        )
        yield Definition(
            "sic",
            "order",
            f"fp8-e4m3-6xn{n}",
            dtype,
            "a float format with a scale for each row and group",
            {**common, "scale": scale, "group": group},
            {"codebook": "fp8-e4m3", **span},
            flagged,
            changed_by=changed,
        )
    yield from _tall(dtype)
    yield from _without_factor(dtype)


def _tall(dtype: str) -> Iterator[Definition]:
    """More rows than a chunk: the gain is a tree_sum over them."""
    rows, n = 600, 9
    L, target = factor(244, n, dtype), bell(249, [rows, n], 0, dtype)
    yield Definition(
        "sic",
        "order",
        f"scaled-{rows}xn{n}",
        dtype,
        "gains are sums over more than 512 rows",
        {
            "target": target,
            "factor": L,
            "spacing": np.dtype(dtype).type(STEP) / L.diagonal(),
        },
        {"codebook": "scaled", "step": STEP, "lmmse": True, "start": 0, "stop": n},
        (*ORDERED, flags.CHUNK),
        changed_by=("left-to-right-sum", "reversed-sum", "tree-without-chunks"),
    )


def _without_factor(dtype: str) -> Iterator[Definition]:
    target = bell(246, [7, 9], 0, dtype)
    spacing = np.abs(bell(247, [9], -2, dtype)) + np.dtype(dtype).type(0.125)
    yield Definition(
        "sic",
        "order",
        "scaled-without-factor-7x9",
        dtype,
        "L = I: columns are decided one by one and nothing is cancelled",
        {"target": target, "spacing": spacing},
        {"codebook": "scaled", "step": STEP, "lmmse": True, "start": 0, "stop": 9},
        (flags.ORDER,),
    )
