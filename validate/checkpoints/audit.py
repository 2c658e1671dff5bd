"""What is a quantised model worth, layer by layer, and what went wrong in it?

Each quantised weight is read, dequantised and compared with the same weight before quantisation,
one at a time. With the moments Σ of a layer's inputs there is more to say: distortion, limit, gap,
which GPTQ made the codes, and what other methods reach (`under_covariance`, `gptq_deviations`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from ...reference.operations import Operations
from .findings import Finding, entropy, examine, relative_error, scale_rule
from .gguf_file import GgufReader
from .gptq_deviations import made_by
from .reading import Checkpoint
from .tensor_files import times
from .under_covariance import Moments, distortion_and_limit, no_moments, reached_by_methods

SMALLEST = 64 * 64
AWQ_REMARK = (
    "AWQ may fold factors of the columns into the layer before; the errors then include them"
)


@dataclass(frozen=True)
class LayerRow:
    """One quantised weight. What needs Σ is None without it; entropy is None for GGUF.

    Attributes:
        bits_per_weight: everything stored. entropy: of the codes, bits per weight.
        relative_error: |Ŵ - W|²/|W|². distortion, limit, gap: under Σ, bits per weight.
        made_by: the form of GPTQ that reproduces the codes, or "".
        reached: distortion of other methods at bits_per_weight.
    """

    name: str
    format: str
    weights: int
    bits_per_weight: float
    entropy: float | None
    relative_error: float
    scale_rule: str
    distortion: float | None = None
    limit: float | None = None
    gap: float | None = None
    made_by: str = ""
    reached: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """The whole model. `ok` is whether nothing was found."""

    format: str
    rows: list[LayerRow]
    findings: list[Finding]
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def total(self, attribute: str) -> float:
        """The mean over the model's quantised weights, each weight counting once."""
        count = sum(row.weights for row in self.rows)
        whole = sum(row.weights * getattr(row, attribute) for row in self.rows)
        return whole / count if count else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": self.format,
            "bits_per_weight": self.total("bits_per_weight"),
            "relative_error": self.total("relative_error"),
            "layers": [asdict(row) for row in self.rows],
            "findings": [asdict(finding) for finding in self.findings],
            "remarks": self.remarks,
        }


def audit(
    quantized: Checkpoint,
    original: Checkpoint,
    backend: Operations,
    moments: Moments = no_moments,
    oracle: bool = False,
    progress: Callable[[str], object] = lambda name: None,
) -> Audit:
    """Compare a quantised model with the original.

    Args:
        moments: gives Σ of the inputs of a weight, by its name, or None.
        oracle: whether RTN, GPTQ and WaterSIC are run where Σ is known.
        progress: called with each name.

    Raises:
        BadInput, OSError: a file that cannot be read. The original is itself quantised, or the
            quantised model is not.
    """
    names = quantized.quantized()
    if not names:
        raise BadInput(f"{quantized.path}: no quantised weight; nothing to audit")
    if original.reader is not None and not isinstance(original.reader, GgufReader):
        raise BadInput(f"{original.path}: is quantised itself ({original.format})")
    rows, findings = [], list(_layers_left_out(quantized, original, names))
    for name in names:
        progress(name)
        before = _original(original, name)
        if before is None:
            findings.append(Finding("not in the original", name, "there is no such weight"))
            continue
        row, found = _audit_weight(quantized, name, before)
        findings += found
        if row is None:
            continue
        covariance = moments(name)
        if covariance is not None:
            clean = not found
            row, found = _under(row, quantized, before, covariance, backend, clean)
            findings += found
            if oracle:
                rate = row.bits_per_weight
                reached = reached_by_methods(name, before, covariance, rate, backend)
                row = replace(row, reached=reached)
        rows.append(row)
    remarks = [*quantized.remarks, *([AWQ_REMARK] if quantized.format.startswith("awq") else [])]
    return Audit(quantized.format, rows, findings, remarks)


