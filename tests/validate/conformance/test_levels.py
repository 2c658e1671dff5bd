"""Backends that reach each level and no higher, and the bounds that decide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.linalg import solve_triangular

from waterlevel.reference.errors import NotPositiveDefinite
from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations
from waterlevel.reference.order_free import cancellation, slices
from waterlevel.validate.conformance.error_bounds import Analysis, Uncertain, exactly, factor_of
from waterlevel.validate.conformance.levels import ALGORITHMS, Reached, margin, reached_levels
from waterlevel.validate.conformance.outcomes import Failure, judge, run_case
from waterlevel.validate.conformance.runner import backend_subject
from waterlevel.validate.diagnosis.explain import processing_order
from waterlevel.validate.diagnosis.grid_ties import rows_parted_at_ties
from waterlevel.validate.golden.case import load_index
from waterlevel.validate.golden.execute_order_free import ORDER_FREE

CASES = [c for c in load_index().cases if c.function in ALGORITHMS and c.size == "small"]


class Library(NumpyOperations):
    """Products, factors, solves and sums by BLAS and LAPACK: right, but other last bits."""

    def matmul(self, left, right):
        return left @ right

    def matmul_transposed(self, left, right):
        return left.T @ right

    def row_inner(self, left, right):
        return np.einsum("ij,ij->i", left, right)

    def column_inner(self, left, right):
        return np.einsum("ij,ij->j", left, right)

    def cholesky(self, matrix):
        try:
            return np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return super().cholesky(matrix)

    def solve(self, target, factor):
        return np.ascontiguousarray(solve_triangular(factor, target.T, lower=True).T)


class TensorCores(NumpyOperations):
    """Factors of products rounded to 11 bits, as tf32 does."""

    significand = 11

    def rounded(self, matrix):
        fraction, exponent = np.frexp(matrix)
        return np.ldexp(np.rint(np.ldexp(fraction, self.significand)), exponent - self.significand)

    def matmul(self, left, right):
        return (self.rounded(left) @ self.rounded(right)).astype(left.dtype)


class FourBits(TensorCores):
    significand = 4


class WrongDamping(NumpyOperations):
    def with_diagonal(self, matrix, diagonal):
        return super().with_diagonal(matrix, diagonal * diagonal.dtype.type(2))


def levels(backend, cases=CASES) -> dict[str, Reached]:
    runs = []
    with np.errstate(all="ignore"):
        for case in cases:
            outcome = run_case(case, case.load_inputs(), backend)
            runs.append((case, outcome, not judge(case, outcome)))
        return {reached.algorithm: reached for reached in reached_levels(runs)}


def test_the_oracle_reaches_bits():
    found = levels(NUMPY)
    assert {name: (r.level, r.why) for name, r in found.items()} == dict.fromkeys(
        ALGORITHMS, ("bits", None)
    )
    assert sum(r.cases for r in found.values()) == len(CASES)


ORDER_FREE_CASES = [
    case
    for case in load_index().cases
    if case.function in ORDER_FREE and case.size == "small" and case.dtype == "float64"
]


class Slices(NumpyOperations):
    """Order-free functions of its own, with sums in an order of its own."""

    width = 13

    def order_free_lattice(self, **given):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(slices, "WEIGHT_WIDTH", self.width)
            return ORDER_FREE["order_free_lattice"](NUMPY, given, {})

    def order_free_grid(self, weight, factor, **given):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cancellation, "ONE_BY_ONE", 1)
            inputs = {"weight": weight, "factor": factor}
            return ORDER_FREE["order_free_grid"](NUMPY, inputs, given)


def test_order_free_functions_reach_their_bits_or_nothing():
    found = levels(NUMPY, ORDER_FREE_CASES)
    assert set(found) == set(ORDER_FREE)
    assert {r.level for r in found.values()} == {"order-free bits"}
    other = levels(Slices(), ORDER_FREE_CASES)
    assert other["order_free_lattice"].level == "none"
    assert "differs" in (other["order_free_lattice"].why or "")
    assert other["order_free_grid"].level == "order-free bits"


def test_a_backend_without_order_free_functions_is_not_asked_for_them():
    few = {case.function: case for case in ORDER_FREE_CASES if case.error is None}
    wanted = {Slices: 2, Library: 0, NumpyOperations: 3}
    for backend, asked in wanted.items():
        subject = backend_subject("some", backend())
        found = [subject.run(case, case.load_inputs()) for case in few.values()]
        reasons = [outcome for outcome in found if isinstance(outcome, str)]
        assert len(found) - len(reasons) == asked
        assert all("of its own" in reason for reason in reasons)


# Where groups are found on the way, the first column of a block may have a tie by construction. W'
# there comes from a product and a solve, so the last bits of a library decide it, and with it the
# codes that follow.
MODERATE = [case for case in CASES if case.tier != "rounding"]
UPDATED = [
    case
    for case in MODERATE
    if case.parameters.get("group_size") and not case.parameters.get("static_groups")
    if case.function == "gptq"
]


def test_libraries_reach_codes_and_no_more():
    """BLAS has all codes of all these cases, ties apart: no case of tier rounding is among them."""
    found = levels(Library(), [case for case in MODERATE if case not in UPDATED])
    for algorithm in ("gptq", "watersic"):
        assert found[algorithm].level == "codes", found[algorithm]
        assert "last bits" in (found[algorithm].why or "")


def test_libraries_miss_codes_of_updated_groups_only_from_a_tie_by_construction_on():
    compared = 0
    for case in UPDATED:
        inputs = case.load_inputs()
        ours, theirs = (run_case(case, inputs, backend) for backend in (NUMPY, Library()))
        if not isinstance(ours, Mapping):  # a case of bad input
            assert type(theirs) is type(ours), case.id
            continue
        assert isinstance(theirs, Mapping), case.id
        differ = (ours["codes"] != theirs["codes"]).any(axis=1)
        parted = rows_parted_at_ties(
            ours["codes"],
            theirs["codes"],
            ours["zero"],
            "gptq",
            {"block_size": 128, **case.parameters},
            processing_order("gptq", case.parameters, inputs),
        )
        assert parted == np.count_nonzero(differ) <= 2, case.id
        compared += 1
    assert compared > 20


def test_products_of_eleven_bits_reach_rate_and_distortion_and_no_more():
    found = levels(TensorCores(), [case for case in CASES if case.tier == "real"])
    for algorithm in ("gptq", "watersic"):
        assert found[algorithm].level == "rate-distortion", found[algorithm]
        assert found[algorithm].why


@pytest.mark.parametrize(
    ("backend", "algorithm"), [(FourBits(), "watersic"), (WrongDamping(), "gptq")]
)
def test_a_wrong_kernel_reaches_none(backend, algorithm: str):
    found = levels(backend, [case for case in CASES if case.tier == "real"])
    assert found[algorithm].level == "none", found[algorithm]
    assert "margin" in (found[algorithm].why or "")


def test_a_refusal_must_be_the_same_on_every_level():
    (case, *_) = (c for c in CASES if c.error is not None and c.error.type == "NotPositiveDefinite")
    pivot = int(case.error.fields["pivot"])
    right = run_case(case, case.load_inputs(), NUMPY)
    assert isinstance(right, NotPositiveDefinite)
    other_value = NotPositiveDefinite(pivot, 1e-9 - abs(right.value))
    (reached,) = reached_levels([(case, other_value, False)])
    assert reached.level == "codes"
    for wrong in (NotPositiveDefinite(pivot + 1, right.value), Failure("RuntimeError: no"), {}):
        (reached,) = reached_levels([(case, wrong, False)])
        assert reached.level == "none"
        assert "NotPositiveDefinite at pivot" in (reached.why or "")


def test_one_scale_that_is_off_is_seen():
    (case,) = (c for c in CASES if c.id == "rtn/real/minilm-query-bits4-groups-32x64-float64")
    oracle = run_case(case, case.load_inputs(), NUMPY)
    assert isinstance(oracle, dict)
    outcome = dict(oracle)
    outcome["scale"] = outcome["scale"] * (1 + 2.0**-52)
    (reached,) = reached_levels([(case, outcome, False)])
    assert reached.level == "codes"
    outcome["scale"] = outcome["scale"] * (1 + 2.0**-40)
    (reached,) = reached_levels([(case, outcome, False)])
    assert reached.level == "rate-distortion"
    assert "scale is" in (reached.why or "")
    assert "rounding explains" in (reached.why or "")


def test_the_margin_shrinks_with_the_layer():
    assert margin(2**24) < 0.011 < margin(2**12) < 0.07 < margin(64)


# Bounds -------------------------------------------------------------------------------------------


def test_the_bound_of_a_factor_holds_and_is_not_idle():
    """A float32 factor beside the one in float64, whose own error is beyond notice."""
    generator = np.random.Generator(np.random.Philox(key=7))
    for n in (5, 20, 60):
        root = generator.integers(-99, 100, (n, 2 * n)).astype(np.float64)
        H = (root @ root.T).astype(np.float32)
        L = NUMPY.cholesky(H).astype(np.float64)
        bound = factor_of(exactly(H), 2.0**-24)
        error = np.abs(L - bound.value)
        assert (error <= bound.error).all()
        assert bound.error.max() < 1e4 * error.max()


def test_errors_of_a_product_add_up():
    one = Uncertain(np.array([[2.0, 3.0]]), np.array([[0.1, 0.0]]))
    two = Uncertain(np.array([[5.0], [-7.0]]), np.array([[0.0], [0.01]]))
    product = one.times(two, u=0.0)
    assert product.value.tolist() == [[-11.0]]
    assert np.allclose(product.error, 0.1 * 5 + 3 * 0.01)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_column_scales_of_a_library_are_within_their_bound(dtype: str):
    """And the bound is small enough to notice a wrong gain."""
    wanted = [c for c in CASES if c.id.startswith("watersic/semantics/")]
    cases = [c for c in wanted if c.dtype == dtype and c.parameters.get("rescale") is False]
    assert {"drift", "residual"} <= {part for c in cases for part in c.id.split("/")[2].split("-")}
    for case in cases:
        inputs = case.load_inputs()
        oracle = run_case(case, inputs, NUMPY)
        assert isinstance(oracle, dict)
        library = run_case(case, inputs, Library())
        assert isinstance(library, dict)
        bounds = Analysis(case, inputs, oracle, np.dtype(dtype)).bounds()
        assert (library["codes"] == oracle["codes"]).all()
        error = np.abs(library["column_scale"].astype(np.float64) - oracle["column_scale"])
        assert (error <= bounds["column_scale"]).all()
        assert bounds["column_scale"].max() < 1e-2 * np.abs(oracle["column_scale"]).max()
