"""The golden files: structure and coverage."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
from safetensors.numpy import load_file

from waterlevel.data import GOLDEN
from waterlevel.reference import BadInput, gptq, rtn, waterfilling, watersic
from waterlevel.reference.contract import CONTRACT_VERSION
from waterlevel.reference.operations import Operations
from waterlevel.validate.golden.case import load_index
from waterlevel.validate.golden.execute import FUNCTIONS, METHODS, OPERATIONS

INDEX = load_index()
MEGABYTE = 2**20


def json_of(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text("utf-8"))


# Structure ----------------------------------------------------------------------------------------


def test_index_fits_the_schema():
    schema = json_of("schema.json")
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(json_of("index.json"))
    assert [error.message for error in errors] == []


def test_schema_refuses_unknown_keys_everywhere():
    def walk(node: object, where: str) -> None:
        if isinstance(node, dict):
            described = "properties" in node and node.get("type") == "object"
            if described:
                assert node["additionalProperties"] is False, where
            for key, value in node.items():
                walk(value, f"{where}/{key}")
        elif isinstance(node, list):
            for i, value in enumerate(node):
                walk(value, f"{where}/{i}")

    walk(json_of("schema.json"), "")


PLACES = {
    "index": lambda index: index,
    "flag": lambda index: next(iter(index["flags"].values())),
    "recipe": lambda index: next(iter(index["recipes"].values())),
    "case": lambda index: index["cases"][0],
    "input": lambda index: next(iter(index["cases"][0]["inputs"].values())),
    "output": lambda index: next(iter(index["cases"][0]["outputs"].values())),
    "parameters": lambda index: index["cases"][0]["parameters"],
    "error": lambda index: next(c["error"] for c in index["cases"] if c["error"]),
}


@pytest.mark.parametrize("place", PLACES)
def test_schema_and_reader_refuse_an_unknown_key(place: str, tmp_path: Path):
    index, schema = json_of("index.json"), json_of("schema.json")
    kept = [index["cases"][0], next(c for c in index["cases"] if c["error"])]
    index["cases"] = kept
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(index)
    PLACES[place](index)["colour"] = "blue"
    assert not validator.is_valid(index)
    if place in ("index", "case", "input", "output", "error"):  # the rest is free for the reader
        (tmp_path / "index.json").write_text(json.dumps(index), "utf-8")
        with pytest.raises(BadInput, match="colour"):
            load_index(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tier", "hard", "tier"),
        ("size", "huge", "size"),
        ("dtype", "float16", "dtype"),
        ("flags", ["no-such-flag"], "flag"),
        ("confirmed_by", ["hearsay"], "unknown"),
        ("inputs", {"array": {}}, "nowhere"),
        ("inputs", {"array": {"recipe": "soup", "parameters": {}}}, "recipe"),
        ("outputs", {}, "outputs"),
        ("outputs", {"matrix": {"kind": "guess", "tensor": "x"}}, "kind"),
        ("outputs", {"matrix": {"kind": "digest", "tensor": "x"}}, "lacks"),
    ],
)
def test_reader_refuses(key: str, value: object, said: str, tmp_path: Path):
    index = json_of("index.json")
    index["cases"] = [{**index["cases"][0], key: value}]
    (tmp_path / "index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(BadInput, match=said):
        load_index(tmp_path)


def test_reader_refuses_two_cases_of_one_id_and_what_is_no_json(tmp_path: Path):
    index = json_of("index.json")
    index["cases"] = index["cases"][:1] * 2
    (tmp_path / "index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(BadInput, match="same id"):
        load_index(tmp_path)
    (tmp_path / "index.json").write_text("{", "utf-8")
    with pytest.raises(BadInput, match="cannot be read"):
        load_index(tmp_path)


def test_every_tensor_belongs_to_a_case_and_every_case_finds_its_own():
    wanted: dict[str, set[str]] = {}
    for case in INDEX.cases:
        names = {source.tensor for source in case.inputs.values() if source.tensor is not None}
        names |= {output.tensor for output in case.outputs.values()}
        if names:
            wanted.setdefault(case.file or "", set()).update(names)
    stored = {path.name: set(load_file(path)) for path in GOLDEN.glob("*.safetensors")}
    assert stored == wanted


def test_files_are_small():
    bytes_of = {path.name: path.stat().st_size for path in GOLDEN.iterdir()}
    assert sum(bytes_of.values()) < 11 * MEGABYTE
    data = GOLDEN.parent
    sizes = {path: path.stat().st_size for path in data.rglob("*") if path.is_file()}
    models = sum(size for path, size in sizes.items() if data / "models" in path.parents)
    assert models < 5 * MEGABYTE
    assert sum(sizes.values()) - models < 25 * MEGABYTE


def test_contract_is_the_one_that_this_program_follows():
    assert INDEX.contract == CONTRACT_VERSION


# Coverage -----------------------------------------------------------------------------------------

ALGORITHMS = {"rtn": rtn, "gptq": gptq, "waterfilling": waterfilling, "watersic": watersic}


def operations_of_the_protocol() -> set[str]:
    return {name for name, value in vars(Operations).items()
            if not name.startswith("_") and callable(value)}  # fmt: skip


def test_every_operation_has_cases_in_both_dtypes():
    assert set(OPERATIONS) == operations_of_the_protocol()
    covered = Counter((case.function, case.dtype) for case in INDEX.cases if case.error is None)
    for name in operations_of_the_protocol() - {"column_histograms"}:  # of codes, without a dtype
        assert covered[name, "float64"], name
        assert covered[name, "float32"], name
    assert covered["column_histograms", "float64"]


def test_every_function_that_can_be_executed_has_a_case():
    assert {case.function for case in INDEX.cases} == set(FUNCTIONS) | set(METHODS)


@pytest.mark.parametrize("method", ALGORITHMS)
def test_every_option_of_an_algorithm_is_used_by_a_case(method: str):
    given: set[str] = {"dtype", "backend"}  # of every case, and of none
    for case in INDEX.cases:
        if case.function == method and case.error is None:
            defaults = inspect.signature(ALGORITHMS[method]).parameters
            given |= set(case.inputs)
            given |= {n for n, v in case.parameters.items()
                      if n == "hadamard_seed" or v != defaults[n].default}  # fmt: skip
    if "hadamard_seed" in given:
        given.add("rotation")
    assert set(inspect.signature(ALGORITHMS[method]).parameters) <= given


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ("format", {"fp4-e2m1", "fp6-e2m3", "fp6-e3m2", "fp8-e4m3", "fp8-e5m2"}),
        ("rate_measure", {"rate", "rate_column", "rate_pooled"}),
        ("codebook", {"uniform", "scaled", "affine", "fp4-e2m1", "fp8-e4m3"}),
    ],
)
def test_every_value_of_a_choice_is_used(parameter: str, values: set[str]):
    assert values <= {case.parameters.get(parameter) for case in INDEX.cases}


def test_every_flag_is_explained_and_used():
    used = {flag for case in INDEX.cases for flag in case.flags}
    assert used == set(INDEX.flags)
    for case in INDEX.cases:
        assert case.flags, case.id


def test_tiers_and_sizes_are_populated():
    tiers = Counter(case.tier for case in INDEX.cases if case.size == "small")
    assert all(tiers[tier] >= 20 for tier in INDEX.tiers), tiers
    sizes = Counter(case.size for case in INDEX.cases)
    assert sizes["small"] >= 300
    assert sizes["medium"] >= 12
    assert sizes["large"] >= 6


def test_large_and_medium_cases_are_by_recipe_and_confirmed_twice():
    for case in INDEX.cases:
        if case.size != "small":
            assert all(source.recipe for source in case.inputs.values()), case.id
            assert len(set(case.confirmed_by)) >= 2, case.id
            for output in case.outputs.values():
                assert case.tensor(output.tensor).size <= 1024 or output.kind == "digest", case.id
    assert sum(output.kind == "digest" for case in INDEX.cases for output in case.outputs.values())


def test_every_error_of_the_package_is_expected_somewhere():
    types = {case.error.type for case in INDEX.cases if case.error}
    assert types == {"BadInput", "NotPositiveDefinite", "CodeOverflow"}


def test_ids_say_what_the_case_is():
    for case in INDEX.cases:
        function, tier, what = case.id.split("/")
        assert (function, tier) == (case.function, case.tier)
        assert what.endswith(f"-{case.dtype}")
