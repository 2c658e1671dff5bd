"""The text that the small model is made of: what Python says about itself.

The topics of `help()` (`pydoc_data.topics`) and every docstring of the standard library over 80
characters. Licence: PSF, which allows copies and derived works; docs.python.org/3/license.html.

Docstrings repeat: a held-out text that also stands in the training text measures memory. So a
document is kept only if less than half of its 40-character windows stand in documents already
kept, longest first. What is left is shuffled with a seed, and one document in twenty is held out.
"""

from __future__ import annotations

import ast
import random
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...reference.errors import BadInput

SHORTEST = 80  # characters
WINDOW = 40  # characters, white space counted as one
MOST_REPEATED = 0.5  # of the windows of a document
HELD_OUT = 0.05  # of the documents
CALIBRATION_BYTES = 150_000
SEPARATOR = "\n\n"
LEFT_OUT = ("site-packages", "test", "tests", "idle_test", "pydoc_data", "__pycache__")


@dataclass(frozen=True)
class Text:
    """UTF-8 text in two parts that share no document."""

    train: bytes
    held_out: bytes

    @property
    def calibration(self) -> bytes:
        """The beginning of the training text, to the end of a document: about 150 kB."""
        end = self.train.find(SEPARATOR.encode(), CALIBRATION_BYTES)
        return self.train[: end if end >= 0 else len(self.train)]


def standard_library() -> Text:
    """The text of the Python that runs, split with seed 0.

    Raises:
        BadInput: the standard library comes without its source.
    """
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_path("stdlib"))
    documents = [topics[name] for name in sorted(topics)] + list(docstrings(root))
    if len(documents) < 1000:
        raise BadInput(f"{root}: {len(documents)} documents; use a Python with its source files")
    return split(without_repeats(documents), seed=0)


def docstrings(root: Path) -> Iterator[str]:
    """Docstrings of 80 characters or more in the modules below a folder, in order of paths."""
    for path in sorted(root.rglob("*.py")):
        if any(part in LEFT_OUT for part in path.relative_to(root).parts):
            continue
        with warnings.catch_warnings(action="ignore"):  # old escapes in old modules
            try:
                module = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):  # templates, and modules of Python 2
                continue
        for node in ast.walk(module):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= SHORTEST:
                    yield text


def without_repeats(documents: Iterable[str]) -> list[str]:
    """The documents of which less than half stands in longer ones; sorted by length, then text.

    >>> first = "a sentence that is long enough to be compared with another one, word for word"
    >>> without_repeats([first[:70], first, "a short one"]) == [first, "a short one"]
    True
    """
    seen: set[bytes] = set()
    kept = []
    for document in sorted(set(documents), key=lambda text: (-len(text), text)):
        parts = windows(document)
        if len(parts & seen) < MOST_REPEATED * len(parts):
            kept.append(document)
            seen |= parts
    return kept


def windows(document: str) -> set[bytes]:
    """Every run of 40 characters, in lower case and with white space counted as one."""
    plain = " ".join(document.lower().split())
    return {plain[i : i + WINDOW].encode() for i in range(max(1, len(plain) - WINDOW + 1))}


def split(documents: list[str], seed: int) -> Text:
    """The last twentieth of the shuffled documents is held out."""
    shuffled = list(documents)
    random.Random(seed).shuffle(shuffled)
    cut = round(len(shuffled) * (1 - HELD_OUT))
    parts = (SEPARATOR.join(part).encode() for part in (shuffled[:cut], shuffled[cut:]))
    return Text(*parts)
