"""In which order does a backend add? Recovered from outside, from sums of masked inputs.

Let all terms of a sum be 1, but for term i, which is a huge M, and term j, which is -M. While M is
in a partial sum, every 1 that is added to it is lost; when M meets -M, what is left of both is 0,
and every 1 that is added later counts. So the sum is the number of terms that are *not* below the
first addition that has both i and j below it, and

    n - sum = how many terms the smallest partial sum with both i and j has.

Asked for enough pairs, this gives the whole tree of additions (FPRev, Xie et al., 2025). The tree
is kept as the set of its partial sums, each of which is the set of its terms.

Worked example: 0 + 1 first, then 2 + 3, then both.

>>> def add_up(terms):
...     return (terms[:, 0] + terms[:, 1]) + (terms[:, 2] + terms[:, 3])
>>> tree = recover(add_up, 4, np.float64)
>>> sorted(sorted(terms_of(partial)) for partial in tree)
[[0, 1], [0, 1, 2, 3], [2, 3]]
>>> name_of(tree, 4, started=False)
'pairwise'

A sum without masks, of products that are all positive for instance, shows its order by its last
bits alone: `recognize` computes it in every order that has a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Tree = frozenset[int]  # of bit sets: bit k is term k
Term = TypeVar("Term")
Add = Callable[[Term, Term], Term]
Order = Callable[[Sequence[Any], Add[Any]], Any]

SEQUENTIAL, REVERSED, PAIRWISE = "sequential", "reversed", "pairwise"
TREE_SUM = "halves of 512 added"
UNKNOWN = "unknown"
BLOCKS = (4, 8, 16, 32, 64, 128, 256)


class NoTree(Exception):
    """The sums cannot come from a tree of additions; the text says what was seen."""


def recover(
    add_up: Callable[[NDArray], NDArray],
    terms: int,
    dtype: DTypeLike,
    largest: float | None = None,
) -> Tree:
    """The tree of additions by which `add_up` sums.

    Args:
        add_up: from r×terms to the r sums of the rows.
        terms: how many. largest: M; by default so large that a wider accumulator loses a 1, too.

    Raises:
        NoTree: the sums are not whole numbers between 0 and terms - 2, or contradict each other.
    """
    M = float(np.finfo(dtype).max) / 16.0 if largest is None else largest
    tree: set[int] = set()
    pending = [list(range(terms))]
    while pending:
        # Both ends of every set are asked about, because one of them may tell it all at once.
        pairs = [(i, j) for s in pending for i in (s[0], s[-1]) for j in s if j != i]
        masked = np.ones((len(pairs), terms), dtype)
        for row, (i, j) in enumerate(pairs):
            masked[row, i], masked[row, j] = M, -M
        sizes = _sizes(add_up(masked), terms)
        if not tree and terms > 2 and set(sizes) == {2}:
            raise NoTree("no 1 is lost beside a huge number, so it cannot be seen")
        size = dict(zip(pairs, sizes, strict=True))
        pending = [s for members in pending for s in _split(members, size, tree) if len(s) > 1]
    return frozenset(tree)


def _split(members: list[int], size: dict[tuple[int, int], int], tree: set[int]) -> list[list[int]]:
    """Put the partial sums that one member takes part in into the tree; what is left to ask."""
    met: dict[int, dict[int, list[int]]] = {members[0]: {}, members[-1]: {}}
    for i, by_size in met.items():
        for j in members:
            if j != i:
                by_size.setdefault(size[i, j], []).append(j)
    pivot = max(met, key=lambda i: len(met[i]))
    below = 1 << pivot
    for count, joined in sorted(met[pivot].items()):
        below |= sum(1 << j for j in joined)
        if count <= len(members):  # else they meet further up, where other sets join as well
            if below.bit_count() != count:
                raise NoTree(f"terms {pivot} and {joined[0]} meet in a sum of {count} terms")
            tree.add(below)
    return [joined for _, joined in sorted(met[pivot].items())]


def _sizes(sums: NDArray, terms: int) -> list[int]:
    sizes = np.subtract(terms, sums, dtype=np.float64)
    good = (sizes >= 2) & (sizes <= terms) & (sizes == np.floor(sizes))
    if not good.all():
        raise NoTree(f"{terms - 2} ones beside M and -M sum to {sums[int(np.argmin(good))]:g}")
    return sizes.astype(int).tolist()


def terms_of(partial: int) -> list[int]:
    """The terms of one partial sum."""
    return [k for k in range(partial.bit_length()) if partial >> k & 1]


# Orders that have a name ------------------------------------------------------------------------


def sequential(terms: Sequence[Term], add: Add[Term]) -> Term:
    """((t_0 + t_1) + t_2) + …"""
    total = terms[0]
    for term in terms[1:]:
        total = add(total, term)
    return total


def pairwise(terms: Sequence[Term], add: Add[Term]) -> Term:
    """Neighbours first: (t_0 + t_1) + (t_2 + t_3), …; a last one without a neighbour waits."""
    while len(terms) > 1:
        paired = [add(terms[k], terms[k + 1]) for k in range(0, len(terms) - 1, 2)]
        terms = [*paired, *terms[len(terms) // 2 * 2 :]]
    return terms[0]


def halves(terms: Sequence[Term], add: Add[Term]) -> Term:
    """t_i + t_(i+m) for i < m, m halved until one is left; a missing term adds nothing."""
    while len(terms) > 1:
        m = 1 << (len(terms) - 1).bit_length() - 1
        paired = [add(terms[i], terms[i + m]) for i in range(len(terms) - m)]
        terms = [*paired, *terms[len(terms) - m : m]]
    return terms[0]


def tree_sum(terms: Sequence[Term], add: Add[Term]) -> Term:
    """The order of `reference.arithmetic.sums`."""
    while len(terms) > 1:
        terms = [halves(terms[k : k + 512], add) for k in range(0, len(terms), 512)]
    return terms[0]


def in_blocks(size: int, inner: Order) -> Order:
    """Blocks of neighbours by `inner`, and their sums one after the other."""

    def order(terms: Sequence[Term], add: Add[Term]) -> Term:
        cut = [terms[k : k + size] for k in range(0, len(terms), size)]
        return sequential([inner(block, add) for block in cut], add)

    return order


def in_lanes(count: int, outer: Order) -> Order:
    """Every count-th term one after the other, and the sums of these lanes by `outer`."""

    def order(terms: Sequence[Term], add: Add[Term]) -> Term:
        lanes = [sequential(terms[k::count], add) for k in range(min(count, len(terms)))]
        return outer(lanes, add)

    return order


def named_orders(terms: int, started: bool) -> Iterator[tuple[str, Order]]:
    """Every order that has a name, the plainest first.

    Args:
        started: term 0 is what the sum starts from, and not one of the blocks.
    """

    def after_start(order: Order) -> Order:
        if not started:
            return order
        return lambda every, add: add(every[0], order(every[1:], add))

    def backwards(every: Sequence[Any], add: Add[Any]) -> Any:
        first, rest = (every[:1], every[1:]) if started else ([], every)
        return sequential([*first, *rest[::-1]], add)

    def blocks(size: int, rest_by_one: bool) -> Order:
        def order(every: Sequence[Any], add: Add[Any]) -> Any:
            first, rest = (every[:1], every[1:]) if started else ([], every)
            end = len(rest) // size * size if rest_by_one else len(rest)
            sums = [sequential(rest[k : k + size], add) for k in range(0, end, size)]
            return sequential([*first, *sums, *rest[end:]], add)

        return order

    yield SEQUENTIAL, sequential
    yield REVERSED, backwards
    yield TREE_SUM, tree_sum
    yield PAIRWISE, pairwise
    yield "halves added", halves
    if started:
        apart = "apart from the start"
        yield f"{SEQUENTIAL}, {apart}", after_start(sequential)
        yield f"{REVERSED}, {apart}", after_start(lambda every, add: sequential(every[::-1], add))
        yield f"{TREE_SUM}, {apart}", after_start(tree_sum)
        yield f"{PAIRWISE}, {apart}", after_start(pairwise)
    for size in BLOCKS:
        if size < terms:
            yield f"blocks of {size}", blocks(size, rest_by_one=False)
            yield f"blocks of {size}, the rest one by one", blocks(size, rest_by_one=True)
            yield f"{PAIRWISE} in blocks of {size}", after_start(in_blocks(size, pairwise))
            yield f"{size} interleaved sums", after_start(in_lanes(size, sequential))
            yield f"{size} interleaved sums, halves added", after_start(in_lanes(size, halves))


def tree_of(order: Order, terms: int) -> Tree:
    """The tree of additions of an order."""
    partial_sums = set()

    def add(left: int, right: int) -> int:
        partial_sums.add(left | right)
        return left | right

    order([1 << k for k in range(terms)], add)
    return frozenset(partial_sums)


def name_of(tree: Tree, terms: int, started: bool) -> str:
    """The name of the order with this tree, or how the sum goes on from term 0."""
    for name, order in named_orders(terms, started):
        if tree_of(order, terms) == tree:
            return name
    path = sorted(partial.bit_count() for partial in tree if partial & 1)
    sizes = ", ".join(map(str, path[:6])) + (", …" if len(path) > 6 else "")
    return f"{UNKNOWN} (term 0 is in partial sums of {sizes} terms)"


def recognize(
    terms: NDArray, finish: Callable[[NDArray], NDArray], found: NDArray, started: bool = False
) -> str:
    """The name of the order in which the columns of `terms` were summed, judged by the bits.

    Args:
        terms: one sum a column. finish: from the sums to what the backend returned as `found`.
    """
    for name, order in named_orders(len(terms), started):
        sums = order(list(terms), np.add)
        if finish(np.asarray(sums)).tobytes() == found.tobytes():
            return name
    return f"{UNKNOWN} (no order that has a name gives these bits)"


def agreement(names: Iterable[str]) -> str:
    """The one name, or all of them if one element is not summed like another."""
    distinct = list(dict.fromkeys(names))
    return distinct[0] if len(distinct) == 1 else " and ".join(distinct)
