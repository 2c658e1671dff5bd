"""What is checked, widened, removed and damped before anything is quantised."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference import NUMPY, BadInput, NotPositiveDefinite
from waterlevel.reference.checks import check_parameter
from waterlevel.reference.methods.preparation import (
    damped,
    damping_amount,
    factorize,
    live_features,
)
from waterlevel.reference.operations.layer import prepare

from ...helpers import layers, scalar
from ...helpers.inputs import FLOATS, bell, dtypes, flavours, keys, numbers, same_bits
from ...helpers.scalar import ROUNDED

GOOD = {"weight": np.ones((3, 4)), "covariance": np.eye(4)}


def load(**arrays):
    dtype = arrays.pop("dtype", np.float64)
    return prepare(**{**GOOD, **arrays}, dtype=dtype, backend=NUMPY)


@pytest.mark.parametrize("source", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("working", FLOATS)
def test_inputs_are_rounded_once_to_the_working_dtype(source, working):
    W = bell(1, (3, 4), np.float64).astype(source)
    W[0, 0], W[0, 1] = -0.0, np.float64(1e-7)  # the latter is subnormal in float16
    layer = load(weight=W, dtype=working)
    same_bits(layer.weight, W.astype(np.float64).astype(working))


def test_other_dtypes_and_shapes_are_refused():
    for name in ("weight", "covariance"):
        for dtype in (np.int32, np.int8, bool, complex, object):
            with pytest.raises(BadInput, match=f"{name} is .*, expected one of float64"):
                load(**{name: GOOD[name].astype(dtype)})
        for broken in (GOOD[name][None], GOOD[name][0], np.float64(1.0), [1.0, 2.0]):
            with pytest.raises(BadInput, match=f"{name} must be a matrix"):
                load(**{name: broken})
    with pytest.raises(BadInput, match=r"covariance has shape 4×5, expected 4×4"):
        load(covariance=np.ones((4, 5)))
    with pytest.raises(BadInput, match="working dtype"):
        load(dtype=np.float16)
    with pytest.raises(BadInput, match=r"weight\[2, 3\] = 1e\+300 overflows float32; use float64"):
        load(weight=np.where(np.arange(12).reshape(3, 4) == 11, 1e300, 1.0), dtype=np.float32)


def test_what_is_array_like_is_taken_exactly():
    wide = load()
    for like in (
        {name: array.tolist() for name, array in GOOD.items()},
        {name: np.asfortranarray(array) for name, array in GOOD.items()},
    ):
        for name, matrix in load(**like).matrices().items():
            same_bits(matrix, wide.matrices()[name])
    whole = np.arange(12.0).reshape(3, 4)
    same_bits(load(weight=whole.astype(int).tolist()).weight, whole)
    with pytest.raises(BadInput, match=r"weight has integers beyond 2\*\*53"):
        load(weight=[[2**53 + 1] * 4] * 3)
    with pytest.raises(BadInput, match="weight is no array of numbers"):
        load(weight=[[1.0, 2.0], [3.0]])


def test_a_prepared_layer_has_everything():
    prepared = prepare(**GOOD, dtype=np.float32)
    assert prepare(prepared) is prepared
    assert prepare(prepared, dtype="float32", backend="numpy") is prepared
    for name, value in (("covariance", np.eye(4)), ("dtype", "float64"), ("backend", "numba")):
        with pytest.raises(BadInput, match=f"{name} is given beside a prepared layer"):
            prepare(prepared, **{name: value})


@given(keys, st.integers(2, 6), dtypes)
def test_symmetry_up_to_a_millionth_of_the_largest(key, n, dtype):
    S = layers.covariance(key, n).astype(dtype)
    S = (S + S.T) / dtype(2)
    largest = np.abs(S).max()
    for size, allowed in ((0.9e-6, True), (1.1e-6, False)):
        skew = S.copy()
        skew[0, n - 1] += dtype(size) * largest
        difference = abs(Fraction(float(skew[0, n - 1])) - Fraction(float(skew[n - 1, 0])))
        if (difference <= Fraction(1e-6) * Fraction(float(largest))) != allowed:
            continue  # float32 rounded the perturbation across the line
        arrays = {"weight": np.ones((1, n)), "covariance": skew, "dtype": dtype}
        if allowed:
            found = load(**arrays).covariance
            same_bits(found, (skew + skew.T) / dtype(2))
        else:
            with pytest.raises(BadInput, match=rf"\[0, {n - 1}\] and \[{n - 1}, 0\] differ"):
                load(**arrays)


def test_the_cross_covariance_need_not_be_symmetric_or_positive():
    cross = -np.triu(np.ones((4, 4)))
    layer = load(covariance_quantized=np.eye(4), cross_covariance=cross)
    same_bits(layer.cross_covariance, cross)
    for name in ("covariance", "covariance_quantized"):
        with pytest.raises(BadInput, match=rf"{name}\[1, 1\] = -0.5 is negative"):
            load(
                **{
                    "covariance_quantized": np.eye(4),
                    "cross_covariance": cross,
                    name: np.diag([1, -0.5, 1, 0]),
                }
            )


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=9), st.sampled_from((0.0, 1e-3, 0.5, 3)))
def test_dead_features_by_definition(diagonal, threshold):
    median = Fraction(sorted(diagonal)[(len(diagonal) - 1) // 2])
    # τ·median is rounded once; a feature in that last place is not the matter here.
    line = Fraction(threshold) * median
    expected = [
        j
        for j, x in enumerate(diagonal)
        if x != 0 and Fraction(x) >= line * (1 - Fraction(1, 2**50))
    ]
    certain = [j for j in expected if Fraction(diagonal[j]) >= line * (1 + Fraction(1, 2**50))]
    found = live_features(np.array(diagonal), threshold).tolist()
    assert set(certain) <= set(found) <= set(expected)
    assert found == sorted(found)


@given(keys, flavours, dtypes, st.integers(1, 9), st.sampled_from((0.0, 1e-4, 0.01, 1.0)))
def test_damping_is_a_part_of_the_mean_diagonal(key, flavour, dtype, n, damping):
    diagonal = np.abs(numbers(flavour, key, (n,), dtype)) / dtype(16)
    total = scalar.tree_sum(
        scalar.lists(diagonal, ROUNDED[np.dtype(dtype)]), ROUNDED[np.dtype(dtype)]
    )
    amount = damping_amount(diagonal, damping)
    assert amount == damping * (float(total) / n)
    H = damped(NUMPY, np.diag(diagonal), amount)
    same_bits(np.diag(H).copy(), diagonal + dtype(amount))
    assert np.count_nonzero(H - np.diag(np.diag(H))) == 0


def test_the_pivot_is_named_in_the_users_numbers_and_the_remedy_works():
    S = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0005], [0.0, 1.0005, 1.0]])
    with pytest.raises(NotPositiveDefinite) as caught:
        factorize(NUMPY, S, 1e-4, np.array([7, 3, 5]), "covariance")
    assert caught.value.pivot == 5
    assert str(caught.value).endswith("damping 0.001 would do")
    assert "covariance with damping 0.0001 is not positive definite: pivot 5 is -" in str(
        caught.value
    )
    H, L = factorize(NUMPY, S, 1e-3, np.array([7, 3, 5]), "covariance")
    np.testing.assert_allclose(L @ L.T, H, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(H, S + 1e-3 * np.eye(3), rtol=1e-15)


def test_parameters():
    check_parameter("x", 0.0, 0.0)
    check_parameter("x", 1.0, 0.0, 1.0)
    for value, options in (
        (-1e-9, {}),
        (np.nan, {}),
        (np.inf, {}),
        (0.0, {"exclusive": True}),
        (1.5, {"greatest": 1.0}),
    ):
        with pytest.raises(BadInput, match="x is"):
            check_parameter("x", value, 0.0, **options)
