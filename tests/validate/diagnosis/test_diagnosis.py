"""Backends that are wrong on purpose are caught, and their mistake is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from waterlevel.reference import NUMPY, NotPositiveDefinite, gptq, rtn, watersic
from waterlevel.reference.grids.codebooks import ScaledLattice
from waterlevel.reference.operations.numpy_operations import NumpyOperations
from waterlevel.validate.diagnosis.explain import (
    diagnose,
    diagnose_algorithm,
    diagnose_operation,
    processing_order,
)
from waterlevel.validate.diagnosis.first_divergence import (
    OVERWRITTEN,
    SIGNATURES,
    find_first_divergence,
    outcome,
)
from waterlevel.validate.golden.case import load_index
from waterlevel.validate.golden.execute import describe, execute

from ...helpers.inputs import bell, lower, positive_definite
from ...helpers.layers import covariance, drift, weight
from ...helpers.opaque import OPAQUE
from ...helpers.wrong_backends import CHAINS, DECISIONS, SUMS, Chained, Deciding, Summed, decision

W, SIGMA = weight(1, 4, 40), covariance(2, 40)
W20, SIGMA20 = W[:, :20].copy(), SIGMA[:20, :20].copy()


def names(diagnosis) -> set[str]:
    assert diagnosis.explanation is not None
    return {match.name for match in diagnosis.explanation.reproduced_by}


def outputs(result) -> dict:
    return {name: np.asarray(value) for name, value in describe(result).items()}


def by(method, *arrays, **options):
    """A run of an algorithm: its outputs on a backend."""
    return lambda backend: outputs(method(*arrays, **options, backend=backend))


WATERSIC = by(watersic, W, SIGMA, spacing=0.5)
GPTQ = by(gptq, W, SIGMA, bits=4)
OPEN_LOOP = by(watersic, W, SIGMA, rate=3.0, open_loop=True, rescale=False)
RESIDUAL = by(
    watersic, W, SIGMA, spacing=0.5, residual_covariance=drift(3, 4, 40)["residual_covariance"]
)


# One operation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CHAINS))
def test_an_operation_is_named(name):
    A, B = bell(1, (3, 200), np.float64), bell(2, (200, 3), np.float64)

    def run(backend):
        return {"product": backend.matmul(A, B)}

    wrong = run(Chained(CHAINS[name]))
    diagnosis = diagnose_operation("matmul/x", "matmul", run, wrong)
    assert names(diagnosis) == {name}
    assert diagnosis.lines()[0].startswith("matmul/x: product[0, ")
    assert f"every bit is reproduced by {name}: " in diagnosis.message()
    assert json.loads(json.dumps(diagnosis.to_json()))["operation"] == "matmul"


def sic(target, L, codebook):
    def run(backend):
        Y, codes = target.copy(), np.zeros(target.shape, np.int32)
        gains = backend.sic(Y, codes, L, codebook, 0, target.shape[1])
        return {"target": Y, "codes": codes, "gains": gains}

    return run


@pytest.mark.parametrize("ends", [(0.9, 1.05), (0.0, 1.02), (0.97, 2.0)])
def test_a_clamp_of_any_range_is_seen_in_the_gains(ends):
    L = lower(5, 12, np.float64)
    lattice = ScaledLattice(1.5, 1.5 / L.diagonal(), lmmse=True)
    run = sic(bell(6, (20, 12), np.float64) * 2.0, L, lattice)
    wrong = Deciding(decision(gain=lambda g: min(max(g, ends[0]), ends[1])))
    diagnosis = diagnose_operation("sic/x", "sic", run, run(wrong))
    assert names(diagnosis) == {"clamped-gain"}
    assert any(repr(end) in diagnosis.message() for end in ends)


class ReversedThroughout(Chained):
    def __init__(self):
        super().__init__(CHAINS["reversed-chain"])
        self.summed = Summed(SUMS["reversed-sum"])

    def sic(self, target, codes, factor, codebook, start, stop):
        def gain(z, y, step):
            energy = self.summed.column_inner(z[:, None], z[:, None])[0]
            return self.summed.column_inner(z[:, None], y[:, None])[0] / energy / step

        class Wrong:
            @staticmethod
            def decide(y, diagonal, column):
                codes, _, _ = codebook.decide(y, diagonal, column)
                z = codes.astype(y.dtype)
                found = gain(z, y, codebook.step)
                return codes, z * (found * codebook.spacing[column]), float(found)

        return super().sic(target, codes, factor, Wrong, start, stop)


def test_one_order_in_chains_and_sums():
    L = lower(5, 30, np.float64)
    lattice = ScaledLattice(0.25, 0.25 / L.diagonal(), lmmse=True)
    run = sic(bell(6, (20, 30), np.float64) * 2.0, L, lattice)
    diagnosis = diagnose_operation("sic/x", "sic", run, run(ReversedThroughout()))
    assert names(diagnosis) == {"reversed"}


def test_what_nobody_knows():
    A, B = bell(1, (3, 40), np.float64), bell(2, (40, 3), np.float64)

    def run(backend):
        return {"product": backend.matmul(A, B)}

    half_wrong = run(NUMPY)
    half_wrong["product"][0] *= 2
    diagnosis = diagnose_operation("matmul/x", "matmul", run, half_wrong)
    assert not names(diagnosis)
    assert diagnosis.lines()[-1] == "no known deviation comes closer than the oracle (66.67% equal)"

    nearly = run(Chained(CHAINS["reversed-chain"]))
    nearly["product"][0, 0] = 7
    diagnosis = diagnose_operation("matmul/x", "matmul", run, nearly)
    assert not names(diagnosis)
    assert diagnosis.explanation.closest.name == "reversed-chain"
    assert diagnosis.explanation.closest.share == 8 / 9
    assert "the closest is reversed-chain" in diagnosis.message()
    assert "88.89% of the elements equal, the oracle has" in diagnosis.message()

    hurried = diagnose_operation("matmul/x", "matmul", run, nearly, seconds=0.0)
    assert hurried.explanation.untried > 30
    assert "were not tried for lack of time" in hurried.message()


def test_nothing_to_explain():
    def run(backend):
        return {"product": backend.matmul(W, SIGMA)}

    assert diagnose_operation("x", "matmul", run, run(NUMPY)).lines() == []
    assert diagnose_algorithm("x", GPTQ, GPTQ(NUMPY), NUMPY).lines() == []


def test_errors_are_outcomes():
    H = positive_definite(3, 10, np.float64)
    H[6, 6] = -1

    def run(backend):
        return {"factor": backend.cholesky(H)}

    expected = outcome(lambda: run(NUMPY))
    assert isinstance(expected, NotPositiveDefinite)
    for actual in ({"factor": np.eye(10)}, NotPositiveDefinite(3, -1.0), RuntimeError("no device")):
        diagnosis = diagnose_operation("cholesky/x", "cholesky", run, actual)
        assert "expected NotPositiveDefinite(pivot=6, value=-" in diagnosis.lines()[0]
    assert diagnose_operation("cholesky/x", "cholesky", run, expected).lines() == []
    # A library that says only "not positive definite", without the pivot.
    assert "library" in names(
        diagnose_operation("x", "cholesky", run, NotPositiveDefinite(0, float(H[0, 0])))
    )


# Algorithms, with the backend at hand -------------------------------------------------------------


class WrongMoments(NumpyOperations):
    """The Gram matrix of the rescalers, from the last row to the first."""

    name = "wrong"

    def matmul_transposed(self, left, right):
        return super().matmul_transposed(left[::-1], right[::-1])


class WrongHalf(NumpyOperations):
    """Symmetrises by a multiplication that is not the division by 2."""

    name = "wrong"

    def symmetrize(self, matrix):
        return matrix * 0.5 + matrix.T * 0.5000001


@pytest.mark.parametrize(
    ("wrong", "run", "stage", "operation", "name"),
    [
        (WrongHalf(), WATERSIC, "preparation", "symmetrize", None),
        (Chained(CHAINS["fused-multiply-add"]), WATERSIC, "factor", "cholesky",
         "fused-multiply-add"),
        (Chained(CHAINS["fused-multiply-add"], ("matmul",)), WATERSIC, "target", "matmul",
         "fused-multiply-add"),
        (Chained(CHAINS["reversed-chain"], ("matmul",)), GPTQ, "target", "matmul",
         "reversed-chain"),
        (Chained(CHAINS["pairwise-chain"], ("solve",)), RESIDUAL, "target", "solve",
         "pairwise-chain"),
        (Chained(CHAINS["fused-multiply-add"], ("sic",)), WATERSIC, "loop, column ", "sic",
         "fused-multiply-add"),
        (Chained(CHAINS["blocked-chain-32"], ("cholesky",)), GPTQ, "factor", "cholesky",
         "blocked-chain-32"),
        (Summed(SUMS["left-to-right-sum"]), OPEN_LOOP, "spacing", "column_inner",
         "left-to-right-sum"),
        (Deciding(DECISIONS["truncation"]), GPTQ, "loop, column 39 of Y, place 0 in the order of "
         "processing: code", "sic", "truncation"),
        (Deciding(DECISIONS["reciprocal-division"]), GPTQ, "loop, column ", "sic", None),
        (Deciding(decision(gain=lambda g: min(g, 0.99))), WATERSIC, ": gain", "sic",
         "clamped-gain"),
        (WrongMoments(), WATERSIC, "rescaler turn 1", "matmul_transposed", "reversed-chain"),
    ],
)  # fmt: skip
def test_the_first_operation_that_differs(wrong, run, stage, operation, name):
    if isinstance(wrong, Deciding) and wrong.decide is DECISIONS["reciprocal-division"]:
        # Seen only where a quotient is a tie: weights that are multiples of the scale and a half.
        scale = 49.0
        tied = scale * (np.arange(12).reshape(3, 4) % 5 - 2.5)
        tied[:, 0] = scale * 7.5
        run, name = by(rtn, tied, np.eye(4), bits=4), "reciprocal-division"
    diagnosis = diagnose_algorithm("layer", run, run(wrong), wrong)
    assert stage in diagnosis.stage
    assert diagnosis.operation == operation
    if name is not None:
        assert name in names(diagnosis)
    assert diagnosis.lines()[0].startswith("first difference: ")


def test_boxed_matrices_are_followed_too():
    for run in (WATERSIC, GPTQ, RESIDUAL):
        assert find_first_divergence(run, OPAQUE) is None


def test_lockstep_knows_what_is_overwritten():
    said = {n for n, s in SIGNATURES.items() if s.return_annotation == "None"} | {"sic"}
    assert said == set(OVERWRITTEN)


def test_a_backend_that_breaks_down():
    class Broken(NumpyOperations):
        name = "broken"

        def cholesky(self, matrix):
            raise RuntimeError("device lost")

    divergence = find_first_divergence(GPTQ, Broken())
    assert (divergence.stage, divergence.operation) == ("factor", "cholesky")
    assert "RuntimeError" in divergence.differences["error"].layout


# Algorithms, from foreign outputs alone -----------------------------------------------------------


def explain(run, actual, order=None):
    return diagnose_algorithm("layer", run, actual, order=order)


SMALL = by(watersic, W[:, :16], SIGMA[:16, :16], spacing=0.05, rescale=False)


@pytest.mark.parametrize("name", ["fused-multiply-add", "pairwise-chain"])
def test_a_whole_algorithm_with_another_habit(name):
    assert names(explain(SMALL, SMALL(Chained(CHAINS[name])))) == {name}


def test_float32_in_chains_alone():
    """Sums of the contract's tree stay in float64."""
    wrong = Chained(CHAINS["float32-accumulation"])
    assert names(explain(SMALL, SMALL(wrong))) == {"float32-accumulation-in-chains"}


