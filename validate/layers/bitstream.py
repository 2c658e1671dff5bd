"""Codes as a real byte string, decoded back to the same codes: the proof of what they cost.

`rate` in `reference.coding.rates` is computed from counts. Here the bits are written, with
everything that a decoder needs to find the codes again: the class of each column, the table of each
class, and the codes themselves by an entropy coder (asymmetric numeral systems, the `AnsCoder` of
the library `constriction`, extra `encode`). The scales are not codes and are not in the stream.

The stream, from its first byte (u32: unsigned, 32 bits, little-endian):

    4 bytes   b"WLv1"
    u32       CRC-32 (zlib) of everything after these 8 bytes
    u32       length of the head in bytes
    head      bits, most significant first, padded with 0 to whole bytes
    payload   u32 words of the coder; its last word is not 0

The head is a sequence of numbers. γ(x), x ≥ 1, is Elias's gamma code: ⌊log2 x⌋ zeros, then x in
binary; signed numbers are first folded, 0, -1, 1, -2, … to 1, 2, 3, 4, …

    γ(rows + 1), γ(columns + 1), then 4 bits for the class of each column
    for each of the 16 classes that has codes (rows > 0 and a column):
        5 bits: shift s; 5 bits: precision p; γ(K), the size of the alphabet
        K times, ascending: the symbol h (folded for the first, h - previous h for the others, γ),
        then its weight w ≥ 1: L, its length in bits (L for the first, then the folded difference
        from the last, γ), and its min(L, p) - 1 bits that follow the leading 1 (the rest is 0)

A code z is split as z = h·2^s + low, 0 ≤ low < 2^s. Symbol h is coded with the model of its class,
low with s bits of equal probability. A small s is the rule (0 up to about 5 bits per weight); it
keeps the table short where nearly every code is different, and the alphabet below 2^16 always.

The weights are the counts of the symbols, shortened to their p leading bits: digits of a count
cost more to send than they save. Both sides build the model from the weights that were sent, in
integers: with W = Σ w,

    P(h) = 2⁻²⁴·(1 + ⌊w·(2²⁴ - K)/W⌋), what is left of 2²⁴ going to the first largest weight.

`constriction` promises that a categorical model is exactly invertible fixed-point arithmetic of 24
bits, and that encoder and decoder agree if they are given the same floats. It is given floats which
its rounding leaves alone, the integers 2²⁴·P - 1 (it adds the 1 back so that no symbol is
impossible), so that the model does not hang on how a version of the library rounds. The coder has a
64-bit state x, and pops a symbol with q = x mod 2²⁴ in [C, C + F), where F = 2²⁴·P(h) and C is the
sum of F over smaller symbols, by x ← F·⌊x/2²⁴⌋ + q - C; when x < 2³² and words are left it takes
one, x ← 2³²·x + word, the last word first (to begin with, it takes two). Classes ascend; in a
class all h come first, column by column, then all low if s > 0. An alphabet of one symbol takes no
bits. At the end the state is 0 and no word is left.

What to expect: at 3 bits per weight the payload comes within a few thousandths of a bit of the
ideal codes of the classes, and a table takes a few dozen bytes. Where nearly every code of a small
matrix is different, a table of all of them would cost more than it saves, and low bits take over:
such codes cost more than their entropy says, which is an entropy of chance.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ...reference.coding.histogram import ColumnHistograms, column_histograms, grouped_histograms
from ...reference.coding.rates import CLASS_BITS, CLASSES, column_classes
from ...reference.errors import BadInput, WaterlevelError

MAGIC = b"WLv1"
PREFIX = struct.Struct("<4sII")
PROBABILITY_BITS = 24
LARGEST_ALPHABET = 2**16
LARGEST_SHIFT = 16  # leaves 16 bits of an int32, so the alphabet fits
LARGEST_PRECISION = 31


class MissingPackage(WaterlevelError, ImportError):
    """Something optional was asked for whose package is not installed."""


def encode(codes: NDArray[np.int32]) -> bytes:
    """The codes as a self-contained byte string.

    Args:
        codes: a×n int32, any values; a or n may be 0.

    Raises:
        BadInput: another dtype or shape.
        MissingPackage: `constriction` is not installed.
    """
    if codes.ndim != 2 or codes.dtype != np.int32:
        raise BadInput(f"codes must be an int32 matrix, got {codes.dtype} of shape {codes.shape}")
    rows, columns = codes.shape
    classes = np.zeros(columns, dtype=np.int64)
    tables: dict[int, _Table] = {}
    if rows > 0:
        histograms = column_histograms(codes)
        classes = column_classes(histograms)
        by_class = grouped_histograms(histograms, classes, CLASSES)
        tables = {k: _best_table(by_class, k) for k in np.unique(classes).tolist()}

    head = _BitWriter()
    head.gamma(rows + 1)
    head.gamma(columns + 1)
    for k in classes.tolist():
        head.fixed(k, CLASS_BITS)
    for table in tables.values():
        table.write(head)

    coder = _constriction().stream.stack.AnsCoder()
    for k in reversed(tables):  # the coder is a stack
        table, values = tables[k], codes.T[classes == k].reshape(-1)
        if table.shift:
            low = values & np.int32((1 << table.shift) - 1)
            coder.encode_reverse(low, _uniform(table.shift))
        if len(table.symbols) > 1:
            index = np.searchsorted(table.symbols, values >> np.int32(table.shift))
            coder.encode_reverse(index.astype(np.int32), table.model())
    payload = coder.get_compressed().astype("<u4").tobytes()

    packed = head.to_bytes()
    body = struct.pack("<I", len(packed)) + packed + payload
    return MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def decode(stream: bytes) -> NDArray[np.int32]:
    """The codes that `encode` was given, a×n int32.

    Raises:
        BadInput: the bytes are not such a stream, or are damaged or incomplete.
        MissingPackage: `constriction` is not installed.
    """
    if len(stream) < PREFIX.size or not stream.startswith(MAGIC):
        raise BadInput(f"bitstream: {len(stream)} bytes that do not begin with {MAGIC!r}")
    _, checksum, head_bytes = PREFIX.unpack_from(stream)
    if zlib.crc32(memoryview(stream)[8:]) != checksum:
        raise BadInput("bitstream: the checksum does not match; the data is damaged or incomplete")
    payload = stream[PREFIX.size + head_bytes :]
    if PREFIX.size + head_bytes > len(stream) or len(payload) % 4:
        raise BadInput("bitstream: the lengths do not fit together")

    head = _BitReader(stream[PREFIX.size : PREFIX.size + head_bytes])
    rows, columns = head.gamma() - 1, head.gamma() - 1
    classes = np.array([head.fixed(CLASS_BITS) for _ in range(columns)], dtype=np.int64)
    present = np.unique(classes).tolist() if rows else []
    tables = {k: _Table.read(head) for k in present}
    head.finish()

    try:
        words = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
        coder = _constriction().stream.stack.AnsCoder(words)
    except ValueError as error:
        raise BadInput("bitstream: the payload ends in a zero word") from error
    codes = np.empty((columns, rows), dtype=np.int32)
    for k, table in tables.items():
        members = np.flatnonzero(classes == k)
        amount = len(members) * rows
        index = np.zeros(amount, dtype=np.int32)
        if len(table.symbols) > 1:
            index = coder.decode(table.model(), amount)
        values = table.symbols[index] << table.shift
        if table.shift:
            values += coder.decode(_uniform(table.shift), amount)
        codes[members] = values.reshape(len(members), rows)
    if not coder.is_empty():
        raise BadInput("bitstream: the payload goes on after the last code")
    return np.ascontiguousarray(codes.T)


def rate_bytes(codes: NDArray[np.int32], weights: int | None = None) -> float:
    """8·bytes per weight of the stream of these codes, after decoding it and comparing every code.

    Args:
        codes: a×n int32.
        weights: by how many weights to divide, where `codes` leaves out removed columns;
            a·n of `codes` if not given.

    Raises:
        BadInput: as `encode`, or no weights.
        AssertionError: the decoded codes differ. That would be an error of this module.
    """
    weights = codes.size if weights is None else weights
    if weights < 1:
        raise BadInput("rate_bytes: there are no weights to divide the bytes by")
    stream = encode(codes)
    if not np.array_equal(decode(stream), codes):
        raise AssertionError("the bitstream does not decode to the codes it was made from")
    return 8 * len(stream) / weights


def _constriction() -> ModuleType:
    try:
        import constriction
    except ImportError as error:
        raise MissingPackage(
            "the bitstream needs the package constriction: pip install 'waterlevel[encode]'"
        ) from error
    return constriction


def _uniform(bits: int) -> object:
    return _constriction().stream.model.Uniform(1 << bits)


@dataclass(frozen=True, eq=False)
class _Table:
    """The model of one class as it is sent: ascending symbols h and their weights, int64."""

    shift: int
    precision: int
    symbols: NDArray[np.int64]
    weights: NDArray[np.int64]

    def frequencies(self) -> NDArray[np.int64]:
        """2²⁴·P(h): at least 1 each, 2²⁴ together."""
        free = (1 << PROBABILITY_BITS) - len(self.symbols)
        # Python's integers: a weight times 2²⁴ need not fit in 64 bits.
        weights = self.weights.tolist()
        total = sum(weights)
        frequencies = [1 + weight * free // total for weight in weights]
        frequencies[weights.index(max(weights))] += (1 << PROBABILITY_BITS) - sum(frequencies)
        return np.array(frequencies, dtype=np.int64)

    def model(self) -> object:
        probabilities = (self.frequencies() - 1).astype(np.float64)
        return _constriction().stream.model.Categorical(probabilities, perfect=False)

    def write(self, head: _BitWriter) -> None:
        head.fixed(self.shift, 5)
        head.fixed(self.precision, 5)
        head.gamma(len(self.symbols))
        last_symbol = last_length = None
        for symbol, weight in zip(self.symbols.tolist(), self.weights.tolist(), strict=True):
            head.gamma(_fold(symbol) if last_symbol is None else symbol - last_symbol)
            length = weight.bit_length()
            head.gamma(length if last_length is None else _fold(length - last_length))
            kept = min(length, self.precision) - 1
            head.fixed((weight >> (length - 1 - kept)) & ((1 << kept) - 1), kept)
            last_symbol, last_length = symbol, length

    @classmethod
    def read(cls, head: _BitReader) -> _Table:
        shift, precision, size = head.fixed(5), head.fixed(5), head.gamma()
        if shift > LARGEST_SHIFT or precision < 1 or size > LARGEST_ALPHABET:
            raise BadInput("bitstream: a table outside the permitted sizes")
        symbols, weights = [], []
        last_symbol = last_length = None
        for _ in range(size):
            step = head.gamma()
            symbol = _unfold(step) if last_symbol is None else last_symbol + step
            step = head.gamma()
            length = step if last_length is None else last_length + _unfold(step)
            if not (-(2**31) <= symbol << shift < 2**31 and 1 <= length <= 62):
                raise BadInput("bitstream: a table with a symbol or weight out of range")
            kept = min(length, precision) - 1
            weights.append(((1 << kept) | head.fixed(kept)) << (length - 1 - kept))
            symbols.append(symbol)
            last_symbol, last_length = symbol, length
        return cls(shift, precision, np.array(symbols, np.int64), np.array(weights, np.int64))


def _best_table(by_class: ColumnHistograms, k: int) -> _Table:
    """The table of class k with which table and payload together are shortest."""
    part = slice(by_class.offsets[k], by_class.offsets[k + 1])
    candidates = _candidates(by_class.symbols[part].astype(np.int64), by_class.counts[part])
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _candidates(
    symbols: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[float, _Table]]:
    """(estimated bits, table) for every shift and precision that could be the best.

    This choice is the encoder's alone: floats and logarithms may differ between machines.
    """
    total = int(counts.sum())
    for shift in range(LARGEST_SHIFT + 1):
        high, inverse = np.unique(symbols >> shift, return_inverse=True)
        if len(high) > LARGEST_ALPHABET:
            continue
        joined = np.zeros(len(high), dtype=np.int64)
        np.add.at(joined, inverse, counts)
        lengths = np.frexp(joined.astype(np.float64))[1].astype(np.int64)
        # γ(x) has 2⌊log2 x⌋ + 1 bits.
        gaps = (2 * np.frexp(np.diff(high).astype(np.float64))[1] - 1).sum()
        jumps = (2 * np.frexp(2.0 * np.abs(np.diff(lengths)) + 1)[1] - 1).sum()
        for precision in range(1, min(LARGEST_PRECISION, int(lengths.max())) + 1):
            dropped = np.maximum(lengths - precision, 0)
            weights = (joined >> dropped) << dropped
            cross_entropy = np.log2(weights.sum()) - (joined * np.log2(weights)).sum() / total
            digits = (np.minimum(lengths, precision) - 1).sum()
            table = _Table(shift, precision, high, weights)
            yield float(gaps + jumps + digits + total * (shift + cross_entropy)), table
        if len(high) == 1:
            return


def _fold(x: int) -> int:
    return 2 * x + 1 if x >= 0 else -2 * x


def _unfold(x: int) -> int:
    return x // 2 if x % 2 else -(x // 2)


class _BitWriter:
    """Collects numbers as bits, most significant first."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def fixed(self, number: int, width: int) -> None:
        if width:
            self.parts.append(format(number, f"0{width}b"))

    def gamma(self, number: int) -> None:
        binary = format(number, "b")
        self.parts.append("0" * (len(binary) - 1) + binary)

    def to_bytes(self) -> bytes:
        bits = "".join(self.parts)
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")


class _BitReader:
    """Gives the numbers back; `BadInput` where the bits end too early or go on for too long."""

    def __init__(self, packed: bytes) -> None:
        self.bits = format(int.from_bytes(b"\x01" + packed, "big"), "b")[1:]
        self.place = 0

    def fixed(self, width: int) -> int:
        end = self.place + width
        if end > len(self.bits):
            raise BadInput("bitstream: the head ends too early")
        number = int(self.bits[self.place : end] or "0", 2)
        self.place = end
        return number

    def gamma(self) -> int:
        one = self.bits.find("1", self.place)
        if one < 0:
            raise BadInput("bitstream: the head ends too early")
        zeros = one - self.place
        self.place = one
        return self.fixed(zeros + 1)

    def finish(self) -> None:
        rest = self.bits[self.place :]
        if len(rest) >= 8 or "1" in rest:
            raise BadInput("bitstream: the head goes on after the last table")
