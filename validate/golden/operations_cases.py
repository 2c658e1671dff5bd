"""Cases of the operations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import flags
from .case import DTYPES
from .definition import Definition
from .recipes import bell, integers


def operations_cases() -> Iterator[Definition]:
    """All of them."""
    for dtype in DTYPES:
        yield Definition(
            "matmul",
            "order-free",
            "whole-numbers-5x7x6",
            dtype,
            "products of small whole numbers, every sum exact",
            {
                "left": integers(1, [5, 7], -9, 9, 0, dtype),
                "right": integers(2, [7, 6], -9, 9, 0, dtype),
            },
            flags=(flags.EXACT, flags.RAGGED),
        )
        yield Definition(
            "matmul",
            "order",
            "bell-5x97x6",
            dtype,
            "a chain of 97 products of full significands",
            {"left": bell(3, [5, 97], 0, dtype), "right": bell(4, [97, 6], 0, dtype)},
            flags=(flags.ORDER, flags.FUSED),
            changed_by=("reversed-sums", "pairwise-sums", "fused-multiply-add"),
        )
        covariance = np.array([[4, 2, 0], [2, 5, 2], [0, 2, 5]], dtype)
        yield Definition(
            "cholesky",
            "order-free",
            "whole-numbers-n3",
            dtype,
            "H = L Lᵀ with whole numbers in L",
            {"matrix": covariance},
            flags=(flags.EXACT,),
        )
        yield Definition(
            "cholesky",
            "invalid",
            "not-positive-definite-n3",
            dtype,
            "pivot 1 is 1 - 2·2 = -3",
            {"matrix": np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1]], dtype)},
        )
        yield Definition(
            "sic",
            "rounding",
            "uniform-ties-4x5",
            dtype,
            "halves: every column lies between two codes",
            {"target": integers(5, [4, 5], -9, 9, -1, dtype)},
            {"codebook": "uniform", "spacing": 1.0, "start": 0, "stop": 5},
            flags=(flags.TIE, flags.HALF_EVEN),
        )
        yield Definition(
            "watersic",
            "order",
            "bell-6x9",
            dtype,
            "everything switched on, at a given step",
            {
                "weight": bell(6, [6, 9], -2, dtype),
                "covariance": (
                    bell(7, [9, 9], -4, dtype)
                    + bell(7, [9, 9], -4, dtype).T
                    + np.eye(9, dtype=dtype)
                ),
            },
            {"step": 0.25},
            flags=(flags.ORDER,),
        )
