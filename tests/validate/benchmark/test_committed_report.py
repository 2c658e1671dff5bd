"""The committed report of `waterlevel bench`: complete, and what the PAGE says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from waterlevel.data import DIRECTORY
from waterlevel.validate.benchmark.rows import ROWS
from waterlevel.validate.cli.bench import DTYPES, REPETITIONS, SIZES, parse_sizes, shapes
from waterlevel.validate.support.console import number

PAGE = (Path(__file__).resolve().parents[3] / "data/reports/BENCHMARK.md").read_text("utf-8")
REPORT = json.loads((DIRECTORY / "reports" / "benchmark.json").read_text("utf-8"))
MEASURED = {(row["row"], row["dtype"], row["rows"], row["columns"]): row for row in REPORT["rows"]}


def test_the_report_is_complete():
    assert REPORT["failed"] == []
    assert REPORT["unmeasured"] == 0
    assert REPORT["contract"] == "1"  # contract 2 moved nothing that is timed here
    assert REPORT["repetitions"] == REPETITIONS
    sizes = parse_sizes(SIZES)
    assert set(MEASURED) == {
        (name, dtype, *shape)
        for name, row in ROWS.items()
        for dtype in DTYPES
        for shape in shapes(sizes, row.square)
    }
    for row in MEASURED.values():
        share = row["pairs_per_second"] / max(row["probes"])
        assert 0 < row["share_of_peak"] == share < 1
    assert len(REPORT["growth"]) == len(ROWS) * len(DTYPES)


def test_the_page_says_what_the_report_says():
    lines = re.findall(
        r"^\| ([^|\n]+) \| (float\d\d) \| (\d+) \| (.*) \|$", PAGE, flags=re.MULTILINE
    )
    assert len(lines) == 20
    assert {name for name, _, _, _ in lines} == set(ROWS)
    for name, dtype, size, cells in lines:
        row = MEASURED[name, dtype, int(size), int(size)]
        peers = {peer.split()[0]: times for peer, times in row["times_peers"].items()}
        assert cells.split(" | ") == [
            number(1e3 * row["seconds"], 0),
            number(row["share_of_peak"], 2),
            number(row["times_library"], 2),
            number(peers.get("torch"), 1),
            number(peers.get("llmcompressor"), 1),
        ], (name, dtype, size)
    single, double = (MEASURED["WaterSIC core", dtype, 4096, 4096] for dtype in DTYPES[::-1])
    share = number(single["seconds"] / double["seconds"], 2)
    assert f"The WaterSIC core on 4096 columns takes {share} of the time in\nfloat32" in PAGE
    assert "two cores of an AMD EPYC, backend `numba`, medians of 5 (" in PAGE
    assert REPORT["environment"]["processor"] == "AMD EPYC"
    assert (REPORT["backend"], REPORT["threads"], REPORT["repetitions"]) == ("numba", 2, 5)


@pytest.mark.parametrize("size", [1024, 2048, 4096])
def test_exact_bits_are_not_slow(size):
    """What the backend `numba` was built for, as ratios in one run."""

    def measured(name: str) -> dict:
        return MEASURED[name, "float64", size, size]

    assert measured("WaterSIC core")["times_library"] >= 1.3
    assert measured("Cholesky")["times_library"] >= 1 / 1.5
    if size >= 2048:
        assert measured("SIC, 4-bit grid")["share_of_peak"] >= 0.7
        # One thread decides 16 columns while the others wait: with few rows they wait for long.
        assert measured("SIC, gains")["share_of_peak"] >= {2048: 0.55, 4096: 0.7}[size]
