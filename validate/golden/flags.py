"""What does a flag of a golden case mean: which mistake does it catch, and what would that do?"""

from __future__ import annotations

TIERS = {
    "order-free": "few significant bits, so that every sum is exact in any order: a difference "
    "is a wrong formula, a wrong index or a wrong shape",
    "order": "full significands: a difference that tier order-free does not show is a sum in "
    "another order, or an operation with another number of roundings",
    "rounding": "inputs picked to sit where two ways to round part: ties, pairs that a fused "
    "multiply-add changes, subnormal numbers, signed zeros, quotients",
    "semantics": "choices that a formula leaves open: medians, orders of equals, groups, zero "
    "points, clipping, dead features, gains",
    "real": "layers of real models, as bundled in data/layers",
    "invalid": "inputs that must be refused, with the error and its attributes",
}

FLAGS: dict[str, dict[str, str]] = {}


def flag(name: str, bug: str, effect: str) -> str:
    """Define a flag and return its name."""
    FLAGS[name] = {"bug": bug, "effect": effect}
    return name


FUSED = flag(
    "fused-multiply-add",
    "x·y + z is computed with one rounding; compilers contract by default (use -ffp-contract=off, "
    "--fmad=false, or explicitly rounded intrinsics)",
    "last bits of products, factors and targets differ, and with them a code near a tie",
)
ORDER = flag(
    "order-of-sum",
    "a sum runs in another order than the contract's: reversed, pairwise, by blocks, by lanes of a "
    "vector unit, or by atomic additions",
    "last bits differ, possibly from run to run",
)
CHUNK = flag(
    "chunk-of-512",
    "tree_sum is not cut into chunks of 512 neighbours, or its last chunk is padded wrongly",
    "gains, distortions and rescalers of layers wider or taller than 512 differ",
)
HALF_EVEN = flag(
    "half-to-even",
    "ties are rounded away from zero, or up (roundf, floor(x + 0.5)) in place of to even (rint)",
    "codes of weights that lie exactly between two grid points differ by one",
)
TIE = flag(
    "tie",
    "the input lies exactly between two codes",
    "the least error anywhere before it decides the code",
)
SUBNORMAL = flag(
    "subnormal",
    "subnormal numbers are flushed to zero (-ffast-math, FTZ/DAZ, --ftz=true)",
    "small numbers vanish; quotients by them become infinite",
)
SIGNED_ZERO = flag(
    "signed-zero",
    "-0.0 is lost, or appears where +0.0 belongs",
    "values compare equal and have other bits; digests differ",
)
DIVISION = flag(
    "division",
    "x/y is computed as x·(1/y), or by an approximate division (--prec-div=false)",
    "quotients differ in the last bit, codes near a tie by one",
)
SQRT = flag(
    "square-root",
    "√x is not correctly rounded (--prec-sqrt=false, x·rsqrt(x))",
    "diagonals of Cholesky factors differ in the last bit",
)
RAGGED = flag(
    "ragged",
    "a size that is no multiple of a tile, a warp or a vector is handled wrongly at its end",
    "the last rows or columns are wrong or missing",
)
ONE = flag(
    "one-row-or-column",
    "a matrix of a single row or column, or an empty range, meets an index that is off by one",
    "a crash, or a result of the wrong shape",
)
RANGE = flag(
    "range-of-columns",
    "an operation on the columns start … stop-1 reads or writes outside of what it may",
    "columns behind the range are changed, or those before it not cancelled",
)
LARGE = flag(
    "large-values",
    "numbers near the limits of the type, or codes near those of int32",
    "an overflow where there is none, or a wrap where there is one",
)
EXACT = flag(
    "exact-in-any-order",
    "a formula, an index or a shape is wrong",
    "whole elements are wrong, not only their last bits",
)
LOWER_TRIANGLE = flag(
    "lower-triangle-only",
    "the upper triangle of the matrix is read",
    "what stands there, here something else than its mirror, spoils the factor",
)
