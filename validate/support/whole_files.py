"""Output files appear whole or not at all: written beside their place, then renamed there."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; when the block ends well, it takes the place of `path`.

    A link is followed: what it points to is replaced. Permissions are those of a new file. If the
    block fails, nothing is left behind, and what was there before still is.
    """
    target = Path(os.path.realpath(path))
    beside = target.parent / f".waterlevel-{secrets.token_hex(8)}"
    created = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    permissions = stat.S_IMODE(os.fstat(created).st_mode)
    os.close(created)
    try:
        yield beside
        beside.chmod(permissions)  # whoever wrote may have had another idea
        with beside.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through `replacing`, making its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_bytes(content)
