"""How far may the floats of two correct kernels be apart whose codes are equal?

Not the same bits: sums in another order, fused operations, a library's Cholesky. But the same
working precision u and the same codes. Then every float is a smooth function of W and Σ, both
kernels are close to its exact value, and rounding analysis says how close. With γ_k = k·u/(1 - k·u)
(Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapters 3, 8 and 10; all to first
order in u, element by element, for sums in any order):

| step | error |
|---|---|
| product A B, inner length n | \\|A\\|ΔB + ΔA\\|B\\| + γ_n \\|A\\|\\|B\\| |
| Cholesky H = L Lᵀ | the exact factor of H + E, E = ΔH + γ_(n+1) \\|L\\|\\|Lᵀ\\| |
| … so the factor itself | ΔL = \\|L\\|·low(\\|L⁻¹\\| E \\|L⁻ᵀ\\|) |
| solve X Lᵀ = T | (ΔT + \\|X\\|ΔLᵀ + γ_n \\|X\\|\\|Lᵀ\\|) \\|L⁻ᵀ\\| |

where low is the lower triangle with half the diagonal. The line for ΔL follows from
L⁻¹ E L⁻ᵀ = L⁻¹ΔL + (L⁻¹ΔL)ᵀ, the derivative of L Lᵀ = H.

**Gains.** With fixed codes the gains of WaterSIC are the solution of a triangular system. Write
β_k = γ_k·α_k for the column scales. γ_k makes z_k·γ_k·c the projection of what is left of column k,

    ⟨z_k, z_k⟩ L_kk β_k = ⟨z_k, Y_k⟩ - Σ_(m>k) ⟨z_k, z_m⟩ L_mk β_m,   that is  G β = r,

so Δβ = |G⁻¹|(Δr + ΔG|β|) with ΔG_km = |⟨z_k, z_m⟩|ΔL_mk and Δr_k = ⟨|z_k|, ΔY_k⟩ and the rounding
of the chain and of the sums.

**Rescaled results** come from an iteration that ends when a turn improves D by less than 3·10⁻⁴ of
it. If every turn at least halves what is left to gain, both kernels end within 3·10⁻⁴·D above the
same minimum. D is quadratic around it, so the distance of two results in the metric of D is at
most (√(3·10⁻⁴·D) + √(3·10⁻⁴·D))² = 1.2·10⁻³·D, and what rounding Ŵ itself adds; there is no bound
element by element.

Two kernels may err in opposite directions, so every bound here is twice that of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ...reference.arithmetic.butterflies import hadamard
from ...reference.bases.hadamard import base_matrix, base_order
from ...reference.bases.rotation import HadamardRotation
from ...reference.methods.preparation import live_features
from ..golden.case import Case

Outputs = Mapping[str, NDArray]
WIDE = 2.0**-53  # u of float64, in which distortions are measured whatever the working dtype
STOP = 3e-4


def gamma(count: int, u: float) -> float:
    """γ_k = k·u/(1 - k·u)."""
    return count * u / (1.0 - count * u)


@dataclass(frozen=True, eq=False)
class Uncertain:
    """A matrix and a bound of the error of each element."""

    value: NDArray
    error: NDArray

    @property
    def size(self) -> NDArray:
        """The magnitudes."""
        return np.abs(self.value)

    def times(self, other: Uncertain, u: float) -> Uncertain:
        """The product."""
        rounding = gamma(self.value.shape[1] + 2, u)
        error = self.size @ other.error + self.error @ other.size
        return Uncertain(self.value @ other.value, error + rounding * self.size @ other.size)

    def transposed(self) -> Uncertain:
        """Aᵀ."""
        return Uncertain(self.value.T, self.error.T)


def exactly(matrix: NDArray) -> Uncertain:
    """A matrix without error, in float64."""
    wide = matrix.astype(np.float64)
    return Uncertain(wide, np.zeros_like(wide))


def factor_of(H: Uncertain, u: float) -> Uncertain:
    """L of H = L Lᵀ."""
    L = np.linalg.cholesky(H.value)
    inverse = np.abs(solve_triangular(L, np.eye(len(L)), lower=True))
    E = H.error + gamma(len(L) + 1, u) * np.abs(L) @ np.abs(L).T
    low = np.tril(inverse @ E @ inverse.T)
    np.fill_diagonal(low, np.diagonal(low) / 2)
    return Uncertain(L, np.abs(L) @ low)


@dataclass(frozen=True, eq=False)
class Analysis:
    """One algorithm on one layer, with the codes that came out; all in float64.

    Attributes:
        case, inputs: what was run. outputs: what the oracle gave. dtype: the working one.
    """

    case: Case
    inputs: Mapping[str, NDArray]
    outputs: Outputs
    dtype: np.dtype

    @property
    def u(self) -> float:
        """Half the distance from 1 to the next float."""
        return float(np.finfo(self.dtype).eps) / 2

    def given(self, name: str) -> Uncertain:
        """An input, rounded to the working dtype as every kernel rounds it."""
        return exactly(self.inputs[name].astype(self.dtype))

    def parameter(self, name: str, default: Any) -> Any:
        """A parameter of the case."""
        value = self.case.parameters.get(name)
        return default if value is None else value

    @cached_property
    def rotation(self) -> Uncertain | None:
        """V, or None."""
        if self.case.function == "waterfilling":
            return self.given("eigenvectors")
        if "rotation" in self.inputs:
            return self.given("rotation")
        if "hadamard_seed" not in self.case.parameters:
            return None
        n = self.inputs["weight"].shape[1]
        turn = HadamardRotation(n, self.case.parameters["hadamard_seed"])
        signed = np.diag(turn.signs)
        return exactly(hadamard(signed, base_matrix(base_order(n))) * turn.scale)

    def turned(self, name: str) -> Uncertain:
        """A matrix of a rows in the working basis."""
        matrix = self.given(name)
        return matrix if self.rotation is None else matrix.times(self.rotation, self.u)

    def moment(self, name: str) -> Uncertain:
        """An n×n moment in the working basis."""
        moment = self.given(name)
        rounding = Uncertain(moment.value, self.u * moment.size)
        if self.rotation is None or self.case.function == "waterfilling":
            return rounding
        return self.rotation.transposed().times(rounding.times(self.rotation, self.u), self.u)

    def damped(self, name: str, amount: float) -> Uncertain:
        """A moment with this on its diagonal."""
        moment = self.moment(name)
        n = len(moment.value)
        total = moment.value + amount * np.eye(n)
        rounding = gamma(n + 2, self.u) * np.abs(np.diagonal(total))
        return Uncertain(total, moment.error + np.diag(rounding))

    @property
    def weight(self) -> Uncertain:
        """W in the working basis."""
        return self.turned("weight")

    def bounds(self) -> dict[str, NDArray]:
        """For each float output by how much two kernels may differ; without rescaling."""
        scales = self._scale_errors()
        dequantized = self._dequantized_error(scales)
        bounds = {name: 2.0 * error for name, error in scales.items()}
        bounds["dequantized"] = 2.0 * dequantized
        bounds["distortion"] = 2.0 * self._distortion_error(dequantized)
        square, weights = float(self.outputs["weight_mean_square"]), self.weight.value.size
        bounds["weight_mean_square"] = np.array(2 * gamma(weights, WIDE) * square)
        return bounds

    # Scales ------------------------------------------------------------------------------------

    def _scale_errors(self) -> dict[str, NDArray]:
        if "scale" in self.outputs:
            return {"scale": self._grid_error()}
        if self.case.function in ("watersic", "waterfilling"):
            return self._gained_error()
        spacing = float(self.outputs["spacing"])
        error = spacing * (self._spacing_error(None) + 2 * self.u)
        scale = self.outputs["column_scale"]
        return {"column_scale": np.full(scale.shape, error), "spacing": np.array(error)}

    def _spacing_error(self, L: Uncertain | None) -> float:
        """Relative, of a spacing that a rate has led to: c is a geometric mean over columns."""
        if self.parameter("spacing", None) is not None:
            return 0.0
        weight = self.weight
        if L is not None and not len(L.value):
            return 0.0
        squares = np.maximum((weight.value**2).sum(axis=0), np.finfo(np.float64).tiny)
        error = float(((weight.size * weight.error).sum(axis=0) / squares).mean())
        if L is not None:
            error += float((np.diagonal(L.error) / np.diagonal(L.value)).mean())
        return error + gamma(len(weight.value) + 4, self.u)

    def _gained_error(self) -> dict[str, NDArray]:
        live, L, Y = (
            self._waterfilling() if self.case.function == "waterfilling" else self._target()
        )
        beta = self.outputs["column_scale"].astype(np.float64)[live]
        codes = self.outputs["codes"][:, live].astype(np.float64)
        magnitude = np.abs(codes)
        spacing = float(self.outputs["spacing"])
        relative = self._spacing_error(L)
        error = np.zeros_like(beta)
        if self.parameter("lmmse", True):
            # Chain, product and sums: n subtractions, a terms, and a few operations beside them.
            rounding = gamma(codes.shape[0] + codes.shape[1] + 8, self.u)
            chained = Y.size + (magnitude * np.abs(beta)) @ np.abs(L.value)
            inner = codes.T @ codes
            r = (magnitude * (Y.error + rounding * chained)).sum(axis=0)
            r += (np.abs(inner) * L.error.T) @ np.abs(beta)
            used = np.flatnonzero(magnitude.any(axis=0))
            G = (inner * L.value.T)[np.ix_(used, used)]
            error[used] = np.abs(np.linalg.inv(G)) @ r[used]
        else:
            diagonal = np.diagonal(L.error) / np.diagonal(L.value)
            error = np.abs(beta) * (diagonal + relative + 3 * self.u)
        found = np.zeros(self.outputs["column_scale"].shape)
        found[live] = error
        return {"column_scale": found, "spacing": np.array(spacing * (relative + 2 * self.u))}

    def _target(self) -> tuple[NDArray, Uncertain, Uncertain]:
        """The live columns, L and Y of WaterSIC."""
        drift = "covariance_quantized" in self.inputs
        diagonal = np.diagonal(self.moment("covariance").value)
        live = live_features(diagonal, self.parameter("dead_threshold", 1e-3))
        name = "covariance_quantized" if drift else "covariance"
        amount = np.diagonal(self.moment(name).value)[live].mean()
        amount *= self.parameter("damping", 1e-4)

        def alive(matrix: Uncertain, rows: bool) -> Uncertain:
            index = np.ix_(live if rows else np.arange(len(matrix.value)), live)
            return Uncertain(matrix.value[index], matrix.error[index])

        H = alive(self.damped(name, amount), rows=True)
        L, W = factor_of(H, self.u), alive(self.weight, rows=False)
        residual = "residual_covariance" in self.inputs
        if not drift and not residual:
            return live, L, W.times(L, self.u)
        right = alive(self.damped("cross_covariance", amount), rows=True) if drift else H
        T = W.times(right, self.u)
        if residual:
            extra = alive(self.turned("residual_covariance"), rows=False)
            total = T.value + extra.value
            T = Uncertain(total, T.error + extra.error + self.u * np.abs(total))
        inverse = solve_triangular(L.value, np.eye(len(live)), lower=True)
        Y = T.value @ inverse.T
        chain = L.error.T + gamma(len(live), self.u) * np.abs(L.value).T
        error = (T.error + np.abs(Y) @ chain) @ np.abs(inverse).T
        return live, L, Uncertain(Y, error)

    def _waterfilling(self) -> tuple[NDArray, Uncertain, Uncertain]:
        """The components that have a scale, √λ as a diagonal factor, and W V √λ."""
        spectrum = np.maximum(self.inputs["eigenvalues"].astype(np.float64), 0.0)
        active = np.flatnonzero(self.outputs["codes"].any(axis=0))
        length = np.sqrt(spectrum[active])
        weight = self.weight
        Y = weight.value[:, active] * length
        error = weight.error[:, active] * length + 2 * self.u * np.abs(Y)
        return active, Uncertain(np.diag(length), np.diag(2 * self.u * length)), Uncertain(Y, error)

    def _grid_error(self) -> NDArray:
        """Of s = (xmax - xmin)/steps: of the range, and a difference and a quotient."""
        scale = self.outputs["scale"].astype(np.float64)
        own = 8 * self.u * scale
        weight = self.weight
        widest = weight.error.max(axis=1, keepdims=True, initial=0.0)
        groups = self.parameter("group_size", None)
        dynamic = self.case.function == "gptq" and groups and not self.parameter(
            "static_groups", False
        )  # fmt: skip
        if not dynamic:
            return own + 2 * widest * np.ones_like(scale)
        return own + self._updated_weight_error(scale) * np.ones_like(scale)

    def _updated_weight_error(self, scale: NDArray) -> NDArray:
        """Of the range of weights that earlier blocks have changed: a bound for each row.

        They are the open part of Y times L⁻¹. What earlier blocks subtracted carries the errors of
        their own scales; a block depends on those before it alone, so as many rounds settle it.
        """
        moment = self.moment("covariance")
        diagonal = np.diagonal(moment.value)
        amount = self.parameter("damping", 0.01) * np.where(diagonal == 0, 1.0, diagonal).mean()
        H = self.damped("covariance", amount)
        dead = np.diag(np.where(diagonal == 0, 1.0, 0.0))
        order = np.arange(len(diagonal))
        if self.parameter("actorder", False):
            order = np.argsort(-np.where(diagonal == 0, 1.0, diagonal), kind="stable")
        permutation = order[::-1]
        index = np.ix_(permutation, permutation)
        L = factor_of(Uncertain((H.value + dead)[index], H.error[index]), self.u)
        inverse = np.abs(solve_triangular(L.value, np.eye(len(order)), lower=True))
        turned = self.outputs["dequantized"].astype(np.float64)
        if self.rotation is not None:
            turned = turned @ self.rotation.value
        W, done = self.weight, turned[:, permutation]
        W = Uncertain(W.value[:, permutation], W.error[:, permutation])
        rounding = gamma(2 * len(order) + 4, self.u)
        fixed = W.error @ np.abs(L.value) + np.abs(W.value - done) @ L.error
        fixed += rounding * (W.size + np.abs(done)) @ np.abs(L.value)
        relative = 8 * self.u * np.ones((len(scale), 1))
        bound = np.zeros((len(scale), 1))
        for _ in range(-(-len(order) // self.parameter("block_size", 128))):
            values = (relative * np.abs(done)) @ np.abs(L.value)
            bound = 2 * ((fixed + values) @ inverse).max(axis=1, keepdims=True)
            relative = 8 * self.u + bound / scale.min(axis=1, keepdims=True)
        return bound

    # What follows from the scales --------------------------------------------------------------

    def _dequantized_error(self, scales: Mapping[str, NDArray]) -> NDArray:
        codes = self.outputs["codes"].astype(np.float64)
        turned = self.outputs["dequantized"].astype(np.float64)
        if self.rotation is not None:
            turned = turned @ self.rotation.value
        if "scale" in scales:
            group = self.outputs["group"]
            scale = self.outputs["scale"].astype(np.float64)[:, group]
            error = np.abs(turned) * (scales["scale"][:, group] / scale)
        else:
            error = np.abs(codes) * scales["column_scale"]
        error = error + 3 * self.u * np.abs(turned)
        if self.rotation is None:
            return error
        back = self.rotation.transposed()
        return Uncertain(turned, error).times(back, self.u).error

    def _distortion_error(self, dequantized: NDArray) -> NDArray:
        W, found = self.given("weight").value, self.outputs["dequantized"].astype(np.float64)
        rows, n = W.shape
        rounding = gamma(2 * n + rows + 8, WIDE)
        covariance = self.given("covariance").value
        if "covariance_quantized" in self.inputs:
            noisy = self.given("covariance_quantized").value
            cross = self.given("cross_covariance").value
            slope = 2 * np.abs(found @ noisy - W @ cross)
            terms = (np.abs(W) @ np.abs(covariance) * np.abs(W)).sum()
            terms += 2 * (np.abs(W) @ np.abs(cross) * np.abs(found)).sum()
            terms += (np.abs(found) @ np.abs(noisy) * np.abs(found)).sum()
        else:
            noisy, error = covariance, found - W
            slope = 2 * np.abs(error @ covariance)
            terms = (np.abs(error) @ np.abs(covariance) * np.abs(error)).sum()
            rounding += 2 * WIDE * np.abs(found).max() / max(np.abs(error).max(), WIDE)
        curved = (dequantized @ np.abs(noisy) * dequantized).sum()
        return np.array(((slope * dequantized).sum() + curved + rounding * terms) / W.size)


def energy(inputs: Mapping[str, NDArray], matrix: NDArray) -> float:
    """tr(A Σ Aᵀ)/(a·n), with Σ̂ where there is drift: the metric of the distortion."""
    drift = "covariance_quantized" in inputs
    moment = inputs["covariance_quantized" if drift else "covariance"].astype(np.float64)
    wide = matrix.astype(np.float64)
    return float((wide @ moment * wide).sum() / wide.size)


def rescaled_bounds(
    inputs: Mapping[str, NDArray], outputs: Outputs, dtype: np.dtype
) -> tuple[float, float]:
    """By how much two rescaled results may differ: energy of Ŵ - Ŵ', and of their distortions."""
    distortion = abs(float(outputs["distortion"]))
    # Two scales, two products and a conversion are rounded, here and there.
    rounding = 4 * np.finfo(dtype).eps * np.abs(outputs["dequantized"].astype(np.float64))
    rounded = energy({name: np.abs(array) for name, array in inputs.items()}, rounding)
    apart = (math.sqrt(4 * STOP * distortion) + math.sqrt(rounded)) ** 2
    return apart, 2 * STOP * distortion + 2 * math.sqrt(distortion * rounded) + rounded
