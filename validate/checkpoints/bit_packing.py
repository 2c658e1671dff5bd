"""Numbers of b bits in a row, as the words of a file.

Every packed format here is a little-endian stream of bits along one axis: number i takes the bits
i·b … i·b + b - 1, and bit k of the stream is bit k mod 32 of word ⌊k/32⌋. With 3 bits a number may
straddle two words: 32 numbers take three words, the eleventh one the last two bits of the first
word and the first bit of the second.

>>> words = pack(np.arange(32, dtype=np.uint8)[None] % 8, 3)
>>> words.shape, bin(words[0, 0])
((1, 3), '0b10001000111110101100011010001000')
>>> bool((unpack(words, 3, 32) == np.arange(32) % 8).all())
True
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


def words_for(count: int, bits: int) -> int:
    """How many 32-bit words `count` numbers take."""
    return -(-count * bits // 32)


def unpack(words: NDArray, bits: int, count: int) -> NDArray[np.uint8]:
    """The first `count` numbers of each row.

    Args:
        words: rows × ⌈count·bits/32⌉ in uint32, or bytes of the same stream in uint8.
        bits: from 1 to 8.
    """
    stream = np.ascontiguousarray(words.astype(words.dtype.newbyteorder("<"), copy=False))
    stream = stream.view(np.uint8)
    if 8 % bits == 0:
        numbers = np.take(_numbers_of_a_byte(bits), stream).view(np.uint8)
    else:
        numbers = _unpack_straddling(stream, bits)
    return numbers[:, :count]


def pack(numbers: NDArray[np.uint8], bits: int) -> Words:
    """The words of rows of numbers below 2^bits; the last word is filled with zeros."""
    rows, count = numbers.shape
    words = words_for(count, bits)
    padded = np.zeros((rows, -(-words * 32 // bits)), np.uint8)
    padded[:, :count] = numbers
    flat = np.unpackbits(padded[..., None], axis=-1, count=bits, bitorder="little")
    flat = flat.reshape(rows, -1)[:, : words * 32]
    return np.packbits(flat, axis=-1, bitorder="little").view("<u4").astype(np.uint32, copy=False)


@cache
def _numbers_of_a_byte(bits: int) -> NDArray:
    """For each byte its 8/bits numbers, side by side in one element, so that one look-up is all."""
    shifts = np.arange(0, 8, bits)
    numbers = (np.arange(256)[:, None] >> shifts) & ((1 << bits) - 1)
    return numbers.astype(np.uint8).view(f"<u{8 // bits}")[:, 0]


def _unpack_straddling(stream: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Eight numbers are `bits` bytes: put together into one integer and taken apart again."""
    rows, length = stream.shape
    blocks = -(-length // bits)
    padded = np.zeros((rows, blocks * bits), np.uint8)
    padded[:, :length] = stream
    bytes_of_block = padded.reshape(rows, blocks, bits)
    block = np.zeros((rows, blocks), np.uint64 if bits > 4 else np.uint32)
    for index in range(bits):
        block |= bytes_of_block[..., index].astype(block.dtype) << block.dtype.type(8 * index)
    numbers = np.empty((rows, blocks, 8), np.uint8)
    mask = block.dtype.type((1 << bits) - 1)
    for index in range(8):
        numbers[..., index] = (block >> block.dtype.type(bits * index)) & mask
    return numbers.reshape(rows, blocks * 8)
