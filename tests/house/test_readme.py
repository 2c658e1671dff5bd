"""The README and its pages are true: commands are understood, Python runs, numbers come out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest

from waterlevel import reference
from waterlevel.data import LAYERS
from waterlevel.reference import NUMPY
from waterlevel.validate.cli import study
from waterlevel.validate.cli.main import main, parser
from waterlevel.validate.golden.case import SIZES, load_index
from waterlevel.validate.golden.execute_order_free import ORDER_FREE
from waterlevel.validate.probes.questions import inquiries

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {
    name: (ROOT / name).read_text("utf-8")
    for name in (
        "README.md",
        "backends/README.md",
        "data/reports/BENCHMARK.md",
        "data/reports/CLAIMS.md",
        "data/reports/MODELS.md",
        "reference/EXACTNESS.md",
        "reference/RATES.md",
        ".github/CONTRIBUTING.md",
    )
}
LAYER = "minilm-02-feed-forward-in"
# Limit and gap rest on eigenvalues with an error of about n·2⁻⁵³·λ_max. Σ of the bundled layers has
# λ_min > 1e-8·λ_max, so every λ moves by less than 1e-5 of itself, the limit by less than 1e-5 bit,
# and what is printed by no more than one unit of its last decimal.
LAPACK = 1.1e-3
# The codes of waterfilling rest on eigenvectors. Other last bits of V may let the search end at
# another place within 0.005 of its target: rates 0.01 apart, distortions a factor 2^(2·0.01).
SEARCHED, SEARCHED_DISTORTION = 0.011, 0.015


# Folders of reference/ whose own page is a line.
FOLDERS = {"methods", "calibration", "limits", "bases", "grids", "coding", "arithmetic"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The arguments of every `waterlevel` in a block of shell."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part)[1:] for part in parts if part.startswith("waterlevel ")]


def table(text: str, title: str) -> dict[str, list[str]]:
    """The numbers of each row below a title, by method; up to the next empty line or fence."""
    rows = re.split(r"\n(?:\n|```)", text.partition(title)[2])[0].splitlines()[3:]
    return {row[:14].strip(): re.sub(r"[\[\],]", " ", row[14:]).split() for row in rows}


def printed_by_study(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["study", "--backend", "numpy", *arguments]) == 0
    return capsys.readouterr().out


def assert_same(
    found: dict[str, list[str]], expected: dict[str, list[str]], exact: Container[int] = ()
) -> None:
    """The same methods with the same numbers, those at the places `exact` to the last digit."""
    assert list(found) == list(expected) == list(study.METHODS)
    for method in expected:
        for place, (one, other) in enumerate(zip(found[method], expected[method], strict=True)):
            where = f"{method}, number {place}: {one}, but the README says {other}"
            if "e" in other and method == "waterfilling":
                assert float(one) == pytest.approx(float(other), rel=SEARCHED_DISTORTION), where
            elif place in exact and method != "waterfilling":
                assert one == other, where
            else:
                allowed = SEARCHED if method == "waterfilling" else LAPACK
                assert float(one) == pytest.approx(float(other), abs=allowed, rel=0), where


def test_every_command_is_understood():
    found = commands()
    assert {"validate", "study", "quantize", "compare", "export", "golden", "backends"} <= {
        arguments[0] for arguments in found
    }
    for arguments in found:
        parser().parse_args(arguments)


def test_commands_and_python_run_in_the_order_of_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    steps = re.findall(r"^```(python|sh)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for language, block in steps:
        if language == "python":
            exec(compile(block, "README.md", "exec"), names)
            continue
        for line in block.splitlines():
            if line.startswith("waterlevel "):  # not the study of the bundled layers
                assert main(shlex.split(line)[1:]) == 0, line
    for name in ("layer", "out", "gptq"):
        assert (tmp_path / f"{name}.safetensors").is_file()
    assert (tmp_path / "study.json").is_file()


def test_numbers_of_one_layer(capsys: pytest.CaptureFixture[str]):
    title = f"\n{LAYER}: "
    found = printed_by_study(capsys, str(LAYERS / f"{LAYER}.safetensors"))
    # Column, D, limit and gap at each of three rates; the first two of each are exact.
    expected = table(PAGES["reference/RATES.md"], title)
    assert_same(table(found, title), expected, exact={0, 1, 4, 5, 8, 9})


@pytest.mark.slow
def test_numbers_of_the_summary(capsys: pytest.CaptureFixture[str]):
    title = "\nOver 7 layers, bits per weight"
    expected = table(PAGES["reference/RATES.md"], title)
    assert_same(table(printed_by_study(capsys), title), expected)


@pytest.mark.slow
def test_the_table_of_a_whole_model(capsys: pytest.CaptureFixture[str]):
    (arguments,) = (found for found in commands() if found[:2] == ["model", "evaluate"])
    capsys.readouterr()
    assert main(arguments) == 0
    (shown,) = (block for block in blocks("text") if block.startswith("model "))
    assert capsys.readouterr().out.startswith(shown)


@pytest.mark.parametrize(("place", "wrong"), [(1, "8.83e-05"), (3, "0.575"), (0, "1.957")])
def test_a_number_that_is_off_is_noticed(place: int, wrong: str):
    expected = table(PAGES["reference/RATES.md"], f"\n{LAYER}: ")
    found = {method: list(words) for method, words in expected.items()}
    assert_same(found, expected, exact={0, 1})
    found["GPTQ natural"][place] = wrong
    with pytest.raises(AssertionError, match="GPTQ natural"):
        assert_same(found, expected, exact={0, 1})


def test_it_is_short():
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name: str):
    page = PAGES[name]
    named = re.findall(r"`((?:tests|reference|validate|data|backends)/[\w./]*)`", page)
    beside = re.findall(r"\]\(([^)#]+)\)", page)
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [path for path in beside if not ((ROOT / name).parent / path).exists()] == []
    if name == "README.md":
        assert set(PAGES) - {name} <= set(re.findall(r"`([\w./]+)`", page))


def test_the_reading_order_has_every_module():
    text = reference.__doc__ or ""
    items = numbered(text)
    named = re.findall(r"^Five minutes: `([\w.]+)`", text, re.MULTILINE)
    named += [name for item in items for name in re.findall(r"`([\w.]+)`", item)]
    folder = ROOT / "reference"
    paths = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")]
    there = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    assert sorted(named) == sorted(there - FOLDERS - {"__init__", "front"})


def numbered(text: str) -> list[str]:
    """The items of a numbered list, each on one line."""
    items = re.findall(r"^\d+\. .*(?:\n   ? ? ?\S.*)*", text, re.MULTILINE)
    return [re.sub(r"\n +", " ", item) for item in items]


def test_excerpts_fit_on_a_terminal():
    assert len(blocks("text")) == 2
    assert max(len(line) for block in blocks("text") for line in block.splitlines()) <= 100


def test_counts_of_questions_and_cases():
    """What `validate` is said to print, counted."""
    readme = " ".join(README.split())
    cases = load_index().cases
    questions = len(list(inquiries(NUMPY)))
    order_free = sum(case.function in ORDER_FREE for case in cases)
    large = sum(case.size == SIZES[-1] for case in cases)
    asked = {
        "numpy": [case for case in cases if case.size != SIZES[-1]],
        "numba": [c for c in cases if c.size != SIZES[-1] and c.function not in ORDER_FREE],
    }
    for backend, usual in asked.items():
        line = f"{backend} keeps the contract: {questions} probes, {len(usual)} cases passed, "
        assert line + f"0 failed, {len(cases) - len(usual)} skipped, " in readme
    assert f"(The {large} are the largest" in readme
    assert f"which {order_free} cases are for" in readme
    assert f"asks a backend {questions} questions" in readme
    assert f"holds {len(cases)} cases" in PAGES["reference/EXACTNESS.md"].replace("\n  ", " ")
