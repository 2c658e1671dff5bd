"""`waterlevel model quantize` and `evaluate`: tables, manifests, and one line for what is wrong."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from waterlevel.data import MODELS
from waterlevel.validate.models import load_decoder, output as output_module

from ...helpers.command import Command, Done

SMALL = MODELS / "pydoc-2m"
FAST = ("--method", "rtn", "--bits", "4", "--sequences", "1", "--length", "8")

pytest.importorskip("tokenizers")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(capsys, tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    copy = tmp_path / "model"
    copy.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(SMALL / name, copy / name)
    return copy


def refused(done: Done, tmp_path: Path, *words: str) -> None:
    """One line with these words, exit code 2, and nothing left behind."""
    assert done.code == 2, done
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err
    assert not list(tmp_path.glob("out*"))
    assert done.out == ""


def test_the_bundled_model_is_quantised_and_evaluated(command: Command, tmp_path: Path):
    out = tmp_path / "out"
    done = command("model", "quantize", "-o", out, *FAST)
    assert done.code == 0, done
    assert "down_proj" in done.out
    assert "digest of the directory" in done.out
    manifest = json.loads((out / "waterlevel-manifest.json").read_text("utf-8"))
    assert manifest["weights"] == 1_916_928
    assert len(manifest["layers"]) == 42
    assert manifest["files"] == {
        name: value
        for name, value in output_module.file_digests(out).items()
        if name != "waterlevel-manifest.json"
    }
    done = command("model", "evaluate", out, "--sequences", "2", "--length", "16", "--json", "-")
    assert done.code == 0, done
    original, ours = json.loads(done.out)["models"]
    assert ours["rates"] == manifest["rates"]
    assert 0 < ours["divergence"]["mean"] < ours["divergence_99"] < 1
    assert original["bits_per_byte"]["mean"] > 0
    done = command("model", "evaluate", out, "--sequences", "2", "--length", "16")
    assert "2 windows of 16 tokens" in done.out


@pytest.mark.slow
def test_the_model_of_the_package_has_the_bits_per_byte_of_its_card(command: Command):
    """On the first 24 windows; the card has 1.7046 on all of them, and a window's spread is .3."""
    done = command("model", "evaluate", "--sequences", "24", "--json", "-")
    found = json.loads(done.out)["models"][0]["bits_per_byte"]
    assert abs(found["mean"] - 1.7046) < 4 * found["error"]


def test_a_rate_that_cannot_be_met_is_refused(command: Command, tmp_path: Path):
    out = tmp_path / "out"
    options = ("--method", "gptq", "--entropy-coded", "--rate", "0.01", "--rate-measure", "rate")
    text = tmp_path / "tokens.npy"
    np.save(text, np.arange(64) % 100)
    done = command(
        "model", "quantize", "-o", out, "--text", text, "--sequences", "2", "--length", "16",
        *options,
    )  # fmt: skip
    text.unlink()
    refused(done, tmp_path, "self_attn.q_proj.weight", "raise the global rate")


def change(model: Path, **fields: Any) -> None:
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, **fields}), "utf-8")


