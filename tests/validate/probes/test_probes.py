"""The probes pass on the oracle, and name what is wrong with backends that are wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from waterlevel.reference.grids.codebooks import AffineGrid, ScaledLattice, UniformLattice
from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations
from waterlevel.validate.golden.fused import fma
from waterlevel.validate.probes import summation_order
from waterlevel.validate.probes.questions import PROBES, inquiries, probe
from waterlevel.validate.probes.summation_order import NoTree, name_of, recover, tree_of


def test_the_oracle_passes_every_probe():
    findings = probe(NUMPY)
    assert [finding.message for finding in findings if not finding.passed] == []
    assert {finding.probe for finding in findings} == set(PROBES)
    assert {finding.dtype for finding in findings} == {"float64", "float32"}


def found(backend, probe_name: str, operation: str) -> dict[str, str]:
    """What the probe says of this operation, by dtype; all other operations must pass."""
    findings = [inquiry.ask() for inquiry in inquiries(backend) if inquiry.probe == probe_name]
    assert all(f.passed for f in findings if f.operation != operation), backend
    ours = [f for f in findings if f.operation == operation]
    assert not any(f.passed for f in ours)
    return {f.dtype: f.found for f in ours}


def order_of(backend, operation: str, dtype: str) -> str:
    """The order of summation of this operation, which must be a wrong one."""
    (finding,) = (
        inquiry.ask()
        for inquiry in inquiries(backend)
        if (inquiry.probe, inquiry.operation, inquiry.dtype)
        == ("order of summation", operation, dtype)
    )
    assert not finding.passed
    return finding.found


class FusedMatmul(NumpyOperations):
    def matmul(self, left, right):
        total = np.zeros((len(left), right.shape[1]), left.dtype)
        for k in range(len(right)):
            total = fma(left[:, k, None], right[k], total)
        return total


class FusedCombine(NumpyOperations):
    def combine(self, left_factor, left, right_factor, right):
        number = left.dtype.type
        return fma(left, np.full_like(left, left_factor), number(right_factor) * right)


class FusedSolve(NumpyOperations):
    def solve(self, target, factor):
        X = target.copy()
        for j in range(len(factor)):
            for k in range(j):
                X[:, j] = fma(-X[:, k], np.full_like(X[:, k], factor[j, k]), X[:, j])
            X[:, j] /= factor[j, j]
        return X


class FusedSic(NumpyOperations):
    def sic(self, target, codes, factor, codebook, start, stop):
        gains = np.ones(stop - start)
        one = target.dtype.type(1)
        for k in reversed(range(start, stop)):
            diagonal = one if factor is None else factor[k, k]
            decided, values, gains[k - start] = codebook.decide(target[:, k], diagonal, k)
            codes[:, k], target[:, k] = decided, values
            if factor is not None:
                target[:, :k] = fma(-values[:, None], factor[k, :k], target[:, :k])
        return gains


class FusedGridDistance(NumpyOperations):
    def grid_error(self, matrix, scale, zero, maximum):
        level = np.clip(np.rint(matrix / scale[:, None]) + zero[:, None], 0, maximum)
        steps = (level - zero[:, None]).astype(matrix.dtype)
        d = np.abs(fma(np.broadcast_to(scale[:, None], steps.shape), steps, -matrix))
        return NUMPY.row_inner(d * d, np.sqrt(d))


@pytest.mark.parametrize(
    ("backend", "operation"),
    [
        (FusedMatmul(), "matmul"),
        (FusedCombine(), "combine"),
        (FusedSolve(), "solve"),
        (FusedSic(), "sic"),
        (FusedGridDistance(), "grid_error"),
    ],
)
def test_fused_multiply_add_is_named(backend, operation: str):
    for what in found(backend, "product and sum", operation).values():
        assert "fused multiply-add" in what


class InWiderType(NumpyOperations):
    def matmul(self, left, right):
        wide = super().matmul(left.astype(np.longdouble), right.astype(np.longdouble))
        return wide.astype(left.dtype)


class InNarrowerType(NumpyOperations):
    def matmul(self, left, right):
        narrow = np.float32 if left.dtype == np.float64 else np.float16
        with np.errstate(over="ignore", invalid="ignore"):
            product = super().matmul(left.astype(narrow), right.astype(narrow))
        return product.astype(left.dtype)


@pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= 52, reason="no type is wider than float64 here"
)
def test_a_wider_accumulator_is_named():
    assert set(found(InWiderType(), "accumulator", "matmul").values()) == {"wider than the dtype"}


def test_a_narrower_accumulator_is_named():
    answers = found(InNarrowerType(), "accumulator", "matmul")
    assert set(answers.values()) == {"narrower than the dtype"}


def flush(values):
    smallest = np.finfo(values.dtype).smallest_normal
    return np.where(np.abs(values) < smallest, values.dtype.type(0), values)


class FlushesInputs(NumpyOperations):
    def multiply(self, left, right):
        return flush(left) * flush(right)


class FlushesResults(NumpyOperations):
    def matmul(self, left, right):
        return flush(super().matmul(left, right))


class FlushesInConversion(NumpyOperations):
    def convert(self, matrix, dtype):
        converted = super().convert(matrix, dtype)
        return flush(converted) if converted.dtype == np.float32 else converted


def test_flushing_is_named():
    inputs = found(FlushesInputs(), "subnormal numbers", "multiply")
    assert set(inputs.values()) == {"flushed to zero in inputs"}
    results = found(FlushesResults(), "subnormal numbers", "matmul")
    assert set(results.values()) == {"flushed to zero in results"}
    backend = FlushesInConversion()
    (conversion,) = (
        i
        for i in inquiries(backend)
        if i.operation == "convert to float32" and i.probe == "subnormal numbers"
    )
    assert conversion.ask().found == "flushed to zero"


class Reciprocal(NumpyOperations):
    def divide(self, matrix, divisor):
        return matrix * (matrix.dtype.type(1) / matrix.dtype.type(divisor))


class ReciprocalInSolve(NumpyOperations):
    def solve(self, target, factor):
        X = target.copy()
        for j in range(len(factor)):
            for k in range(j):
                X[:, j] -= X[:, k] * factor[j, k]
            X[:, j] *= 1 / factor[j, j]
        return X


class UpwardDivision(NumpyOperations):
    def divide(self, matrix, divisor):
        return np.nextafter(super().divide(matrix, divisor), np.inf, dtype=matrix.dtype)


def test_division_is_named():
    for backend, operation in ((Reciprocal(), "divide"), (ReciprocalInSolve(), "solve")):
        answers = found(backend, "division", operation)
        assert set(answers.values()) == {"multiplied by the reciprocal"}
    for what in found(UpwardDivision(), "division", "divide").values():
        assert "are not the nearest float" in what


class RoughRoot(NumpyOperations):
    def cholesky(self, matrix):
        L = super().cholesky(matrix)
        return NUMPY.with_diagonal(L, np.nextafter(np.diagonal(L), L.dtype.type(np.inf)))


class RoughRootInGridError(NumpyOperations):
    def grid_error(self, matrix, scale, zero, maximum):
        good = super().grid_error(matrix, scale, zero, maximum)
        return np.nextafter(good, good.dtype.type(np.inf))


def test_square_root_is_named():
    for what in found(RoughRoot(), "square root", "cholesky").values():
        assert "roots are not the nearest" in what
    for what in found(RoughRootInGridError(), "square root", "grid_error").values():
        assert "d·d·√d are wrong" in what


class RoundsOtherwise(NumpyOperations):
    """The oracle with another rounding than rint, for lattices and affine grids."""

    def __init__(self, rounding) -> None:
        self.rounding = rounding

    def sic(self, target, codes, factor, codebook, start, stop):
        if factor is not None or not isinstance(
            codebook, UniformLattice | ScaledLattice | AffineGrid
        ):
            return super().sic(target, codes, factor, codebook, start, stop)
        rounded = self.rounding(target).astype(target.dtype)
        return super().sic(rounded, codes, factor, codebook, start, stop)


def is_tie(x):
    return np.abs(x) % 1 == 0.5


def away(x):
    return np.where(is_tie(x), np.trunc(x) + np.copysign(1, x), np.rint(x))


def towards_zero(x):
    return np.where(is_tie(x), np.trunc(x), np.rint(x))


def up(x):
    return np.where(is_tie(x), np.ceil(x), np.rint(x))


@pytest.mark.parametrize(
    ("name", "rounding"),
    [
        ("to nearest, ties away from zero", away),
        ("floor(x + ½)", lambda x: np.floor(x + x.dtype.type(0.5))),
        ("truncated", np.trunc),
        ("floor", np.floor),
        ("ceiling", np.ceil),
        ("to nearest, ties towards zero", towards_zero),
        ("to nearest, ties up", up),
    ],
)  # fmt: skip
def test_rounding_to_whole_numbers_is_named(name: str, rounding):
    for inquiry in inquiries(RoundsOtherwise(rounding)):
        if inquiry.probe != "rounding to whole numbers":
            continue
        finding = inquiry.ask()
        if finding.operation == "sic on FloatGrid":
            assert finding.passed
        else:
            assert finding.found == name, finding.message


class FloatGridDown(NumpyOperations):
    def sic(self, target, codes, factor, codebook, start, stop):
        if hasattr(codebook, "form"):
            target[:] = np.nextafter(target, target.dtype.type(0))
        return super().sic(target, codes, factor, codebook, start, stop)


def test_ties_of_float_formats_are_named():
    answers = found(FloatGridDown(), "rounding to whole numbers", "sic on FloatGrid")
    assert set(answers.values()) == {"to nearest, ties towards zero"}


class Truncates(NumpyOperations):
    def convert(self, matrix, dtype):
        converted = super().convert(matrix, dtype)
        if converted.dtype != np.float32:
            return converted
        above = np.abs(converted.astype(np.float64)) > np.abs(matrix.astype(np.float64))
        return np.where(above, np.nextafter(converted, np.float32(0)), converted)


def test_truncating_conversion_is_named():
    findings = [i.ask() for i in inquiries(Truncates()) if i.probe == "conversion"]
    assert {f.operation: f.found for f in findings} == {
        "convert to float32": "truncated",
        "convert from int32": "truncated",
    }


# Orders ------------------------------------------------------------------------------------------


class Orders(NumpyOperations):
    """Products of matrices and inner products of rows by a named order."""

    def __init__(self, order) -> None:
        self.order = order

    def matmul(self, left, right):
        terms = [left[:, k, None] * right[k] for k in range(len(right))]
        return self.order(terms, np.add) + left.dtype.type(0)

    def row_inner(self, left, right):
        return self.order(list((left * right).T), np.add)


@pytest.mark.parametrize(
    "name",
    [
        "reversed",
        "pairwise",
        "blocks of 32",
        "blocks of 64",
        "blocks of 128",
        "pairwise in blocks of 16",
        "8 interleaved sums, halves added",
    ],
)
def test_orders_of_sums_are_named(name: str):
    (order,) = (o for n, o in summation_order.named_orders(300, started=False) if n == name)
    assert order_of(Orders(order), "matmul", "float32") == name
    assert order_of(Orders(order), "row_inner", "float64") == name


class BatchesApart(NumpyOperations):
    def accumulate(self, total, left, right, weights):
        batch = np.zeros_like(total)
        super().accumulate(batch, left, right, weights)
        total += batch


class BlockedCholesky(NumpyOperations):
    """What is right of a panel is updated by one product per panel, as LAPACK does it."""

    PANEL = 32

    def cholesky(self, matrix):
        L = np.tril(matrix)
        for start in range(0, len(L), self.PANEL):
            stop = min(start + self.PANEL, len(L))
            L[start:stop, start:stop] = NUMPY.cholesky(L[start:stop, start:stop])
            L[stop:, start:stop] = NUMPY.solve(L[stop:, start:stop], L[start:stop, start:stop])
            panel = L[stop:, start:stop]
            L[stop:, stop:] -= NUMPY.matmul(panel, panel.T)
        return np.tril(L)


class OtherSubstitution(NumpyOperations):
    def solve_reversed(self, target, factor, start, stop):
        X, L = target[:, start:stop].copy(), factor[start:stop, start:stop]
        for j in reversed(range(stop - start)):
            for k in range(j + 1, stop - start):
                X[:, j] -= X[:, k] * L[k, j]
            X[:, j] /= L[j, j]
        return X


class LazySic(NumpyOperations):
    """Columns to the right are cancelled in blocks that were summed before."""

    def sic(self, target, codes, factor, codebook, start, stop):
        gains = np.ones(stop - start)
        for first in reversed(range(start, stop, 64)):
            end = min(first + 64, stop)
            panel = NUMPY.take(target, None, np.arange(end))
            gains[first - start : end - start] = NUMPY.sic(
                panel, codes[:, :end], factor, codebook, first, end
            )
            target[:, first:end] = panel[:, first:end]
            if factor is not None and first:
                values = NUMPY.take(target, None, np.arange(end - 1, first - 1, -1))
                target[:, :first] -= NUMPY.matmul(values, factor[first:end, :first][::-1])
        return gains


def test_orders_inside_other_operations_are_named():
    assert order_of(BatchesApart(), "accumulate", "float64") == "sequential, apart from the start"
    assert order_of(BlockedCholesky(), "cholesky", "float32").startswith("blocks of 32")
    assert order_of(OtherSubstitution(), "solve_reversed", "float64") == "reversed"
    # 299 columns: the first block holds 43 of them, so that no order with a name fits.
    assert order_of(LazySic(), "sic", "float64").startswith("unknown (term 0 is in")


class SequentialGain(NumpyOperations):
    def sic(self, target, codes, factor, codebook, start, stop):
        if not isinstance(codebook, ScaledLattice) or not codebook.lmmse:
            return super().sic(target, codes, factor, codebook, start, stop)
        z = np.rint(target)
        codes[:] = z
        products, squares = ([*m] for m in (z * target, z * z))
        sums = [summation_order.sequential(m, np.add) for m in (products, squares)]
        return (sums[0] / sums[1]).astype(np.float64)


def test_order_of_the_gain_is_named():
    assert order_of(SequentialGain(), "sic, gain", "float64") == "sequential"
    assert order_of(SequentialGain(), "sic, gain", "float32") == "sequential"


class Halfway(NumpyOperations):
    def matmul(self, left, right):
        product = super().matmul(left, right)
        product[:, 5] = super().matmul(left[:, ::-1], right[::-1])[:, 5]
        return product


def test_columns_that_are_summed_in_different_orders_are_noticed():
    assert "columns 0 and 5 are not summed alike" in order_of(Halfway(), "matmul", "float64")


class Unfinished(NumpyOperations):
    def hadamard(self, matrix, base):
        raise NotImplementedError("to be\ndone")


def test_an_operation_that_fails_is_a_finding_and_no_end():
    asked = (i for i in inquiries(Unfinished()) if i.operation in ("hadamard", "divide"))
    findings = [f for f in (inquiry.ask() for inquiry in asked) if not f.passed]
    assert {f.operation for f in findings} == {"hadamard"}
    assert findings[0].message == (
        "hadamard float64: accumulator: failed with NotImplementedError: to be done; "
        "the contract asks for: the width of the dtype"
    )


# Recovery of trees -------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [2, 3, 7, 64, 300])
@pytest.mark.parametrize("started", [False, True])
def test_every_named_order_is_recovered(terms: int, started: bool):
    for name, order in summation_order.named_orders(terms, started):
        tree = recover(lambda masked, o=order: o(list(masked.T), np.add), terms, np.float32)
        assert tree == tree_of(order, terms), name
        # Few terms cannot tell all orders apart; the first name with this tree is as good.
        same = name_of(tree, terms, started)
        orders = dict(summation_order.named_orders(terms, started))
        assert tree == tree_of(orders[same], terms)


def test_a_sum_that_is_no_tree_is_refused():
    with pytest.raises(NoTree, match="it cannot be seen"):
        recover(lambda masked: np.sum(masked == 1, axis=1), 8, np.float64)
    with pytest.raises(NoTree, match="sum to nan"):
        recover(lambda masked: masked[:, 0] * np.nan, 8, np.float64)
