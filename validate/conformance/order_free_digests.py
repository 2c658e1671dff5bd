"""The same bits from every array library: order-free layers, by digest.

    python -m waterlevel.validate.conformance.order_free_digests --output REPORT.json

Every case is computed by NumPy under different kernels of its BLAS, by PyTorch on one thread and on
two, and by JAX, each in a process of its own; a library that is not installed is left out and the
report says so. All digests of a case must be one. Exit code 1 says that they are not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.order_free import order_free, order_free_cholesky, order_free_grid
from ...reference.order_free.arrays import to_host
from ..golden.case import sha256
from ..golden.recipes import bell, structured_covariance
from ..layers.layer_files import to_json
from ..support.environment import environment
from ..support.whole_files import write_whole

SHAPES = ((16, 24), (384, 384))
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "numpy": ("numpy", {}),
    "numpy, SkylakeX": ("numpy", {"OPENBLAS_CORETYPE": "SkylakeX"}),
    "numpy, Haswell": ("numpy", {"OPENBLAS_CORETYPE": "Haswell"}),
    "numpy, Nehalem": ("numpy", {"OPENBLAS_CORETYPE": "Nehalem"}),
    "torch, 1 thread": ("torch", {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}),
    "torch, 2 threads": ("torch", {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}),
    "jax": ("jax", {"JAX_PLATFORMS": "cpu"}),
}
PACKAGES = ("numpy", "torch", "jax", "array-api-compat")


def array_maker(library: str) -> Callable[[NDArray], Any]:
    """What turns a host array into one of the library."""
    if library == "numpy":
        return np.asarray
    module: Any = importlib.import_module(library)
    if library == "jax":
        module.config.update("jax_enable_x64", True)
        return module.numpy.asarray
    return module.asarray


def outputs(
    place: Callable[[NDArray], Any], rows: int, columns: int
) -> Iterator[tuple[str, NDArray]]:
    """Name and host array of all that is computed on one layer."""
    weight = bell(11, [rows, columns], dtype="float32")
    hostile = weight.copy()
    hostile[rows // 2] *= np.float32(300)
    moment = structured_covariance(12, columns, 3, "float64")
    L = order_free_cholesky(place(moment))
    yield "cholesky", to_host(L)
    order = np.argsort(-np.diag(moment), kind="stable")
    back = order[::-1]
    M = order_free_cholesky(place(moment[np.ix_(back, back)]))
    for name, W, bits in (("1", weight, 1.0), ("3", weight, 3.0), ("8", hostile, 8.0)):
        found = order_free(place(W), L, rate=bits, open_loop=True)
        yield f"watersic {name} codes", _codes(found.codes)
        yield f"watersic {name} gains", found.gains
    found = order_free(place(weight), M, rate=4.0, open_loop=True, method="gptq", order=order)
    yield "gptq codes", _codes(found.codes)
    group = max(columns // 3, 1)
    grids: dict[str, dict[str, Any]] = {
        "rows": {"bits": 3},
        "static": {"bits": 4, "asymmetric": True, "group_size": group, "static_groups": True},
        "updated": {"bits": 4, "asymmetric": True, "group_size": group, "block_size": group // 2},
        "fp4": {"format": "fp4-e2m1", "group_size": group},
    }
    for name, options in grids.items():
        grid = order_free_grid(place(hostile), M, order=order, **options)
        yield f"grid {name} codes", _codes(grid.codes)
        yield f"grid {name} values", to_host(grid.dequantized)


def _codes(codes: Any) -> NDArray[np.int32]:
    return to_host(codes).astype(np.int32)


def digests(library: str, shapes: Sequence[tuple[int, int]] = SHAPES) -> dict[str, str]:
    """ "rows×columns output" → digest."""
    place = array_maker(library)
    return {
        f"{rows}×{columns} {name}": sha256(found)
        for rows, columns in shapes
        for name, found in outputs(place, rows, columns)
    }


def computed(library: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """What a child process finds; a reason where the library is not there."""
    if find_spec(library) is None:
        return {"skipped": f"{library} is not installed"}
    ran = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--child", library],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        reason = (ran.stderr.strip() or "no reason given").splitlines()[-1]
        raise SystemExit(f"{library} under {dict(settings)} failed: {reason}")
    return {"settings": dict(settings), "digests": json.loads(ran.stdout)}


def summarize(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report: one digest for each case if all agree, else those that differ by name."""
    cases: dict[str, dict[str, list[str]]] = {}
    for way, result in found.items():
        for case, digest in result.get("digests", {}).items():
            cases.setdefault(case, {}).setdefault(digest, []).append(way)
    return {
        "kind": "waterlevel order-free digests",
        "equal": all(len(by_digest) == 1 for by_digest in cases.values()),
        "ways": {
            way: {key: value for key, value in result.items() if key != "digests"}
            for way, result in found.items()
        },
        "cases": {case: next(iter(d)) for case, d in cases.items() if len(d) == 1},
        "differ": {case: d for case, d in cases.items() if len(d) > 1},
        "packages": _versions(),
        "version": version("waterlevel"),
        "environment": environment(),
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Computes everything, or with --child one library's part; exit code 1 if digests differ."""
    parser = argparse.ArgumentParser(description="Order-free layers by digest, on every library.")
    parser.add_argument("--output", type=Path, help="the report, JSON")
    parser.add_argument("--child", metavar="LIBRARY", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        json.dump(digests(arguments.child), sys.stdout)
        return 0
    found = {}
    for way, (library, settings) in WAYS.items():
        found[way] = computed(library, settings)
        print(way, found[way].get("skipped", "done"), flush=True)
    report = summarize(found)
    if arguments.output:
        write_whole(arguments.output, (to_json(report, indent=1) + "\n").encode())
    for case, by_digest in report["differ"].items():
        print(f"{case} differs: {by_digest}")
    print(f"{len(report['cases'])} cases with one digest, {len(report['differ'])} without")
    return int(not report["equal"])


if __name__ == "__main__":
    sys.exit(main())
