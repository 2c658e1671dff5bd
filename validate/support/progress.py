"""What is going on, for somebody who waits at a terminal.

A large layer takes minutes on the oracle, nearly all of it in a few operations. `Progress` shows
which one is running, and how often it has run: for an entropy-coded method each `sic` is one
evaluation of the search. The algorithms need not know: they are handed a backend that tells of each
operation before it does it. Where standard error is not a terminal they get the backend itself, and
nothing is written.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import TracebackType
from typing import Any, Self, cast

from tqdm import tqdm

from ...reference.operations import Operations

LONG = ("cholesky", "hadamard", "matmul", "matmul_transposed", "sic", "solve", "solve_reversed")


class Progress:
    """One line on standard error while the context lasts, gone afterwards."""

    def __init__(self, title: str) -> None:
        self.title = title
        # disable=None: nothing where the stream is not a terminal.
        self.bar = tqdm(
            desc=title, bar_format="{desc} [{elapsed}]", disable=None, leave=False, file=sys.stderr
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.close()

    def stage(self, name: str) -> None:
        """Say that this is going on now."""
        self.bar.set_description_str(f"{self.title}: {name}")

    def watch(self, backend: Operations) -> Operations:
        """The backend, telling of its long operations if anybody can see it."""
        return backend if self.bar.disable else cast(Operations, _Watched(backend, self))


class _Watched:
    def __init__(self, backend: Operations, progress: Progress) -> None:
        self.backend, self.progress = backend, progress
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.backend, name)
        if name not in LONG:
            return operation

        def told(*arguments: Any, **named: Any) -> Any:
            self.calls[name] += 1
            self.progress.stage(f"{name} {self.calls[name]}")
            return operation(*arguments, **named)

        return told
