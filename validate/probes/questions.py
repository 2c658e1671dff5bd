"""How does a backend compute? Asked from outside, before any golden case.

A case says that bits differ; a probe says why before they do. Each finding is one line: the
operation, the dtype, what was found and what the contract asks for. Inputs are chosen so that the
answer can be told from the result alone, and what is expected follows from integers and fractions,
not from the arithmetic of the machine that asks.

| probe | a witness |
|---|---|
| rounding of p + q·r | (1 + 2⁻³⁰)² - (1 + 2⁻²⁹) is 0 after two roundings and 2⁻⁶⁰ after one |
| width of an accumulator | of M, 1 and -M the sum is 1 in every order only if it is wider |
| subnormal numbers | half of the smallest normal number, as input and as result |
| division | x/d against x·(1/d), by exact fractions |
| square root | the nearest float to √m, by exact squares |
| rint | ±0.5, ±1.5, ±2.5, and the float just below 0.5 |
| conversion | floats halfway between two narrower ones, and next to halfway |
| order of summation | see `summation_order` |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import WaterlevelError
from ...reference.grids.codebooks import ScaledLattice
from ...reference.operations import Operations
from . import elementary_operations as elementary
from .elementary_operations import Bench, Question
from .roundings import conversion_questions, rint_questions
from .summation_order import NoTree, name_of, recognize, recover

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))


@dataclass(frozen=True)
class Finding:
    """What one probe found at one place.

    Attributes:
        probe: what was asked. operation, dtype: of whom. found, expected: in words.
    """

    probe: str
    operation: str
    dtype: str
    found: str
    expected: str

    @property
    def passed(self) -> bool:
        """Whether the backend does what the contract asks for."""
        return self.found == self.expected

    @property
    def message(self) -> str:
        """One line."""
        where = f"{self.operation} {self.dtype}: {self.probe}"
        if self.passed:
            return f"{where}: {self.found}"
        return f"{where}: {self.found}; the contract asks for: {self.expected}"


@dataclass(frozen=True)
class Inquiry:
    """A probe at one place, not yet asked: attributes as of `Finding`, and how to find out."""

    probe: str
    operation: str
    dtype: str
    expected: str
    find: Callable[[], str]

    def ask(self) -> Finding:
        """Find out; whatever the backend raises is an answer, too."""
        return Finding(self.probe, self.operation, self.dtype, self._answer(), self.expected)

    def _answer(self) -> str:
        try:
            with np.errstate(all="ignore"):
                return self.find()
        except WaterlevelError as error:
            return f"refused: {error}"
        except Exception as error:  # whatever it is, the next question is asked
            return f"failed with {type(error).__name__}: {' '.join(str(error).split())}"


def inquiries(backend: Operations) -> Iterator[Inquiry]:
    """Everything that is asked of a backend, in a fixed order."""
    for dtype in DTYPES:
        bench = Bench(backend, dtype)
        for name, questions in PROBES.items():
            for operation, expected, find in questions(bench):
                yield Inquiry(name, operation, dtype.name, expected, find)


def probe(backend: Operations) -> list[Finding]:
    """Ask everything."""
    return [inquiry.ask() for inquiry in inquiries(backend)]


def _precision(dtype: np.dtype) -> int:
    return np.finfo(dtype).nmant + 1


# Multiplying and adding -------------------------------------------------------------------------

TWICE = "rounded after the product and after the sum"
ONCE = "rounded once: a fused multiply-add, or a wider intermediate result"


def _contraction(bench: Bench) -> Iterator[Question]:
    half = _precision(bench.dtype) // 2 + 2
    x, square = 1.0 + 2.0**-half, 1.0 + 2.0 ** (1 - half)  # x² less its last term, 2^(-2·half)

    def asked(compute: Callable[[], float], exact: float) -> str:
        value = float(compute())
        if value == 0:
            return TWICE
        return ONCE if value == exact else f"{value:g} in place of 0, or {exact:g} if rounded once"

    def ask(operation: elementary.MultiplyAdd) -> Callable[[], str]:
        return lambda: asked(lambda: operation(bench, -square, x, x), 2.0 ** (-2 * half))

    for name, operation in elementary.MULTIPLY_ADD.items():
        yield name, TWICE, ask(operation)
    unit = 2.0 ** (1 - _precision(bench.dtype))  # 3·(1 + unit) is halfway between two floats
    d = bench.dtype.type(unit)
    fused = float(d * d * np.sqrt(d))

    def distance() -> float:
        return elementary.grid_distance(bench, 1 + unit, 3)

    yield "grid_error", TWICE, lambda: asked(distance, fused)


OWN_WIDTH = "the width of the dtype"


def _width(bench: Bench) -> Iterator[Question]:
    precision = _precision(bench.dtype)
    M, unit = 2.0**precision, 2.0 ** (1 - precision)

    def ask(name: str) -> Callable[[], str]:
        def find() -> str:
            add_up, count = elementary.one_sum(name, bench), elementary.SUMS[name].terms
            terms = np.zeros((7, count), bench.dtype)
            terms[:6, :3] = list(itertools.permutations((M, 1.0, -M)))
            terms[6, :2] = 1.0, unit
            *sums, narrow = add_up(terms)
            if narrow != 1.0 + unit:
                return "narrower than the dtype"
            if all(total == 1 for total in sums):
                return "wider than the dtype"
            return OWN_WIDTH

        return find

    for name in elementary.SUMS:
        yield name, OWN_WIDTH, ask(name)


# Subnormal numbers ------------------------------------------------------------------------------

GRADUAL = "kept"


def _subnormals(bench: Bench) -> Iterator[Question]:
    normal = float(np.finfo(bench.dtype).smallest_normal)
    steps = 2.0 ** (1 - _precision(bench.dtype))  # down to the smallest subnormal

    def ask(product: Callable[[float, float], float]) -> Callable[[], str]:
        def find() -> str:
            flushed = []
            if product(normal / 2, 2.0**20) != normal * 2.0**19:
                flushed.append("inputs")
            if product(normal, 0.5) != normal / 2 or product(normal, steps) != normal * steps:
                flushed.append("results")
            return f"flushed to zero in {' and '.join(flushed)}" if flushed else GRADUAL

        return find

    for name, product in elementary.PRODUCTS.items():
        yield name, GRADUAL, ask(lambda q, r, product=product: product(bench, q, r))
    for name, operation in elementary.MULTIPLY_ADD.items():
        yield name, GRADUAL, ask(lambda q, r, operation=operation: operation(bench, 0.0, q, r))
    for name, quotients in elementary.QUOTIENTS.items():
        if name != "cholesky":  # whose numerators are asked about above
            yield (
                f"{name}, division",
                GRADUAL,
                ask(lambda q, r, f=quotients: f(bench, bench.vector([q]), 1.0 / r)[0]),
            )
    if bench.dtype == np.float64:
        yield "convert to float32", GRADUAL, lambda: _subnormal_conversion(bench)


def _subnormal_conversion(bench: Bench) -> str:
    tiny = 2.0**-140
    narrow = bench.backend.convert(bench.matrix([[tiny]]), np.float32)
    wide = bench.backend.convert(narrow, np.float64)
    return GRADUAL if bench.host(wide)[0, 0] == tiny else "flushed to zero"


# Division and square root -----------------------------------------------------------------------

NEAREST = "rounded to nearest"
NUMERATORS = np.arange(1.0, 65.0)
DIVISORS = (3.0, 7.0, 10.0, 41.0, 49.0)


def _is_nearest(value: Any, exact: Fraction, power: int = 1) -> bool:
    """Whether no neighbour of the float value is closer to the exact number, or its root."""
    below, above = (np.nextafter(value, value.dtype.type(to)) for to in (-np.inf, np.inf))
    middle = Fraction(float(value))
    low, high = ((middle + Fraction(float(v))) / 2 for v in (below, above))
    return low**power <= exact <= high**power  # none of these quotients and roots is halfway


def _division(bench: Bench) -> Iterator[Question]:
    def ask(quotients: Callable[[Bench, NDArray, float], NDArray]) -> Callable[[], str]:
        def find() -> str:
            wrong, like_reciprocal, total = 0, True, 0
            for d in DIVISORS:
                values = quotients(bench, bench.vector(NUMERATORS), d)
                reciprocal = bench.dtype.type(1) / bench.dtype.type(d)
                like_reciprocal &= bool((values == bench.vector(NUMERATORS) * reciprocal).all())
                for x, value in zip(NUMERATORS, values, strict=True):
                    wrong += not _is_nearest(value, Fraction(int(x), int(d)))
                    total += 1
            if not wrong:
                return NEAREST
            if like_reciprocal:
                return "multiplied by the reciprocal"
            return f"{wrong} of {total} quotients are not the nearest float"

        return find

    for name, quotients in elementary.QUOTIENTS.items():
        yield name, NEAREST, ask(quotients)


def _square_root(bench: Bench) -> Iterator[Question]:
    numbers = np.arange(2.0, 66.0)

    def of_cholesky() -> str:
        L = bench.host(bench.backend.cholesky(bench.matrix(np.diag(numbers))))
        pairs = zip(np.diagonal(L), numbers, strict=True)
        wrong = sum(not _is_nearest(value, Fraction(int(m)), power=2) for value, m in pairs)
        return NEAREST if not wrong else f"{wrong} of {len(numbers)} roots are not the nearest"

    def of_grid_error() -> str:
        # With 0 as the only value d = m, and with m = 4^k·m' the product d·d·√d is √m' scaled.
        values = bench.backend.grid_error(
            bench.matrix(numbers[:, None]),
            bench.vector(np.ones(len(numbers))),
            np.zeros(len(numbers), np.int32),
            0,
        )
        expected = [_rounded_power(bench.dtype, int(m)) for m in numbers]
        wrong = int((values != np.array(expected, bench.dtype)).sum())
        return NEAREST if not wrong else f"{wrong} of {len(numbers)} values of d·d·√d are wrong"

    yield "cholesky", NEAREST, of_cholesky
    yield "grid_error", NEAREST, of_grid_error


def _rounded_power(dtype: np.dtype, m: int) -> float:
    """m·m·√m with the root and the last product rounded to nearest, by integers."""

    def nearest(x: Fraction) -> Fraction:
        shift = _precision(dtype) - math.floor(x).bit_length()
        return Fraction(round(x * Fraction(2) ** shift)) / Fraction(2) ** shift

    # 2·_precision bits of the root decide, because the root of an integer is never that close to
    # halfway between two floats.
    scale = 2 * _precision(dtype)
    return float(nearest(m * m * nearest(Fraction(math.isqrt(m << 2 * scale), 1 << scale))))


# Orders -----------------------------------------------------------------------------------------


def _orders(bench: Bench) -> Iterator[Question]:
    precision = _precision(bench.dtype)

    def ask(name: str, known: elementary.Sum) -> Callable[[], str]:
        def find() -> str:
            try:
                tree = recover(
                    elementary.one_sum(name, bench),
                    known.terms,
                    bench.dtype,
                    known.largest[precision] if known.largest else None,
                )
            except NoTree as reason:
                return f"unknown ({reason})"
            return known.describe(name_of(tree, known.terms, known.started))

        return find

    for name, known in elementary.SUMS.items():
        yield name, known.describe(known.order), ask(name, known)
    yield "sic, gain", elementary.TREE_SUM, lambda: _order_of_gain(bench)
    yield "grid_error", elementary.TREE_SUM, lambda: _order_of_grid_error(bench)


def _mixed_weights(bench: Bench) -> NDArray:
    """600×WIDTH numbers between -4 and 4 with all bits in use."""
    raw = np.random.Philox(key=600).random_raw(600 * elementary.WIDTH).reshape(600, -1)
    return bench.vector((raw >> np.uint64(11)).astype(np.float64) * 2.0**-50 - 4.0)


def _order_of_gain(bench: Bench) -> str:
    """γ = Σ z·y / Σ z² with c = 1; Σ z² is a whole number in every order."""
    y = _mixed_weights(bench)
    codes = bench.backend.zeros(len(y), elementary.WIDTH, np.int32)
    lattice = ScaledLattice(step=1.0, spacing=np.ones(elementary.WIDTH, bench.dtype), lmmse=True)
    found = bench.backend.sic(bench.matrix(y), codes, None, lattice, 0, elementary.WIDTH)
    z = np.rint(y)
    energy = np.sum(z.astype(np.int64) ** 2, axis=0).astype(bench.dtype)
    return recognize(z * y, lambda sums: (sums / energy).astype(np.float64), found)


def _order_of_grid_error(bench: Bench) -> str:
    d = np.abs(_mixed_weights(bench))
    ones, zero = np.ones(elementary.WIDTH, bench.dtype), np.zeros(elementary.WIDTH, np.int32)
    found = bench.backend.grid_error(bench.matrix(-d.T), ones, zero, 0)
    return recognize(d * d * np.sqrt(d), lambda sums: sums, np.asarray(found))


PROBES: dict[str, Callable[[Bench], Iterator[Question]]] = {
    "product and sum": _contraction,
    "accumulator": _width,
    "subnormal numbers": _subnormals,
    "division": _division,
    "square root": _square_root,
    "rounding to whole numbers": rint_questions,
    "conversion": conversion_questions,
    "order of summation": _orders,
}
