"""The golden files: structure, coverage, regeneration, and that a check can fail."""

from __future__ import annotations

import inspect
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from waterlevel.data import GOLDEN
from waterlevel.reference import NUMPY, BadInput, gptq, rtn, waterfill, watersic
from waterlevel.reference.operations import CONTRACT_VERSION, Operations
from waterlevel.validate.command_line import main
from waterlevel.validate.golden import write
from waterlevel.validate.golden.case import Bits, TensorStore, load_index, sha256
from waterlevel.validate.golden.check import check_case, check_cases, differences
from waterlevel.validate.golden.definition import Purpose
from waterlevel.validate.golden.definitions import DEFINITIONS
from waterlevel.validate.golden.execute import FUNCTIONS, METHODS, OPERATIONS, execute
from waterlevel.validate.golden.recipes import RECIPES, raw

INDEX = load_index()
MEGABYTE = 2**20


def json_of(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text("utf-8"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the golden files that may be spoiled."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


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
    everything = [path.stat().st_size for path in GOLDEN.parent.rglob("*") if path.is_file()]
    assert sum(everything) < 25 * MEGABYTE


def test_contract_is_the_one_that_this_program_follows():
    assert INDEX.contract == CONTRACT_VERSION


# Coverage -----------------------------------------------------------------------------------------

ALGORITHMS = {"rtn": rtn, "gptq": gptq, "waterfill": waterfill, "watersic": watersic}


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


# The generator and recipes ------------------------------------------------------------------------


def philox(key: int, blocks: int) -> list[int]:
    """As data/golden/README.md has it."""
    mask, numbers = 2**64 - 1, []
    for block in range(1, blocks + 1):
        c, k = [block, 0, 0, 0], [key, 0]
        for turn in range(10):
            if turn:
                k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
            hi0, lo0 = divmod(0xD2E7470EE14C6C93 * c[0], 2**64)
            hi1, lo1 = divmod(0xCA5A826395121157 * c[2], 2**64)
            c = [hi1 ^ c[1] ^ k[0], lo1, hi0 ^ c[3] ^ k[1], lo0]
        numbers += c
    return numbers


@pytest.mark.parametrize("key", [0, 1, 911, 2**64 - 1])
def test_the_generator_is_the_one_of_the_readme(key: int):
    assert raw(key, 12).tolist() == philox(key, 3)


def test_bell_by_its_steps():
    w, b = philox(5, 6), 51
    expected = []
    for i in range(6):
        s = sum((w[q * 6 + i] >> (64 - b)) - 2 ** (b - 1) for q in range(4))
        expected.append(s * 2.0 ** (-2 + 1 - b))
    made = RECIPES["bell"].function(key=5, shape=[2, 3], exponent=-2)
    assert made.ravel().tolist() == expected


def test_structured_covariance_by_its_steps():
    w, n, r = philox(6, 2), 5, [1.0]
    d = [(256 + (x & 255)) * 2.0 ** (((x >> 8) & 255) % 2 - 8) for x in w[:n]]
    for _ in range(n):
        r.append(r[-1] * 0.875)
    expected = [[(d[i] * d[j]) * r[abs(i - j)] for j in range(n)] for i in range(n)]
    assert RECIPES["structured_covariance"].function(key=6, n=n).tolist() == expected


def test_structured_factor_by_its_steps():
    w, n, r = philox(7, 2), 5, [1.0]
    d = [(256 + (x & 255)) * 2.0 ** (((x >> 8) & 255) % 2 - 8) for x in w[:n]]
    for _ in range(n):
        r.append(r[-1] * 0.625)
    expected = [[d[j] * r[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)]
    assert RECIPES["structured_factor"].function(key=7, n=n).tolist() == expected


def test_integers_by_their_steps():
    made = RECIPES["integers"].function(key=8, shape=[3, 2], low=-9, high=9, exponent=-1)
    assert made.ravel().tolist() == [(x % 19 - 9) / 2 for x in philox(8, 2)[:6]]


# Checking -----------------------------------------------------------------------------------------


def test_small_cases_hold_on_the_oracle():
    checked = check_cases(INDEX.cases, ["small"], lambda case: NUMPY)
    assert checked.differences == ()
    assert checked.cases >= 300
    assert checked.digests == ()
    assert len(checked.left_out) >= 12


def test_a_medium_digest_holds():
    case = INDEX.by_id["gptq/order/medium-groups-48x512-float64"]
    assert check_case(case, NUMPY) == []


def spoiled(array: np.ndarray, place: int = 0) -> np.ndarray:
    """The array with its lowest bit flipped at one place."""
    bytes_ = bytearray(np.ascontiguousarray(array).tobytes())
    bytes_[place * array.itemsize] ^= 1
    return np.frombuffer(bytes(bytes_), array.dtype).reshape(array.shape)


@pytest.mark.parametrize(
    "id_",
    [
        "matmul/order/6x97x5-float32",
        "gptq/semantics/groups-of-4-6x22-float64",
        "watersic/order/everything-40x12-float64",
        "rates/semantics/watersic-50x20-float64",
        "column_histograms/order-free/codes-9x5-float64",
    ],
)
def test_one_flipped_bit_of_any_output_is_found(id_: str):
    case = INDEX.by_id[id_]
    outputs = execute(case, case.load_inputs(), NUMPY)
    assert differences(case, outputs) == []
    for name, array in outputs.items():
        found = differences(case, {**outputs, name: spoiled(array, array.size - 1)})
        assert len(found) == 1, name
        assert case.id in found[0]
        assert name in found[0]


def test_a_flipped_bit_behind_the_first_rows_is_found_by_the_digest():
    case = INDEX.by_id["gptq/order/medium-groups-48x512-float32"]
    outputs = execute(case, case.load_inputs(), NUMPY)
    behind = {**outputs, "dequantized": spoiled(outputs["dequantized"], 48 * 512 - 1)}
    (line,) = differences(case, behind)
    assert "SHA-256" in line
    (line,) = differences(case, {**outputs, "codes": spoiled(outputs["codes"])})
    assert "codes" in line
    (line,) = differences(case, {**outputs, "codes": outputs["codes"][:47]})
    assert "shape" in line


def test_a_limit_beyond_its_bound_is_found():
    case = next(case for case in INDEX.cases if "limit" in case.outputs)
    outputs = execute(case, case.load_inputs(), NUMPY)
    bound = case.outputs["limit"].bound
    assert bound is not None
    assert 0 < bound < 1e-6
    assert differences(case, {**outputs, "limit": outputs["limit"] + bound / 4}) == []
    (line,) = differences(case, {**outputs, "limit": outputs["limit"] + 3 * bound})
    assert "limit" in line


def test_a_wrong_error_is_found():
    case = INDEX.by_id["cholesky/invalid/pivot-negative-n4-float64"]
    assert case.error is not None
    assert check_case(case, NUMPY) == []
    assert differences(case, {"factor": np.eye(4)})
    for fields in ({"pivot": 1, "value": "-0x1.0000000000000p+0"}, {"pivot": 2, "value": "0x0p+0"}):
        assert differences(case, replace(case.error, fields=fields))
    assert differences(case, replace(case.error, type="BadInput"))


def test_a_missing_and_an_unexpected_output_are_found():
    case = INDEX.by_id["row_extrema/order-free/range-5x6-float64"]
    outputs = execute(case, case.load_inputs(), NUMPY)
    del outputs["least"]
    assert "missing" in differences(case, outputs)[0]
    assert (
        "not expected" in differences(case, {**outputs, "least": np.ones(1), "x": np.ones(1)})[-1]
    )


def test_inputs_are_new_every_time():
    case = INDEX.by_id["sic/order/uniform-6xn17-float64"]
    inputs = case.load_inputs()
    inputs["target"][:] = 0
    assert case.load_inputs()["target"].any()


# The command --------------------------------------------------------------------------------------


def few(directory: Path, *functions: str) -> None:
    """Leave only the small cases of these functions in the index."""
    path = directory / "index.json"
    index = json.loads(path.read_text("utf-8"))
    index["cases"] = [
        case for case in index["cases"] if case["function"] in functions and case["size"] == "small"
    ]
    path.write_text(json.dumps(index), "utf-8")


def test_check_says_what_it_did_and_fails_on_a_flipped_bit(copy: Path, capsys):
    few(copy, "matmul", "cholesky")
    assert main(["golden", "check", "--directory", str(copy)]) == 0
    assert "all as expected" in capsys.readouterr().out
    tensors = load_file(copy / "matmul.safetensors")
    name = "matmul/order/6x97x5-float64/outputs/product"
    tensors[name] = spoiled(tensors[name])
    save_file(tensors, copy / "matmul.safetensors")
    assert main(["golden", "check", "--directory", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "matmul/order/6x97x5-float64" in out
    assert "1 differences" in out


def test_check_names_the_digests_it_left_out(capsys):
    code = main(["golden", "check", "--size", "small", "--names"])
    out = capsys.readouterr().out
    assert code == 0
    assert "digest not computed: cholesky/order/large-n4096-float64 factor" in out
    assert "not computed (--size)" in out


def test_check_refuses_an_unknown_size_and_a_missing_directory(tmp_path: Path, capsys):
    assert main(["golden", "check", "--size", "tiny"]) == 2
    assert main(["golden", "check", "--directory", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


# Writing ------------------------------------------------------------------------------------------


def test_writing_changes_no_byte(copy: Path, monkeypatch: pytest.MonkeyPatch):
    """Small cases are computed again, the others kept; the purposes are looked at elsewhere."""
    monkeypatch.setattr(write, "_serves", lambda *_: None)
    computed = write.write_golden(copy, ["small"])
    assert len(computed) >= 300
    for path in GOLDEN.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_writing_everything_but_the_largest_changes_no_byte(copy: Path):
    write.write_golden(copy, ["small", "medium"])
    for path in GOLDEN.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


def definition(id_: str):
    return next(d for d in DEFINITIONS if d.id == id_)


@pytest.mark.parametrize(
    "id_",
    [
        "cholesky/rounding/contraction-sensitive-n3-float64",
        "gptq/semantics/straddling-groups-6x22-float32",
        "watersic/semantics/lower-median-6x8-float64",
        "row_inner/order-free/4x513-float64",
    ],
)
def test_a_definition_serves_its_purpose_and_another_is_refused(id_: str):
    store = TensorStore(GOLDEN)
    good = definition(id_)
    write.compute(good, store)
    wrong = (
        replace(good, changed_by=("fused-multiply-add",), unchanged_by=())
        if good.unchanged_by
        else replace(good, changed_by=(), unchanged_by=good.changed_by)
    )
    with pytest.raises(write.MissesItsPurpose, match="must give"):
        write.compute(wrong, store)
    impossible = replace(good, purposes=(Purpose("pigs fly", lambda i, o: False),))
    with pytest.raises(write.MissesItsPurpose, match="pigs fly"):
        write.compute(impossible, store)


def test_a_case_that_should_fail_and_does_not_is_refused():
    case = definition("cholesky/order-free/n3-float64")
    with pytest.raises(write.MissesItsPurpose):
        write.compute(replace(case, tier="invalid"), TensorStore(GOLDEN))


def test_two_implementations_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch):
    class Wrong(type(NUMPY)):
        name = "wrong"

        def matmul(self, left, right):
            return np.nextafter(super().matmul(left, right), 1e9)

    monkeypatch.setattr(write, "implementation", lambda name: Wrong() if name == "c" else NUMPY)
    monkeypatch.setitem(write.CONFIRMED_BY, "small", ("numpy", "c"))
    case = definition("matmul/order-free/5x7x6-float64")
    with pytest.raises(write.WaterlevelError, match="numpy and c differ in output product"):
        write.compute(case, TensorStore(GOLDEN))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")
@pytest.mark.parametrize("function", ["matmul", "cholesky", "solve", "solve_reversed"])
def test_the_independent_implementation_agrees_on_small_cases(function: str):
    independent = write.implementation("c")
    for case in INDEX.cases:
        if case.function == function and case.size == "small":
            assert check_case(case, independent) == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")
def test_the_independent_implementation_agrees_on_cancellation():
    independent = write.implementation("c")
    for case in INDEX.cases:
        lattice = case.parameters.get("codebook") in ("scaled", "affine")
        if case.function == "sic" and lattice and case.size == "small" and case.error is None:
            assert check_case(case, independent) == []


def test_digest_is_of_little_endian_bytes():
    array = np.arange(6.0).reshape(2, 3)
    assert sha256(array) == sha256(array.astype(">f8")) == sha256(np.asfortranarray(array))
    expected = INDEX.by_id["zeros/order-free/3x5-float64"].expected()["matrix"]
    assert isinstance(expected, Bits)
    assert sha256(expected.array) == sha256(np.zeros((3, 5)))
