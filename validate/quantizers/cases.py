"""What is a quantiser asked? Settings on real layers, and the golden cases of its method.

A setting that needs a parameter which the quantiser does not take is skipped by name. Of a layer
the first rows are taken, because rows do not depend on each other and a few tell as much as all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import LAYERS
from ...reference import Quantized, gptq, rtn
from ...reference.grids.float_formats import FORMATS
from ...reference.methods.grid_fitting import INTEGER
from ...reference.operations import Operations
from ..diagnosis.semantic_grids import GridRule
from ..diagnosis.semantics import Semantics
from ..golden import flags
from ..golden.case import SIZES, Case
from ..layers.layer_files import covariance_of, read_layer

METHODS = {"gptq": gptq, "rtn": rtn}
ROWS = 32
BUNDLED = ("minilm-02-query",)

DEFAULTS: dict[str, dict[str, Any]] = {
    "gptq": {
        "bits": None,
        "format": INTEGER,
        "asymmetric": False,
        "mse": False,
        "group_size": None,
        "static_groups": False,
        "block_size": 128,
        "actorder": False,
        "damping": 0.01,
    },
    "rtn": {"bits": None, "format": INTEGER, "asymmetric": False, "mse": False, "group_size": None},
}

# The likeliest first; each asks for something that those before it do not.
SETTINGS: dict[str, dict[str, Any]] = {
    "4 bits": {"bits": 4},
    "4 bits, groups of 128": {"bits": 4, "group_size": 128},
    "4 bits, asymmetric, groups of 64": {"bits": 4, "asymmetric": True, "group_size": 64},
    "3 bits, activation order": {"bits": 3, "actorder": True},
    "4 bits, activation order, groups of 128": {"bits": 4, "actorder": True, "group_size": 128},
    "4 bits, activation order, static groups": {
        "bits": 4,
        "actorder": True,
        "group_size": 128,
        "static_groups": True,
    },
    "8 bits": {"bits": 8},
    "3 bits, searched range": {"bits": 3, "mse": True},
    "2 bits, asymmetric": {"bits": 2, "asymmetric": True},
    "4 bits, damping 0.1": {"bits": 4, "damping": 0.1},
    "4 bits, groups of 32, blocks of 64": {"bits": 4, "group_size": 32, "block_size": 64},
    "FP4, groups of 32": {"format": "fp4-e2m1", "group_size": 32},
}


@dataclass(frozen=True, eq=False)
class Question:
    """One layer and what is asked for.

    Attributes:
        name: of the case. method: "gptq" or "rtn". parameters: those that are not the default.
        weight: a×n. covariance: n×n, both in the dtype in which they are handed out.
    """

    name: str
    method: str
    weight: NDArray
    covariance: NDArray
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_parameters(self) -> dict[str, Any]:
        """With the defaults of the method."""
        return {**DEFAULTS[self.method], **self.parameters}

    @property
    def semantics(self) -> Semantics:
        """What is asked for."""
        p = self.all_parameters
        grid = GridRule(p["bits"], p["format"], p["asymmetric"], p["mse"])
        if self.method == "rtn":
            grouped = p["group_size"] is not None
            return Semantics(grid, p["group_size"], static_groups=grouped, feedback="none")
        order = "activation" if p["actorder"] else "natural"
        return Semantics(
            grid, p["group_size"], p["static_groups"], p["block_size"], order=order,
            damping=p["damping"],
        )  # fmt: skip

    def oracle(self, backend: Operations, dtype: str) -> Quantized:
        """What this package makes of it."""
        return METHODS[self.method](
            self.weight, self.covariance, **self.parameters, dtype=dtype, backend=backend
        )


def questions_on_layers(
    files: Sequence[Path], method: str, rows: int, backend: Operations
) -> Iterator[Question]:
    """Every setting on every layer; the bundled ones where no file is named.

    Raises:
        BadInput, OSError: a file that is no layer.
    """
    for path in files or [LAYERS / f"{name}.safetensors" for name in BUNDLED]:
        layer = read_layer(path)
        covariance = covariance_of(layer, backend, np.float64).astype(np.float32)
        weight = layer.weight[: rows or None].astype(np.float32)
        for name, parameters in SETTINGS.items():
            if set(parameters) <= set(DEFAULTS[method]):
                yield Question(f"{path.stem}, {name}", method, weight, covariance, parameters)


def questions_in_golden_cases(cases: Sequence[Case], method: str) -> Iterator[Question]:
    """The small golden cases of a method that ask for nothing but a finite grid."""
    for case in cases:
        known = set(case.parameters) <= {*DEFAULTS[method], "dtype"}
        finite = "bits" in case.parameters or case.parameters.get("format") in FORMATS
        plain = case.function == method and case.size == SIZES[0] and case.error is None
        if plain and known and finite and flags.SUBNORMAL not in case.flags:
            inputs = case.load_inputs()
            parameters = {k: v for k, v in case.parameters.items() if k != "dtype"}
            dtype = case.parameters.get("dtype", case.dtype)
            weight, covariance = (inputs[k].astype(dtype) for k in ("weight", "covariance"))
            if set(inputs) == {"weight", "covariance"}:
                yield Question(case.id, method, weight, covariance, parameters)
