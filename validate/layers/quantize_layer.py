"""From a layer file to what an output file holds: tensors, and a report of how they came about.

The library is given arrays; a file has more to say. Its optional tensors may or may not have a part
in a method, its eigenvalues may be those of another matrix, and the result must record what cannot
be computed again to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference import Quantized, gptq, rtn, waterfilling, watersic
from ...reference.bases.haar import haar
from ...reference.bases.rotation import HadamardRotation, MatrixRotation, Rotation, given_rotation
from ...reference.contract import CONTRACT_VERSION
from ...reference.errors import BadInput
from ...reference.limits.gaussian_limit import covariance_eigenvalues, eigenbasis
from ...reference.operations import Operations
from ...reference.operations.layer import prepare
from ..support.progress import Progress
from . import bitstream, remarks
from .layer_files import LayerFile, covariance_of

METHODS: dict[str, Callable[..., Quantized]] = {
    "rtn": rtn,
    "gptq": gptq,
    "watersic": watersic,
    "waterfilling": waterfilling,
}
DRIFT = ("covariance_quantized", "cross_covariance", "residual_covariance")
# Rounding to float32 moves eigenvalues and eigenvectors by far less than this part of the largest
# eigenvalue; those of another matrix, or in another order, are off by far more.
BELONGS = 1e-3
INFINITE = "infinite: there is no distortion"  # for JSON, which has no number for it
NEGATIVE = 1e-6  # the part of a distortion's upper bound that rounding may take it below 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """A quantised layer and what else a report must say of it.

    Attributes:
        result: what the library returned. layer: what it was made from.
        rotation: the V that must be stored, or None.
        inexact: for each number that is not the same on every machine, where it comes from.
        unused: tensors of the layer file that had no part in the result.
        remarks: what somebody should know of the layer, a line each.
        relative_error: D over the energy of the layer's output; None without any.
    """

    result: Quantized
    layer: LayerFile
    rotation: NDArray | None
    inexact: Mapping[str, str]
    unused: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    relative_error: float | None = None

    def encoded(self) -> Outcome:
        """With `rate_bytes` from a real bitstream."""
        found = bitstream.rate_bytes(self.result.codes)
        result = replace(self.result, rates=replace(self.result.rates, rate_bytes=found))
        return replace(self, result=result)

    def tensors(self) -> dict[str, NDArray]:
        """What the output file holds."""
        tensors = tensors_of(self.result)
        return tensors if self.rotation is None else {**tensors, "rotation": self.rotation}

    def description(self) -> dict[str, Any]:
        """What the output file says of itself, ready for JSON."""
        return {
            **describe(self.result),
            "inexact": self.inexact,
            "input": self.layer.digests,
            "unused": self.unused,
            "relative_error": self.relative_error,
            "remarks": self.remarks,
            "grid": remarks.on_grid(self.result),
        }


def tensors_of(result: Quantized) -> dict[str, NDArray]:
    """Codes, scales and Ŵ by the names that they have in a file."""
    found = {"codes": result.codes, "dequantized": result.dequantized}
    return found | vars(result.scales)


def describe(result: Quantized) -> dict[str, Any]:
    """What a file says of a result: how it was made, and all of its numbers."""
    return {
        "method": result.method,
        "rows": result.codes.shape[0],
        "columns": result.codes.shape[1],
        "parameters": result.parameters,
        "rates": asdict(result.rates),
        "rate_met": result.rate_met,
        "distortion": result.distortion,
        "weight_mean_square": result.weight_mean_square,
        "limit": result.limit,
        "gap": result.gap,
        "limit_undefined": _limit_undefined(result),
        "backend": result.parameters["backend"],
        "contract": CONTRACT_VERSION,
        "version": version("waterlevel"),
    }


def _has_limit(result: Quantized) -> bool:
    return result.eigenvalues is not None or result.covariance is not None


def _limit_undefined(result: Quantized) -> str | None:
    if not _has_limit(result):
        return "activation drift: the error has a part that no rate removes"
    if result.limit == np.inf:
        return INFINITE
    return None


def quantize(
    layer: LayerFile,
    method: str,
    parameters: Mapping[str, Any],
    backend: Operations,
    progress: Progress,
    *,
    rotate: str | None = None,
    seed: int = 0,
) -> Outcome:
    """Quantise the layer of a file.

    Args:
        method: one of METHODS. parameters: of that function, without tensors and backend.
        rotate: None, "hadamard", "haar" or "given". seed: of the first two.

    Raises:
        WaterlevelError: whatever the library refuses; a tensor that is needed is missing.
    """
    options, watched = dict(parameters), progress.watch(backend)
    dtype = options.setdefault("dtype", "float64")
    covariance = covariance_of(layer, watched, dtype)
    # Before LAPACK or a rotation sees any of it.
    prepared = prepare(
        layer.weight,
        covariance,
        dtype=dtype,
        backend=watched,
        **{name: getattr(layer, name) for name in DRIFT if method == "watersic"},
    )
    used = {"weight", "covariance", "covariance_factor", "eigenvalues"}
    inexact: dict[str, str] = {}
    eigenvalues = _eigenvalues(layer, covariance)
    if eigenvalues is None:
        inexact |= {"limit": "eigenvalues by LAPACK", "gap": "eigenvalues by LAPACK"}
    inexact["relative_error"] = "the energy of the output by BLAS"
    spectrum = covariance_eigenvalues(covariance) if eigenvalues is None else eigenvalues
    said = remarks.on_covariance(
        covariance,
        spectrum,
        rotate is not None,
        remarks.tokens_of(layer.description),
        rounded=parameters.get("unseen") == "rtn",
    )

    if method == "waterfilling":
        progress.stage("eigenvectors")
        spectrum, stored = _eigenbasis(layer, eigenvalues, covariance)
        if layer.eigenvectors is None:
            inexact["rotation"] = "eigenvectors by LAPACK; exact from the stored tensor on"
        used.add("eigenvectors")
        options |= {"eigenvectors": stored}
    else:
        rotation = _rotation(rotate, seed, layer, watched)
        stored = rotation.matrix if isinstance(rotation, MatrixRotation) else None
        if rotate == "haar":
            inexact["rotation"] = "drawn by LAPACK; exact from the stored tensor on"
        if rotate == "given":
            used.add("rotation")
        options |= {"rotation": rotation}
    if method == "watersic":
        used.update(DRIFT)
    del options["dtype"]
    result = METHODS[method](prepared, eigenvalues=spectrum, **options)
    _check_distortion(result, layer.weight, covariance)
    if not _has_limit(result):
        used.remove("eigenvalues")
        inexact = {
            name: inexact[name] for name in ("rotation", "relative_error") if name in inexact
        }
    unused = tuple(name for name in layer.digests if name not in used)
    energy = remarks.output_energy(layer.weight, covariance)
    relative = remarks.relative_error(result.distortion, energy)
    return Outcome(result, layer, stored, inexact, unused, tuple(said), relative)


def _rotation(
    kind: str | None, seed: int, layer: LayerFile, backend: Operations
) -> Rotation | None:
    columns = layer.weight.shape[1]
    if kind == "hadamard":
        return HadamardRotation(columns, seed)
    if kind == "haar":
        return haar(columns, seed)
    if kind == "given":
        if layer.rotation is None:
            raise BadInput(f"{layer.path}: tensor rotation is missing; --rotate given needs it")
        return given_rotation(layer.rotation, columns, backend=backend)
    return None


def _eigenbasis(
    layer: LayerFile, eigenvalues: NDArray | None, covariance: NDArray
) -> tuple[NDArray, NDArray]:
    """(λ, V) of the file, or else by LAPACK."""
    eigenvectors = layer.eigenvectors
    if eigenvalues is None and eigenvectors is None:
        return eigenbasis(covariance)
    if eigenvalues is None or eigenvectors is None:
        there, missing = ("eigenvectors", "eigenvalues")
        if eigenvectors is None:
            there, missing = missing, there
        raise BadInput(
            f"{layer.path}: tensor {there} is there without {missing}; waterfilling needs both, or "
            "neither to have them computed"
        )
    if eigenvectors.shape != covariance.shape:
        shape = "×".join(map(str, eigenvectors.shape))
        raise BadInput(f"eigenvectors has shape {shape}, expected that of the covariance")
    V = eigenvectors.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinity in V is somebody else's to name
        residual = np.abs(covariance.astype(np.float64) @ V - V * eigenvalues).max(axis=0)
    k = int(np.argmax(residual))
    if residual[k] > BELONGS * np.abs(eigenvalues).max():
        raise BadInput(
            f"eigenvectors[:, {k}] and eigenvalues[{k}] do not belong to the covariance: "
            f"Σv differs from λv by {residual[k]:g}"
        )
    return eigenvalues, eigenvectors


def _eigenvalues(layer: LayerFile, covariance: NDArray) -> NDArray | None:
    """λ of the file, which must be those of Σ as far as the trace can tell."""
    eigenvalues = layer.eigenvalues
    if eigenvalues is None:
        return None
    if eigenvalues.shape != covariance.shape[:1]:
        shape = "×".join(map(str, eigenvalues.shape)) or "()"
        raise BadInput(f"eigenvalues has shape {shape}, expected {len(covariance)} numbers")
    if not np.isfinite(eigenvalues).all():
        k = int(np.argmin(np.isfinite(eigenvalues)))
        raise BadInput(f"eigenvalues[{k}] is {eigenvalues[k]}; every element must be finite")
    wide = eigenvalues.astype(np.float64)
    total, trace = float(wide.sum()), float(np.trace(covariance, dtype=np.float64))
    if abs(total - trace) > BELONGS * trace:
        raise BadInput(
            f"eigenvalues sum to {total:g}, but the diagonal of the covariance to {trace:g}; they "
            "belong to another matrix"
        )
    return wide


def _check_distortion(result: Quantized, weight: NDArray, covariance: NDArray) -> None:
    """Refuse a Σ that is no second moment, where a method without a factorisation let it pass."""
    if not _has_limit(result) or result.distortion >= 0:
        return
    square = (result.dequantized.astype(np.float64) - weight) ** 2
    bound = float(np.mean(square)) * float(np.trace(covariance, dtype=np.float64))
    if result.distortion < -NEGATIVE * bound:
        raise BadInput(
            f"covariance is not positive semidefinite: the distortion would be "
            f"{result.distortion:g}, and no second moment gives a negative one"
        )
