"""The decoder over integers: its bits in Python's integers, in any order, from any library."""

from __future__ import annotations

import numpy as np
import pytest

from waterlevel.reference.decoder import GROUPS, Decoder, Passes, integers
from waterlevel.reference.errors import BadInput

from ...helpers import exact_decoder
from ...helpers.decoders import ARCHITECTURES, digest, random_tensors, tiny, tokens

attention_module = __import__("importlib").import_module("waterlevel.reference.decoder.attention")


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_pythons_integers_give_the_same_logits(name: str, monkeypatch: pytest.MonkeyPatch):
    for module in (attention_module, exact_decoder):
        monkeypatch.setattr(module, "CHUNK", 8)
    c = tiny(name, width=8, heads=2, key_heads=1, head_width=4, feed_forward=6, vocabulary=11)
    tensors, numbers = random_tensors(c), tokens(c, 19)
    found = Decoder(c, tensors).logits(numbers)
    assert same_bits(found, np.array(exact_decoder.logits(c, tensors, numbers.tolist())))


class Shuffled(Passes):
    """Sums over k in a random order, in random pieces, some of them added one product at a time."""

    def __init__(self, seed: int) -> None:
        super().__init__(np)
        self.random = np.random.default_rng(seed)

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        order = self.random.permutation(a.shape[-1])
        cuts = np.sort(self.random.integers(0, len(order) + 1, 3))
        total = np.zeros((*a.shape[:-1], b.shape[-1]))
        for piece in np.split(order, cuts):
            if self.random.integers(2):
                total = total + a[..., piece] @ b[..., piece, :]
            else:
                for k in piece:
                    total = total + a[..., k, None] * b[..., k, :][..., None, :]
        return total


class Watched(Passes):
    """Refuses a product whose factors are no integers, or whose sum might not be exact."""

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        assert (a == np.rint(a)).all(), "no integers"
        assert (b == np.rint(b)).all(), "no integers"
        assert np.max(np.abs(a)) * np.max(np.abs(b)) * a.shape[-1] <= 2.0**53, "too wide"
        return super().product(a, b)


def hostile() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    c = tiny("qwen2")
    tensors = random_tensors(c)
    tensors["model.embed_tokens.weight"][:, 3] *= 3000
    tensors["model.layers.0.self_attn.v_proj.weight"][2] = 0
    tensors["model.layers.1.mlp.up_proj.weight"][5] *= 3000
    tensors["model.embed_tokens.weight"][7] = 0
    return c, tensors


@pytest.mark.parametrize("seed", range(3))
def test_no_order_of_any_sum_changes_a_bit(seed: int):
    c, tensors = hostile()
    numbers = tokens(c, 2, 40)
    numbers[0, 3] = 7
    assert digest(Decoder(c, tensors, Shuffled(seed)), numbers) == digest(
        Decoder(c, tensors, Watched(np)), numbers
    )


def test_a_planted_inexact_product_is_caught(monkeypatch: pytest.MonkeyPatch):
    c, tensors = hostile()
    numbers = tokens(c, 2, 40)
    monkeypatch.setattr(integers, "share", lambda n: (30, 30))
    digests = {digest(Decoder(c, tensors, Shuffled(seed)), numbers) for seed in range(3)}
    assert len(digests) > 1
    with pytest.raises(AssertionError, match="too wide"):
        Decoder(c, tensors, Watched(np)).logits(numbers)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_follows_padding_and_batch_change_no_bit(name: str):
    c = tiny(name)
    decoder = Decoder(c, random_tensors(c))
    numbers = tokens(c, 3, 150)
    whole = decoder.logits(numbers)
    alone = decoder.logits(numbers[1])
    assert same_bits(whole[1], alone)
    for length in (1, 2, 127, 129):
        assert same_bits(alone[:length], decoder.logits(numbers[1, :length]))
    changed = numbers[1].copy()
    changed[100:] = 0
    assert same_bits(alone[:100], decoder.logits(changed)[:100])


def test_a_grid_of_the_sequence_would_be_noticed(monkeypatch: pytest.MonkeyPatch):
    """The largest value of the whole sequence in place of the limit from the weights."""

    def largest(library, v, limit):
        return slices(library, v, np.max(np.abs(v), axis=-2, keepdims=True)[0])

    slices = attention_module.value_slices
    monkeypatch.setattr(attention_module, "value_slices", largest)
    monkeypatch.setattr(attention_module, "value_bits", lambda: 8)
    c = tiny()
    decoder, numbers = Decoder(c, random_tensors(c)), tokens(c, 60)
    assert not same_bits(decoder.logits(numbers)[:20], decoder.logits(numbers[:20]))


@pytest.mark.parametrize("queries", [1, 7, 64])
def test_queries_at_once_change_no_bit(queries: int, monkeypatch: pytest.MonkeyPatch):
    c = tiny("mistral")
    decoder, numbers = Decoder(c, random_tensors(c)), tokens(c, 90)
    expected = decoder.logits(numbers)
    monkeypatch.setattr(attention_module, "QUERIES", queries)
    assert same_bits(decoder.logits(numbers), expected)


