"""GPTQ with its meaning as parameters: what would a quantiser do that means something else?

`deviations` knows how arithmetic goes wrong. The mistakes of whole quantisers are mostly others:
the damping is five times too strong, the columns come in another order, the grid is M/7 and not
2M/15. `Semantics` lists what can be meant, and `replay` does it: the loop of the published code,

    T = the upper factor of H⁻¹,    F_jk = T_jk/T_jj,    w_k ← w_k - (w_j - ŵ_j)·F_jk  for k > j,

in float64 with LAPACK. Its bits are nobody's; what it is for is to say of every weight which level
it ought to have, and how far it was from another one.

**Following a program.** Once one weight is rounded to the other side of a tie, all later columns of
its row see another error, and comparing results says nothing any more. So `replay` can be *led*:
each column is decided as this semantics says, but what is taken from later columns is the error of
the program's own level. Every weight is then a question by itself: given what you did before, would
this semantics have decided the same? A program of this semantics says yes everywhere but for
weights that lie next to a tie; another one disagrees all over the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from .semantic_grids import Array, GridRule, rounded_to

SAMPLE = 96  # columns
ALIKE = 0.02  # levels: what Ŵ in 8 bits of mantissa leaves uncertain
LARGEST_TIE = 0.02  # spacings: further than this from a tie nothing is near it


@dataclass(frozen=True)
class Semantics:
    """What a quantiser means; the defaults are those of `waterlevel.gptq`.

    Attributes:
        grid: how grids are found. group_size, static_groups, block_size: as there.
        feedback: "gptq"; "none", as RTN; "within blocks", forgotten at their end; "beyond blocks",
            forgotten within; "first block", whose factor serves within every block; "undivided",
            by T_jk; "added", with the other sign; "inverse", by the rows of H⁻¹ without a factor;
            "unfactored", by the factor of H; "unclamped", of the level before it was clamped.
        order: of ORDERS.
        factor_order: in which the factor is computed, if not in `order`.
        damping: δ. damped_by: the "mean", "largest", "median" of diag Σ; "nothing", δ itself;
            "own", δ·Σ_jj.
        scales_from: whose weights give a group's scale: those of the "block" in which it begins
            as they stood then, its first "column", or the "original" ones.
        groups_by: the "place" in the order of processing, or the "original" place.
        scale_columns: a scale comes from that many columns of its group, the first ones; 0: all.
        first_group: its scale serves all groups. per_tensor: one scale for all rows.
        scale_each_block: without groups, every block has a scale of its own, found from the whole
            rows as they stand when it begins.
        moment: how Σ is read: "", "reversed", "bfloat16", "float16", "blocks", "root".
        dead: what becomes of features that are always 0: "zero" or "kept".
        stored_scale: what scales are rounded to after all is decided. stored_shift: is added to
            zero points then. stored_kind: the grid with which Ŵ is made then, or "".
        stored_weight: what Ŵ is rounded to.
    """

    grid: GridRule = field(default_factory=GridRule)
    group_size: int | None = None
    static_groups: bool = False
    block_size: int = 128
    feedback: str = "gptq"
    order: str = "natural"
    factor_order: str = ""
    damping: float = 0.01
    damped_by: str = "mean"
    scales_from: str = "block"
    groups_by: str = "place"
    scale_columns: int = 0
    first_group: bool = False
    per_tensor: bool = False
    scale_each_block: bool = False
    moment: str = ""
    dead: str = "zero"
    stored_scale: str = ""
    stored_shift: int = 0
    stored_kind: str = ""
    stored_weight: str = ""


@dataclass(frozen=True, eq=False)
class Replayed:
    """What a semantics decides, columns in their original order.

    Attributes:
        levels: a×n, counted from the zero point (of a float format: its values).
        followed: the levels that were fed back: those of the program, or the same.
        values: Ŵ of `followed`, as it would be stored.
        scale, zero: a×groups, as they would be stored; zero from the lowest level.
        deciding: the scale with which the levels were decided.
        group: of each column. from_tie: a×n, distance of v/s from the next tie, in spacings.
        position: a×n, v/s. order: the columns in the order of processing.
    """

    levels: Array
    followed: Array
    values: Array
    scale: Array
    zero: Array
    deciding: Array
    group: NDArray[np.int64]
    from_tie: Array
    position: Array
    order: NDArray[np.int64]


class Lead:
    """What a program did, as far as it must be followed: Ŵ, and codes from 0 if it gave any."""

    def __init__(self, dequantized: NDArray, codes: NDArray | None = None) -> None:
        self.dequantized = dequantized.astype(np.float64)
        self.codes = None if codes is None else codes.astype(np.float64)

    def of(self, j: int, scale: Array, zero: Array, s: Semantics) -> Array:
        """The levels of a column: of the codes, or of Ŵ on this scale as it would be stored."""
        if self.codes is not None:
            return self.codes[:, j] - zero
        if not (s.stored_scale or s.stored_shift or s.stored_kind or s.stored_weight):
            return self.dequantized[:, j] / scale
        stored, shift = _as_stored(s, scale, zero)
        with np.errstate(all="ignore"):
            t = np.nan_to_num(self.dequantized[:, j] / stored, posinf=0.0, neginf=0.0)
        return s.grid.levels(t + shift, zero)


def replay(
    weight: NDArray,
    covariance: NDArray,
    semantics: Semantics,
    lead: Lead | None = None,
    dtype: type = np.float64,
    sampled: bool = False,
) -> Replayed | float:
    """Quantise as this semantics says, or follow a program through it.

    Args:
        weight: a×n. covariance: n×n. dtype: of the loop and the factor.
        sampled: stop after SAMPLE columns if a decision among them is another one than the
            program's, and far from a tie; the share of those that are alike is returned then.

    Raises:
        np.linalg.LinAlgError: H is not positive definite.
    """
    s = semantics
    n = weight.shape[1]
    moment = _moment(covariance.astype(np.float64), s)
    diagonal = np.diagonal(moment)
    dead = diagonal == 0
    original = np.where(dead & (s.dead == "zero"), 0.0, weight.astype(np.float64)).astype(dtype)
    order = ORDERS[s.order](np.where(dead, 1.0, diagonal))
    of_factor = replace(
        Semantics(),
        **{name: getattr(s, name) for name in DECIDE_FACTOR},
    )
    F = _feedback(covariance.tobytes(), n, str(covariance.dtype), of_factor, np.dtype(dtype).name)

    W = original[:, order].copy()
    start_of_block = W.copy()
    fed_back = bool(F.any())
    groups = Groups(s, n, order)
    scale = np.ones((len(W), groups.count))
    zero = np.zeros_like(scale)
    levels, followed, position = (np.zeros(W.shape) for _ in range(3))
    for g in groups.known_at_once:
        source = weight if s.group_size is None else original
        scale[:, g], zero[:, g] = _grid(s, source[:, groups.members(g)])
    for j in range(n):
        if j % s.block_size == 0:
            start_of_block[:, j:] = W[:, j:]
        for g in groups.found_at(j):
            source = {"block": start_of_block, "column": W, "original": original[:, order]}
            scale[:, g], zero[:, g] = _grid(s, source[s.scales_from][:, groups.places(g)])
        g = 0 if s.first_group else groups.of_place[j]
        sj, zj = scale[:, g], zero[:, g]
        t = W[:, j].astype(np.float64) / sj
        position[:, j] = t
        levels[:, j] = s.grid.levels(t, zj)
        followed[:, j] = levels[:, j] if lead is None else lead.of(order[j], sj, zj, s)
        fed = followed[:, j]
        if s.feedback == "unclamped":
            fed = np.rint(t + zj) - zj
        error = W[:, j] - (fed * sj).astype(dtype)
        if fed_back:
            W[:, j + 1 :] -= error[:, None] * F[j, j + 1 :]
        if sampled and j == SAMPLE:
            alike = np.abs(levels - followed)[:, :SAMPLE] <= ALIKE
            zeros = zero[:, groups.of_place[:SAMPLE] * (not s.first_group)]
            if (~alike & (s.grid.from_tie(position[:, :SAMPLE], zeros) > LARGEST_TIE)).any():
                return float(alike.mean())
    back = np.argsort(order)
    group = np.zeros(n, np.int64) if s.first_group else groups.of_place[back]
    stored, shift = _as_stored(s, scale, zero)
    values = rounded_to((followed[:, back] - shift[:, group]) * stored[:, group], s.stored_weight)
    zeros = zero[:, group]
    return Replayed(
        levels[:, back], followed[:, back], values, stored, zero + shift, scale, group,
        s.grid.from_tie(position[:, back], zeros), position[:, back], order,
    )  # fmt: skip


# Order, moment, factor ----------------------------------------------------------------------------

ORDERS = {
    "natural": lambda d: np.arange(len(d)),
    "reversed": lambda d: np.arange(len(d))[::-1],
    "activation": lambda d: np.argsort(-d, kind="stable"),
    "ascending": lambda d: np.argsort(d, kind="stable"),
    "activation-last-first": lambda d: np.lexsort((-np.arange(len(d)), -d)),
}


def _moment(covariance: Array, s: Semantics) -> Array:
    if s.moment == "reversed":
        return covariance[::-1, ::-1]
    if s.moment in ("bfloat16", "float16"):
        return rounded_to(covariance, s.moment)
    if s.moment == "blocks":
        block = np.arange(len(covariance)) // s.block_size
        return np.where(block[:, None] == block, covariance, 0.0)
    if s.moment == "root":
        return np.sqrt(np.abs(covariance)) * np.sign(covariance)
    return covariance


DAMPED_BY = {
    "mean": lambda d: np.full(len(d), d.mean()),
    "largest": lambda d: np.full(len(d), d.max()),
    "median": lambda d: np.full(len(d), np.median(d)),
    "nothing": lambda d: np.ones(len(d)),
    "own": lambda d: d,
}


DECIDE_FACTOR = (
    "moment", "order", "factor_order", "damping", "damped_by", "feedback", "block_size",
)  # fmt: skip


@lru_cache(maxsize=8)
def _feedback(raw: bytes, n: int, kind: str, s: Semantics, dtype: str) -> NDArray:
    """F in the order of processing; zeros mean that nothing is fed back."""
    covariance = np.frombuffer(raw, kind).reshape(n, n).astype(np.float64)
    moment = _moment(covariance, s)
    d = np.diagonal(moment)
    H = moment + np.diag(np.where(d == 0, 1.0, 0.0))
    d = np.diagonal(H)
    basis = ORDERS[s.factor_order or s.order](d)
    H = (H + np.diag(s.damping * DAMPED_BY[s.damped_by](d)))[np.ix_(basis, basis)].astype(dtype)
    if s.feedback == "none":
        return np.zeros((n, n), dtype)
    # H = M Mᵀ with M upper triangular, and T = M⁻¹.
    M = scipy.linalg.cholesky(H[::-1, ::-1], lower=True)[::-1, ::-1]
    invert: Any = scipy.linalg.get_lapack_funcs("trtri", (M,))
    T = np.triu(invert(M)[0])
    if s.feedback == "unfactored":
        T = scipy.linalg.cholesky(H, lower=False)
    if s.feedback == "inverse":
        T = T.T @ T
    F = T if s.feedback == "undivided" else T / np.diagonal(T)[:, None]
    same = np.equal.outer(np.arange(n) // s.block_size, np.arange(n) // s.block_size)
    if s.feedback == "within blocks":
        F = np.where(same, F, 0)
    if s.feedback == "beyond blocks":
        F = np.where(same, 0, F)
    if s.feedback == "first block":
        inside = np.arange(n) % s.block_size
        F = np.where(same, F[np.ix_(inside, inside)], F)
    return -F if s.feedback == "added" else F


# Groups and their grids ---------------------------------------------------------------------------


class Groups:
    """Which columns share a grid, and when it is found."""

    def __init__(self, s: Semantics, n: int, order: NDArray[np.int64]) -> None:
        rowwise = s.group_size is None
        self.whole_rows = rowwise and s.scale_each_block
        size = s.group_size or (s.block_size if self.whole_rows else n)
        self.count = -(-n // size)
        self.order = order
        by_original = s.static_groups or s.groups_by == "original" or rowwise
        by_original &= not self.whole_rows
        self.of_place = (order if by_original else np.arange(n)) // size
        at_once = s.static_groups or rowwise or s.feedback == "none"
        at_once &= not self.whole_rows
        self.known_at_once = range(self.count) if at_once else range(0)
        self._found: dict[int, list[int]] = {}
        if not at_once:
            for g in range(self.count):
                first = int(np.flatnonzero(self.of_place == g)[0])
                self._found.setdefault(first, []).append(g)

    def found_at(self, place: int) -> list[int]:
        return self._found.get(place, [])

    def places(self, g: int) -> NDArray[np.int64]:
        """What its scale comes from, by the place in the order of processing."""
        return np.flatnonzero(self.whole_rows | (self.of_place == g))

    def members(self, g: int) -> NDArray[np.int64]:
        """The members by their original number."""
        return np.sort(self.order[self.of_place == g])


def _grid(s: Semantics, x: NDArray) -> tuple[Array, Array]:
    x = x.astype(np.float64)
    if s.scale_columns:
        x = x[:, : s.scale_columns]
    if s.per_tensor:
        scale, zero = s.grid.find(x.reshape(1, -1))
        return np.repeat(scale, len(x)), np.repeat(zero, len(x))
    return s.grid.find(x)


def _as_stored(s: Semantics, scale: Array, zero: Array) -> tuple[Array, Array]:
    """Scales as a file has them, and what their zero points are off by."""
    if s.stored_kind == "narrow":
        half = s.grid.half
        scale = scale * (2 * half - 1) / (2 * half - 2)
    return rounded_to(scale, s.stored_scale), np.full_like(zero, s.stored_shift)
