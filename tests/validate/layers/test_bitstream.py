"""The bitstream gives back the very codes, or says why not, and is what its text describes."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from waterlevel.reference.coding.rates import SideInformation, column_histograms, lattice_rates
from waterlevel.reference.errors import BadInput
from waterlevel.validate.layers import bitstream
from waterlevel.validate.layers.bitstream import MissingPackage, decode, encode, rate_bytes

pytest.importorskip("constriction", reason="the bitstream needs constriction, in the extra encode")

INT32 = np.iinfo(np.int32)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40)
any_codes = st.one_of(
    hnp.arrays(np.int32, SHAPES, elements=st.integers(-3, 3)),
    hnp.arrays(np.int32, SHAPES, elements=st.integers(INT32.min, INT32.max)),
    hnp.arrays(np.int32, SHAPES, elements=st.sampled_from([INT32.min, -1, 0, INT32.max])),
)


def gaussian(rows: int, columns: int, deviation: float = 2.0) -> NDArray[np.int32]:
    random = np.random.default_rng([rows, columns])
    return np.rint(random.normal(size=(rows, columns)) * deviation).astype(np.int32)


def assert_round_trip(codes: NDArray[np.int32]) -> bytes:
    stream = encode(codes)
    decoded = decode(stream)
    assert decoded.dtype == np.int32
    assert decoded.shape == codes.shape
    assert decoded.tobytes() == np.ascontiguousarray(codes).tobytes()
    return stream


# A second decoder, written from the text of the module: no constriction, no NumPy, no shared code.


def decode_by_the_text(stream: bytes) -> list[list[int]]:
    assert stream[:4] == b"WLv1"
    checksum, head_bytes = struct.unpack("<II", stream[4:12])
    assert checksum == zlib.crc32(stream[8:])
    bits = "".join(f"{byte:08b}" for byte in stream[12 : 12 + head_bytes])
    payload = stream[12 + head_bytes :]
    words = [word for (word,) in struct.iter_unpack("<I", payload)]

    def fixed(width: int) -> int:
        nonlocal bits
        number, bits = int("0" + bits[:width], 2), bits[width:]
        return number

    def gamma() -> int:
        return fixed(2 * bits.index("1") + 1)

    def unfold(x: int) -> int:
        return (x - 1) // 2 if x % 2 else -x // 2

    rows, columns = gamma() - 1, gamma() - 1
    classes = [fixed(4) for _ in range(columns)]
    tables = {}
    for k in sorted(set(classes)) if rows else []:
        shift, precision, size = fixed(5), fixed(5), gamma()
        table: list[tuple[int, int]] = []
        length = 0
        for i in range(size):
            symbol = table[-1][0] + gamma() if i else unfold(gamma())
            length = length + unfold(gamma()) if i else gamma()
            kept = min(length, precision) - 1
            table.append((symbol, (2**kept + fixed(kept)) * 2 ** (length - 1 - kept)))
        total = sum(weight for _, weight in table)
        frequency = [1 + weight * (2**24 - size) // total for _, weight in table]
        heaviest = max(range(size), key=lambda i: (table[i][1], -i))
        frequency[heaviest] += 2**24 - sum(frequency)
        tables[k] = shift, [symbol for symbol, _ in table], frequency
    assert len(bits) < 8
    assert "1" not in bits

    state = 0
    for _ in range(min(2, len(words))):
        state = state * 2**32 + words.pop()

    def pop(frequency: list[int]) -> int:
        nonlocal state
        place, symbol = state % 2**24, 0
        while place >= frequency[symbol]:
            place -= frequency[symbol]
            symbol += 1
        state = frequency[symbol] * (state // 2**24) + place
        if state < 2**32 and words:
            state = state * 2**32 + words.pop()
        return symbol

    codes = [[0] * columns for _ in range(rows)]
    for k, (shift, symbols, frequency) in tables.items():
        places = [(i, j) for j in range(columns) if classes[j] == k for i in range(rows)]
        for i, j in places:
            codes[i][j] = symbols[pop(frequency) if len(symbols) > 1 else 0] * 2**shift
        if shift:
            for i, j in places:
                codes[i][j] += pop([2 ** (24 - shift)] * 2**shift)
    assert state == 0
    assert not words
    return codes


@settings(max_examples=100, deadline=None)
@given(any_codes)
@example(np.zeros((0, 0), np.int32))
@example(np.zeros((0, 3), np.int32))
@example(np.zeros((3, 0), np.int32))
@example(np.zeros((1, 1), np.int32))
@example(np.zeros((30, 50), np.int32))
@example(np.array([[INT32.min], [INT32.max]], np.int32))
@example(np.array([[INT32.min, INT32.max]], np.int32))
@example(np.arange(17, dtype=np.int32)[None, :])
@example(np.arange(-500, 500, dtype=np.int32)[:, None])
def test_codes_come_back(codes):
    assert_round_trip(codes)


@pytest.mark.parametrize(
    "codes",
    [
        gaussian(40, 20),
        gaussian(200, 3, deviation=30.0),  # nearly all codes different: low bits are used
        gaussian(7, 5, deviation=1e8),
        np.array([[INT32.min, 0, 5], [INT32.max, 0, 5]], dtype=np.int32),
        np.zeros((4, 4), dtype=np.int32),
        np.zeros((3, 0), dtype=np.int32),
    ],
    ids=["small", "shifted", "huge", "extreme", "zero", "empty"],
)
def test_a_decoder_written_from_the_text_agrees(codes):
    stream = assert_round_trip(codes)
    assert decode_by_the_text(stream) == codes.tolist()


def test_the_low_bits_are_exercised():
    shifts = [table.shift for table in tables_of(gaussian(200, 3, deviation=30.0))]
    assert max(shifts) > 0
    assert [table.shift for table in tables_of(gaussian(2000, 3))] == [0, 0, 0]


def tables_of(codes: NDArray[np.int32]) -> list[bitstream._Table]:
    stream = encode(codes)
    head = bitstream._BitReader(stream[12 : 12 + struct.unpack_from("<I", stream, 8)[0]])
    columns = (head.gamma(), head.gamma() - 1)[1]
    classes = {head.fixed(4) for _ in range(columns)}
    return [bitstream._Table.read(head) for _ in classes]


def test_a_stream_once_written_can_always_be_read():
    # Written by the first version of the format: an archive must not hang on today's encoder.
    stream = bytes.fromhex(STORED)
    assert decode(stream).tolist() == [[-1, 0, 300], [1, 0, 300], [-1, 0, -7], [2, 0, 300]]
    assert decode_by_the_text(stream) == decode(stream).tolist()


STORED = "574c7631378898cd0e00000029142801d802d24b0050e804cd80a9aa2aab"


def test_wide_alphabets_are_cut():
    codes = np.random.default_rng(0).integers(INT32.min, INT32.max, (70_000, 2), dtype=np.int32)
    stream = assert_round_trip(codes)
    # Nothing can be saved on such codes, and the stream is not much longer than they are.
    assert 4 * codes.size < len(stream) < 1.15 * 4 * codes.size


def test_a_long_alphabet_is_cut_even_where_that_costs_bits():
    # 70,000 symbols far apart, each four times: a table of all would be shorter than low bits.
    symbols = (np.arange(70_000, dtype=np.int32) - 35_000) * 2**14
    codes = np.tile(symbols, 4)[:, None]
    assert_round_trip(codes)
    assert len(tables_of(codes)[0].symbols) <= 2**16


def test_a_sparse_huge_symbol_costs_a_few_bytes():
    codes = gaussian(100, 100)
    plain = len(encode(codes))
    codes[3, 4] = INT32.max
    assert len(assert_round_trip(codes)) < plain + 40


def test_other_memory_orders():
    codes = gaussian(30, 50)
    assert encode(np.asfortranarray(codes)) == encode(codes)
    assert_round_trip(gaussian(60, 50)[::2, ::3])


@pytest.mark.parametrize("codes", [np.zeros((2, 2)), np.zeros((2, 2), np.int64), np.zeros(3, "i4")])
def test_other_arrays_are_refused(codes):
    with pytest.raises(BadInput, match=r"^codes must be an int32 matrix[^\n]+$"):
        encode(codes)


def test_every_damaged_byte_and_every_truncation_is_noticed():
    stream = encode(gaussian(12, 5))
    for place in range(len(stream)):
        for damage in (0x01, 0x80, 0xFF):
            damaged = bytearray(stream)
            damaged[place] ^= damage
            with pytest.raises(BadInput, match=r"^bitstream: [^\n]+$"):
                decode(bytes(damaged))
        with pytest.raises(BadInput, match=r"^bitstream: [^\n]+$"):
            decode(stream[:place])
    with pytest.raises(BadInput):
        decode(stream + b"\0")


def forged(head: bytes, payload: bytes = b"") -> bytes:
    body = struct.pack("<I", len(head)) + head + payload
    return b"WLv1" + struct.pack("<I", zlib.crc32(body)) + body


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=12))
def test_nonsense_with_a_true_checksum_is_refused_or_decoded(head, payload):
    # Dimensions above 2¹⁰ would only test the memory of this machine.
    bits = bitstream._BitReader(head)
    try:
        small = bits.gamma() < 2**10 and bits.gamma() < 2**10
    except BadInput:
        small = True
    if small:
        try:
            decoded = decode(forged(head, payload))
        except BadInput:
            return
        assert decoded.dtype == np.int32


def test_an_altered_payload_with_a_true_checksum_is_refused():
    stream = encode(gaussian(50, 5))
    head_bytes = struct.unpack_from("<I", stream, 8)[0]
    head, payload = stream[12 : 12 + head_bytes], bytearray(stream[12 + head_bytes :])
    assert np.array_equal(decode(forged(head, bytes(payload))), gaussian(50, 5))
    payload[0] ^= 1
    with pytest.raises(BadInput, match="goes on after the last code"):
        decode(forged(head, bytes(payload)))
    with pytest.raises(BadInput, match="goes on after the last code"):
        decode(forged(head, b"\x01\0\0\0" + bytes(payload)))
    with pytest.raises(BadInput, match="zero word"):
        decode(forged(head, bytes(payload) + b"\0\0\0\0"))
    with pytest.raises(BadInput, match="after the last table"):
        decode(forged(head + b"\0", bytes(payload)))
    with pytest.raises(BadInput, match="lengths"):
        decode(forged(head, bytes(payload) + b"\x01"))


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    stream = encode(gaussian(3, 3))
    monkeypatch.setitem(sys.modules, "constriction", None)
    for attempt in (lambda: encode(gaussian(3, 3)), lambda: decode(stream)):
        with pytest.raises(MissingPackage, match=r"^[^\n]*pip install 'waterlevel\[encode\]'$"):
            attempt()


@pytest.mark.parametrize(("rows", "columns"), [(100_000, 1), (1000, 100)])
def test_gaussian_codes_cost_their_entropy(rows, columns):
    codes = gaussian(rows, columns)
    stream = assert_round_trip(codes)
    found = lattice_rates(column_histograms(codes), rows, columns, SideInformation())
    classes = min(16, columns)
    head_bits = 8 * (12 + struct.unpack_from("<I", stream, 8)[0])
    payload = 8 * len(stream) - head_bits
    ideal = found.rate * codes.size - 4 * columns
    # No code is shorter than the entropy of the very counts; the coder's first state holds less
    # than 64 bits. Above it: weights are kept to p bits (a few thousandths), and one last word.
    assert ideal - 64 <= payload <= ideal * 1.003 + 64
    # A table of about 20 symbols: up to 40 bytes a class.
    assert head_bits - 4 * columns <= 8 * (12 + 6 + 40 * classes)
    assert rate_bytes(codes) == 8 * len(stream) / codes.size


def test_rate_bytes_divides_by_all_weights():
    codes = gaussian(50, 6)
    assert rate_bytes(codes, weights=400) == 8 * len(encode(codes)) / 400
    with pytest.raises(BadInput):
        rate_bytes(codes[:, :0])


def test_rate_bytes_decodes_before_it_believes(monkeypatch):
    monkeypatch.setattr(bitstream, "decode", lambda stream: gaussian(5, 5) + 1)
    with pytest.raises(AssertionError, match="does not decode"):
        rate_bytes(gaussian(5, 5))


@given(st.lists(st.integers(1, 2**40), min_size=2, max_size=50))
def test_frequencies_fill_the_range(weights):
    symbols = np.arange(len(weights), dtype=np.int64)
    table = bitstream._Table(0, 31, symbols, np.array(weights, dtype=np.int64))
    frequencies = table.frequencies()
    assert frequencies.min() >= 1
    assert frequencies.sum() == 2**24
