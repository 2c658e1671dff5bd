"""Cases of the operations with subnormal numbers and with zeros of either sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....reference.bases.hadamard import base_matrix
from .. import flags
from ..definition import Definition, Inputs, Outputs, Purpose
from ..ingredients import factor, positive_definite
from ..recipes import bell, integers

TINY = {"float64": -1074, "float32": -149}  # exponent of the least subnormal


def _has_subnormal(name: str) -> Purpose:
    def holds(inputs: Inputs, outputs: Outputs) -> bool:
        array = outputs[name]
        tiny = np.finfo(array.dtype).tiny
        return bool(((array != 0) & (np.abs(array) < tiny)).any())

    return Purpose(f"output {name} holds a subnormal number", holds)


def subnormal_cases(dtype: str) -> Iterator[Definition]:
    """Of one dtype."""
    number = np.dtype(dtype).type
    least = TINY[dtype]
    small = integers(310, [4, 5], -999, 999, least, dtype)
    other = integers(311, [4, 5], -999, 999, least, dtype)
    flagged, changed = (flags.SUBNORMAL,), ("flush-to-zero",)

    def case(
        function: str,
        output: str,
        inputs: dict[str, NDArray],
        comment: str,
        parameters: dict[str, Any] | None = None,
        what: str = "subnormal-4x5",
    ) -> Definition:
        return Definition(
            function,
            "rounding",
            what,
            dtype,
            comment,
            inputs,
            parameters or {},
            flagged,
            changed_by=changed,
            purposes=(_has_subnormal(output),),
        )

    pair = {"left": small, "right": other}
    yield case(
        "combine", "combined", pair, "sums of subnormal products",
        {"left_factor": 0.75, "right_factor": 1.5},
    )  # fmt: skip
    middle = np.ldexp(bell(312, [4, 5], 0, dtype), least // 2)
    yield case(
        "multiply",
        "product",
        {"left": middle, "right": np.ldexp(bell(313, [4, 5], 3, dtype), least // 2)},
        "products that underflow gradually",
    )
    yield case("divide", "quotient", {"matrix": small}, "quotients", {"divisor": 3.0})
    yield case(
        "scale_rows",
        "scaled",
        {"matrix": small, "factors": bell(314, [4], 0, dtype)},
        "products with a factor",
    )
    yield case(
        "scale_columns",
        "scaled",
        {"matrix": small, "factors": bell(315, [5], 0, dtype)},
        "products with a factor",
    )
    square = small[:, :4].copy()
    yield case(
        "symmetrize", "symmetric", {"matrix": square}, "halves of odd sums", None, "subnormal-n4"
    )
    yield case(
        "row_extrema", "least", {"matrix": small}, "least and greatest", {"start": 0, "stop": 5}
    )
    yield case(
        "matmul",
        "product",
        {"left": small, "right": bell(316, [5, 3], 0, dtype)},
        "chains of subnormal products",
        None,
        "subnormal-4x5x3",
    )
    yield case(
        "row_inner",
        "sums",
        {"left": small, "right": bell(317, [4, 5], 0, dtype)},
        "sums of subnormal products",
    )
    yield case(
        "hadamard",
        "mixed",
        {"matrix": small[:, :4].copy(), "base": np.ones((1, 1), np.int8)},
        "sums and differences",
        None,
        "subnormal-4xn4",
    )
    L = factor(318, 5, dtype)
    yield case(
        "solve",
        "solution",
        {"target": small, "factor": L},
        "quotients and differences",
        None,
        "subnormal-4xn5",
    )
    covariance = np.ldexp(positive_definite(319, 4, dtype), least + 20)
    yield Definition(
        "cholesky",
        "rounding",
        "subnormal-n4",
        dtype,
        "a covariance of subnormal numbers has a factor of normal ones",
        {"matrix": covariance},
        flags=flagged,
        purposes=(
            Purpose(
                "the matrix is subnormal throughout",
                lambda inputs, outputs: bool(
                    (np.abs(inputs["matrix"]) < np.finfo(inputs["matrix"].dtype).tiny).all()
                ),
            ),
        ),
    )
    yield case(
        "sic",
        "target",
        {"target": small, "factor": L},
        "a subnormal spacing under a subnormal target",
        {
            "codebook": "uniform",
            "spacing": float(np.ldexp(number(1), least + 7)),
            "start": 0,
            "stop": 5,
        },
        "uniform-subnormal-4xn5",
    )
    planted = small.copy()
    planted[2, 3] = np.inf
    yield Definition(
        "find_nonfinite",
        "rounding",
        "subnormal-4x5",
        dtype,
        "subnormal numbers are finite",
        {"matrix": planted},
        flags=flagged,
    )


def _all_positive_zero(name: str) -> Purpose:
    return Purpose(
        f"output {name} is +0.0 throughout",
        lambda inputs, outputs: not outputs[name].tobytes().strip(b"\0"),
    )


def signed_zero_cases(dtype: str) -> Iterator[Definition]:
    """Of one dtype."""
    negative = np.full((2, 3), -0.0, dtype)
    mixed = np.array([[0.0, -0.0, 1.0], [-0.0, -2.0, -0.0]], dtype)
    ones = np.ones((2, 3), dtype)
    flagged = (flags.SIGNED_ZERO,)

    def case(
        function: str,
        inputs: dict[str, NDArray],
        comment: str,
        positive: str | None = None,
        **parameters: Any,
    ) -> Definition:
        return Definition(
            function,
            "rounding",
            "signed-zeros",
            dtype,
            comment,
            inputs,
            parameters,
            flagged,
            purposes=(_all_positive_zero(positive),) if positive else (),
        )

    yield case("transpose", {"matrix": mixed}, "a move keeps the sign")
    yield case(
        "matmul",
        {"left": negative, "right": np.ones((3, 2), dtype)},
        "the chain begins at +0.0, so it ends there",
        "product",
    )
    yield case("row_inner", {"left": negative, "right": ones}, "tree_sum ends in + 0.0", "sums")
    yield case("column_inner", {"left": negative, "right": ones}, "tree_sum ends in + 0.0", "sums")
    yield case(
        "row_extrema",
        {"matrix": negative},
        "a zero among extrema is +0.0",
        "least",
        start=0,
        stop=3,
    )
    yield case(
        "combine",
        {"left": mixed, "right": negative},
        "-0.0 + -0.0 is -0.0, all other sums of zeros are +0.0",
        left_factor=1.0,
        right_factor=1.0,
    )
    yield case("multiply", {"left": mixed, "right": -ones}, "0·(-1) is -0.0")
    yield case("divide", {"matrix": mixed}, "0/(-2) is -0.0", divisor=-2.0)
    yield case("symmetrize", {"matrix": mixed[:, :2].copy()}, "0.0 + -0.0 is +0.0")
    yield case(
        "scale_columns",
        {"matrix": mixed, "factors": np.array([-1, 1, -0.0], dtype)},
        "the sign is that of the product",
    )
    yield case(
        "solve",
        {"target": negative, "factor": np.eye(3, dtype=dtype)},
        "x_0 = -0.0 / 1 keeps its sign; the differences behind it do not",
    )
    yield case(
        "sic",
        {"target": np.full((2, 3), -0.3, dtype)},
        "a code 0 is an integer: its value is +0.0",
        "target",
        codebook="uniform",
        spacing=1.0,
        start=0,
        stop=3,
    )
    yield case(
        "hadamard",
        {"matrix": np.full((1, 12), -0.0, dtype), "base": base_matrix(12)},
        "the base begins at +0.0",
        "mixed",
    )
    yield case("convert", {"matrix": mixed}, "the sign survives", dtype="float32")
