"""Cases with the bundled layers of real models: narrow blocks of them by every method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import flags
from ..definition import Definition, Made

ROWS = 32
LAYERS = {
    "minilm-query": ("minilm-02-query.safetensors", 64),
    "minilm-feed-forward-out": ("minilm-02-feed-forward-out.safetensors", 48),
    "smollm2-query": ("smollm2-15-query.safetensors", 72),
    "smollm2-feed-forward-up": ("smollm2-15-feed-forward-up.safetensors", 40),
}
METHODS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("rtn", "bits4-groups", {"bits": 4, "group_size": 16}, flags.GROUPS),
    ("gptq", "bits4-groups", {"bits": 4, "group_size": 16, "block_size": 32}, flags.GROUPS),
    (
        "gptq",
        "activation-order",
        {"bits": 3, "actorder": True, "asymmetric": True},
        flags.ACTIVATION_ORDER,
    ),
    ("gptq", "search", {"rate": 3.0, "rate_measure": "rate_column"}, flags.SEARCH),
    ("watersic", "search", {"rate": 3.0, "rate_measure": "rate_column"}, flags.SEARCH),
)


def real_cases() -> Iterator[Definition]:
    """Tier real; limit and gap within a tolerance."""
    for layer, (file, columns) in LAYERS.items():
        for method, what, parameters, flagged in METHODS:
            for dtype in ("float64", "float32") if method == "watersic" else ("float64",):
                yield Definition(
                    method,
                    "real",
                    f"{layer}-{what}-{ROWS}x{columns}",
                    dtype,
                    f"the first {ROWS} rows and {columns} columns of {file}",
                    {
                        "weight": Made(
                            "layer_weight", {"file": file, "rows": ROWS, "columns": columns}
                        ),
                        "covariance": Made(
                            "layer_covariance", {"file": file, "columns": columns, "dtype": dtype}
                        ),
                    },
                    parameters,
                    (flagged,),
                    extra=("limit", "gap"),
                )
