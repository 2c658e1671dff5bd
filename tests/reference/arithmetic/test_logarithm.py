"""log2 and 2ˣ are correctly rounded, says mpmath, whatever the caller's decimal context."""

from __future__ import annotations

import decimal
import math
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from waterlevel.reference.arithmetic import logarithm
from waterlevel.reference.errors import BadInput

LARGEST = sys.float_info.max
SMALLEST_NORMAL = sys.float_info.min
SMALLEST = 5e-324

# 400 bits: mpmath's error is far below the distance of any tested value to a midpoint.
REFERENCE = mpmath.MPContext()
REFERENCE.prec = 400


def nearest(value: mpmath.mpf) -> float:
    """The float nearest to an mpmath number, through exact integers (subnormals included)."""
    sign, mantissa, exponent, _ = value._mpf_
    fraction = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return float(-fraction if sign else fraction)


def bits(x: float) -> int:
    return int(np.float64(x).view(np.int64))


positive = st.floats(min_value=SMALLEST, max_value=LARGEST, allow_subnormal=True)


@given(positive)
@example(SMALLEST)
@example(SMALLEST_NORMAL)
@example(math.nextafter(SMALLEST_NORMAL, 0))
@example(LARGEST)
@example(math.nextafter(1.0, 0))
@example(math.nextafter(1.0, 2))
@example(math.nextafter(2.0, 0))
@example(math.nextafter(2.0**1000, 0))
@example(math.nextafter(2.0**-1000, 1))
def test_log2_is_correctly_rounded(x: float):
    assert bits(logarithm.log2(x)) == bits(nearest(REFERENCE.log(REFERENCE.mpf(x), 2)))


@given(st.floats(min_value=-1080, max_value=1030))
@example(0.0)
@example(SMALLEST)
@example(-SMALLEST)
@example(math.nextafter(1024.0, 0))
@example(math.nextafter(-1022.0, 0))
@example(math.nextafter(-1022.0, -2000))
@example(-1073.5)
@example(-1074.5)
@example(math.nextafter(-1075.0, 0))
@example(math.nextafter(-1075.0, -2000))
def test_exp2_is_correctly_rounded(x: float):
    expected = math.inf if x >= 1024 else nearest(REFERENCE.power(2, REFERENCE.mpf(x)))
    assert bits(logarithm.exp2(x)) == bits(expected)


def test_many_logarithms_next_to_one_are_correctly_rounded():
    # The cancellation that a split x = m·2^e would suffer shows here first.
    for k in range(-300, 300):
        x = 1.0 + k * 2.0**-52 if k >= 0 else 1.0 + k * 2.0**-53
        assert bits(logarithm.log2(x)) == bits(nearest(REFERENCE.log(REFERENCE.mpf(x), 2)))


def test_a_library_logarithm_would_be_noticed():
    # The tests above can fail: the rounded quotient of two rounded logarithms does.
    xs = [1.0 + k * 2.0**-10 for k in range(1, 200)]
    wrong = [x for x in xs if math.log(x) / math.log(2) != logarithm.log2(x)]
    assert len(wrong) > 20


@pytest.mark.parametrize("exponent", [-1074, -1073, -1023, -1022, -1, 0, 1, 52, 53, 1023])
def test_powers_of_two_are_exact(exponent: int):
    power = math.ldexp(1.0, exponent)
    assert logarithm.log2(power) == exponent
    assert bits(logarithm.exp2(float(exponent))) == bits(power)


def test_ends_of_the_range():
    assert logarithm.exp2(1024.0) == math.inf
    assert logarithm.exp2(math.inf) == math.inf
    assert logarithm.exp2(LARGEST) == math.inf
    # 2^-1075 is halfway between 0 and the smallest subnormal: ties go to even, which is 0.
    assert bits(logarithm.exp2(-1075.0)) == bits(0.0)
    assert bits(logarithm.exp2(-math.inf)) == bits(0.0)
    assert logarithm.exp2(math.nextafter(-1075.0, 0)) == SMALLEST


@pytest.mark.parametrize("x", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf])
def test_log2_refuses_what_has_no_logarithm(x: float):
    with pytest.raises(BadInput, match=r"^[^\n]+$"):
        logarithm.log2(x)