@pytest.mark.parametrize("operation", ["cholesky", "sic"])
def test_a_habit_in_one_operation_alone(operation):
    wrong = Chained(CHAINS["reversed-chain"], (operation,))
    assert names(explain(SMALL, SMALL(wrong))) == {f"reversed-chain in {operation}"}


@pytest.mark.parametrize("name", ["truncation", "clamped-gain-0-1", "unit-gain"])
def test_another_decision_in_a_whole_algorithm(name):
    assert names(explain(SMALL, SMALL(Deciding(DECISIONS[name])))) == {name}


def test_the_first_column_in_the_order_of_processing():
    for run, order, first in ((GPTQ, np.arange(40), 9), (WATERSIC, np.arange(40)[::-1], 30)):
        actual = run(NUMPY)
        actual["codes"] = actual["codes"].copy()
        actual["codes"][:, [9, 30]] += 1
        diagnosis = diagnose_algorithm("layer", run, actual, order=order, seconds=0.0)
        assert diagnosis.stage == f"codes, column {first}, place 9 in the order of processing"


def test_the_order_of_processing():
    S = SIGMA.copy()
    np.fill_diagonal(S, np.tile([3.0, 1.0, 2.0, 0.0], 10))
    inputs = {"weight": W, "covariance": S}
    assert processing_order("watersic", {}, inputs)[0] == 39
    assert processing_order("gptq", {}, inputs)[0] == 0
    by_energy = processing_order("gptq", {"actorder": True}, inputs)
    assert by_energy[:3].tolist() == [0, 4, 8]
    assert by_energy[20:24].tolist() == [1, 3, 5, 7]  # a dead feature has the diagonal 1


