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
EXACT_SUM = flag(
    "sum-that-rounds",
    "a sum of the order-free contract rounds: slices too wide, an accumulator of fewer than 53 "
    "bits (float32; the adders of some tensor cores), a slice left out",
    "last bits of targets, and codes near a tie; from device to device other ones",
)
COARSER = flag(
    "coarser-grid",
    "the bound of the sums is not looked at, or another grid is taken where it fails",
    "sums that round, or last bits everywhere",
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
MEDIAN = flag(
    "lower-median",
    "of an even number of diagonal elements another median is taken than the lower one",
    "other features are dead, and every code may differ",
)
DEAD = flag(
    "dead-features",
    "a feature that is (nearly) always zero is kept, or removed, or damped at the wrong moment",
    "a factorisation fails, or codes of all columns differ",
)
ACTIVATION_ORDER = flag(
    "activation-order",
    "columns with equal diagonals are not kept in their order, or the order is not undone",
    "codes differ from library to library and from run to run",
)
GROUPS = flag(
    "group-scales",
    "a group's grid comes from weights of another moment: original in place of updated ones, or "
    "updated up to the group and not up to its block",
    "scales differ, and with them codes and values",
)
STATIC_GROUPS = flag(
    "static-groups",
    "static groups are counted in the order of processing, or their grids are found from weights "
    "that were updated",
    "with activation order columns get the scales of others",
)
STRADDLING = flag(
    "group-straddles-a-block",
    "a group that reaches past its block is cut off there, or found in parts",
    "the scales of that group differ",
)
ZERO_POINT = flag(
    "zero-point",
    "the zero point is truncated, rounded half away, or not an integer; or -xmin/s is computed "
    "after clipping",
    "a whole row is off by one code",
)
CLIPPING = flag(
    "clipping",
    "codes beyond the grid wrap, or are clipped before the zero point is added",
    "the largest weights of a row take a value from the other end",
)
NON_NEGATIVE = flag(
    "non-negative-row",
    "a symmetric grid of a row without negative weights is centred all the same",
    "the scale of that row is doubled",
)
EMPTY = flag(
    "all-zero",
    "a row, a group or a column of nothing but zeros is divided by zero",
    "NaN or infinite scales",
)
MSE = flag(
    "mse-search",
    "the search shrinks by other steps, keeps the last best in place of the first, or uses another "
    "power than 2.5",
    "another clipping range, and other codes in the whole row",
)
FORMATS = flag(
    "float-formats",
    "a small float format has another largest value, saturates to infinity, or lacks its "
    "subnormal numbers",
    "the largest or the smallest weights differ",
)
GAIN = flag(
    "gain",
    "the gain γ is clipped, is 1 or NaN where every code is 0, or is computed with the values "
    "after cancellation",
    "all columns decided afterwards differ",
)
RESCALERS = flag(
    "rescalers",
    "gains are not clipped to [-0.1, 1.5], the turns end elsewhere, row scales are not normalised, "
    "or all of it is not in float64",
    "row and column scales differ",
)
DRIFT = flag(
    "activation-drift",
    "the damping is added to Σ̂ alone, the target is W L, or Σ takes the place of Σ̂ somewhere",
    "the quantised layer compensates the wrong inputs",
)
RESIDUAL = flag(
    "residual-compensation",
    "Δ is left out of the target or of the rescalers, or is counted in the distortion",
    "the residual stream is not made good",
)
SEARCH = flag(
    "rate-search",
    "the search starts elsewhere, takes other steps, stops early, or returns the last trial and "
    "not the best",
    "another spacing, and every code differs",
)
UNREACHABLE = flag(
    "rate-not-met",
    "a rate that cannot be met is reported as met, or the search does not end",
    "a file costs more than promised",
)
RATES = flag(
    "rates",
    "an entropy is computed in floating point, columns are sorted unstably, or side information "
    "is counted wrongly",
    "rates differ, and a search ends at another spacing",
)
ROTATION = flag(
    "rotation",
    "signs, base, order of butterflies, or 1/√n are applied otherwise; the covariance is not made "
    "symmetric again; the result is not rotated back",
    "every number differs",
)
WATER = flag(
    "inactive-components",
    "components under water get codes, or are counted as active",
    "rate is spent where it buys nothing",
)
DAMPING = flag(
    "damping",
    "the damping is taken from another mean, before dead features are seen to, or not at all",
    "every code may differ",
)
SCALES = flag(
    "order-of-scales",
    "Ŵ is not (row_scale·codes)·column_scale in this order",
    "values differ in the last bit",
)
LATTICE = flag(
    "one-spacing",
    "entropy-coded RTN or GPTQ has a spacing for each row, or another for each column",
    "every code differs",
)
MOMENTS = flag(
    "moments",
    "tokens are summed by a matrix product, batches are summed by themselves, or the mean is "
    "subtracted",
    "the covariance differs in its last bits, and depends on the size of a batch",
)
DECIMALS = flag(
    "logarithms",
    "log2 or 2ˣ is that of a mathematics library, or an expression is rounded before its end",
    "spacings and rates differ in the last bit from machine to machine",
)
REFUSED = flag(
    "must-be-refused",
    "the input is accepted, or is refused with another error",
    "a result that means nothing",
)
