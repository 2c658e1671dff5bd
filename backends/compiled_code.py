"""Where is compiled code kept? Never in the package: what is installed can be removed whole.

Each backend that compiles has a folder of its own below the user's cache. All in it can be made
again, so it may be deleted at any time. Whatever a piece of machine code was made of is part of its
name, so that old code never runs for new.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..reference.errors import WaterlevelError

CACHE_VARIABLE = "WATERLEVEL_CACHE_DIR"
NUMBA_VARIABLE = "NUMBA_CACHE_DIR"  # Numba's own setting comes first for what Numba compiles
BACKENDS = ("numba", "cupy")  # those that keep anything


def cache_folder(backend: str) -> Path:
    """The folder for what this backend compiles; whether it is there, nobody knows yet.

    Raises:
        WaterlevelError: no variable names a folder, and the user has no home.
    """
    if backend == "numba" and (own := os.environ.get(NUMBA_VARIABLE)):
        return Path(own).absolute() / "waterlevel"
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).absolute() / backend
    if own := os.environ.get("XDG_CACHE_HOME"):
        return Path(own).absolute() / "waterlevel" / backend
    try:
        return Path.home() / ".cache" / "waterlevel" / backend
    except RuntimeError as error:
        raise WaterlevelError(
            f"compiled code cannot be kept, for no home folder is known ({error}); "
            f"set {CACHE_VARIABLE} to a folder"
        ) from error


@dataclass(frozen=True)
class Kept:
    """What a folder of compiled code holds, that of earlier versions included."""

    folder: Path
    files: int
    size: int  # bytes


def kept(backend: str) -> Kept:
    """What is there, counted; a folder that cannot be read counts as empty.

    Raises:
        WaterlevelError: as `cache_folder`.
    """
    folder = cache_folder(backend)
    sizes = []
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.stat(Path(parent) / name).st_size)
            except OSError:  # removed in between
                continue
    return Kept(folder, len(sizes), sum(sizes))