def test_group_scales():
    grouped = {"bits": 3, "group_size": 4, "block_size": 12}
    run = by(gptq, W20, SIGMA20, **grouped)
    fresh = outputs(gptq(W20, SIGMA20, **{**grouped, "block_size": 4}))
    assert names(explain(run, fresh)) == {"fresh-group-scales"}
    stale = outputs(gptq(W20, SIGMA20, **grouped, static_groups=True))
    assert names(explain(run, stale)) == {"stale-group-scales"}


def test_medians():
    S = SIGMA20.copy()
    S[:, 7] = S[7] = 0.0
    scale = 2.0 ** np.repeat([-3, 3], 10)
    S = (
        S
        * scale
        * scale[:, None]
        / np.sqrt(S.diagonal().clip(1e-9) * S.diagonal().clip(1e-9)[:, None])
    )
    run = by(watersic, W20, S, spacing=0.5, dead_threshold=0.5, rescale=False)
    ascending = np.sort(S.diagonal())
    ratio = ascending[10] / ascending[9]
    upper = outputs(watersic(W20, S, spacing=0.5, dead_threshold=0.5 * ratio, rescale=False))
    assert names(explain(run, upper)) >= {"upper-median"}
    mean = outputs(
        watersic(W20, S, spacing=0.5, dead_threshold=0.5 * (1 + ratio) / 2, rescale=False)
    )
    assert names(explain(run, mean)) >= {"mean-of-medians"}


