"""The same bits whatever compiles and runs the backend numba: large cases, by digest.

    python -m waterlevel.validate.conformance.large_digests --output REPORT.json

Every case is computed under different numbers of threads, threading layers and processor features,
each in a process of its own, and by the NumPy oracle where that is feasible. All digests of a case
must be one. Exit code 1 says that they are not. Takes some minutes.

Inputs are recipes from raw integers (`random_layers`), so the digests are the same everywhere, and
can be compared with the report that was made on another machine (`--expect`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...backends import get
from ...reference.contract import CONTRACT_VERSION
from ...reference.operations import Operations
from ..golden.case import sha256
from ..layers.layer_files import to_json
from ..support.environment import environment
from ..support.whole_files import write_whole
from .random_layers import DTYPES, SHAPES, outputs

ORACLE_COLUMNS = 1024  # beyond, the oracle takes minutes

# Tiles are 8 to 32 rows by the size of a vector register, so these change the blocking as well.
FEATURES = {
    "baseline": ("generic", ""),
    "AVX2": ("haswell", "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2"),
    "AVX-512": (
        "skylake-avx512",
        "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+avx512f,+avx512cd,+avx512bw,+avx512dq,+avx512vl",
    ),
}


def settings() -> dict[str, dict[str, str]]:
    """Name → environment, of every way in which the cases are computed."""
    ways = {"1 thread": {"NUMBA_NUM_THREADS": "1"}}
    for layer in ("workqueue", "omp", "tbb"):
        ways[f"2 threads, {layer}"] = {
            "NUMBA_NUM_THREADS": "2",
            "NUMBA_THREADING_LAYER": layer,
        }
    if platform.machine() == "x86_64":
        for name, (processor, features) in FEATURES.items():
            ways[name] = {
                "NUMBA_NUM_THREADS": "2",
                "NUMBA_CPU_NAME": processor,
                "NUMBA_CPU_FEATURES": features,
            }
    return ways


def digests(
    operations: Operations, shapes: Sequence[tuple[int, int]], widest: int
) -> dict[str, str]:
    """ "shape dtype output" → digest, of the layers with at most so many columns."""
    return {
        f"{rows}×{columns} {dtype} {name}": sha256(found)
        for rows, columns in shapes
        if columns <= widest
        for dtype in DTYPES
        for name, found in outputs(operations, rows, columns, dtype)
    }


def computed(backend: str, way: Mapping[str, str], arguments: Sequence[str]) -> dict[str, Any]:
    """What a child process finds; a reason, where the threading layer is not installed."""
    ran = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--child", backend, *arguments],
        env={**os.environ, **way},
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        reason = (ran.stderr.strip() or "no reason given").splitlines()[-1]
        if "threading layer" in ran.stderr:
            return {"skipped": f"threading layer {way['NUMBA_THREADING_LAYER']} is not there"}
        raise SystemExit(f"{backend} under {dict(way)} failed: {reason}")
    return json.loads(ran.stdout)


def child(backend: str, shapes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Digests, and what they were really computed with."""
    widest = ORACLE_COLUMNS if backend == "numpy" else max(columns for _, columns in shapes)
    found: dict[str, Any] = {"digests": digests(get(backend), shapes, widest)}
    if backend == "numba":
        numba: Any = importlib.import_module("numba")
        target: Any = importlib.import_module("numba.core.registry").cpu_target.target_context
        tiles: Any = importlib.import_module("...backends.numba_cpu.tiles", __package__)
        found["threads"] = numba.get_num_threads()
        found["layer"] = numba.threading_layer()
        found["processor"] = target.codegen().magic_tuple()[1]
        found["vector_bytes"] = tiles.VECTOR_BYTES
    return found


def summarize(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report: one digest for each case if all agree, else those that differ by name."""
    cases: dict[str, dict[str, list[str]]] = {}
    for way, result in found.items():
        for case, digest in result.get("digests", {}).items():
            cases.setdefault(case, {}).setdefault(digest, []).append(way)
    ways = {
        way: {
            **{key: value for key, value in result.items() if key != "digests"},
            "cases": len(result.get("digests", ())),
        }
        for way, result in found.items()
    }
    return {
        "kind": "waterlevel large digests",
        "equal": all(len(by_digest) == 1 for by_digest in cases.values()),
        "ways": ways,
        "cases": {case: next(iter(d)) for case, d in cases.items() if len(d) == 1},
        "differ": {case: d for case, d in cases.items() if len(d) > 1},
        "contract": CONTRACT_VERSION,
        "version": version("waterlevel"),
        "environment": environment(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Computes everything, or with --child one backend's part; exit code 1 if digests differ."""
    parser = argparse.ArgumentParser(description="Large cases by digest, under many settings.")
    parser.add_argument("--output", type=Path, help="the report, JSON")
    parser.add_argument("--expect", type=Path, help="a report whose digests must be the same")
    parser.add_argument("--shapes", default=",".join(f"{a}x{n}" for a, n in SHAPES))
    parser.add_argument("--child", metavar="BACKEND", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    pairs = [shape.split("x") for shape in arguments.shapes.split(",")]
    shapes = [(int(rows), int(columns)) for rows, columns in pairs]
    if arguments.child:
        json.dump(child(arguments.child, shapes), sys.stdout)
        return 0
    passed_on = ["--shapes", arguments.shapes]
    found = {"oracle": computed("numpy", {}, passed_on)}
    for name, way in settings().items():
        found[name] = computed("numba", way, passed_on)
        print(name, found[name].get("skipped", "done"), flush=True)
    report = summarize(found)
    if arguments.output:
        write_whole(arguments.output, (to_json(report, indent=1) + "\n").encode())
    for case, by_digest in report["differ"].items():
        print(f"{case} differs: {by_digest}")
    if arguments.expect:
        expected = json.loads(arguments.expect.read_text())["cases"]
        changed = [case for case in report["cases"] if report["cases"][case] != expected.get(case)]
        print(f"{len(changed)} of {len(report['cases'])} cases differ from {arguments.expect.name}")
        return int(bool(changed) or not report["equal"])
    return int(not report["equal"])


if __name__ == "__main__":
    sys.exit(main())
