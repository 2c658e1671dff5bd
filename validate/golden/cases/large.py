"""Cases too large to store: inputs by recipe, outputs by digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import flags
from ..case import DTYPES
from ..definition import Definition, Made

BITS = {"bits": 4, "group_size": 128}


def large_cases() -> Iterator[Definition]:
    """Sizes medium and large."""
    for dtype in DTYPES:
        yield from _operations("medium", dtype, 3, 500)
        yield from _algorithms("medium", dtype, 48, 512)
        yield from _real(dtype)
        yield from _operations("large", dtype, 4, 4096)
        yield from _algorithms("large", dtype, 24, 2048)
    yield _case(
        "watersic",
        "large",
        "float64",
        "12x4096",
        "gains, at a given spacing",
        _layer("float64", 12, 4096),
        {"spacing": 0.5, "rescale": False},
        flags.GAIN,
    )


def _case(
    function: str,
    size: str,
    dtype: str,
    what: str,
    comment: str,
    inputs: Mapping[str, Made],
    parameters: Mapping[str, Any],
    *flagged: str,
    tier: str = "order",
) -> Definition:
    return Definition(
        function, tier, f"{size}-{what}", dtype, comment, inputs, parameters, flagged, size
    )


def _layer(dtype: str, rows: int, n: int) -> dict[str, Made]:
    return {
        "weight": Made("bell", {"key": 900, "shape": [rows, n], "exponent": -2, "dtype": dtype}),
        "covariance": Made("structured_covariance", {"key": 901, "n": n, "dtype": dtype}),
    }


def _operations(size: str, dtype: str, rows: int, n: int) -> Iterator[Definition]:
    def bell(key: int, *shape: int) -> Made:
        return Made("bell", {"key": key, "shape": list(shape), "dtype": dtype})

    covariance = Made("structured_covariance", {"key": 910, "n": n, "dtype": dtype})
    factor = Made("structured_factor", {"key": 911, "n": n, "dtype": dtype})
    target = bell(912, rows, n)
    chains = (flags.ORDER, flags.FUSED)
    yield _case(
        "matmul",
        size,
        dtype,
        f"{rows}x{n}x{n}",
        f"chains of {n} products",
        {"left": target, "right": covariance},
        {},
        *chains,
    )
    yield _case(
        "matmul_transposed",
        size,
        dtype,
        f"{n}x{rows}x{rows + 2}",
        f"chains of {n} products, the left matrix transposed",
        {"left": bell(913, n, rows), "right": bell(914, n, rows + 2)},
        {},
        *chains,
    )
    yield _case(
        "cholesky",
        size,
        dtype,
        f"n{n}",
        "a structured covariance",
        {"matrix": covariance},
        {},
        *chains,
    )
    solved = {"target": target, "factor": factor}
    yield _case("solve", size, dtype, f"{rows}xn{n}", "X Lᵀ = T", solved, {}, *chains)
    yield _case(
        "solve_reversed",
        size,
        dtype,
        f"{rows}xn{n}",
        "X L = T",
        solved,
        {"start": 0, "stop": n},
        *chains,
    )
    if size == "medium":
        both = {"left": bell(915, n, n), "right": bell(916, n, n)}
        for function in ("row_inner", "column_inner"):
            yield _case(
                function, size, dtype, f"{n}x{n}", "sums by the tree", both, {}, flags.ORDER
            )
        square = Made("integers", {"key": 917, "shape": [n, n], "low": -9, "high": 9,
                                   "dtype": "int32"})  # fmt: skip
        yield _case(
            "column_histograms", size, dtype, f"{n}x{n}", "counts", {"codes": square}, {},
            flags.EXACT,
        )  # fmt: skip


def _algorithms(size: str, dtype: str, rows: int, n: int) -> Iterator[Definition]:
    layer = _layer(dtype, rows, n)
    yield _case(
        "gptq",
        size,
        dtype,
        f"groups-{rows}x{n}",
        "4 bits, groups of 128, blocks of 128",
        layer,
        BITS,
        flags.GROUPS,
    )
    yield _case(
        "watersic",
        size,
        dtype,
        f"{rows}x{n}",
        "gains and rescalers, at a given spacing",
        layer,
        {"spacing": 0.5},
        flags.GAIN,
        flags.RESCALERS,
    )
    if size == "medium":
        yield _case(
            "gptq",
            size,
            dtype,
            f"activation-order-{rows}x{n}",
            "asymmetric, activation order, static groups",
            layer,
            {**BITS, "asymmetric": True, "actorder": True, "static_groups": True},
            flags.ACTIVATION_ORDER,
        )
        yield _case(
            "watersic",
            size,
            dtype,
            f"search-hadamard-{rows}x{n}",
            "the rate search in a rotated basis",
            layer,
            {"rate": 2.5, "rate_measure": "rate_column", "hadamard_seed": 5},
            flags.SEARCH,
            flags.ROTATION,
        )


def _real(dtype: str) -> Iterator[Definition]:
    file, rows, columns = "minilm-02-query.safetensors", 64, 384
    layer = {
        "weight": Made("layer_weight", {"file": file, "rows": rows, "columns": columns}),
        "covariance": Made("layer_covariance", {"file": file, "columns": columns, "dtype": dtype}),
    }
    for method, parameters, flagged in (
        ("gptq", BITS, flags.GROUPS),
        ("watersic", {"rate": 3.0, "rate_measure": "rate_column"}, flags.SEARCH),
    ):
        yield _case(
            method,
            "medium",
            dtype,
            f"minilm-query-{rows}x{columns}",
            f"all inputs of {file}",
            layer,
            parameters,
            flagged,
            tier="real",
        )
