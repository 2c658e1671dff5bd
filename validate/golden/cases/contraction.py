"""Cases that tell a product and a sum from a fused multiply-add, which rounds only once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import flags
from ..definition import Definition, Inputs, Outputs, Purpose, differs
from ..fused import fma

# The largest h with (1 + 2^-h)² = 1 + 2^(1-h) + 2^(-2h) losing its last term, with room to spare.
HALF_BITS = {"float64": 30, "float32": 13}


def _pair(dtype: str) -> tuple[np.floating, np.floating]:
    """(x, p): x² is p + a term that is lost when the product is rounded."""
    number, h = np.dtype(dtype).type, HALF_BITS[dtype]
    return number(1 + 2.0**-h), number(1 + 2.0 ** (1 - h))


def contraction_cases(dtype: str) -> Iterator[Definition]:
    """The operations that multiply and add, for one dtype."""
    number = np.dtype(dtype).type
    x, p = _pair(dtype)
    flagged, changed = (flags.FUSED,), ("fused-multiply-add",)
    row, column = np.array([[-p, x]], dtype), np.array([[1], [x]], dtype)
    comment = "x·x - (1 + 2⁻ʰ⁺¹) is 0 with two roundings and 2⁻²ʰ with one"
    yield Definition(
        "matmul",
        "rounding",
        "contraction-sensitive-1x2x1",
        dtype,
        comment,
        {"left": row, "right": column},
        flags=flagged,
        changed_by=changed,
    )
    yield Definition(
        "matmul_transposed",
        "rounding",
        "contraction-sensitive-1x2x1",
        dtype,
        comment,
        {"left": np.ascontiguousarray(row.T), "right": column},
        flags=flagged,
        changed_by=changed,
    )
    one = np.array([[x]], dtype)
    for what, weights in (("plain", None), ("weighted", np.array([x], dtype))):
        inputs = {"total": np.array([[-p]], dtype), "left": one, "right": one}
        if weights is not None:
            inputs |= {"weights": weights, "right": np.array([[1]], dtype)}
        yield Definition(
            "accumulate",
            "rounding",
            f"contraction-sensitive-{what}-1x1x1",
            dtype,
            comment,
            inputs,
            flags=flagged,
            changed_by=changed,
        )
    for what, left, right in (("left", [[x]], [[p]]), ("right", [[p]], [[x]])):
        factors = {"left_factor": float(x), "right_factor": -1.0}
        if what == "right":
            factors = {"left_factor": -1.0, "right_factor": float(x)}
        yield Definition(
            "combine",
            "rounding",
            f"contraction-sensitive-{what}-1x1",
            dtype,
            comment,
            {"left": np.array(left, dtype), "right": np.array(right, dtype)},
            factors,
            flagged,
            purposes=(_fused_combination(factors),),
        )
    for function in ("row_inner", "column_inner"):
        left = np.array([[p, x]], dtype)
        right = np.array([[-1, x]], dtype)
        if function == "column_inner":
            left, right = np.ascontiguousarray(left.T), np.ascontiguousarray(right.T)
        yield Definition(
            function,
            "rounding",
            f"contraction-sensitive-{left.shape[0]}x{left.shape[1]}",
            dtype,
            comment,
            {"left": left, "right": right},
            flags=flagged,
            purposes=(
                Purpose("two roundings leave nothing", lambda i, o: float(o["sums"][0]) == 0.0),
            ),
        )
    H = np.array([[1, x, 0], [x, p + number(2.0**-10), 0], [0, 0, 1]], dtype)
    yield Definition(
        "cholesky",
        "rounding",
        "contraction-sensitive-n3",
        dtype,
        "h_11 - l_10·l_10 is 2⁻¹⁰ with two roundings",
        {"matrix": H},
        flags=flagged,
        changed_by=changed,
    )
    for function in ("solve", "solve_reversed"):
        L = np.array([[1, 0], [x, 1]], dtype)
        target = np.array([[x, p]], dtype)
        if function == "solve_reversed":
            target = np.ascontiguousarray(target[:, ::-1])
        yield Definition(
            function,
            "rounding",
            "contraction-sensitive-1xn2",
            dtype,
            comment,
            {"target": target, "factor": L},
            {"start": 0, "stop": 2} if function == "solve_reversed" else {},
            flagged,
            changed_by=changed,
        )
    step = number(2.0**-9)
    yield Definition(
        "sic",
        "rounding",
        "contraction-turns-a-code-1xn2",
        dtype,
        "what is left of column 0 is half a step below 0 with two roundings, a tie that goes to 0; "
        "with one rounding it is a little less and goes to -1",
        {
            "target": np.array([[p - step / 2, 1]], dtype),
            "factor": np.array([[1, 0], [x, 1]], dtype),
            "spacing": np.array([1, x * step], dtype),
        },
        {"codebook": "scaled", "step": float(step), "lmmse": False, "start": 0, "stop": 2},
        (flags.FUSED, flags.TIE),
        changed_by=changed,
        purposes=(Purpose("codes 0 and 512", lambda i, o: o["codes"].tolist() == [[0, 512]]),),
    )


def _fused_combination(factors: dict[str, float]) -> Purpose:
    """f·a + g·b with either product fused into the sum: one of the two must show."""

    def holds(inputs: Inputs, outputs: Outputs) -> bool:
        a, b = inputs["left"], inputs["right"]
        f, g = (a.dtype.type(factors[name]) for name in ("left_factor", "right_factor"))
        f, g = np.full_like(a, f), np.full_like(b, g)
        return any(
            differs(fused, outputs["combined"]) for fused in (fma(f, a, g * b), fma(g, b, f * a))
        )

    return Purpose("a fused multiply-add on the side of the long product shows", holds)
