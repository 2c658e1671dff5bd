"""GPTQ as one loop against GPTQ as error feedback: the same decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from waterlevel.reference import BadInput, CodeOverflow, NotPositiveDefinite, gptq, rtn

from ...helpers import error_feedback, layers
from ...helpers.formats_by_value import FORMATS, magnitudes
from ...helpers.inputs import same_bits

GROUPINGS: list[dict[str, Any]] = [
    {},
    {"group_size": 16},
    {"group_size": 24},  # straddles blocks of 16, 32 and 128
    {"group_size": 200},  # one ragged group
    {"group_size": 16, "static_groups": True},
    {"group_size": 24, "static_groups": True},
]
SHAPES = [(24, 33, (0, 16)), (6, 160, ()), (3, 1, ()), (1, 19, (18,)), (40, 64, ())]


def layer(key: int, a: int, n: int, dead: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """With one row of zeros and one without negative weights, where there are three rows."""
    W = layers.weight(10 * key, a, n)
    if a > 2:
        W[0], W[-1] = 0, np.abs(W[-1])
    return W, layers.covariance(10 * key + 5, n, dead=dead)


def check(W: np.ndarray, S: np.ndarray, name: str = "int", **options: Any) -> None:
    result = gptq(W, S, format=name, **options)
    spacing, static = options.pop("spacing", None), options.pop("static_groups", False)
    symmetric = not options.pop("asymmetric", False)
    expected = error_feedback.gptq(
        W,
        S,
        magnitudes=magnitudes(name) if name != "int" else None,
        lattice=spacing,
        static=static,
        symmetric=symmetric,
        **options,
    )
    clear = expected.clear
    # A row is not clear when its least weight comes first in a group (see `error_feedback`): one in
    # 2·g, and every other row where the last group is a single column.
    assert clear.mean() > 1 / 3 or len(W) < 10
    assert np.array_equal(result.codes[clear], expected.codes[clear])

    # Solving with H loses a factor κ(H); both sums of n terms err by n·u each.
    H = S + np.diag(np.where(np.diag(S) == 0, 1, 0))
    H += options.get("damping", 0.01) * np.diag(H).mean() * np.eye(len(H))
    bound = 2 * len(H) * np.linalg.cond(H) * 2.0**-53 * np.abs(W).max()
    assert np.abs(result.dequantized - expected.dequantized)[clear].max(initial=0) <= bound
    if spacing:
        return
    assert np.array_equal(result.scales.group, expected.group)
    if static or not options.get("group_size"):
        same_bits(result.scales.scale, expected.scale)
        same_bits(result.scales.zero, expected.zero.astype(np.int32))
    else:
        assert np.array_equal(result.scales.zero[clear], expected.zero[clear])
        assert np.abs(result.scales.scale - expected.scale)[clear].max(initial=0) <= bound


@pytest.mark.parametrize("actorder", [False, True])
@pytest.mark.parametrize("grouping", GROUPINGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_feedback_makes_the_same_decisions(shape, grouping, actorder):
    W, S = layer(SHAPES.index(shape), *shape)
    for number, block_size in enumerate((16, 32, 128)):
        bits = 2 + (3 * number + len(W)) % 7
        for asymmetric in (False, True):
            check(
                W,
                S,
                bits=bits,
                asymmetric=asymmetric,
                actorder=actorder,
                block_size=block_size,
                **grouping,
            )


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_number_of_bits(bits):
    W, S = layer(bits, 20, 40)
    check(W, S, bits=bits, group_size=12, block_size=16)
    check(W, S, bits=bits, asymmetric=True)


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("grouping", [GROUPINGS[i] for i in (0, 2, 5)], ids=str)
def test_search_for_the_least_error(grouping, asymmetric):
    W, S = layer(21, 12, 50, (7,))
    check(W, S, bits=3, mse=True, asymmetric=asymmetric, block_size=32, **grouping)


@pytest.mark.parametrize("grouping", [GROUPINGS[i] for i in (0, 2, 5)], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_float_formats(name, grouping):
    W, S = layer(22, 12, 50, (7,))
    check(W, S, name, actorder=True, block_size=32, **grouping)


@pytest.mark.parametrize("actorder", [False, True])
def test_one_spacing(actorder):
    W, S = layer(23, 30, 70, (0, 69))
    check(W, S, spacing=0.3, actorder=actorder)
    check(W, S, spacing=0.02, actorder=actorder, damping=0.1)


def test_a_block_that_ends_inside_a_group_does_not_refresh_its_weights():
    # Group 1 of 24 begins at place 24. In one block its grid is that of the original weights; with
    # blocks of 16 it is found when places 0 … 15 have been fed back; with blocks of 24 or 8, all.
    W, S = layer(24, 8, 48)
    grids = [
        gptq(W, S, bits=3, group_size=24, block_size=b).scales.scale[:, 1] for b in (48, 16, 24, 8)
    ]
    static = gptq(W, S, bits=3, group_size=24, static_groups=True).scales.scale[:, 1]
    same_bits(grids[0], static)
    same_bits(grids[2], grids[3])
    assert not np.allclose(grids[1][1:], static[1:], rtol=1e-3)
    assert not np.allclose(grids[1][1:], grids[2][1:], rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"mse": True}, {"group_size": 8, "static_groups": True}])
def test_block_size_matters_to_no_grid_from_the_original_weights(options):
    W, S = layer(25, 9, 30)
    for name, bits in (("int", 3), ("fp6-e3m2", None)):
        if bits is None and "mse" in options:
            continue
        results = [
            gptq(W, S, bits=bits, format=name, block_size=b, **options) for b in (1, 7, 30, 128)
        ]
        for result in results[1:]:
            same_bits(result.dequantized, results[0].dequantized)


def test_equal_energies_keep_their_order():
    # Uncorrelated inputs: the order does not touch the codes, but groups count places in it. With
    # equal energies the places are the columns, so each group sees what static groups see.
    W = layers.weight(26, 6, 40)
    S = np.diag(np.where(np.arange(40) % 3 == 1, 4.0, 1.0))
    order = np.concatenate([np.arange(40)[1::3], np.delete(np.arange(40), np.arange(40)[1::3])])
    result = gptq(W, S, bits=4, group_size=10, actorder=True)
    assert np.array_equal(result.scales.group[order], np.arange(40) // 10)
    flat = gptq(W, np.eye(40), bits=4, group_size=10, actorder=True)
    assert np.array_equal(flat.scales.group, np.arange(40) // 10)


def test_order_is_that_of_the_energies_before_damping():
    # In float32 the damping swallows the difference of two small energies: ordered by the damped
    # ones, they would tie. Published code orders first, too.
    S = np.diag(np.array([1e-12, 2e-12, 1.0], np.float32))
    result = gptq(
        np.ones((1, 3)), S, bits=4, group_size=1, actorder=True, dtype=np.float32, damping=0.01
    )
    assert result.scales.group.tolist() == [2, 1, 0]


def test_silent_inputs_have_energy_one_and_weight_zero():
    # The diagonal (0, 4, 4) counts as (1, 4, 4), with mean 3; δ = 1 gives H = (7 3; 3 7) for the
    # other two. 0.1 is rounded to 0 and adds 0.1·3/7 = 0.0429 to column 2. The tie is at 0.17. A
    # mean of 8/3 would add 0.0450, one of 4 (over two columns) 0.0375.
    S = np.array([[0, 0, 0], [0, 4.0, 3.0], [0, 3.0, 4.0]])
    W = np.array([[5.0, 0.1, 0.130], [5.0, 0.1, 0.126]])
    assert gptq(W, S, spacing=0.34, damping=1.0).codes.tolist() == [[0, 0, 1], [0, 0, 0]]
    # A row grid is found before the weight 5 is zeroed; it spans 0 … 5.
    same_bits(gptq(W, S, bits=4).scales.scale, np.full((2, 1), 5.0 / 15))
    # Group grids are found after that: from nothing, -1 … 1, and from 0.1.
    for static in (False, True):
        groups = gptq(W, S, bits=4, group_size=1, static_groups=static)
        same_bits(groups.scales.scale[:, 0], np.full(2, 2.0 / 15))
        same_bits(groups.dequantized[:, 0], np.zeros(2))


def test_rows_are_independent():
    W, S = layer(27, 14, 31)
    order = np.argsort(W[:, 3])
    for options in ({"bits": 3, "group_size": 7, "block_size": 5}, {"spacing": 0.2}):
        for method in (gptq, rtn):
            arguments = {k: v for k, v in options.items() if method is gptq or k != "block_size"}
            whole = method(W, S, **arguments)
            permuted = method(W[order], S, **arguments)
            same_bits(permuted.codes, whole.codes[order])
            same_bits(permuted.dequantized, whole.dequantized[order])


def test_pivot_is_the_users_column():
    n = 12
    S = np.eye(n)
    # The 2×2 block of columns 3 and 8 has the eigenvalues 5 and -1; column 5 is silent.
    S[3, 3], S[8, 8], S[3, 8], S[8, 3], S[5, 5] = 2.5, 1.5, 3.0, 3.0, 0.0
    W = layers.weight(28, 4, n)
    # The factor of the reversed matrix begins with the column decided last.
    for actorder, pivot in ((False, 3), (True, 3)):
        with pytest.raises(NotPositiveDefinite) as caught:
            gptq(W, S, bits=4, actorder=actorder, group_size=4)
        assert caught.value.pivot == pivot
        H = S + np.diag(np.arange(n) == 5)
        ridge = 0.01 * np.diag(H).mean()
        assert caught.value.value == pytest.approx(2.5 + ridge - 9 / (1.5 + ridge), rel=1e-12)
        assert "covariance" in str(caught.value)
        assert "\n" not in str(caught.value)
    S[8, 8], S[3, 3] = 2.5, 1.5  # now 8 is first in activation order, and the last to be factored
    for actorder, pivot in ((False, 3), (True, 8)):
        with pytest.raises(NotPositiveDefinite) as caught:
            gptq(W, S, bits=4, actorder=actorder)
        assert caught.value.pivot == pivot


def test_the_damping_that_is_recommended_does_it():
    S = np.eye(6)
    S[1, 4] = S[4, 1] = 1.05
    W = layers.weight(29, 4, 6)
    with pytest.raises(NotPositiveDefinite, match=r"damping 0\.1 would do"):
        gptq(W, S, bits=4)
    assert np.isfinite(gptq(W, S, bits=4, damping=0.1).distortion)
    S[1, 4] = S[4, 1] = 3.0
    with pytest.raises(NotPositiveDefinite, match="no damping up to 1 helps"):
        gptq(W, S, bits=4)


def test_an_overflowing_code_is_named_by_the_users_column():
    S = np.diag([1.0, 3.0, 2.0])
    W = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1e10]])
    for actorder in (False, True):
        with pytest.raises(CodeOverflow, match=r"codes\[1, 2\]") as caught:
            gptq(W, S, spacing=1.0, actorder=actorder)
        assert (caught.value.row, caught.value.column) == (1, 2)


def test_contradictory_options_are_refused():
    W, S = layer(30, 3, 5)
    for options in (
        {},
        {"bits": 4, "rate": 3.0},
        {"bits": 4, "spacing": 0.1},
        {"bits": 1},
        {"bits": 9},
        {"format": "fp4-e2m1", "bits": 4},
        {"format": "fp4-e2m1", "mse": True},
        {"format": "fp5"},
        {"bits": 4, "group_size": 0},
        {"bits": 4, "block_size": 0},
        {"bits": 4, "static_groups": True},
        {"spacing": 0.1, "group_size": 4},
        {"spacing": 0.0},
        {"spacing": -1.0},
        {"spacing": float("nan")},
        {"rate": -1.0},
        {"rate": 2.0, "spacing": 0.1},
        {"spacing": 0.1, "open_loop": True},
        {"open_loop": True},
        {"rate": 2.0, "rate_measure": "bits"},
        {"bits": 4, "damping": -0.1},
        {"bits": 4, "damping": float("inf")},
        {"bits": 4, "dtype": np.float16},
    ):
        with pytest.raises(BadInput) as caught:
            gptq(W, S, **options)
        assert "\n" not in str(caught.value)