def test_bad_models_are_one_line(command: Command, model: Path, tmp_path: Path):
    text = SMALL / "held-out.txt"

    def run() -> Done:
        return command("model", "quantize", model, "-o", tmp_path / "out", "--text", text, *FAST)

    change(model, model_type="mamba")
    refused(run(), tmp_path, "model_type is 'mamba'")
    change(model, model_type="llama")
    (model / "model.safetensors").rename(model / "away")
    shards = {"weight_map": {"model.norm.weight": "model-1.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(shards), "utf-8")
    refused(run(), tmp_path, "the file model-1.safetensors is missing")
    (model / "away").rename(model / "model.safetensors")
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.5.mlp.down_proj.weight"
    tensors[name][3, 4] = np.nan
    save_file(tensors, model / "model.safetensors")
    refused(run(), tmp_path, name, "not finite")


def test_bad_texts_are_one_line(command: Command, model: Path, tmp_path: Path):
    text = tmp_path / "text.txt"

    def run(*options: str | Path) -> Done:
        out = tmp_path / "out"
        return command("model", "quantize", model, "-o", out, "--text", text, *FAST, *options)

    refused(run(), tmp_path, "text.txt", "No such file")
    text.write_text("short", "utf-8")
    refused(run(), tmp_path, "text.txt", "5 tokens are 0 windows of 8")
    text.write_bytes(b"\xff\xfe")
    refused(run(), tmp_path, "not UTF-8")
    text.write_text("long enough for a window", "utf-8")
    refused(run("--length", "300"), tmp_path, "is made for 256 tokens")
    done = command("model", "quantize", model, "-o", tmp_path / "out", *FAST)
    refused(done, tmp_path, "--text FILE is needed")
    tokenizer = json.loads((model / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"]["extra"] = 256
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    refused(run(), tmp_path, "257 tokens, but the model's vocabulary has 256")
    (model / "tokenizer.json").write_text("{", "utf-8")
    refused(run(), tmp_path, "not a tokenizer")
    text = tmp_path / "tokens.npy"
    np.save(text, np.array([1, 256] * 8))
    refused(run(), tmp_path, "token 256 is not in the vocabulary of 256")
    np.save(text, np.array([{}]), allow_pickle=True)
    refused(run(), tmp_path, "not a whole .npy file")


STORED = ("--method", "gptq", "--group-size", "64", "--dtype", "float32", "--sequences", "1")


@pytest.mark.parametrize(
    ("store", "grid", "bits"),
    [("pack-quantized", ("--bits", "4"), 4), ("float-quantized", ("--format", "fp8-e4m3"), 8)],
)
def test_a_published_format_holds_the_very_weights(
    store: str, grid: tuple[str, ...], bits: int, command: Command, tmp_path: Path
):
    options = (*STORED, *grid, "--length", "8")
    for name, form in (("whole", "float32"), ("packed", store)):
        done = command("model", "quantize", "-o", tmp_path / name, *options, "--store", form)
        assert done.code == 0, done
    whole, packed = (load_decoder(tmp_path / name).tensors for name in ("whole", "packed"))
    assert sorted(whole) == sorted(packed)
    for name in whole:
        assert packed[name].tobytes() == whole[name].tobytes(), name
    manifests = [
        json.loads((tmp_path / name / "waterlevel-manifest.json").read_text("utf-8"))
        for name in ("whole", "packed")
    ]
    assert manifests[0]["layers"] == manifests[1]["layers"]
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name).glob("*.safetensors"))
        for name in ("whole", "packed")
    ]
    saved = 1_916_928 * (32 - bits - 32 / 64) / 8
    assert abs(sizes[0] - sizes[1] - saved) < 60_000  # names and descriptions
    done = command(
        "model", "quantize", tmp_path / "packed", "-o", tmp_path / "out", *options,
        "--text", SMALL / "held-out.txt",
    )  # fmt: skip
    refused(done, tmp_path, "the model is quantised already")


def test_a_format_that_would_change_a_weight_is_refused(command: Command, tmp_path: Path):
    out = tmp_path / "out"
    done = command("model", "quantize", "-o", out, *FAST, "--store", "pack-quantized")
    refused(done, tmp_path, "q_proj.weight", "--dtype float32")
    done = command("model", "quantize", "-o", out, "--store", "pack-quantized")
    refused(done, tmp_path, "--store pack-quantized is for finite grids")


def test_an_output_that_exists_is_kept(command: Command, tmp_path: Path):
    (tmp_path / "out").mkdir()
    done = command("model", "quantize", "-o", tmp_path / "out", *FAST)
    assert done.code == 2
    assert "exists already" in done.err
    assert not list((tmp_path / "out").iterdir())


def test_the_second_of_two_runs_on_one_output_is_refused(command: Command, tmp_path: Path):
    with output_module.unfinished(tmp_path / "out") as folder:
        (folder / "begun").touch()
        done = command("model", "quantize", "-o", tmp_path / "out", *FAST)
        assert done.code == 2
        assert "another run writes" in done.err
        assert done.err.count("\n") == 1
        assert (folder / "begun").exists()
    assert (tmp_path / "out" / "begun").exists()


@pytest.mark.parametrize("moment", [0, 3, 6, 7, 9, 12])
def test_a_full_disk_leaves_nothing(
    moment: int, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Seven files of weights, then index, configuration, three copies, manifest."""
    writes = iter(range(1000))

    def filling(function: Any) -> Any:
        def write(*arguments: Any, **named: Any) -> Any:
            if next(writes) == moment:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*arguments, **named)

        return write

    add = output_module.TensorWriter._finish
    monkeypatch.setattr(output_module.TensorWriter, "_finish", filling(add))
    monkeypatch.setattr(output_module, "write_whole", filling(output_module.write_whole))
    done = command("model", "quantize", "-o", tmp_path / "out", *FAST)
    refused(done, tmp_path, "No space left on device")


def test_options_that_do_not_fit_are_refused(command: Command, tmp_path: Path):
    out = tmp_path / "out"
    done = command("model", "quantize", "-o", out, *FAST, "--drift")
    refused(done, tmp_path, "belong to watersic")
    done = command("model", "quantize", "-o", out, "--residual")
    refused(done, tmp_path, "give both")
    done = command("model", "quantize", "-o", out, "--method", "gptq")
    refused(done, tmp_path, "--bits")
