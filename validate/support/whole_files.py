"""Output files appear whole or not at all: written beside their place, then renamed there."""

from __future__ import annotations

import os
import secrets
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; when the block ends well, it takes the place of `path`.

    A link is followed: what it points to is replaced. Permissions are those of a new file. If the
    block fails or the process is told to end (SIGTERM, SIGHUP), nothing is left behind, and what
    was there before still is.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    target = Path(os.path.realpath(path))
    beside = target.parent / f".waterlevel-{secrets.token_hex(8)}"
    with _ending_in_order():
        try:
            created = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            permissions = stat.S_IMODE(os.fstat(created).st_mode)
            os.close(created)
            yield beside
            beside.chmod(permissions)  # whoever wrote may have had another idea
            with beside.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(beside, target)
        except OSError as error:
            beside.unlink(missing_ok=True)
            if error.strerror and error.filename in (None, str(beside), beside):
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Signals that end a process raise SystemExit with 128 + their number while this lasts."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    names = ("SIGTERM", "SIGHUP")  # the second is not known everywhere
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # where Python does not allow it
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through `replacing`, making its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_bytes(content)
