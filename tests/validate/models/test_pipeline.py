"""The same directory from every library; moments from the right stream; transformers agrees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from waterlevel.backends import get
from waterlevel.data import MODELS
from waterlevel.reference.decoder import GROUPS, Decoder, SequenceSum, sequence_moment
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.models import load_decoder, pipeline
from waterlevel.validate.models.loading import passes_of
from waterlevel.validate.models.output import directory_digest, unfinished, write_model
from waterlevel.validate.models.pipeline import Plan, quantize_model

from ...helpers.decoders import random_tensors, tiny, tokens

SMALL = MODELS / "pydoc-2m"
GPTQ = Plan("gptq", {"bits": 4, "group_size": 64, "actorder": True})
WATERSIC = Plan("watersic", rate=3.0, drift=True, residual=True)
BATCHES = (("numpy", 1), ("numpy", 4), ("numba", 4), ("torch", 1), ("torch", 4), ("jax", 4))


def small_digest(output: Path, library: str, batch: int, plan: Plan, count: int = 5) -> str:
    """Of the directory of the model of the package, from `count` sequences of 16 tokens."""
    decoder = load_decoder(SMALL, library)
    sequences = tokens(decoder.configuration, count, 16)
    with unfinished(output) as folder:
        blocks = quantize_model(decoder, sequences, plan, get("numba"), batch=batch)
        write_model(folder, SMALL, decoder, blocks, {})
    return directory_digest(output)


def tiny_model(library: str, plan: Plan, batch: int) -> list[bytes]:
    """All weights of a tiny random model, quantised."""
    configuration = tiny("qwen2")
    decoder = Decoder(configuration, random_tensors(configuration), passes_of(library))
    sequences = tokens(configuration, 5, 40)
    found = quantize_model(decoder, sequences, plan, NUMPY, batch=batch)
    return [layer.weight.tobytes() for _, layers in found for layer in layers]


def available(library: str) -> None:
    for package in {"torch": ("torch", "array_api_compat")}.get(library, (library,)):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("numba")
    return small_digest(tmp_path_factory.mktemp("expected") / "out", "numba", 1, GPTQ)


@pytest.mark.parametrize(("library", "batch"), [("numpy", 4), ("torch", 2)])
def test_one_digest_of_the_whole_directory(library: str, batch: int, expected: str, tmp_path: Path):
    available(library)
    assert small_digest(tmp_path / "out", library, batch, GPTQ) == expected


@pytest.mark.parametrize("plan", [GPTQ, WATERSIC], ids=["gptq", "watersic"])
@pytest.mark.parametrize(("library", "batch"), BATCHES)
@pytest.mark.slow
def test_one_digest_from_every_library(library: str, batch: int, plan: Plan, tmp_path: Path):
    available(library)
    pytest.importorskip("numba")
    first = small_digest(tmp_path / "first", "numba", 1, plan)
    assert small_digest(tmp_path / "second", library, batch, plan) == first


@pytest.mark.parametrize("library", ["numpy", "numba", "torch"])
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.slow
def test_one_digest_from_one_and_two_threads(
    library: str, threads: str, expected: str, tmp_path: Path
):
    available(library)
    program = (
        f"from {__package__}.test_pipeline import *\n"
        f"print(small_digest(Path({str(tmp_path / 'out')!r}), {library!r}, 2, GPTQ))"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **dict.fromkeys(names, threads), "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("library", "batch"), [*BATCHES[1:-1], pytest.param(*BATCHES[-1], marks=pytest.mark.slow)]
)
def test_drift_has_the_same_bits_from_every_library(library: str, batch: int):
    available(library)
    assert tiny_model(library, WATERSIC, batch) == tiny_model("numpy", WATERSIC, 1)


def moments_of_batches(walk: Any, group: str) -> dict[str, NDArray]:
    """A fault: all tokens of a batch on one grid."""
    del group
    total = 0.0
    for stream in walk.streams:
        x = stream.inputs.reshape(-1, stream.inputs.shape[-1])
        total = total + sequence_moment(walk.passes, x, x)
    return {"covariance": total / (walk.count * walk.length)}


def test_a_sum_that_depends_on_the_batch_is_seen(monkeypatch: pytest.MonkeyPatch):
    plain = Plan("gptq", {"bits": 3})
    assert tiny_model("numpy", plain, 1) == tiny_model("numpy", plain, 4)
    monkeypatch.setattr(pipeline._Walk, "moments", moments_of_batches)
    assert tiny_model("numpy", plain, 1) != tiny_model("numpy", plain, 4)


def expected_moments(
    decoder: Decoder, weights: dict[str, NDArray], sequences: NDArray
) -> dict[str, dict[str, NDArray]]:
    """By plain float64 products over all tokens, from two walks of their own."""
    found, count = {}, sequences.size
    x_hidden = q_hidden = decoder.embed(sequences)
    for index in range(decoder.configuration.blocks):
        block = decoder.block(index)
        x, q = block.enter(x_hidden), block.enter(q_hidden)
        for group, names in GROUPS.items():
            a, b = (s.inputs.reshape(count, -1) for s in (x, q))
            r = (x.hidden - q.hidden).reshape(count, -1)
            moments = {
                "covariance": a.T @ a / count,
                "covariance_quantized": b.T @ b / count,
                "cross_covariance": a.T @ b / count,
                "residual_covariance": r.T @ b / count,
            }
            found |= {block.tensor_name(name): moments for name in names}
            layers = {n: block.prepare(n, weights[block.tensor_name(n)]) for n in names}
            x, q = block.step(group, x, block.layers), block.step(group, q, layers)
        x_hidden, q_hidden = x.hidden, q.hidden
    return found


def check_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What WaterSIC is given, against `expected_moments`.

    A column of 40 tokens is on a grid of 23 bits: an element is off by 2^-23 of the column's
    largest m, so a mean of products by 2·2^-23·m·m' and a little; m and m' are below 7 roots of the
    mean squares of 200 tokens at least.
    """
    configuration = tiny()
    decoder = Decoder(configuration, random_tensors(configuration))
    sequences, given, method = tokens(configuration, 5, 40), {}, pipeline.METHODS["watersic"]

    def watched(weight: NDArray, **options: Any) -> Any:
        result = method(weight, **options)
        given[result.dequantized.astype(np.float32).tobytes()] = options
        return result

    monkeypatch.setitem(pipeline.METHODS, "watersic", watched)
    found = quantize_model(decoder, sequences, WATERSIC, NUMPY, batch=2)
    weights = {layer.name: layer.weight for _, layers in found for layer in layers}
    monkeypatch.setitem(pipeline.METHODS, "watersic", method)
    for name, moments in expected_moments(decoder, weights, sequences).items():
        options, compared = given[weights[name].tobytes()], 0
        for kind, moment in moments.items():
            if kind in options:
                bound = 2 * 2.0**-23 * 7 * 7
                left = moments["covariance"] if kind != "residual_covariance" else None
                rows = np.abs(moment).max(1) if left is None else np.diag(left)
                size = np.sqrt(np.outer(rows, np.diag(moments["covariance_quantized"])))
                scale = np.maximum(size, np.abs(moment).max())
                assert (np.abs(options[kind] - moment) <= bound * scale).all(), (name, kind)
                compared += 1
        assert compared == 3 + name.endswith(("o_proj.weight", "down_proj.weight"))


