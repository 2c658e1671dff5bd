"""How many bits does a weight cost?

For a finite grid the question is easy: b bits, and the scales. Codes of unlimited range are entropy
coded, and then the answer depends on what the decoder knows. Let z be the code of a weight drawn at
random, and `column` the column it stands in. Over all a·n codes,

    one table for all codes:      H(z)          = log2 N - Σ_s c_s·log2 c_s / N
    a table for every column:     H(z | column) = mean over columns of each column's own entropy
    the difference:               H(z) - H(z | column) = I(column; z) ≥ 0

with c_s the count of symbol s among N codes. The mutual information I(column; z) is what one table
pays for not knowing which column it is in. For GPTQ and RTN at high rate all columns have nearly
the same distribution of codes and it vanishes. WaterSIC gives the columns different spacings
*because* their codes are to have different variances: its advantage over GPTQ and I(column; z)
grow with the same quantity, the spread of the Cholesky diagonal. So *which* entropy is called the
rate decides the comparison, and every result reports all of them.

Worked example: two columns of four codes, 0 0 0 0 and -1 1 -1 1. By themselves they cost 0 and 1
bit a code, ½ in the mean. Thrown together they are four 0, two -1 and two 1, which costs
½·1 + ¼·2 + ¼·2 = 1½ bits: three times as much. Here z even betrays its column, so I(column; z) is
the whole H(column) = 1 bit.

>>> codes = np.array([[0, -1], [0, 1], [0, -1], [0, 1]], dtype=np.int32)
>>> histograms = column_histograms(codes)
>>> rates = lattice_rates(histograms, 4, 2, SideInformation())
>>> rates.rate_pooled - 16 / 4 - 16 / 2  # without the 16 bits per row and per column
1.5
>>> rates.rate  # ½, and 4 bits for the class of each of two columns, over 8 weights
1.5
>>> rates.rate_column  # ½ + the mean of 0 and (2 - 1)/(2·4·ln 2), see below
0.5901684400555602

A table for every column is not free either: tables must be sent. The field `rate` is the bargain
that a file makes: the columns are sorted by the mean square of their codes into 16 classes, and the
columns of a class share one table. 4 bits say the class of a column, and the little that is left of
I(column; z) within a class is paid. Not counted are the 16 tables themselves: a few dozen bytes
each, whatever the size of the matrix, which is 0.011 to 0.023 bit per weight at 2 bits and 0.023 to
0.046 at 4 on bundled layers of 192×384 to 384×384 weights, and a hundredth of it on a layer of 4096
rows. `rate_bytes` has them, because the stream has; what it has not are the scales.

Exercise: two columns 0 1 0 1. What do they cost apart and together? (Check: 1 bit both times; the
column tells nothing about the code, I(column; z) = 0.)

>>> twins = column_histograms(np.array([[0, 0], [1, 1], [0, 0], [1, 1]], dtype=np.int32))
>>> lattice_rates(twins, 4, 2, SideInformation()).rate_pooled - 16 / 4 - 16 / 2
1.0

An entropy from counts is too small, since the counts fit themselves. Miller and Madow's first-order
correction, (S - 1)/(2a·ln 2) bits for a column of a codes with S symbols seen, is added to
`rate_column` alone, the measure that is held against theory; the others count what these very codes
would cost.

Each rate is one expression in 50-digit decimals, rounded once (`logarithm`), of counts that are
exact: no machine, backend or order of summation changes a bit of it. All are in bits per weight,
which means per entry of the a×n matrix, columns that were removed before quantising included.

Sources: Shannon 1948; G. A. Miller, "Note on the bias of information estimates", 1955.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.logarithm import decimal_log2, exact, to_float, working_precision
from ..errors import BadInput
from .histogram import (
    ColumnHistograms,
    column_histograms as column_histograms,  # what every rate starts from
    grouped_histograms,
    run_lengths,
    sums_of_squares,
)
from .huffman import code_lengths

RATE_MEASURES = ("rate", "rate_column", "rate_pooled")

CLASSES = 16
CLASS_BITS = 4
SCALE_BITS = 16


@dataclass(frozen=True)
class SideInformation:
    """What a decoder must be sent besides the codes and the class of each column, in bits.

    Attributes:
        column_bits: for every column, removed ones included.
        row_bits: for every row.
        matrix_bits: once.

    >>> SideInformation.watersic().bits(rows=4, columns=2)
    96
    """

    column_bits: int = 0
    row_bits: int = 0
    matrix_bits: int = 0

    @classmethod
    def watersic(cls, row_scales: bool = True) -> SideInformation:
        """16 bits for the gain of a column, and 16 for the scale of a row if rows have scales."""
        return cls(column_bits=SCALE_BITS, row_bits=SCALE_BITS if row_scales else 0)

    @classmethod
    def one_spacing(cls) -> SideInformation:
        """16 bits for the one spacing of an entropy-coded RTN, GPTQ or waterfilling."""
        return cls(matrix_bits=SCALE_BITS)

    @classmethod
    def grid(cls, bits: int, scales: int, zeros: int = 0) -> SideInformation:
        """16 bits for every scale and b for every zero point of a finite grid of b bits.

        A symmetric grid has zeros = 0: its zero point is a known constant.
        """
        return cls(matrix_bits=SCALE_BITS * scales + bits * zeros)

    def bits(self, rows: int, columns: int) -> int:
        """All of it, in bits."""
        return self.column_bits * columns + self.row_bits * rows + self.matrix_bits


@dataclass(frozen=True)
class Rates:
    """What the codes of one matrix cost, in bits per weight; each number is exact (rounded once).

    Attributes:
        rate: what a file costs: 16 classes of columns with one ideal code each, the class of each
            column and the scales, but not the tables of the codes; for a finite grid its b bits and
            side information.
        rate_column: mean of each column's own entropy, Miller–Madow corrected, nothing else:
            what theory speaks of.
        rate_pooled: entropy of all codes together, and 16 bits per column and per row: what
            published figures of WaterSIC speak of.
        rate_huffman: like `rate` of an unlimited lattice, with Huffman's whole bits in place of
            the ideal codes (reported for finite grids as well).
        rate_bytes: 8·bytes/(a·n) of a real bitstream, tables and classes included and scales not,
            where one was written.
    """

    rate: float
    rate_column: float
    rate_pooled: float
    rate_huffman: float
    rate_bytes: float | None = None


def column_classes(histograms: ColumnHistograms, classes: int = CLASSES) -> NDArray[np.int64]:
    """The class of each column: sorted by the mean square of its codes, cut into equal parts.

    The r-th of m columns gets class ⌊classes·r/m⌋. Mean squares are compared as exact integers
    (all columns are equally long), and equal ones stay in the order of the columns.

    >>> codes = np.array([[9, 0, -5, 5], [9, 1, 5, 5]], dtype=np.int32)
    >>> column_classes(column_histograms(codes), classes=2).tolist()
    [1, 0, 0, 1]
    """
    squares = sums_of_squares(histograms)
    order = sorted(range(len(squares)), key=squares.__getitem__)
    assigned = np.zeros(len(squares), dtype=np.int64)
    for rank, column in enumerate(order):
        assigned[column] = classes * rank // len(squares)
    return assigned


def lattice_rates(
    histograms: ColumnHistograms, rows: int, columns: int, side_information: SideInformation
) -> Rates:
    """All rates of integer-lattice codes, which are entropy coded.

    Args:
        histograms: of the columns that have codes (m ≤ n).
        rows, columns: a and n of the whole matrix. The n - m columns that were removed before
            quantising have no codes and no class, and share in everything else.
        side_information: what the method has to send.

    Raises:
        BadInput: histograms that are not of such a matrix.
    """
    _check(histograms, rows, columns)
    return Rates(
        rate=_rate(histograms, rows, columns, side_information),
        rate_column=_rate_column(histograms, rows, columns),
        rate_pooled=_rate_pooled(histograms, rows, columns),
        rate_huffman=_rate_huffman(histograms, rows, columns, side_information),
    )


def grid_rates(
    histograms: ColumnHistograms,
    rows: int,
    columns: int,
    side_information: SideInformation,
    bits: int,
) -> Rates:
    """All rates of codes on a finite grid of b bits; arguments as for `lattice_rates`.

    `rate` is b and the side information. The entropies say what coding such codes would bring.

    >>> codes = np.array([[7, 8], [9, 8]], dtype=np.int32)
    >>> row_scales = SideInformation.grid(bits=4, scales=2)
    >>> grid_rates(column_histograms(codes), 2, 2, row_scales, bits=4).rate
    12.0
    """
    _check(histograms, rows, columns)
    weights = rows * columns
    return Rates(
        rate=(bits * weights + side_information.bits(rows, columns)) / weights,
        rate_column=_rate_column(histograms, rows, columns),
        rate_pooled=_rate_pooled(histograms, rows, columns),
        rate_huffman=_rate_huffman(histograms, rows, columns, side_information),
    )


def measure(
    histograms: ColumnHistograms,
    rows: int,
    columns: int,
    side_information: SideInformation,
    which: str = "rate",
) -> float:
    """One rate alone, the same number as in `lattice_rates`: what a search evaluates.

    Args:
        which: one of RATE_MEASURES.
    """
    _check(histograms, rows, columns)
    measures: dict[str, Callable[[], float]] = {
        "rate": lambda: _rate(histograms, rows, columns, side_information),
        "rate_column": lambda: _rate_column(histograms, rows, columns),
        "rate_pooled": lambda: _rate_pooled(histograms, rows, columns),
    }
    return measures[_known(which)]()


def overhead(
    live_columns: int,
    rows: int,
    columns: int,
    side_information: SideInformation,
    which: str = "rate",
) -> float:
    """The part of a lattice rate that is there whatever the codes, even if all are 0.

    A target at or below it cannot be reached.

    >>> overhead(384, 384, 384, SideInformation.watersic()) == (4 + 16 + 16) / 384
    True
    """
    bits = {
        "rate": CLASS_BITS * live_columns + side_information.bits(rows, columns),
        "rate_column": 0,
        "rate_pooled": SCALE_BITS * (rows + columns),
    }[_known(which)]
    return bits / (rows * columns)


def _known(which: str) -> str:
    if which not in RATE_MEASURES:
        raise BadInput(f"unknown rate measure {which!r}; use one of {', '.join(RATE_MEASURES)}")
    return which


def _check(histograms: ColumnHistograms, rows: int, columns: int) -> None:
    if rows < 1 or not 0 <= histograms.columns <= columns or columns < 1:
        raise BadInput(
            f"{histograms.columns} histograms do not fit a matrix of {rows} rows and "
            f"{columns} columns"
        )
    totals = histograms.totals()
    if np.any(totals != rows):
        column = int(np.argmax(totals != rows))
        raise BadInput(
            f"histograms: column {column} holds {totals[column]} codes, but there are {rows} rows"
        )


def _rate(
    histograms: ColumnHistograms, rows: int, columns: int, side_information: SideInformation
) -> float:
    side_bits = CLASS_BITS * histograms.columns + side_information.bits(rows, columns)
    with working_precision():
        return to_float((_ideal_bits(_by_class(histograms)) + side_bits) / (rows * columns))


def _rate_column(histograms: ColumnHistograms, rows: int, columns: int) -> float:
    free_symbols = len(histograms.symbols) - histograms.columns  # Σ (S - 1)
    with working_precision():
        # (1/n)·Σ_columns [H + (S - 1)/(2a·ln 2)], times a·n. A removed column adds nothing.
        bits = _ideal_bits(histograms) + free_symbols / (2 * exact(2).ln())
        return to_float(bits / (rows * columns))


def _rate_pooled(histograms: ColumnHistograms, rows: int, columns: int) -> float:
    everything = np.zeros(histograms.columns, dtype=np.int64)
    with working_precision():
        bits = _ideal_bits(grouped_histograms(histograms, everything, 1))
        return to_float((bits + SCALE_BITS * (rows + columns)) / (rows * columns))


def _rate_huffman(
    histograms: ColumnHistograms, rows: int, columns: int, side_information: SideInformation
) -> float:
    by_class = _by_class(histograms)
    bits = CLASS_BITS * histograms.columns + side_information.bits(rows, columns)
    for begin, end in zip(by_class.offsets[:-1], by_class.offsets[1:], strict=True):
        counts = by_class.counts[begin:end].tolist()
        for count, length in zip(counts, code_lengths(counts), strict=True):
            bits += count * length
    return bits / (rows * columns)


def _by_class(histograms: ColumnHistograms) -> ColumnHistograms:
    return grouped_histograms(histograms, column_classes(histograms), CLASSES)


# The next three compute with decimals: they are called inside `with working_precision()`.


def _ideal_bits(histograms: ColumnHistograms) -> Decimal:
    """Σ N·H over the histograms, with N·H = N·log2 N - Σ_s c_s·log2 c_s, at 50 digits."""
    return _sum_of_c_log2_c(histograms.totals()) - _sum_of_c_log2_c(histograms.counts)


def _sum_of_c_log2_c(counts: NDArray[np.int64]) -> Decimal:
    # Few distinct counts occur, and each is looked at once.
    ascending = np.sort(counts)
    first, occurrences = run_lengths(ascending)
    total = Decimal(0)
    for count, times in zip(ascending[first].tolist(), occurrences.tolist(), strict=True):
        total += times * _c_log2_c(count)
    return total


@lru_cache(maxsize=1 << 17)
def _c_log2_c(count: int) -> Decimal:
    return count * decimal_log2(count) if count else Decimal(0)
