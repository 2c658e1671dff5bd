"""What else could a quantiser have meant? One table: a name, the cause in a sentence, the change.

Each entry is `Semantics` with something changed. An entry that changes nothing where it is applied
(groups where there are none) is left out there. The names are those that a report prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .semantic_grids import STORAGE
from .semantics import Semantics

Change = Callable[[Semantics], Semantics]


@dataclass(frozen=True)
class SemanticDeviation:
    """Another meaning.

    Attributes:
        name: short. cause: in a sentence. change: from what was asked for to what was done.
    """

    name: str
    cause: str
    change: Change


def semantic_deviations() -> tuple[SemanticDeviation, ...]:
    """The table, the likeliest first."""
    return tuple(_table())


def _table() -> Iterator[SemanticDeviation]:
    yield from _damping()
    yield from _order()
    yield from _groups()
    yield from _grids()
    yield from _zero_points()
    yield from _searches()
    yield from _storage()
    yield from _feedback()
    yield from _moments()


def _entry(name: str, cause: str, **fields: object) -> SemanticDeviation:
    return SemanticDeviation(name, cause, lambda s: replace(s, **fields))  # pyright: ignore


def _of_grid(
    name: str, cause: str, where: Callable[[Semantics], bool], **fields: object
) -> SemanticDeviation:
    def change(s: Semantics) -> Semantics:
        return replace(s, grid=replace(s.grid, **fields)) if where(s) else s  # pyright: ignore

    return SemanticDeviation(name, cause, change)


def _integer(s: Semantics) -> bool:
    return s.grid.bits is not None


def _symmetric(s: Semantics) -> bool:
    return _integer(s) and not s.grid.asymmetric


def _asymmetric(s: Semantics) -> bool:
    return _integer(s) and s.grid.asymmetric


def _grouped(s: Semantics) -> bool:
    return s.group_size is not None


def _damping() -> Iterator[SemanticDeviation]:
    for factor in (0.0, 0.01, 0.1, 0.5, 2.0, 5.0, 10.0, 100.0):
        said = "no damping" if factor == 0 else f"damping × {factor:g}"
        yield SemanticDeviation(
            said,
            "nothing is added to the diagonal of Σ"
            if factor == 0
            else f"{factor:g} times the damping that was asked for is added to the diagonal of Σ",
            lambda s, factor=factor: replace(s, damping=s.damping * factor),
        )
    for by, words in (
        ("largest", "the largest element of the diagonal, not its mean"),
        ("median", "the median of the diagonal, not its mean"),
        ("nothing", "1: it is added as it stands, not in parts of the mean of the diagonal"),
        ("own", "each element of the diagonal by itself, not their mean"),
    ):
        yield _entry(f"damping by {by}", f"damping is relative to {words}", damped_by=by)
    yield SemanticDeviation(
        "damping twice",
        "the damping is added to the diagonal twice, the second time relative to the new mean",
        lambda s: replace(s, damping=s.damping * (2 + s.damping)) if s.damping > 0.05 else s,
    )


def _order() -> Iterator[SemanticDeviation]:
    for name, cause in (
        ("natural", "columns are processed as they stand; activation order is not carried out"),
        ("activation", "columns are processed by descending diagonal of Σ, which nobody asked for"),
        ("ascending", "columns are processed by ascending diagonal of Σ: a sort turned round"),
        ("reversed", "columns are processed from the last to the first"),
        ("activation-last-first", "of columns with equal diagonal of Σ the last goes first"),
    ):  # fmt: skip
        yield _entry(f"{name} order", cause, order=name)
    yield SemanticDeviation(
        "stale factor",
        "columns are in activation order, but the factor is that of the natural order",
        lambda s: replace(s, factor_order="natural") if s.order != "natural" else s,
    )
    yield SemanticDeviation(
        "factor in activation order",
        "the factor is computed in activation order, but the columns stay as they are",
        lambda s: replace(s, factor_order="activation") if s.order == "natural" else s,
    )


def _groups() -> Iterator[SemanticDeviation]:
    def if_grouped(name: str, cause: str, **fields: object) -> SemanticDeviation:
        def change(s: Semantics) -> Semantics:
            return replace(s, **fields) if _grouped(s) else s  # pyright: ignore

        return SemanticDeviation(name, cause, change)

    yield if_grouped(
        "static groups", "scales of groups come from the original weights, by original place",
        static_groups=True,
    )  # fmt: skip
    yield if_grouped(
        "groups not static", "scales of groups come from weights as updated, by place in the order "
        "of processing", static_groups=False,
    )  # fmt: skip
    yield if_grouped(
        "groups by original place", "groups count original columns, not places in the order of "
        "processing; their scales come from weights as updated",
        groups_by="original", static_groups=False,
    )  # fmt: skip
    yield if_grouped(
        "scales when a group begins", "a group's scale comes from the weights as updated when its "
        "first column is reached, not when its block begins", scales_from="column",
    )  # fmt: skip
    yield if_grouped(
        "scales of original weights", "a group's scale comes from the original weights, not the "
        "updated ones", scales_from="original",
    )  # fmt: skip
    for size in (32, 64, 128, 256):
        yield if_grouped(
            f"blocks of {size}", f"weights are updated after blocks of {size} columns, which "
            "decides what the scales of groups are found from", block_size=size,
        )  # fmt: skip
        yield SemanticDeviation(
            f"scales from {size} columns",
            f"a scale comes from the first {size} columns of its row or group alone",
            lambda s, size=size: (
                replace(s, scale_columns=size) if (s.group_size or size + 1) > size else s
            ),
        )
        yield SemanticDeviation(
            f"groups of {size}", f"groups have {size} columns",
            lambda s, size=size: replace(s, group_size=size),
        )  # fmt: skip
    yield SemanticDeviation(
        "no groups", "each row has one scale; the group size is ignored",
        lambda s: replace(s, group_size=None, static_groups=False),
    )  # fmt: skip
    yield if_grouped(
        "first group's scale", "the scale of the first group serves all groups", first_group=True
    )
    yield _entry("one scale for all rows", "all rows share one scale", per_tensor=True)
    yield SemanticDeviation(
        "scale anew in each block", "every block of columns has a scale of its own, found from the "
        "whole row as it stands when the block begins",
        lambda s: replace(s, scale_each_block=not _grouped(s) and s.feedback != "none"),
    )  # fmt: skip


def _grids() -> Iterator[SemanticDeviation]:
    for kind, cause in (
        ("full", "the grid has s = 2M/(2ᵇ - 1) even where no weight is negative"),
        ("narrow", "the grid has s = M/(2^(b-1) - 1), that is M/7 for 4 bits, not 2M/(2ᵇ - 1)"),
        ("restricted", "the grid has s = M/(2^(b-1) - 1) and leaves the lowest code unused"),
        ("half", "the grid has s = M/2^(b-1), that is M/8 for 4 bits, not 2M/(2ᵇ - 1)"),
        ("signed", "the value of largest magnitude is put on the lowest code, with its sign (as "
         "in Q4_0), in place of s = 2M/(2ᵇ - 1)"),
        ("unused", "the grid has s = M/(2ᵇ - 1): half of the codes are never used"),
    ):  # fmt: skip
        yield _of_grid(f"{kind} grid", cause, _symmetric, kind=kind)
    yield _of_grid(
        "asymmetric grid", "the grid is asymmetric", _symmetric, asymmetric=True, kind="range"
    )
    yield _of_grid(
        "symmetric grid", "the grid is symmetric", _asymmetric, asymmetric=False, kind="range"
    )
    yield SemanticDeviation(
        "2ᵇ intervals", "the range is divided by 2ᵇ, not 2ᵇ - 1",
        lambda s: (
            replace(s, grid=replace(s.grid, **({"intervals": 1} if s.grid.asymmetric else
                                               {"kind": "wide"}))) if _integer(s) else s
        ),
    )  # fmt: skip
    for more in (1, -1):
        yield SemanticDeviation(
            f"bits {more:+d}",
            f"the grid has {'twice' if more > 0 else 'half'} as many values as asked for",
            lambda s, more=more: _with_bits(s, more),
        )
    yield _of_grid("range × 0.9", "the range is cut to 0.9 of itself", _integer, shrunk=0.9)
    yield _of_grid("range × 0.95", "the range is cut to 0.95 of itself", _integer, shrunk=0.95)
    yield _of_grid(
        "levels not clamped", "levels beyond the range of codes are kept", _integer, clamped=False
    )
    for how, words in (("truncated", "truncated"), ("down", "rounded down"), ("up", "rounded up")):
        yield _of_grid(
            f"levels {how}", f"v/s is {words}, not rounded to the nearest", _integer, rounding=how
        )


def _with_bits(s: Semantics, more: int) -> Semantics:
    if s.grid.bits is None or s.grid.bits + more < 2:
        return s
    return replace(s, grid=replace(s.grid, bits=s.grid.bits + more))


def _zero_points() -> Iterator[SemanticDeviation]:
    for how, cause in (
        ("exact", "zero points are not rounded to whole numbers"),
        ("truncated", "zero points are truncated, not rounded"),
        ("up", "zero points are rounded up, not to the nearest"),
    ):
        yield _of_grid(f"zero point {how}", cause, _asymmetric, zero_rounding=how)
    for shift in (1, -1):
        yield _of_grid(
            f"zero point {shift:+d}", f"zero points are off by {shift:+d} throughout", _integer,
            zero_shift=shift,
        )  # fmt: skip
        yield SemanticDeviation(
            f"stored zero point {shift:+d}",
            f"codes are decided rightly, but Ŵ (or the zero points returned) are off by {shift:+d}"
            ": zero points of the one version of a file format read as the other",
            lambda s, shift=shift: replace(s, stored_shift=shift) if _integer(s) else s,
        )
    yield _of_grid(
        "clamped before the zero point", "levels are clamped to -2^(b-1) … 2^(b-1) - 1 before the "
        "zero point is added", _asymmetric, clamped_signed=True,
    )  # fmt: skip
    yield _of_grid(
        "range without zero", "the range is that of the weights, and need not hold 0", _asymmetric,
        zero_inside=False,
    )  # fmt: skip


def _searches() -> Iterator[SemanticDeviation]:
    def searched(s: Semantics) -> bool:
        return _integer(s) and s.grid.mse

    yield _of_grid("no search", "the range is not searched", searched, mse=False)
    yield _of_grid("search", "the range is searched, which was not asked for", _integer, mse=True)
    for exponent in (2.0, 2.4, 1.0, 4.0):
        yield _of_grid(
            f"search with exponent {exponent:g}",
            f"the range is searched for the least Σ|q(x) - x|^{exponent:g}, not ^2.5",
            searched, mse_exponent=exponent,
        )  # fmt: skip
    for least in (0.5, 0.8):
        yield _of_grid(
            f"search down to {least:g}", f"the search ends at {least:g} of the range, not 0.2",
            searched, mse_least=least,
        )  # fmt: skip


def _storage() -> Iterator[SemanticDeviation]:
    for dtype in STORAGE[1:]:
        yield SemanticDeviation(
            f"scale in {dtype}",
            f"scales are rounded to {dtype} before anything is decided with them",
            lambda s, dtype=dtype: replace(s, grid=replace(s.grid, scale_dtype=dtype)),
        )
        yield SemanticDeviation(
            f"chosen scale in {dtype}",
            f"scales are rounded to {dtype} after the search and the zero point, before codes are "
            "decided",
            lambda s, dtype=dtype: replace(s, grid=replace(s.grid, chosen_dtype=dtype)),
        )
        yield _entry(
            f"stored scale in {dtype}",
            f"codes are decided with exact scales, then scales are rounded to {dtype}",
            stored_scale=dtype,
        )
    for dtype in ("float16", "bfloat16"):
        yield _entry(f"Ŵ in {dtype}", f"Ŵ is rounded to {dtype}", stored_weight=dtype)
    yield SemanticDeviation(
        "Ŵ from another grid",
        "codes are decided on the grid of s = 2M/(2ᵇ - 1), and Ŵ is made with s = M/(2^(b-1) - 1)",
        lambda s: replace(s, stored_kind="narrow") if _symmetric(s) else s,
    )


def _feedback() -> Iterator[SemanticDeviation]:
    yield _entry(
        "rounding to nearest", "no error is passed on, and columns are taken as they stand",
        feedback="none", order="natural", factor_order="",
    )  # fmt: skip
    for how, cause in (
        ("none", "no error is passed on"),
        ("within blocks", "errors are passed on within blocks of columns and lost at their end"),
        ("beyond blocks", "errors are passed on to later blocks, and not within a block"),
        ("first block", "within every block errors are passed on by the factor of the first block"),
        ("undivided", "errors are not divided by the diagonal of the factor"),
        ("added", "errors are passed on with the wrong sign"),
        ("inverse", "errors are passed on by the rows of H⁻¹, not those of its Cholesky factor"),
        ("unfactored", "errors are passed on by the factor of H, not that of H⁻¹"),
        ("unclamped", "the error that is passed on is that of the level before it was clamped"),
    ):
        yield SemanticDeviation(
            f"feedback {how}", cause,
            lambda s, how=how: replace(s, feedback=how) if s.feedback == "gptq" else s,
        )  # fmt: skip
    yield SemanticDeviation(
        "feedback", "errors are passed on, which rounding to nearest does not do",
        lambda s: replace(s, feedback="gptq"),
    )  # fmt: skip


def _moments() -> Iterator[SemanticDeviation]:
    for how, cause in (
        ("reversed", "rows and columns of Σ are in the reverse order"),
        ("bfloat16", "Σ is rounded to bfloat16"),
        ("float16", "Σ is rounded to float16"),
        ("blocks", "Σ between blocks of columns is taken for 0"),
        ("root", "the square root of each element of Σ is taken"),
    ):
        yield _entry(f"Σ {how}", cause, moment=how)
    yield _entry("dead features kept", "features that are always 0 keep their weights", dead="kept")