def test_ties_of_activation_order():
    S = SIGMA20 / np.sqrt(np.outer(SIGMA20.diagonal(), SIGMA20.diagonal()))
    np.fill_diagonal(S, 1.0)
    run = by(gptq, W20, S, bits=3, actorder=True)
    back = gptq(W20[:, ::-1].copy(), S[::-1, ::-1].copy(), bits=3, actorder=True)
    wrong = outputs(back)
    for name in ("codes", "dequantized"):
        wrong[name] = wrong[name][:, ::-1].copy()
    # The distortion is a sum in another order, and would be computed by whoever has the result.
    kept = ("codes", "dequantized", "scale", "zero", "group")

    def chosen(backend):
        return {name: run(backend)[name] for name in kept}

    diagnosis = explain(chosen, {name: wrong[name] for name in kept})
    assert names(diagnosis) == {"activation-order-reversed-ties"}


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("columns-before-rows", lambda z, t, g: z * g * t),
        ("scales-multiplied-first", lambda z, t, g: z * (t * g)),
    ],
)
def test_order_of_the_scales(name, product):
    rescaled = by(watersic, W20, SIGMA20, spacing=0.5)

    def run(backend):
        return {k: v for k, v in rescaled(backend).items() if k not in ("distortion", "rate_met")}

    wrong = run(NUMPY)
    wrong["dequantized"] = product(
        wrong["codes"].astype(float), wrong["row_scale"][:, None], wrong["column_scale"]
    )
    diagnosis = explain(run, wrong, np.arange(20)[::-1])
    assert names(diagnosis) == {name}
    assert diagnosis.stage == "the codes are equal; after them, in dequantized"


@pytest.mark.parametrize("name", ["truncated-zero-point", "half-away-everywhere"])
def test_zero_points(name):
    weights = bell(4, (8, 12), np.float64)
    weights[0, :2] = -1.5, 6.0  # -xmin/s = 3.0 exactly; the next one is a tie, 2.5
    weights[1] = np.clip(weights[1], -1.25, 6.25)
    weights[1, :2] = -1.25, 6.25
    low, high = weights.min(axis=1), weights.max(axis=1)
    scale = (high - low) / 15
    ratio = -low / scale
    zero = np.trunc(ratio) if name.startswith("trunc") else np.floor(ratio + 0.5)

    def rounded(v):
        return np.rint(v) if name.startswith("trunc") else np.copysign(np.floor(abs(v) + 0.5), v)

    codes = np.clip(rounded(weights / scale[:, None]) + zero[:, None], 0, 15)

    def run(backend):
        found = rtn(weights, np.eye(12), bits=4, asymmetric=True, backend=backend)
        return {"codes": found.codes, "zero": found.scales.zero, "scale": found.scales.scale}

    wrong = {
        "codes": codes.astype(np.int32),
        "zero": zero.astype(np.int32)[:, None],
        "scale": scale[:, None],
    }
    assert names(explain(run, wrong)) == {name}


# Golden cases -------------------------------------------------------------------------------------


def golden(function: str, kind: str = "small"):
    cases = [
        case
        for case in load_index().cases
        if case.function == function and case.size == kind and case.error is None
        and case.dtype == "float64"
    ]  # fmt: skip
    assert cases, f"no golden case of {function}"
    return cases


@pytest.mark.parametrize("function", ["cholesky", "matmul", "solve", "sic", "watersic"])
def test_a_golden_case(function):
    """A wrong backend is seen by a case of the function, and named there."""
    wrong = Chained(CHAINS["fused-multiply-add"])
    for case in golden(function):
        inputs = case.load_inputs()
        actual = outcome(lambda case=case, inputs=inputs: execute(case, inputs, wrong))
        diagnosis = diagnose(case, inputs, actual, wrong)
        if diagnosis.differences:
            assert "fused-multiply-add" in names(diagnosis)
            assert any(case.id in line for line in diagnosis.lines())
            return
    raise AssertionError(f"no golden case of {function} sees a fused multiply-add")
