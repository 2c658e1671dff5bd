"""From a text to sequences of tokens: the model's own tokenizer, and windows that nobody drew.

A file of tokens (.npy, integers in one dimension) needs no tokenizer. Which windows of a text are
used depends on the seed through SHA-256, so that every machine takes the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput

TOKENIZER = "tokenizer.json"
LARGEST_TEXT = 1 << 30


@dataclass(frozen=True)
class Tokens:
    """What a model sees of some files.

    Attributes:
        numbers: the tokens, int64. bytes: of the text, or None if the tokens came as numbers.
        sha256: of the tokens, as little-endian int64.
        source: where they came from, for messages.
    """

    numbers: NDArray[np.int64]
    bytes: int | None
    source: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.numbers.astype("<i8").tobytes()).hexdigest()

    def windows(self, length: int, count: int | None, seed: int | None) -> NDArray[np.int64]:
        """Windows of the text that do not overlap.

        Args:
            length: tokens of each. count: how many, or None for all.
            seed: which ones, as SHA-256 has it; None for the first, in their order.

        Raises:
            BadInput: the text has fewer.
        """
        there = len(self.numbers) // length
        if there < (1 if count is None else count):
            raise BadInput(
                f"{self.source}: {len(self.numbers)} tokens are {there} windows of {length}, fewer "
                f"than {1 if count is None else count}; give more text, or fewer or shorter ones"
            )
        places = list(range(there))
        if seed is not None:
            places.sort(key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
        rows = self.numbers[: there * length].reshape(there, length)
        return rows[places[:count]]


def read_tokens(directory: Path, files: list[Path], vocabulary: int) -> Tokens:
    """The tokens of files of text, or of .npy files, one after the other.

    Args:
        directory: of the model, for its tokenizer.json. vocabulary: of the model.

    Raises:
        BadInput: a file that is no UTF-8 or no array of tokens; both kinds together; a tokenizer
            that is missing, damaged or does not fit the vocabulary.
    """
    source = ", ".join(map(str, files))
    arrays = [path.suffix == ".npy" for path in files]
    if any(arrays):
        if not all(arrays):
            raise BadInput(f"{source}: either files of text or .npy files of tokens, not both")
        numbers, size = np.concatenate([_array(path) for path in files]), None
    else:
        texts = [_text(path) for path in files]
        encode = _tokenizer(directory / TOKENIZER, vocabulary)
        numbers = np.concatenate([encode(text) for text in texts])
        size = sum(len(text.encode()) for text in texts)
    wrong = (numbers < 0) | (numbers >= vocabulary)
    if wrong.any():
        raise BadInput(
            f"{source}: token {numbers[wrong][0]} is not in the vocabulary of {vocabulary}; the "
            "tokens are those of another model"
        )
    return Tokens(numbers, size, source)


def _array(path: Path) -> NDArray[np.int64]:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadInput(f"{path}: not a whole .npy file ({error})") from None
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
        raise BadInput(f"{path}: expected one dimension of integers")
    return found.astype(np.int64)


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST_TEXT:
        raise BadInput(f"{path} has {path.stat().st_size} bytes, more than {LARGEST_TEXT}")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def _tokenizer(path: Path, vocabulary: int):  # noqa: ANN202  (of an optional package)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give the text as tokens in a .npy file")
    if importlib.util.find_spec("tokenizers") is None:
        raise BadInput("text needs the package tokenizers: pip install tokenizers")
    from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more particular
        raise BadInput(f"{path}: not a tokenizer ({error})") from None
    if tokenizer.get_vocab_size() > vocabulary:
        raise BadInput(
            f"{path}: {tokenizer.get_vocab_size()} tokens, but the model's vocabulary has "
            f"{vocabulary}; this is the tokenizer of another model"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(text: str) -> NDArray[np.int64]:
        return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    return encode
