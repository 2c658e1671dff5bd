"""What `model evaluate` found, as one JSON object, and as a table made from that object alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..support.console import UNDEFINED, number, table

HEADERS = (
    "model",
    "rate",
    "column",
    "bits/byte",
    "±",
    "more",
    "±",
    "KL",
    "±",
    "KL 99%",
    "top 1",
)


def text(report: Mapping[str, Any]) -> str:
    """A row for each model. `more` is in bits a byte above the original, window by window.

    Args:
        report: "windows", "length", and "models": the figures of `Evaluation` with "model", and
            "rates" for quantised ones.
    """
    headers: list[str] = list(HEADERS)
    models = report["models"]
    bytes_known = models[0]["bits_per_byte"] is not None
    if not bytes_known:
        headers[3] = "bits/token"
    scale = report["tokens_per_byte"] if bytes_known else 1.0
    rows = []
    for each in models:
        cost = each["bits_per_byte" if bytes_known else "bits_per_token"]
        rates = each["rates"] or {}
        row = [each["model"], number(rates.get("rate"), 3), number(rates.get("rate_column"), 3)]
        row += [number(cost["mean"]), number(cost["error"])]
        if "divergence" in each:
            above, divergence = each["more_bits_per_token"], each["divergence"]
            row += [number(above["mean"] * scale), number(above["error"] * scale)]
            row += [number(divergence["mean"]), number(divergence["error"])]
            row += [number(each["divergence_99"], 3), number(each["same_top"])]
        rows.append(row + [UNDEFINED] * (len(HEADERS) - len(row)))
    below = (
        f"{report['windows']} windows of {report['length']} tokens; rates in bits a weight of the "
        "linear layers;\nKL in bits a token, and its 99th percentile; top 1: share of tokens after "
        "which both\nexpect the same; ± one standard error"
    )
    return f"{table(rows, headers)}\n\n{below}"
