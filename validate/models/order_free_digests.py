"""The same bits from every array library: order-free layers and a model, by digest.

    python -m waterlevel.validate.models.order_free_digests --output REPORT.json
    python -m waterlevel.validate.models.order_free_digests --small \
        --need numpy --need torch --need jax --expect data/reports/order-free-digests.json

Every case is computed by NumPy under different kernels of its BLAS, by PyTorch on one thread and on
two, by JAX, on a GPU by PyTorch and CuPy, each in a process of its own; a library that is not
installed is left out and the report says so. The cases are layers with weights of four dtypes, by
every method, and what the decoder of `reference.decoder` makes of the bundled model: there Numba's
compiled loops take part. All digests of a case must be one, and with --expect the committed one.
Exit code 1 says that they are not.
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

from ...data import MODELS
from ...reference.decoder import GROUPS, sequence_moment
from ...reference.order_free import order_free, order_free_cholesky, order_free_grid
from ...reference.order_free.arrays import to_host
from ..golden.case import sha256
from ..golden.recipes import bell, structured_covariance
from ..layers.layer_files import to_json
from ..support.environment import environment
from ..support.whole_files import write_whole
from .loading import load_decoder

SHAPES = ((16, 24), (384, 384))
DTYPES = ("float64", "float32", "float16", "bfloat16")
MODEL = MODELS / "pydoc-2m"
TOKENS = (2, 96)
ONE, TWO = ({f"{name}_NUM_THREADS": n for name in ("OMP", "MKL", "NUMBA")} for n in "12")
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "numpy": ("numpy", {}),
    "numpy, 1 thread": ("numpy", {"OPENBLAS_NUM_THREADS": "1"}),
    "numpy, SkylakeX": ("numpy", {"OPENBLAS_CORETYPE": "SkylakeX"}),
    "numpy, Haswell": ("numpy", {"OPENBLAS_CORETYPE": "Haswell"}),
    "numpy, Nehalem": ("numpy", {"OPENBLAS_CORETYPE": "Nehalem"}),
    "numba, 1 thread": ("numba", ONE),
    "numba, 2 threads": ("numba", TWO),
    "torch, 1 thread": ("torch", ONE),
    "torch, 2 threads": ("torch", TWO),
    "jax": ("jax", {"JAX_PLATFORMS": "cpu"}),
    "torch, cuda": ("torch-cuda", {}),
    "cupy": ("cupy", {}),
}
PACKAGES = ("numpy", "numba", "torch", "jax", "cupy", "array-api-compat")

Place = Callable[[NDArray, str], Any]


def array_maker(library: str) -> Place:
    """What turns a host array into one of the library, in a dtype (by name).

    NumPy and CuPy have no bfloat16; numbers that would fit in it are float32 there.
    """
    if library in ("numpy", "cupy"):
        module: Any = importlib.import_module(library)
        return lambda array, dtype: module.asarray(
            array, dtype="float32" if dtype == "bfloat16" else dtype
        )
    if library == "jax":
        module = importlib.import_module(library)
        module.config.update("jax_enable_x64", True)
        return lambda array, dtype: module.numpy.asarray(array).astype(dtype)
    torch: Any = importlib.import_module("torch")
    device = "cuda" if library == "torch-cuda" else "cpu"
    return lambda array, dtype: torch.asarray(array, device=device).to(getattr(torch, dtype))


def rounded(weight: NDArray[np.float32], dtype: str) -> NDArray:
    """Numbers that the dtype holds, as float32 (or float16)."""
    if dtype == "bfloat16":
        return (weight.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return weight.astype(np.float16).astype(np.float32) if dtype == "float16" else weight


def layer_outputs(place: Place, rows: int, columns: int) -> Iterator[tuple[str, NDArray]]:
    """Name and host array of all that is computed on one layer."""
    weight = bell(11, [rows, columns], dtype="float32")
    hostile = weight.copy()
    hostile[rows // 2] *= np.float32(300)
    moment = structured_covariance(12, columns, 3, "float64")
    L = order_free_cholesky(place(moment, "float64"))
    yield "cholesky", to_host(L)
    order = np.argsort(-np.diag(moment), kind="stable")
    back = order[::-1]
    M = order_free_cholesky(place(moment[np.ix_(back, back)], "float64"))
    for name, W, bits in (("1", weight, 1.0), ("8", hostile, 8.0)):
        found = order_free(place(W, "float32"), L, rate=bits, open_loop=True)
        yield f"watersic {name} codes", _codes(found.codes)
        yield f"watersic {name} gains", found.gains
    for dtype in DTYPES:
        W = place(rounded(weight, dtype), dtype)
        found = order_free(W, L, rate=3.0, open_loop=True)
        yield f"watersic 3 {dtype} codes", _codes(found.codes)
        yield f"watersic 3 {dtype} gains", found.gains
    found = order_free(
        place(weight, "float32"), M, rate=4.0, open_loop=True, method="gptq", order=order
    )
    yield "gptq codes", _codes(found.codes)
    group = max(columns // 3, 1)
    grids: dict[str, dict[str, Any]] = {
        "rows": {"bits": 3},
        "static": {"bits": 4, "asymmetric": True, "group_size": group, "static_groups": True},
        "updated": {"bits": 4, "asymmetric": True, "group_size": group, "block_size": group // 2},
        "fp4": {"format": "fp4-e2m1", "group_size": group},
    }
    for name, options in grids.items():
        grid = order_free_grid(place(hostile, "float32"), M, order=order, **options)
        yield f"grid {name} codes", _codes(grid.codes)
        yield f"grid {name} values", to_host(grid.dequantized)


def model_outputs(library: str) -> Iterator[tuple[str, NDArray]]:
    """Logits, likelihoods and the moments of the last block of the bundled model."""
    decoder = load_decoder(MODEL, library)
    c, passes = decoder.configuration, decoder.passes
    tokens = np.random.Generator(np.random.Philox(13)).integers(0, c.vocabulary, TOKENS)
    yield "logits", np.asarray(decoder.logits(tokens))
    yield "likelihoods", np.asarray(decoder.log_likelihood(tokens))
    hidden = decoder.embed(tokens)
    for index in range(c.blocks):
        block = decoder.block(index)
        stream = block.enter(hidden)
        for group in GROUPS:
            if index == c.blocks - 1:
                assert stream.inputs is not None
                x = stream.inputs[0, ...]
                yield f"moment {group}", np.asarray(sequence_moment(passes, x, x))
            stream = block.step(group, stream, block.layers)
        hidden = stream.hidden


def _codes(codes: Any) -> NDArray[np.int32]:
    return to_host(codes).astype(np.int32)


def digests(library: str, small: bool = False) -> dict[str, str]:
    """ "rows×columns output" or "model output" → digest."""
    found = {}
    if library != "numba":
        place = array_maker(library)
        for rows, columns in SHAPES[:1] if small else SHAPES:
            for name, array in layer_outputs(place, rows, columns):
                found[f"{rows}×{columns} {name}"] = sha256(array)
    if library != "torch-cuda":  # the namespace of PyTorch computes on its default device
        found |= {f"{MODEL.name} {name}": sha256(array) for name, array in model_outputs(library)}
    return found


def why_not(library: str) -> str | None:
    """Why a library can not be asked here, or None."""
    module = library.partition("-")[0]
    if find_spec(module) is None:
        return f"{module} is not installed"
    if library == "torch-cuda" and not importlib.import_module("torch").cuda.is_available():
        return "PyTorch finds no GPU"
    if library == "cupy":
        cupy: Any = importlib.import_module("cupy")
        try:
            cupy.cuda.runtime.getDeviceCount()
        except Exception as error:  # the driver may fail in any way
            return f"CuPy finds no GPU: {error}"
    return None


def computed(library: str, settings: Mapping[str, str], small: bool = False) -> dict[str, Any]:
    """What a child process finds; a reason where the library can not be asked."""
    if reason := why_not(library):
        return {"skipped": reason}
    ran = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--child", library, *(["--small"] if small else [])],
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


def unexpected(report: Mapping[str, Any], committed: Mapping[str, Any]) -> list[str]:
    """The cases whose digest is not the committed one."""
    return [
        case for case, digest in report["cases"].items() if committed["cases"].get(case) != digest
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Computes everything, or with --child one library's part; exit code 1 if digests differ."""
    parser = argparse.ArgumentParser(description="Order-free layers by digest, on every library.")
    parser.add_argument("--output", type=Path, help="the report, JSON")
    parser.add_argument("--expect", type=Path, help="a report whose digests must be found again")
    parser.add_argument("--need", action="append", default=[], help="a library that must be there")
    libraries = sorted({library for library, _ in WAYS.values()})
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=libraries,
        help="a library; no other is asked",
    )
    parser.add_argument("--small", action="store_true", help="the smallest layer and the model")
    parser.add_argument("--child", metavar="LIBRARY", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        json.dump(digests(arguments.child, arguments.small), sys.stdout)
        return 0
    for library in arguments.need:
        if reason := why_not(library):
            parser.error(reason)
    found = {}
    for way, (library, settings) in WAYS.items():
        if arguments.only and library not in arguments.only:
            continue
        found[way] = computed(library, settings, arguments.small)
        print(way, found[way].get("skipped", "done"), flush=True)
    report = summarize(found)
    if arguments.output:
        write_whole(arguments.output, (to_json(report, indent=1) + "\n").encode())
    for case, by_digest in report["differ"].items():
        print(f"{case} differs: {by_digest}")
    print(f"{len(report['cases'])} cases with one digest, {len(report['differ'])} without")
    others = []
    if arguments.expect:
        others = unexpected(report, json.loads(arguments.expect.read_text("utf-8")))
        print(f"{len(others)} digests are not those of {arguments.expect}", *others, sep="\n")
    return int(not report["cases"] or not report["equal"] or bool(others))


if __name__ == "__main__":
    sys.exit(main())
