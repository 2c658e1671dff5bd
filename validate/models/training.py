"""Trains the small model that comes with the package, from the text to the directory.

    pip install 'waterlevel[train]'
    python -m waterlevel.validate.models.training DIRECTORY --checkpoint FILE

An interrupted training goes on from its checkpoint with the same command. The steps are in
`training_steps`, the text in `training_text`, what is written in `small_model`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ...reference.errors import WaterlevelError
from ..support.console import fail
from .training_text import standard_library


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser("waterlevel.validate.models.training", allow_abbrev=False)
    parser.add_argument("directory", type=Path, help="where the model is written")
    parser.add_argument("--checkpoint", type=Path, required=True, help="where it is kept meanwhile")
    parser.add_argument("--steps", type=positive, default=7400)
    parser.add_argument("--threads", type=positive, default=1)
    arguments = parser.parse_args(argv)
    try:
        run(arguments.directory, arguments.checkpoint, arguments.steps, arguments.threads)
    except ModuleNotFoundError as error:
        fail(parser.prog, f"training needs {error.name}: pip install 'waterlevel[train]'")
        return 2
    except (WaterlevelError, OSError) as error:
        fail(parser.prog, str(error))
        return 2
    return 0


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(directory: Path, checkpoint: Path, steps: int, threads: int) -> None:
    """Trains, keeps a checkpoint every hundred steps, and writes the model.

    Raises:
        ModuleNotFoundError: without the extra `train`. BadInput: see `Training.restore`.
    """
    import torch  # pyright: ignore[reportMissingImports]

    from .training_steps import Training, finish, train

    torch.set_num_threads(threads)
    training = Training.start(steps)
    if checkpoint.exists():
        training.restore(checkpoint)
    text = standard_library()
    for _ in train(training, text.train):
        training.save(checkpoint)
        speed = training.seconds / training.done
        print(
            f"{training.done} of {steps} steps, {training.losses[-1]:.3f} bits per byte, "
            f"{speed:.2f} s a step, {speed * (steps - training.done) / 60:.0f} minutes left",
            flush=True,
        )
    finish(directory, training, text)


if __name__ == "__main__":
    sys.exit(main())
