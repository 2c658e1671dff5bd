"""Absmax blocks and the product of two quantised factors, against exact fractions and formulas."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference import NUMPY
from waterlevel.reference.errors import BadInput
from waterlevel.reference.grids.float_formats import FORMATS
from waterlevel.reference.methods.absmax import ABSMAX_FORMATS, absmax_format, absmax_quantize
from waterlevel.reference.methods.grid_fitting import GridFormat, find_grid
from waterlevel.reference.theory.generic_product import generic_product
from waterlevel.reference.theory.products import product_limit

from ...helpers.inputs import bell

EVERY_FORMAT = [("int", 2), ("int", 4), ("int", 8), ("int-symmetric", 2), ("int-symmetric", 8)]
EVERY_FORMAT += [(name, None) for name in FORMATS]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# Blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "bits"), EVERY_FORMAT)
def test_each_block_by_fractions(name: str, bits: int | None, dtype):
    """The scale rounded once, and every value the nearest one of the format, by brute force."""
    form = absmax_format(name, bits)
    x = bell(7, (3, 10), dtype)
    found = absmax_quantize(NUMPY, x, form, group_size=4)
    assert found.group.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert found.scale.dtype == found.values.dtype == dtype
    levels = [Fraction(level) for level in form.levels.tolist()]
    for row in range(3):
        for g, block in enumerate((slice(0, 4), slice(4, 8), slice(8, 10))):
            entries = [Fraction(float(v)) for v in x[row, block]]
            scale = max(map(abs, entries)) / Fraction(form.reach)
            rounded = float(found.scale[row, g])
            unit = np.finfo(dtype).eps / 2
            assert abs(Fraction(rounded) - scale) <= Fraction(float(unit)) * scale
            for entry, value in zip(entries, found.values[row, block].tolist(), strict=True):
                ratio = entry / Fraction(rounded)
                least = min(abs(ratio - level) for level in levels)
                chosen = abs(Fraction(value) / Fraction(rounded) - ratio)
                # The quotient is rounded before it is compared, and the product after.
                assert chosen <= least + Fraction(8 * float(unit)) * (abs(ratio) + 1)


def test_both_conventions():
    block = np.array([[7.5, -7.4, 0.6, 3.0]])
    full = absmax_quantize(NUMPY, block, absmax_format("int", 4))
    assert full.scale.tolist() == [[1.0]]
    assert full.values.tolist() == [[7.0, -7.0, 1.0, 3.0]]  # 7.5 is beyond the last value
    other = absmax_quantize(NUMPY, -block, absmax_format("int", 4))
    assert other.values.tolist() == [[-8.0, 7.0, -1.0, -3.0]]  # -7.5 is a tie, and goes to even
    symmetric = absmax_quantize(NUMPY, block / 7.5 * 7, absmax_format("int-symmetric", 4))
    assert symmetric.values.tolist() == [[7.0, -7.0, 1.0, 3.0]]
    assert other.codes.tolist() == [[0, 15, 7, 5]]
    assert symmetric.codes.tolist() == [[14, 0, 8, 10]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_relation_to_the_grids_of_gptq(bits: int):
    """The same scale in a block with a negative entry, half of it in one without."""
    x = bell(bits, (20, 16), np.float64)
    x[:, 0] = -1.0
    grid, zero = find_grid(NUMPY, x, 0, 16, GridFormat(bits=bits))
    found = absmax_quantize(NUMPY, x, absmax_format("int", bits))
    assert same_bits(found.scale[:, 0], grid)
    assert (zero == absmax_format("int", bits).zero).all()
    positive = np.abs(x)
    grid, _ = find_grid(NUMPY, positive, 0, 16, GridFormat(bits=bits))
    found = absmax_quantize(NUMPY, positive, absmax_format("int", bits))
    assert same_bits(found.scale[:, 0], grid * 2)


@pytest.mark.parametrize("name", FORMATS)
def test_float_scales_are_those_of_the_grids(name: str):
    x = bell(3, (9, 8), np.float32)
    grid, _ = find_grid(NUMPY, x, 0, 8, GridFormat(name=name))
    found = absmax_quantize(NUMPY, x, absmax_format(name))
    assert same_bits(found.scale[:, 0], grid)
    largest = np.abs(x).max(axis=1)
    # s·(largest value) is M up to the rounding of the division and of the product.
    assert np.abs(found.values).max(axis=1) == pytest.approx(largest, rel=2.0**-22)


@given(st.integers(0, 2**32), st.integers(-300, 300), st.sampled_from(EVERY_FORMAT))
def test_powers_of_two_change_nothing(key: int, power: int, which: tuple[str, int | None]):
    x = bell(key, (3, 7), np.float64)
    form = absmax_format(*which)
    one = absmax_quantize(NUMPY, x, form, 3)
    other = absmax_quantize(NUMPY, np.ldexp(x, power), form, 3)
    assert same_bits(one.codes, other.codes)
    assert same_bits(np.ldexp(one.values, power), other.values)


@pytest.mark.parametrize(("name", "bits"), EVERY_FORMAT)
def test_zeros_subnormals_and_the_largest_numbers(name: str, bits: int | None):
    form = absmax_format(name, bits)
    for dtype in (np.float64, np.float32):
        info = np.finfo(dtype)
        x = np.array(
            [[0.0, -0.0], [info.smallest_subnormal, 0.0], [info.max / 4, -info.max / 4]], dtype
        )
        found = absmax_quantize(NUMPY, x, form)
        assert found.values[0].tolist() == [0.0, 0.0]
        assert found.scale[0, 0] == 1
        assert abs(float(found.values[1, 0])) <= info.smallest_subnormal
        assert (found.scale > 0).all()
        # Half a step from M at most, and a step is M at most (`int-symmetric`, 2 bits).
        assert np.abs(found.values[2]) == pytest.approx(info.max / 4, rel=0.5)


def test_values_that_overflow():
    largest = np.finfo(np.float32).max
    x = np.array([[largest, -largest]], np.float32)  # -M is a tie on `int`, and goes beyond it
    with pytest.raises(BadInput, match="overflows float32; scale the matrix"):
        absmax_quantize(NUMPY, x, absmax_format("int", 4))


def test_unknown_formats():
    for arguments in (
        ("int", None),
        ("int", 1),
        ("int-symmetric", 9),
        ("fp4-e2m1", 4),
        ("fp5", None),
    ):
        with pytest.raises(BadInput):
            absmax_format(*arguments)
    assert len(ABSMAX_FORMATS) == 7
    with pytest.raises(BadInput, match="group_size"):
        absmax_quantize(NUMPY, np.ones((1, 2)), absmax_format("int", 4), 0)


# Products --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [None, 3])
@pytest.mark.parametrize(("name", "bits"), [("int", 3), ("int-symmetric", 4), ("fp4-e2m1", None)])
def test_the_measurement_by_fractions(name: str, bits: int | None, group_size: int | None):
    A, B = bell(1, (4, 7), np.float64), bell(2, (7, 2), np.float64)
    found = generic_product(A, B, format=name, bits=bits, group_size=group_size)
    form = absmax_format(name, bits)
    left = absmax_quantize(NUMPY, A, form, group_size)
    right = absmax_quantize(NUMPY, np.ascontiguousarray(B.T), form, group_size)
    assert same_bits(found.left.dequantized, left.values)
    assert same_bits(found.right.dequantized, np.ascontiguousarray(right.values.T))
    assert same_bits(found.right.codes, right.codes)
    assert same_bits(found.right.scale, right.scale)
    assert found.left.group.tolist() == left.group.tolist()

    def exact(M: np.ndarray) -> list[list[Fraction]]:
        return [[Fraction(v) for v in row] for row in M.tolist()]

    def energy(M: list[list[Fraction]]) -> Fraction:
        return sum((v * v for row in M for v in row), Fraction(0))

    def product(M: list[list[Fraction]], N: list[list[Fraction]]) -> list[list[Fraction]]:
        return [
            [sum(a * b for a, b in zip(r, c, strict=True)) for c in zip(*N, strict=True)] for r in M
        ]

    def minus(M: list[list[Fraction]], N: list[list[Fraction]]) -> list[list[Fraction]]:
        return [[a - b for a, b in zip(r, s, strict=True)] for r, s in zip(M, N, strict=True)]

    A_, B_, L, R = map(exact, (A, B, found.left.dequantized, found.right.dequantized))
    sigma2 = energy(A_) / 28, energy(B_) / 14
    loss = energy(minus(product(A_, B_), product(L, R))) / (4 * 2 * 7 * sigma2[0] * sigma2[1])
    # Products of 7 terms: a few units of 2⁻⁵³ relative to AB, which is not far above the loss.
    assert found.distortion == pytest.approx(float(loss), rel=1e-13)
    assert found.left.mean_square == pytest.approx(float(sigma2[0]), rel=1e-14)
    assert found.left.distortion == pytest.approx(
        float(energy(minus(A_, L)) / 28 / sigma2[0]), rel=1e-13
    )
    assert found.right.distortion == pytest.approx(
        float(energy(minus(B_, R)) / 14 / sigma2[1]), rel=1e-13
    )
    assert found.rate == form.bits + 16 * (3 if group_size else 1) / 7
    assert found.limit == product_limit(found.rate)


SIDE, INNER = 256, 1024


@pytest.fixture(scope="module")
def gaussian() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(12)
    return generator.standard_normal((SIDE, INNER)), generator.standard_normal((INNER, SIDE))


def test_int4_with_a_scale_for_1024_entries(gaussian):
    """Printed: simulated 0.03588, formula 0.03575 (0.03582 with its factor 1 + 2/n)."""
    found = generic_product(*gaussian, bits=4)
    # Chance: D_A and D_B are means over 256 rows or columns whose M² scatter; ‖·‖² adds up 256²
    # squares of nearly independent Gaussian numbers, √2 each.
    blocks = np.concatenate(
        [np.square(f.scale[:, 0]) / np.mean(np.square(f.scale)) for f in (found.left, found.right)]
    )
    factors, elements = blocks.std() / math.sqrt(2 * SIDE), math.sqrt(2) / SIDE
    chance = math.hypot(factors, elements)
    assert found.distortion == pytest.approx(found.predicted, rel=4 * chance)
    assert found.distortion == pytest.approx(0.03588, rel=4 * chance)
    assert round(found.predicted, 5) == 0.03582
    assert found.distortion == pytest.approx(found.composed, rel=4 * elements)
    assert found.composed == pytest.approx(found.predicted, rel=4 * factors)
    assert chance < 0.015
    assert found.rate == 4 + 16 / 1024
    assert product_limit(found.rate - found.gap) == pytest.approx(found.distortion)


@pytest.mark.parametrize(
    ("name", "bits"), [("int", 8), ("int-symmetric", 4), ("fp4-e2m1", None), ("fp8-e4m3", None)]
)
def test_measured_composed_predicted(gaussian, name: str, bits: int | None):
    A, B = gaussian[0][:96], gaussian[1][:, :96]
    found = generic_product(A, B, format=name, bits=bits, group_size=64)
    # 2·96·16 blocks, whose M² scatter by less than 40%; 96² elements; formulas within 4.2% (E2M1).
    formula = 0.042 if name == "fp4-e2m1" else 0.014
    assert found.composed == pytest.approx(found.predicted, rel=formula + 4 * 0.4 / math.sqrt(3072))
    assert found.distortion == pytest.approx(found.composed, rel=4 * math.sqrt(2) / 96)
    assert found.distortion > found.limit


def test_smaller_blocks_are_better_for_integers(gaussian):
    A, B = gaussian[0][:64], gaussian[1][:, :64]
    coarse, fine = (generic_product(A, B, bits=4, group_size=g) for g in (None, 32))
    assert fine.distortion < coarse.distortion / 1.5
    assert fine.rate == 4.5


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scaling_a_factor_changes_nothing(dtype):
    A, B = bell(1, (5, 12), dtype), bell(2, (12, 4), dtype)
    one = generic_product(A, B, bits=4, dtype=dtype)
    other = generic_product(A * dtype(2.0**40), B * dtype(0.25), bits=4, dtype=dtype)
    assert one.distortion == other.distortion
    assert same_bits(one.left.codes, other.left.codes)
    assert one.left.dequantized.dtype == dtype
    assert one.parameters == {
        "format": "int",
        "bits": 4,
        "group_size": None,
        "dtype": np.dtype(dtype).name,
        "backend": "numpy",
    }


def test_results_are_frozen():
    found = generic_product(np.ones((1, 2)), np.ones((2, 1)), bits=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.distortion = 0.0


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), "inner dimensions"),
        (np.ones(3), np.ones((3, 1)), "left must be"),
        (np.ones((1, 3)), np.ones((3, 1), np.int64), "right must be"),
        (np.ones((0, 3)), np.ones((3, 1)), "left must be"),
        (np.array([[1.0, np.nan]]), np.ones((2, 1)), r"left\[0, 1\] is nan"),
        (np.ones((1, 2)), np.array([[np.inf], [1.0]]), r"right\[0, 0\] is inf"),
        (np.zeros((1, 2)), np.ones((2, 1)), "left has the mean square 0"),
        (np.full((1, 2), 1e-170), np.ones((2, 1)), "left has the mean square"),
        (np.ones((1, 2)), np.full((2, 1), 1e200), "right has the mean square"),
        (np.full((1, 2), 1e-150), np.full((2, 1), 1e-150), "vanishes"),
    ],
)
def test_refusals(left: np.ndarray, right: np.ndarray, message: str):
    with pytest.raises(BadInput, match=message):
        generic_product(left, right, bits=4)
    with pytest.raises(BadInput, match="overflows float32"):
        generic_product(np.full((1, 1), 1e50), np.ones((1, 1)), bits=4, dtype=np.float32)
    with pytest.raises(BadInput, match="working dtype"):
        generic_product(np.ones((1, 1)), np.ones((1, 1)), bits=4, dtype=np.float16)
