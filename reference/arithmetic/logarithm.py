"""How can log2 and 2ˣ be the same number on every machine?

IEEE 754 fixes + - * / and √ to the last bit, but no logarithm: `math.log2` and `np.log2` differ
between libraries, processors and versions. A spacing, a water level or an entropy that passes
through them would differ too, and with it every code that follows.

So the few logarithms that are needed (O(n) numbers on the host, none on a device) are evaluated
in `decimal` from the standard library, whose operations are defined digit by digit. One rule
keeps them exact enough to be called *the* value: **the whole expression is evaluated at 50 digits
and rounded to float64 once, at its end**. A rounding in the middle would be an error that the end
could no longer repair.

Worked example. The bits that one symbol of two costs, where they come 1 : 2, are
log2 3 − (2/3)·log2 2, one expression with one rounding:

>>> with working_precision():
...     entropy = decimal_log2(3) - 2 * decimal_log2(2) / 3
>>> str(entropy)
'0.91829583405448951478707227728114984209314774102573'
>>> to_float(entropy)
0.9182958340544896

Powers of two come out exactly, subnormal numbers included:

>>> log2(8.0), log2(2.0**-1074), exp2(-3.0), exp2(0.5)
(3.0, -1074.0, 0.125, 1.4142135623730951)

Exercise: is 5·log2 3 the same number as log2 243? (Check: if both are rounded once, at their end,
yes; not if log2 3 is rounded before it is multiplied.)

>>> with working_precision():
...     to_float(5 * decimal_log2(3)) == to_float(decimal_log2(243)), 5 * log2(3.0) == log2(243.0)
(True, False)

Why one rounding of a 50-digit value is the correctly rounded value
-------------------------------------------------------------------
`decimal`'s ln, exp, √, +, -, * and / are each correctly rounded at the working precision, relative
error u = 5·10⁻⁵⁰. Hence log2 x = ln x / ln 2 carries at most 3u (two logarithms, one division;
also next to x = 1, where ln x is small but no less accurate), and 2ˣ = exp(x·ln 2) at most
2u·|x|·ln 2 + u < 8·10⁻⁴⁷ over the range of float64. Rounding that to 53 bits gives the wrong
neighbour only if the true value lies that close to a midpoint of two floats. Exactly on a midpoint
it can lie only if it is rational, that is (Gelfond–Schneider) if x is a power of two for log2 or an
integer for 2ˣ. Then it is a float itself and far from every midpoint, but for 2⁻¹⁰⁷⁵, halfway
between 0 and the smallest subnormal, which `exp2` knows. For all others, 2⁶⁴ arguments leave the
closest call near a relative 2⁻⁵³·2⁻⁶⁴ ≈ 10⁻³⁵ (the published worst cases of both functions are of
this size), eleven orders of magnitude above the error. The conversion of a `Decimal` to a float
goes through its decimal string and is correctly rounded, gradual underflow included.

The caller's own decimal context (its precision, rounding and traps) is never read.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)

from ..errors import BadInput

DIGITS = 50

# Every field is given: what is left out would come from `decimal.DefaultContext`, which a user
# may have changed.
CONTEXT = Context(
    prec=DIGITS,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)


def working_precision() -> AbstractContextManager[Context]:
    """Inside `with working_precision():` the operators of `Decimal` work at 50 digits.

    On leaving, the caller's context is back. Do not `yield` from inside the block.
    """
    return localcontext(CONTEXT)


def exact(number: float | int | Decimal) -> Decimal:
    """The very value of a finite number, no digit lost (0.1 is 0.1000000000000000055…).

    Raises `BadInput` for NaN and infinities.
    """
    value = Decimal.from_float(number) if isinstance(number, float) else Decimal(number)
    if not value.is_finite():
        raise BadInput(f"a logarithm or power needs finite numbers, got {number}")
    return value


def to_float(value: Decimal) -> float:
    """The float64 nearest to `value`, ties to even: the one rounding of an expression.

    Beyond the largest float it is ±inf, below half the smallest subnormal ±0.0 (IEEE 754).
    """
    return float(value)


_LN_2 = CONTEXT.ln(Decimal(2))


def decimal_log2(x: float | int | Decimal) -> Decimal:
    """log2 x at 50 digits, relative error below 2·10⁻⁴⁹.

    Raises `BadInput` unless x is positive and finite.
    """
    value = exact(x)
    if value <= 0:
        raise BadInput(f"log2 needs a positive number, got {x}")
    return CONTEXT.divide(CONTEXT.ln(value), _LN_2)


def decimal_exp2(x: float | int | Decimal) -> Decimal:
    """2ˣ at 50 digits, relative error below (|x| + 1)·10⁻⁴⁹.

    Raises `BadInput` unless x is finite and |x| at most 10⁶.
    """
    value = exact(x)
    if value.copy_abs() > 1_000_000:  # abs() would round to the caller's precision
        raise BadInput(f"2**x is evaluated for |x| up to 1000000, got x = {x}")
    return CONTEXT.exp(CONTEXT.multiply(value, _LN_2))


def decimal_sqrt(x: float | int | Decimal) -> Decimal:
    """√x, correctly rounded to 50 digits. Raises `BadInput` unless x is finite and not negative."""
    value = exact(x)
    if value < 0:
        raise BadInput(f"a square root needs a number that is not negative, got {x}")
    return CONTEXT.sqrt(value)


def log2(x: float) -> float:
    """log2 x, correctly rounded to float64. Raises `BadInput` unless x is positive and finite."""
    return to_float(decimal_log2(x))


def exp2(x: float) -> float:
    """2ˣ, correctly rounded to float64.

    From x = 1024 on the result is inf; at x = -1075 and below it is +0.0, between -1075 and -1022
    a subnormal number. Infinite x follow suit; NaN raises `BadInput`.
    """
    if math.isnan(x):
        raise BadInput("2**x needs a number, got nan")
    if x >= 1024:
        return math.inf
    if x <= -1075:
        return 0.0
    return to_float(decimal_exp2(x))


def inverse_square_root(n: int) -> float:
    """1/√n for a positive integer, correctly rounded to float64 (once, not as a rounded 1 / √n).

    A midpoint m of two floats differs from 1/√n by at least |1 - n·m²|/2 relative to it, which for
    n < 2⁴⁰ that is no square is above 10⁻⁴⁵: the 50 digits always decide.

    >>> inverse_square_root(384)
    0.05103103630798288
    """
    if n < 1:
        raise BadInput(f"1/√n needs a positive integer, got {n}")
    return to_float(CONTEXT.divide(Decimal(1), decimal_sqrt(n)))