def test_keys_beyond_a_chunk_are_added_in_their_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention_module, "CHUNK", 16)
    c = tiny("mistral", windows=(37, None))
    decoder, numbers = Decoder(c, random_tensors(c)), tokens(c, 90)
    assert same_bits(decoder.logits(numbers)[:50], decoder.logits(numbers[:50]))


def test_values_stay_below_the_limit_from_the_weights():
    c, tensors = hostile()
    decoder = Decoder(c, tensors)
    numbers = np.arange(c.vocabulary)
    block = decoder.block(0)
    stream = block.enter(decoder.embed(numbers))
    layer = block.layers["v_proj"]
    v = decoder.passes.linear(decoder.passes.gridded(stream.inputs, layer), layer)
    assert (np.abs(v) <= layer.limit).all()
    assert (np.abs(v).max(axis=(0, 1)) > layer.limit / 64)[layer.limit > 1].any()


@pytest.mark.parametrize("factor", [1.0, 3000.0])
def test_a_linear_layer_is_within_its_bound(factor: float):
    random, passes = np.random.default_rng(0), Passes(np)
    W, x = random.standard_normal((30, 576)), random.standard_normal((20, 576))
    x[:, 5] *= factor
    layer = integers.prepare(passes, W)
    found = passes.linear(passes.gridded(x, layer), layer)
    b, c = integers.share(576)
    mx, mw = np.abs(x).max(1, keepdims=True), np.abs(W).max(1)
    bound = 2.0**-b * mx * np.abs(W).sum(1) + 2.0**-c * mw * np.abs(x).sum(1, keepdims=True)
    bound = bound + 576 * 2.0 ** -(b + c) * mx * mw
    exact = (x.astype(np.longdouble) @ W.T.astype(np.longdouble)).astype(np.float64)
    assert (np.abs(found - exact) <= bound).all()
    assert np.abs(found - exact).max() > bound.max() / 2000  # the bound is not empty


def test_powers_of_two_and_swiglu_are_within_their_bounds():
    from waterlevel.reference.decoder.exponential import UNIT, power_of_two
    from waterlevel.reference.decoder.feed_forward import swiglu

    t = -np.random.default_rng(0).integers(0, 20 * 2**26, 20000).astype(np.float64)
    error = power_of_two(Passes(np), t) / UNIT / np.exp2(t / UNIT) - 1
    assert 2.0**-27 < np.abs(error).max() < 2.0**-24
    g = np.linspace(-30, 30, 4001)
    relative = (
        swiglu(Passes(np), g, np.ones(4001))[g != 0] * (1 + np.exp(-g))[g != 0] / g[g != 0] - 1
    )
    assert np.abs(relative).max() < 2.0**-24 + 30 * 2.0**-52 + 2.0**-26


def test_moments_are_exact_products_of_the_grid():
    from waterlevel.reference.arithmetic.sums import tree_sum
    from waterlevel.reference.decoder import SequenceSum, sequence_moment

    random, passes = np.random.default_rng(0), Passes(np)
    x = random.standard_normal((50, 6)) * np.geomspace(1, 3000, 6)
    y = x + random.standard_normal((50, 6))
    both = sequence_moment(passes, x, y)
    assert same_bits(both, sequence_moment(passes, y, x).T.copy())
    error = np.abs(both - x.T @ y)
    mx, my = np.abs(x).max(0)[:, None], np.abs(y).max(0)
    assert (error <= 50 * mx * my * (2.0**-22 + 2.0**-40)).all()
    for count in (1, 5, 513, 700):
        parts = random.standard_normal((count, 2, 3))
        for order in (SequenceSum(count).order(), random.permutation(count).tolist()):
            found = SequenceSum(count)
            for i in order:
                found.add(i, parts[i])
            assert same_bits(found.total(), tree_sum(parts))
    few = SequenceSum(512)
    most = 0
    for i in few.order():
        few.add(i, np.zeros((1, 1)))
        most = max(most, len(few._waiting))
    assert most <= 10


def test_one_token_and_steps_with_other_weights():
    c = tiny()
    tensors = random_tensors(c)
    decoder = Decoder(c, tensors)
    assert decoder.logits([5]).shape == (1, c.vocabulary)
    block = decoder.block(0)
    stream = block.enter(decoder.embed([1, 2, 3]))
    for group, names in GROUPS.items():
        assert stream.inputs.shape[-1] == c.shapes()[names[0]][1]
        layers = {name: block.prepare(name, 0 * block.weight(name)) for name in names}
        stream = block.step(group, stream, layers)
    assert stream.inputs is None
    assert same_bits(stream.hidden, decoder.embed([1, 2, 3]))


def test_bad_input_is_refused():
    c = tiny()
    decoder = Decoder(c, random_tensors(c))
    for numbers, words in (([53], "vocabulary"), ([0.5], "integers"), ([], "integers")):
        with pytest.raises(BadInput, match=words):
            decoder.logits(numbers)
    block = decoder.block(0)
    with pytest.raises(BadInput, match="not finite"):
        block.prepare("q_proj", np.full(c.shapes()["q_proj"], np.nan))
    with pytest.raises(BadInput, match="shape"):
        block.prepare("q_proj", np.zeros((3, 3)))
    with pytest.raises(BadInput, match="beyond"):
        block.enter(np.full((1, 1, c.width), np.inf))