def test_moments_are_those_of_the_streams_they_are_named_after(monkeypatch: pytest.MonkeyPatch):
    check_moments(monkeypatch)


@pytest.mark.parametrize("kind", ["covariance", "covariance_quantized", "residual_covariance"])
def test_a_moment_from_the_wrong_stream_is_seen(kind: str, monkeypatch: pytest.MonkeyPatch):
    pairs = pipeline._Walk._pairs

    def planted(walk: Any, place: int, inside: int, names: list[str]) -> Any:
        found = pairs(walk, place, inside, names)
        if kind == "residual_covariance" and kind in found:
            left, right = found[kind]
            return {**found, kind: (-left, right)}
        wrong = {"covariance": "covariance_quantized", "covariance_quantized": "covariance"}
        return {**found, kind: found[wrong[kind]]} if kind in wrong else found

    monkeypatch.setattr(pipeline._Walk, "_pairs", planted)
    with pytest.raises(AssertionError):
        check_moments(monkeypatch)


def test_the_rate_of_the_model_is_met(tmp_path: Path):
    configuration = tiny()
    decoder = Decoder(configuration, random_tensors(configuration))
    sequences, spent, weights = tokens(configuration, 3, 30), 0.0, 0
    for _, layers in quantize_model(decoder, sequences, Plan("gptq", rate=3.0), NUMPY):
        for layer in layers:
            spent += layer.weight.size * layer.result.rates.rate
            weights += layer.weight.size
    assert abs(spent / weights - 3.0) < 0.005


def test_the_tree_takes_sequences_in_its_order():
    """Few moments wait: what comes next always meets what came before."""
    walk = pipeline._Walk(
        Decoder(tiny(), random_tensors(tiny())), tokens(tiny(), 6, 4), 4, Plan("rtn", {"bits": 4})
    )
    assert [i for batch in walk.batches for i in batch] == SequenceSum(6).order()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages, about themselves
def test_the_loader_of_compressed_tensors_has_the_weights_of_the_float32_directory(tmp_path: Path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip("compressed_tensors")
    decoder = load_decoder(SMALL, "numpy")
    plan = Plan("gptq", {"bits": 4, "group_size": 64, "dtype": np.float32})
    with unfinished(tmp_path / "packed") as folder:
        blocks = quantize_model(decoder, tokens(decoder.configuration, 2, 16), plan, NUMPY)
        write_model(folder, SMALL, decoder, blocks, {}, "pack-quantized")
    ours = load_decoder(tmp_path / "packed").tensors
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "packed")
    with torch.no_grad():
        model(torch.arange(4)[None])  # the packed weights are unpacked at the first call
    found = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            theirs = module.weight.detach().float().numpy()
            assert theirs.tobytes() == ours[f"{name}.weight"].tobytes(), name
            found += 1
    assert found == 42


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers, about itself
def test_transformers_loads_the_directory_and_has_its_loss(tmp_path: Path):
    """Bits per token within what logits of 3e-6 of their rms can do (test_directory, BOUND).

    ln P of a token moves by 2·max|Δy| at most, and max over V logits is below √V times their rms.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("numba")
    small_digest(tmp_path / "out", "numba", 4, Plan("gptq", {"bits": 3, "group_size": 64}))
    text = np.frombuffer((SMALL / "held-out.txt").read_bytes()[:129], np.uint8).astype(np.int64)
    decoder = load_decoder(tmp_path / "out", "numba")
    loss = -float(decoder.log_likelihood(text).mean())
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.float32
    model = model.double().eval()
    with torch.no_grad():
        theirs = model(torch.from_numpy(text)[None], labels=torch.from_numpy(text)[None])
    size = float(theirs.logits.square().mean().sqrt())
    bound = 2 * np.sqrt(256) * 3e-6 * size
    assert abs(loss - float(theirs.loss)) < bound
    original = -float(load_decoder(SMALL, "numba").log_likelihood(text).mean())
    assert abs(original - float(theirs.loss)) > bound
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("Σ ≥ 0").input_ids == list("Σ ≥ 0".encode())