def _audit_weight(
    quantized: Checkpoint, name: str, before: NDArray
) -> tuple[LayerRow | None, list[Finding]]:
    if isinstance(quantized.reader, GgufReader):
        weight, dequantized = None, quantized.dequantized(name)
    else:
        weight = quantized.weight(name)
        dequantized = weight.dequantize()
    if dequantized.shape != before.shape:
        evidence = f"is {times(dequantized.shape)}, but {times(before.shape)} in the original"
        turned = dequantized.shape == before.shape[::-1]
        return None, [Finding("transposed" if turned else "wrong shape", name, evidence)]
    error = relative_error(dequantized, before)
    if weight is None:
        assert isinstance(quantized.reader, GgufReader)
        stored = quantized.reader.bits_stored(name) / dequantized.size
        kind = f"gguf {quantized.reader.type_of(name)}"
        return LayerRow(name, kind, before.size, stored, None, error, ""), []
    bits, stored, rule = entropy(weight.codes), weight.bits_per_weight, scale_rule(weight, before)
    row = LayerRow(name, weight.format, before.size, stored, bits, error, rule)
    return row, list(examine(weight, before))


def _under(
    row: LayerRow,
    quantized: Checkpoint,
    before: NDArray,
    covariance: NDArray[np.float64],
    backend: Operations,
    clean: bool,
) -> tuple[LayerRow, list[Finding]]:
    """The row with what Σ adds; what made the codes is asked of a weight without findings."""
    if len(covariance) != before.shape[1]:
        raise BadInput(
            f"{row.name} has {before.shape[1]} columns, but the Σ given for it {len(covariance)}"
        )
    distortion, limit = distortion_and_limit(quantized.dequantized(row.name), before, covariance)
    gap = None if row.entropy is None else row.entropy - limit
    row = replace(row, distortion=distortion, limit=limit, gap=gap)
    if isinstance(quantized.reader, GgufReader) or not clean:
        return row, []
    settings = quantized.configuration.get("quantization_config") or {}
    weight = quantized.weight(row.name)
    form, finding = made_by(weight, before, covariance, settings, backend)
    return replace(row, made_by=form), [] if finding is None else [finding]


def _original(original: Checkpoint, name: str) -> NDArray | None:
    """The weight before quantisation, or None; an expert is a part of a larger tensor."""
    if isinstance(original.reader, GgufReader):
        return original.dequantized(name) if name in original.reader.tensors else None
    files = original.files
    assert files is not None
    if name in files:
        return files.numbers(name)
    stem, _, index = name.removesuffix("]").rpartition("[")
    if name.endswith("]") and stem in files:
        experts = files.entry(stem).shape
        if len(experts) == 3 and int(index) < experts[0]:
            return np.ascontiguousarray(files.numbers(stem, int(index)).T)
    return None


def _kind(name: str) -> str:
    """A name without its numbers: layers of one kind share it."""
    return re.sub(r"\d+", "*", name)


def _layers_left_out(
    quantized: Checkpoint, original: Checkpoint, names: list[str]
) -> list[Finding]:
    if quantized.files is None or original.files is None:
        return []
    found = []
    done, kinds = set(names), {_kind(name) for name in names}
    for name, entry in original.files.entries.items():
        if name in done or f"{name}[0]" in done:
            continue
        if name not in quantized.files:
            tied = name == "lm_head.weight" and quantized.configuration.get("tie_word_embeddings")
            if not tied:
                found.append(Finding("missing", name, "neither quantised nor as it was"))
        elif len(entry.shape) == 2 and np.prod(entry.shape) >= SMALLEST and _kind(name) in kinds:
            found.append(Finding("left out", name, "is not quantised, others of its kind are"))
    head = "lm_head.weight"
    if head in done and quantized.configuration.get("tie_word_embeddings"):
        evidence = "is quantised, but the configuration ties it to the embedding"
        found.append(Finding("tied weights quantised twice", head, evidence))
    return found
