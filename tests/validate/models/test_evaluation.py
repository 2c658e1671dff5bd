"""Bits, divergences and their errors, held against the definitions in plain float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from waterlevel.reference.decoder import Decoder
from waterlevel.reference.errors import BadInput
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.models import evaluation
from waterlevel.validate.models.comparison import METHODS, plan_of, subjects
from waterlevel.validate.models.evaluation import evaluate, evaluation_windows
from waterlevel.validate.models.evaluation_report import HEADERS, text
from waterlevel.validate.models.pipeline import Plan, quantize_model
from waterlevel.validate.models.token_files import Tokens

from ...helpers.command import Command
from ...helpers.decoders import random_tensors, tiny, tokens

LENGTH = 20
# Logits and likelihoods are in float64 and agree to some 1e-13; see `likelihood` for its 2^-23.
CLOSE = 2.0**-22


def two() -> tuple[Decoder, Decoder]:
    configuration = tiny()
    tensors = random_tensors(configuration)
    changed = {name: tensor * np.float32(1.25) for name, tensor in tensors.items()}
    return Decoder(configuration, tensors), Decoder(configuration, changed)


def some_text() -> Tokens:
    numbers = tokens(tiny(), 1, 5 * LENGTH + 3)[0]
    return Tokens(numbers, 2 * len(numbers), "test")


def probabilities(decoder: Decoder, row: np.ndarray) -> np.ndarray:
    logits = decoder.logits(row[:-1])
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("at_once", [7, 256])
def test_figures_are_those_of_the_definitions(
    batch: int, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluation, "TOKENS_AT_ONCE", at_once)
    text_ = some_text()
    windows = evaluation_windows(text_, LENGTH, None)
    assert windows.shape == (5, LENGTH + 1)
    original, other = two()
    first, second = evaluate(iter([original, other]), windows, text_, batch)
    bits, divergences, same = [], [], []
    for row in windows:
        p, q = probabilities(original, row), probabilities(other, row)
        bits.append([-np.log2(each[np.arange(LENGTH), row[1:]]).mean() for each in (p, q)])
        divergences.append((p * np.log2(p / q)).sum(-1))
        same.append(p.argmax(-1) == q.argmax(-1))
    assert np.abs(np.stack([first.bits, second.bits], 1) - bits).max() < CLOSE
    assert second.divergence is not None
    assert np.abs(second.divergence - np.mean(divergences, -1)).max() < 1e-10
    assert abs(second.divergence_99 - np.quantile(divergences, 0.99)) < 1e-10
    assert second.same_top == np.mean(same)
    assert 0 < second.same_top < 1
    cost = first.bits_per_byte
    assert cost is not None
    assert abs(cost.mean - np.mean(bits, 0)[0] / 2) < CLOSE
    assert abs(cost.error - np.std(bits, axis=0, ddof=1)[0] / 2 / np.sqrt(5)) < CLOSE
    assert first.divergence is None


def test_no_bit_depends_on_the_batch():
    windows = evaluation_windows(some_text(), LENGTH, None)
    found = [list(evaluate(two(), windows, some_text(), batch)) for batch in (1, 3)]
    for one, other in zip(*found, strict=True):
        assert one.bits.tobytes() == other.bits.tobytes()


def test_another_vocabulary_is_refused():
    configuration = tiny(vocabulary=54)
    other = Decoder(configuration, random_tensors(configuration))
    windows = evaluation_windows(some_text(), LENGTH, 1)
    with pytest.raises(BadInput, match="of 54 tokens cannot be compared with one of 53"):
        list(evaluate([two()[0], other], windows, some_text()))


def test_the_models_of_the_table_are_those_of_the_pipeline():
    original, _ = two()
    sequences = tokens(tiny(), 3, 30)
    made = list(subjects(original, sequences, ["gptq", "watersic-drift"], [3.0], NUMPY))
    assert [(each.method, each.target) for each in made] == [("gptq", 3.0), ("watersic-drift", 3.0)]
    for each, plan in zip(
        made, [Plan("gptq", {}, 3.0), Plan("watersic", {}, 3.0, None, True, True)], strict=True
    ):
        assert plan_of(each.method, 3.0) == plan
        spent = weights = 0.0
        for _, layers in quantize_model(original, sequences, plan, NUMPY):
            for layer in layers:
                assert each.decoder.tensors[layer.name].tobytes() == layer.weight.tobytes()
                spent += layer.weight.size * layer.result.rates.rate
                weights += layer.weight.size
        assert each.rates["rate"] == pytest.approx(spent / weights, rel=1e-12)
        assert abs(spent / weights - 3.0) < 0.005
        norm = "model.norm.weight"
        assert each.decoder.tensors[norm] is original.tensors[norm]
    assert made[0].sha256 != made[1].sha256


def test_plans_differ():
    assert len({repr(plan_of(name, 2.0)) for name in METHODS}) == len(METHODS)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(capsys, tmp_path)


def test_the_table(command: Command, tmp_path: Path):
    np.save(tmp_path / "tokens.npy", np.arange(64) % 100)
    done = command(
        *("model", "evaluate", "--methods", "rtn", "--rates", "6", "--sequences", "2"),
        *("--length", "8", "--calibration", tmp_path / "tokens.npy"),
        *("--calibration-sequences", "2", "--text", tmp_path / "tokens.npy"),
        *("--json", tmp_path / "report.json"),
    )
    assert done.code == 0, done
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert done.out == text(report) + "\n"
    lines = done.out.splitlines()
    assert len(lines[0].split()) == len(HEADERS) + 2  # two names of two words
    assert [line.split()[0] for line in lines[1:3]] == ["pydoc-2m", "rtn"]
    assert "bits/token" in lines[0]
    assert abs(report["models"][1]["rates"]["rate"] - 6) < 0.005


def test_options_that_do_not_fit_are_one_line(command: Command, tmp_path: Path):
    for options, words in (
        (("--methods", "rtn"), "--methods needs --rates"),
        (("--rates", "2"), "--rates needs --methods"),
        (("--methods", "rtn,awq", "--rates", "2"), "'awq' is none of rtn"),
        (("--methods", "rtn,rtn", "--rates", "2"), "rtn is there twice"),
        (("--methods", "rtn", "--rates", "2,x"), "'x' is not a number"),
        (("--backend", "numpy"), "--backend needs --methods"),
    ):
        done = command("model", "evaluate", *options)
        assert done.code == 2
        assert words in done.err
        assert done.err.count("\n") == 1
