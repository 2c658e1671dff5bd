"""The model that comes with the package is what its manifest says."""

import gzip
import hashlib
import json
import lzma
import math

import numpy as np
import pytest
from safetensors import safe_open

from waterlevel.data import MODELS
from waterlevel.reference.theory.high_rate import cholesky_factor, geometric_mean

NAME = "pydoc-2m"
MODEL = MODELS / NAME
MANIFEST = json.loads((MODEL / "manifest.json").read_text("utf-8"))
CONFIG = json.loads((MODEL / "config.json").read_text("utf-8"))
HELD_OUT = (MODEL / "held-out.txt").read_bytes()
LENGTH = MANIFEST["training"]["length"]

# The figure has four decimals, half a unit of rounding; float32 in place of float64 moves it by
# less: a logit is a sum of 192 products with a relative error of 192·2⁻²⁴ ≈ 1e-5, at random signs.
STATED = 1e-4


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_every_file_has_the_digest_of_the_manifest():
    found = {path.name: sha256(path.read_bytes()) for path in MODEL.iterdir()}
    del found["manifest.json"]
    assert found == MANIFEST["files"]


def test_the_texts():
    text = MANIFEST["text"]
    assert text["held_out"] == {"bytes": len(HELD_OUT), "sha256": sha256(HELD_OUT)}
    calibration = (MODEL / "calibration.txt").read_text("utf-8").split("\n\n")
    paragraphs = {part for part in HELD_OUT.decode().split("\n\n") if len(part) > 200}
    assert paragraphs
    assert not paragraphs & set(calibration)


def test_the_compressors():
    bits = 8 / len(HELD_OUT)
    stated = MANIFEST["compressors_bits_per_byte"]
    # Other versions of the libraries write a few bytes more or less.
    assert stated["gzip -9"] == pytest.approx(bits * len(gzip.compress(HELD_OUT, 9)), abs=0.01)
    assert stated["xz -9"] == pytest.approx(bits * len(lzma.compress(HELD_OUT, preset=9)), abs=0.01)


def test_the_model_beats_them():
    assert MANIFEST["held_out_bits_per_byte"] < min(MANIFEST["compressors_bits_per_byte"].values())


def test_the_weights_are_float16_finite_and_below_4_mb():
    path = MODEL / "model.safetensors"
    assert path.stat().st_size <= 4_000_000
    tensors = weights()
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float16")}
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert sum(tensor.size for tensor in tensors.values()) == MANIFEST["weights"]


def test_tokens_are_bytes():
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    text = HELD_OUT.decode() + "".join(map(chr, range(1, 0x800))) + "€ 𝔽 🜄"
    tokens = tokenizer.encode(text).ids
    assert bytes(tokens) == text.encode()
    assert tokenizer.decode(tokens, skip_special_tokens=False) == text


@pytest.mark.slow
def test_bits_per_byte_and_anisotropy_in_float64():
    tokens = np.frombuffer(HELD_OUT, np.uint8).astype(np.int64)
    count = (len(tokens) - 1) // LENGTH
    moments = {}
    total = 0.0
    decoder = Decoder(weights(), moments)
    for start in range(0, count * LENGTH, LENGTH):
        logits = decoder(tokens[start : start + LENGTH])
        largest = logits.max(axis=1)
        normalizer = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        targets = tokens[start + 1 : start + LENGTH + 1]
        total += float(np.sum(normalizer - logits[np.arange(LENGTH), targets]))
    assert abs(total / (count * LENGTH) / math.log(2) - MANIFEST["held_out_bits_per_byte"]) < STATED

    assert len(moments) == 4 * CONFIG["num_hidden_layers"]
    for place, moment in moments.items():
        covariance = moment / (count * LENGTH)
        eigenvalues = np.linalg.eigvalsh(covariance)
        if place == "model.layers.0.self_attn.q_proj":
            # One vector a byte, before anything is mixed: no more directions than bytes that occur.
            assert np.sum(eigenvalues > 1e-9 * eigenvalues[-1]) <= len(set(HELD_OUT)) < 192
            continue
        cholesky_factor(covariance)  # positive definite as it is, without damping
        bits = 0.5 * math.log2(np.mean(eigenvalues) / geometric_mean(eigenvalues))
        print(
            f"{place:33s} condition {eigenvalues[-1] / eigenvalues[0]:9.3g}, AM/GM {bits:.3f} bits"
        )
        # N independent samples of isotropic inputs would show n/(4 N ln 2) bits (second order of
        # the logarithm, Marchenko-Pastur variance n/N). Neighbours are not independent: ten times.
        sampled = len(covariance) / (4 * count * LENGTH * math.log(2))
        assert bits > 10 * sampled, place


@pytest.mark.slow
def test_transformers_reads_it():
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    tokens = tokenizer(HELD_OUT[:200].decode(), return_tensors="pt")["input_ids"]
    assert bytes(tokens[0].tolist()) == HELD_OUT[:200]
    theirs = model(tokens).logits[0].detach().numpy()
    ours = Decoder(weights(), {})(tokens[0].numpy())
    # Logits of float32: some units of 2⁻²⁴·192 of the largest.
    assert np.abs(theirs - ours).max() < 192 * 2.0**-24 * np.abs(ours).max() * 4


def weights():
    with safe_open(MODEL / "model.safetensors", "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


class Decoder:
    """The forward pass in float64, as the equations have it; sums up what linear layers read."""

    def __init__(self, tensors, moments):
        self.tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        self.moments = moments

    def __call__(self, tokens):
        hidden = self.tensors["model.embed_tokens.weight"][tokens]
        for index in range(CONFIG["num_hidden_layers"]):
            block = f"model.layers.{index}."
            normed = self.norm(hidden, block + "input_layernorm")
            hidden = hidden + self.attention(normed, block + "self_attn.")
            normed = self.norm(hidden, block + "post_attention_layernorm")
            gate = self.linear(normed, block + "mlp.gate_proj", observed=True)
            product = gate / (1 + np.exp(-gate)) * self.linear(normed, block + "mlp.up_proj")
            hidden = hidden + self.linear(product, block + "mlp.down_proj", observed=True)
        return self.norm(hidden, "model.norm") @ self.tensors["model.embed_tokens.weight"].T

    def attention(self, normed, name):
        heads, shared = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
        query = rotated(split(self.linear(normed, name + "q_proj", observed=True), heads))
        key = rotated(split(self.linear(normed, name + "k_proj"), shared))
        value = split(self.linear(normed, name + "v_proj"), shared)
        key, value = (np.repeat(part, heads // shared, axis=0) for part in (key, value))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
        return self.linear(
            mixed.transpose(1, 0, 2).reshape(len(normed), -1), name + "o_proj", observed=True
        )

    def linear(self, inputs, name, observed=False):
        if observed:
            self.moments[name] = self.moments.get(name, 0.0) + inputs.T @ inputs
        return inputs @ self.tensors[name + ".weight"].T

    def norm(self, hidden, name):
        mean_square = np.mean(hidden**2, axis=1, keepdims=True)
        return (
            hidden / np.sqrt(mean_square + CONFIG["rms_norm_eps"]) * self.tensors[f"{name}.weight"]
        )


def split(rows, heads):
    return rows.reshape(len(rows), heads, -1).transpose(1, 0, 2)


def rotated(heads):
    half = heads.shape[-1] // 2
    angles = np.outer(np.arange(heads.shape[1]), 10_000.0 ** (-np.arange(half) / half))
    first, second = heads[..., :half], heads[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