def test_other_refusals():
    with pytest.raises(BadInput):
        logarithm.exp2(math.nan)
    with pytest.raises(BadInput):
        logarithm.decimal_exp2(Decimal("1e7"))
    with pytest.raises(BadInput):
        logarithm.decimal_exp2(math.inf)
    with pytest.raises(BadInput):
        logarithm.decimal_sqrt(-1.0)
    with pytest.raises(BadInput):
        logarithm.inverse_square_root(0)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([-1, 0, 1]))
@example(1.0, 0)
@example(0.0, 1)
@example(0.0, 0)
@example(LARGEST, -1)
@example(LARGEST, 0)
@example(SMALLEST_NORMAL, 0)
def test_a_decimal_becomes_the_nearest_float(x: float, side: int):
    # A hair (10⁻⁴⁹ of it) below, on and above the midpoint between x and the float above it.
    above = math.nextafter(x, math.inf)
    step = Fraction(math.ulp(x)) if above == math.inf else Fraction(above) - Fraction(x)
    midpoint = Fraction(x) + step / 2
    exact = decimal.Context(prec=1200, Emin=-9999, Emax=9999)
    value = exact.divide(Decimal(midpoint.numerator), Decimal(midpoint.denominator))
    value = exact.add(value, exact.multiply(abs(value), exact.scaleb(Decimal(side), -49)))
    even = x if bits(x) % 2 == 0 else above
    expected = {-1: x, 0: even, 1: above}[side]
    assert bits(logarithm.to_float(value)) == bits(expected + 0.0) or expected == x == 0.0
    assert logarithm.to_float(value) == expected


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 384, 576, 1536, 4096, 14336, 2**39 + 1])
def test_inverse_square_root(n: int):
    rounded = Fraction(logarithm.inverse_square_root(n))
    half = Fraction(math.ulp(logarithm.inverse_square_root(n))) / 2
    below = half / 2 if math.frexp(float(rounded))[0] == 0.5 else half
    # |1/√n - r| ≤ half an ulp, in exact squares.
    assert (rounded - below) ** 2 * n <= 1 <= (rounded + half) ** 2 * n


def test_inverse_square_root_is_rounded_once():
    twice = [n for n in range(1, 2000) if 1 / math.sqrt(n) != logarithm.inverse_square_root(n)]
    assert len(twice) > 100  # what two roundings would get wrong


def evaluate() -> list[str]:
    values = [logarithm.log2(0.3), logarithm.exp2(-1073.7), logarithm.inverse_square_root(12)]
    values.append(logarithm.to_float(logarithm.decimal_sqrt(0.1)))
    with logarithm.working_precision():
        expression = logarithm.decimal_log2(12) / 3 - logarithm.exact(0.1)
    return [value.hex() for value in values] + [str(expression)]


def test_the_caller_s_context_is_neither_used_nor_changed():
    expected = evaluate()
    assert len(expected[-1].removeprefix("0.").replace(".", "")) == 50
    hostile = decimal.Context(prec=2, rounding=decimal.ROUND_UP, Emin=-3, Emax=3, clamp=1)
    hostile.traps[decimal.FloatOperation] = True
    with decimal.localcontext(hostile):
        before = repr(decimal.getcontext())
        assert evaluate() == expected
        assert repr(decimal.getcontext()) == before  # not even a flag is raised in it
        assert str(+Decimal("0.101")) == "0.11"  # it was indeed in force


def test_a_changed_default_context_changes_nothing():
    program = (
        "import decimal\n"
        "default = decimal.DefaultContext\n"
        "default.prec, default.Emax, default.Emin = 4, 5, -5\n"
        "default.clamp, default.rounding = 1, decimal.ROUND_FLOOR\n"
        "default.traps[decimal.Inexact] = True\n"
        "from waterlevel.reference.arithmetic import logarithm\n"
        "print(logarithm.log2(0.3).hex(), logarithm.exp2(-1073.7).hex())\n"
        "print(logarithm.CONTEXT)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    numbers, context = result.stdout.splitlines()
    assert numbers.split() == evaluate()[:2]
    expected = logarithm.CONTEXT.copy()
    expected.clear_flags()
    assert context.partition(" flags")[0] == str(expected).partition(" flags")[0]
    assert context.partition(" traps")[2] == str(expected).partition(" traps")[2]
