"""What is the best code that gives every symbol a whole number of bits?

An ideal code spends log2(N/c) bits on a symbol that occurs c times among N. A prefix code must
spend whole bits ℓ, and lengths ℓ are possible exactly if Σ 2^(-ℓ) ≤ 1 (Kraft). Huffman's algorithm
finds the lengths with the least Σ c·ℓ: the two rarest symbols may as well share their last bit, so
join them into one of their summed count and repeat. The result lies between the entropy H and
H + 1 bits a symbol.

The price of whole bits is largest where it is least welcome: a symbol of probability near 1 costs
1 bit where it is worth nearly none. At low rates this is what separates Huffman from arithmetic
coding.

Worked example with counts 5, 2, 1, 1. Join 1 + 1 = 2; then 2 + 2 = 4 (of the two twos and nothing
smaller); then 5 + 4 = 9. So the symbols are 1, 2, 3 and 3 bits deep:

>>> lengths = code_lengths([5, 2, 1, 1])
>>> lengths
[1, 2, 3, 3]
>>> sum(count * length for count, length in zip([5, 2, 1, 1], lengths))
15

15 bits for 9 symbols are 1.667 bits a symbol; the entropy is 1.658.

*Canonical* means that the codewords follow from the lengths alone: sorted by length, then by
symbol, each is the one before plus one, with zeros appended where the length grows. A decoder is
sent lengths, not words.

>>> canonical_codewords(lengths)
['0', '10', '110', '111']

Exercise: what does Huffman spend on 8 zeros and one 1, and what are they worth? (Check: 9 bits, and
9·H = 4.53 bits.)

>>> code_lengths([8, 1])
[1, 1]

Source: D. A. Huffman, "A method for the construction of minimum-redundancy codes", 1952.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..errors import BadInput


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Optimal codeword lengths in bits, one for each count, in the order given.

    Ties are broken by age: of equal counts the one that stands first in `counts` is joined first,
    and any symbol before any joined node. (This also keeps the longest codeword as short as an
    optimal code allows.) An alphabet of one symbol costs 0 bits, an empty one has no lengths.

    Raises `BadInput` for a count below 1.
    """
    heap = [(int(count), node) for node, count in enumerate(counts)]
    if any(count < 1 for count, _ in heap):
        raise BadInput("a Huffman code needs counts of at least 1; leave out symbols never seen")
    heapq.heapify(heap)

    parent = [0] * max(0, 2 * len(heap) - 1)
    for joined in range(len(heap), len(parent)):
        for_one, one = heapq.heappop(heap)
        for_other, other = heap[0]
        parent[one] = parent[other] = joined
        heapq.heapreplace(heap, (for_one + for_other, joined))

    depth = [0] * len(parent)
    for node in reversed(range(len(parent) - 1)):  # a parent is younger than its children
        depth[node] = depth[parent[node]] + 1
    return depth[: len(counts)]


def canonical_codewords(lengths: Sequence[int]) -> list[str]:
    """The canonical codewords, as strings of 0 and 1, for lengths that satisfy Kraft's inequality.

    Raises `BadInput` where no prefix code has these lengths.
    """
    words = [""] * len(lengths)
    value, width = 0, 0
    for symbol in sorted(range(len(lengths)), key=lambda s: lengths[s]):
        value <<= lengths[symbol] - width
        width = lengths[symbol]
        if value >> width:
            raise BadInput("no prefix code has these lengths: Σ 2^(-length) exceeds 1")
        words[symbol] = format(value, f"0{width}b") if width else ""
        value += 1
    return words
