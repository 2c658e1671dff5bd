"""The JSON Schema of the index, for readers in any language.

Unknown keys are refused everywhere. For every function the schema lists the inputs, parameters and
outputs that a case may have, and those that it must have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .case import DTYPES, KINDS, SIZES, TIERS, Case

Schema = dict[str, Any]

FLOAT = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
COUNT = {"type": "integer", "minimum": 0}
HEXADECIMAL = r"^(-?0x[01]\.[0-9a-f]+p[+-][0-9]+|-?inf|nan)$"
DTYPE_NAMES = ["float64", "float32", "int64", "int32", "int8", "uint8", "bool"]


def _float(description: str) -> Schema:
    return {**FLOAT, "description": description}


def _integer(description: str) -> Schema:
    return {"type": "integer", "description": description}


def _boolean(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _string(description: str) -> Schema:
    return {"type": "string", "description": description}


def _integers(description: str) -> Schema:
    return {"type": "array", "items": COUNT, "description": description}


PARAMETERS: dict[str, Schema] = {
    "actorder": _boolean("process columns by descending diagonal of Σ"),
    "asymmetric": _boolean("the zero point is free"),
    "batches": _integers("how many tokens arrive at a time"),
    "bits": _integer("of a finite grid"),
    "block_size": _integer("columns after which grids see updated weights"),
    "clean_energy": _float("tr(W Σ Wᵀ)"),
    "codebook": _string("uniform, scaled, affine, or a float format"),
    "column_bits": _integer("side information of every column"),
    "columns": _integer("n of the whole matrix, columns without codes included"),
    "damping": _float("δ; default 1e-4 for watersic, 0.01 for gptq"),
    "dead_threshold": _float("τ, default 1e-3"),
    "direction": _string("columns: W V; back: W Vᵀ; both: Vᵀ M V; covariance: the same, symmetric"),
    "distortion": _float("D"),
    "divisor": _float("rounded to the dtype of the matrix"),
    "drift_share": _float("ε_qr"),
    "dtype": _string("of the result; in an algorithm the working dtype"),
    "format": _string("int, or fp4-e2m1, fp6-e2m3, fp6-e3m2, fp8-e4m3, fp8-e5m2"),
    "group_size": _integer("columns that share a grid"),
    "hadamard_seed": _integer("key of the generator that draws the signs"),
    "left_factor": _float("f, rounded to the dtype of the matrix"),
    "lmmse": _boolean("use the gains γ; default true"),
    "m": _integer("order of the base"),
    "matrix_bits": _integer("side information, once"),
    "maximum": _integer("the largest code of an affine grid"),
    "method": _string("watersic or gptq, on the integer lattice"),
    "minimum": _float("of the objective (x - minimum)²"),
    "moment_dtype": _string("of the moment and its arithmetic"),
    "mse": _boolean("search the range for the least error"),
    "open_loop": _boolean("take the spacing from the rate by formula"),
    "rate": _float("R, bits per weight"),
    "rate_measure": _string("which rate the search aims at; default rate"),
    "rescale": _boolean("find row and column scales at the end; default true"),
    "right_factor": _float("g, rounded to the dtype of the matrix"),
    "row_bits": _integer("side information of every row"),
    "shape": _integers("rows, columns"),
    "spacing": _float("α of a lattice, or c of a method; rounded to the dtype of the target"),
    "start": _integer("first column of the range"),
    "static_groups": _boolean("grids from the original weights, by original place"),
    "step": _float("c of a scaled lattice, common to all columns of the whitened target"),
    "steps": _integer("how often the interval is narrowed"),
    "stop": _integer("end of the range, the first column behind it"),
    "threshold": _float("τ"),
    "total": _integer("columns of the result"),
    "unseen": _string("weights of features whose diagonal is 0: zero (default), or rtn"),
    "weighting_share": _float("ε_aw"),
}

SOURCE: Schema = {
    "oneOf": [
        {"$ref": "#/$defs/stored"},
        {"$ref": "#/$defs/made"},
    ]
}


def schema(cases: Sequence[Case], recipes: Iterable[str]) -> Schema:
    """The schema of an index of these cases."""
    functions = sorted({case.function for case in cases})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Index of the Waterlevel golden cases",
        **_object(
            {
                "about": _string("what these files are"),
                "contract": _string("version of the arithmetic contract"),
                "tiers": _object({tier: _string("what the tier is for") for tier in TIERS}),
                "flags": _map(_object({"bug": {"type": "string"}, "effect": {"type": "string"}})),
                "recipes": _map({"$ref": "#/$defs/recipe"}),
                "implementations": _map({"type": "string"}),
                "cases": {"type": "array", "items": {"$ref": "#/$defs/case"}},
            }
        ),
        "$defs": {
            "recipe": _object(
                {
                    "result": {"type": "string"},
                    "parameters": _map({"type": "string"}),
                    "steps": {"type": "array", "items": {"type": "string"}},
                }
            ),
            "stored": _object({"tensor": _string("name in the case's file")}),
            "made": _object(
                {
                    "recipe": {"enum": sorted(recipes)},
                    "parameters": _object(
                        {
                            "columns": COUNT,
                            "dtype": {"enum": ["float64", "float32", "int32"]},
                            "exponent": {"type": "integer"},
                            "file": _string("in data/layers"),
                            "high": {"type": "integer"},
                            "key": COUNT,
                            "low": {"type": "integer"},
                            "n": COUNT,
                            "octaves": COUNT,
                            "rows": COUNT,
                            "shape": _integers("of the result"),
                        },
                        required=(),
                    ),
                }
            ),
            "output": {
                "oneOf": [
                    _object({"kind": {"const": "bits"}, "tensor": {"type": "string"}}),
                    _object(
                        {
                            "kind": {"const": "digest"},
                            "tensor": _string("the first rows"),
                            "dtype": {"enum": DTYPE_NAMES},
                            "shape": _integers("of the whole output"),
                            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                        }
                    ),
                    _object(
                        {
                            "kind": {"const": "tolerance"},
                            "tensor": _string("the middle"),
                            "bound": {"type": "number", "exclusiveMinimum": 0},
                            "reason": _string("where the bound comes from"),
                        }
                    ),
                ]
            },
            "error": _object(
                {
                    "type": {"enum": ["BadInput", "NotPositiveDefinite", "CodeOverflow"]},
                    "fields": _object(
                        {
                            "pivot": COUNT,
                            "row": COUNT,
                            "column": COUNT,
                            "value": {"type": "string", "pattern": HEXADECIMAL},
                        },
                        required=(),
                    ),
                }
            ),
            "case": {
                **_object(
                    {
                        "id": {"type": "string", "pattern": "^[a-z0-9_]+/[a-z-]+/[a-zA-Z0-9.-]+$"},
                        "kind": {"enum": list(KINDS)},
                        "function": {"enum": functions},
                        "tier": {"enum": list(TIERS)},
                        "size": {"enum": list(SIZES)},
                        "dtype": {"enum": list(DTYPES)},
                        "comment": {"type": "string"},
                        "flags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                        "parameters": {"type": "object"},
                        "inputs": {"type": "object"},
                        "outputs": {"type": "object"},
                        "error": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/error"}]},
                        "file": {"type": ["string", "null"]},
                        "confirmed_by": {
                            "type": "array",
                            "items": {"type": "string"},
                            "minItems": 1,
                        },
                    }
                ),
                "allOf": [
                    _of_function(name, [case for case in cases if case.function == name])
                    for name in functions
                ],
            },
        },
    }


def _of_function(name: str, cases: Sequence[Case]) -> Schema:
    """What a case of this function holds: all names that occur, those required that always do."""
    output = {"$ref": "#/$defs/output"}
    parameters = [case.parameters for case in cases]
    right = [case.outputs for case in cases if case.error is None]
    outputs = _names({name: output for names in right for name in names}, right)
    outputs["required"] = []  # none where an error is expected
    return {
        "if": {"properties": {"function": {"const": name}}},
        "then": {
            "properties": {
                "parameters": _names(
                    {key: PARAMETERS[key] for given in parameters for key in given}, parameters
                ),
                "inputs": _names(
                    {key: SOURCE for case in cases for key in case.inputs},
                    [case.inputs for case in cases],
                ),
                "outputs": outputs,
            }
        },
    }


def _names(properties: Mapping[str, Schema], given: Sequence[Mapping[str, Any]]) -> Schema:
    required = [name for name in sorted(properties) if all(name in names for names in given)]
    return _object(dict(sorted(properties.items())), required)


def _object(properties: Mapping[str, Schema], required: Iterable[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _map(value: Schema) -> Schema:
    """Names of somebody's choice, each with such a value."""
    return {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z][a-z0-9_-]*$"},
        "additionalProperties": value,
    }
