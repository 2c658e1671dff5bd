"""Does a backend give the committed digests of large random layers? Nothing else is computed.

    python -m waterlevel.validate.conformance.device_bits BACKEND [--json FILE] [--seconds 60]

The layers are recipes from raw integers (`random_layers`), and what the oracle makes of them is in
`data/reports/large-digests.json`, so a borrowed device spends no time on waiting for an oracle. A
layer is told as soon as it is judged, and the report is written anew each time. Exit code 1 says
that a digest differs, or that time was up before the first layer.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...backends import get
from ...backends.cuda.meter import meter_of
from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import WaterlevelError
from ...reference.operations import Operations
from ..golden.case import sha256
from ..layers.layer_files import to_json
from ..support.environment import environment
from ..support.whole_files import write_whole
from .random_layers import DTYPES, SAME_BITS, SHAPES, outputs

COMMITTED = "reports/large-digests.json"


def committed() -> dict[str, str]:
    """ "shape dtype output" → digest.

    Raises:
        WaterlevelError: the digests are those of another contract.
    """
    text = importlib.resources.files("waterlevel.data").joinpath(COMMITTED).read_text("utf-8")
    report = json.loads(text)
    if not {report["contract"], CONTRACT_VERSION} <= SAME_BITS:
        raise WaterlevelError(
            f"{COMMITTED} is of contract {report['contract']}, not {CONTRACT_VERSION}; "
            "make it anew with python -m waterlevel.validate.conformance.large_digests"
        )
    return report["cases"]


def judge_layer(
    operations: Operations, rows: int, columns: int, dtype: str, expected: Mapping[str, str]
) -> dict[str, bool]:
    """Output → whether its digest is the committed one; of one layer."""
    layer = f"{rows}×{columns} {dtype}"
    found = {
        f"{layer} {name}": sha256(array)
        for name, array in outputs(operations, rows, columns, dtype)
    }
    missing = [case for case in expected if case.startswith(f"{layer} ") and case not in found]
    return {case: expected.get(case) == digest for case, digest in found.items()} | dict.fromkeys(
        missing, False
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Judges layer after layer until all are judged or time is up."""
    parser = argparse.ArgumentParser(description="Committed digests of large layers.")
    parser.add_argument("backend", help="cupy, numba-cuda, …")
    parser.add_argument("--json", type=Path, help="the report")
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no layer later")
    arguments = parser.parse_args(argv)
    begun = time.perf_counter()
    try:
        expected, operations = committed(), get(arguments.backend)
        verdict: dict[str, bool] = {}
        for rows, columns in SHAPES:
            for dtype in DTYPES:
                if time.perf_counter() - begun > arguments.seconds:
                    break
                judged = judge_layer(operations, rows, columns, dtype, expected)
                verdict |= judged
                differing = [case for case, same in judged.items() if not same]
                print(
                    f"{arguments.backend} {rows}×{columns} {dtype}: {len(judged)} outputs, "
                    f"{len(differing)} differ, {time.perf_counter() - begun:.1f} s",
                    *differing,
                    sep="\n    ",
                    flush=True,
                )
                if arguments.json:
                    _write(arguments.json, arguments.backend, verdict, len(expected))
    except WaterlevelError as error:
        print(f"device_bits: {error}", file=sys.stderr)
        return 2
    same = sum(verdict.values())
    print(
        f"{arguments.backend}: {same} of {len(expected)} committed digests, {len(verdict)} judged"
    )
    return int(same < max(1, len(verdict)))


def _write(path: Path, backend: str, verdict: dict[str, bool], total: int) -> None:
    meter = meter_of(get(backend))
    report: dict[str, Any] = {
        "kind": "waterlevel device bits",
        "backend": backend,
        "committed": total,
        "judged": verdict,
        "device": None if meter is None else meter.describe(),
        "environment": environment(),
    }
    write_whole(path, (to_json(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
