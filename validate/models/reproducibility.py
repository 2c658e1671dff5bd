"""The same model, text and options, run again: does the same quantised model come out?

    python -m waterlevel.validate.models.reproducibility -o REPORT.json [DIRECTORY --text FILE]

(extra `peers`). GPTQ at 4 bits in groups of 64 by llm-compressor's `oneshot` and by this package:
twice alike; with one thread in place of two; with batches of 4 sequences in place of 1; and, for
llm-compressor, with its own default, which shuffles the samples without a seed. This package also
with the forward pass of other libraries. Each run is a process of its own. Counted are weights that
differ in any bit from those of the package's first run.

A difference is not a loss: bits per byte on a held-out text stand beside it. What is lost is that
anybody could check whether a checkpoint is what it is said to be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from ...data import MODELS
from ...reference.decoder import Decoder
from ...reference.errors import BadInput, WaterlevelError
from ..layers.layer_files import to_json
from ..support.console import UNDEFINED, describe, fail, table
from ..support.environment import environment
from ..support.whole_files import write_whole
from .evaluation import evaluate, evaluation_windows
from .loading import load_decoder
from .token_files import read_tokens

BUNDLED = MODELS / "pydoc-2m"
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)
PATIENT = {"OMP_WAIT_POLICY": "passive"}  # threads that spin take the processor from each other
HEADERS = (
    *("package", "run", "weights that differ", "share", "layers", "first layer", "last layer"),
    *("bits/byte", "±", "MB"),
)


@dataclass(frozen=True)
class Run:
    """One process. `package` is a key of `reproducibility_runs.PACKAGES`."""

    package: str
    name: str
    threads: int = 2
    batch: int = 1
    shuffled: bool = False
    library: str = "numba"


RUNS = (
    Run("llmcompressor", "first"),
    Run("llmcompressor", "again"),
    Run("llmcompressor", "one thread", threads=1),
    Run("llmcompressor", "batches of 4", batch=4),
    Run("llmcompressor", "shuffled, its default", shuffled=True),
    Run("llmcompressor", "shuffled, again", shuffled=True),
    Run("waterlevel", "first"),
    Run("waterlevel", "again"),
    Run("waterlevel", "one thread", threads=1),
    Run("waterlevel", "batches of 4", batch=4),
    Run("waterlevel", "forward pass by NumPy", library="numpy"),
    Run("waterlevel", "forward pass by PyTorch", library="torch"),
)


def differences(
    first: Mapping[str, NDArray], other: Mapping[str, NDArray], names: Sequence[str]
) -> dict[str, Any]:
    """How many weights of the layers have other bits.

    >>> one = {"a": np.array([1.0, 2.0], np.float32), "b": np.array([0.0, 3.0], np.float32)}
    >>> differences(one, {**one, "b": np.array([-0.0, 3.0], np.float32)}, ["a", "b"])["differ"]
    1
    """
    counts = [
        int(np.count_nonzero(first[name].view(np.uint32) != other[name].view(np.uint32)))
        for name in names
    ]
    sizes = [first[name].size for name in names]
    return {
        "weights": sum(sizes),
        "differ": sum(counts),
        "layers": len(names),
        "layers_that_differ": sum(count > 0 for count in counts),
        "share_of_first_layer": counts[0] / sizes[0],
        "share_of_last_layer": counts[-1] / sizes[-1],
    }


def measure(
    directory: Path, sequences: NDArray[np.int64], windows: NDArray[np.int64], tokens: Any
) -> Iterator[dict[str, Any]]:
    """A row for each of RUNS, in their order.

    Raises:
        WaterlevelError: a run has failed, with the last line that it said.
    """
    original = load_decoder(directory, "numba")
    names = [
        original.block(index).tensor_name(name)
        for index in range(original.configuration.blocks)
        for name in original.configuration.shapes()
    ]
    first: dict[str, dict[str, NDArray]] = {}
    for run in RUNS:
        weights, told = _run(run, directory, sequences)
        first.setdefault(run.package, weights)
        tensors = ChainMap(weights, original.tensors)  # pyright: ignore[reportArgumentType]
        made = Decoder(original.configuration, tensors, original.passes)
        (evaluation,) = evaluate([made], windows, tokens, 4)
        yield {
            "package": run.package,
            "run": run.name,
            "threads": run.threads,
            "batch": run.batch,
            "shuffled": run.shuffled,
            "library": run.library if run.package == "waterlevel" else None,
            **differences(first[run.package], weights, names),
            **evaluation.figures(None),
            **told,
        }


def _run(
    run: Run, directory: Path, sequences: NDArray[np.int64]
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        tokens, output = Path(folder) / "tokens.npy", Path(folder) / "weights.safetensors"
        np.save(tokens, sequences)
        options = {"batch": run.batch, "shuffled": run.shuffled, "library": run.library}
        module = f"{__package__}.reproducibility_runs"
        done = subprocess.run(
            [sys.executable, "-m", module, run.package, directory, tokens, output,
             json.dumps(options)],
            env={**os.environ, **PATIENT, **dict.fromkeys(THREADS, str(run.threads))},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise WaterlevelError(f"{run.package}, {run.name}: {last[0]}")
        return load_file(output), json.loads(done.stdout.splitlines()[-1])


def text(report: Mapping[str, Any]) -> str:
    """The table, from the report alone."""
    rows = []
    for each in report["runs"]:
        cost = each["bits_per_byte"] or each["bits_per_token"]
        base = each["run"] == "first"
        rows.append(
            [
                each["package"],
                each["run"],
                UNDEFINED if base else f"{each['differ']:,} of {each['weights']:,}",
                UNDEFINED if base else f"{each['differ'] / each['weights']:.2%}",
                UNDEFINED if base else f"{each['layers_that_differ']} of {each['layers']}",
                UNDEFINED if base else f"{each['share_of_first_layer']:.3%}",
                UNDEFINED if base else f"{each['share_of_last_layer']:.2%}",
                f"{cost['mean']:.4f}",
                f"{cost['error']:.4f}",
                f"{each['peak_mb']:.0f}",
            ]
        )
    return table(rows, HEADERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the table, write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=BUNDLED)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT")
    parser.add_argument("--text", type=Path, help="for the moments")
    parser.add_argument("--held-out", type=Path, help="to predict")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--windows", type=int, default=64, help="of the held-out text")
    given = parser.parse_args(arguments)
    try:
        own = given.directory == BUNDLED
        for name, bundled in (("text", "calibration.txt"), ("held_out", "held-out.txt")):
            if getattr(given, name) is None:
                if not own:
                    raise BadInput(f"{given.directory}: --{name.replace('_', '-')} FILE is needed")
                setattr(given, name, BUNDLED / bundled)
        vocabulary = load_decoder(given.directory).configuration.vocabulary
        seen = read_tokens(given.directory, [given.text], vocabulary)
        tokens = read_tokens(given.directory, [given.held_out], vocabulary)
        sequences = seen.windows(given.length, given.sequences, 0)
        windows = evaluation_windows(tokens, given.length, given.windows)
        runs = []
        for row in measure(given.directory, sequences, windows, tokens):
            print(f"{row['package']}, {row['run']}: {row['differ']}", file=sys.stderr)
            runs.append(row)
        packages = ("llmcompressor", "compressed-tensors", "torch", "transformers")
        report = {
            "model": given.directory.name,
            "sequences": given.sequences,
            "length": given.length,
            "windows": len(windows),
            "tokens_sha256": seen.sha256,
            "packages": {name: version(name) for name in packages},
            "environment": environment(),
            "runs": runs,
        }
        print(text(report))
        write_whole(given.output, (to_json(report, indent=1) + "\n").encode())
    except (WaterlevelError, OSError) as error:
        fail("waterlevel.validate.models.reproducibility", describe(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
