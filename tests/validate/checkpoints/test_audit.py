"""Every finding of the audit has its planted fault; a correct checkpoint is quiet."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from waterlevel.reference import NUMPY
from waterlevel.reference.errors import BadInput
from waterlevel.reference.methods.gptq import gptq
from waterlevel.reference.methods.rtn import rtn
from waterlevel.validate.checkpoints.audit import audit
from waterlevel.validate.checkpoints.description import QuantizedWeight, even_groups
from waterlevel.validate.checkpoints.elements import ELEMENTS
from waterlevel.validate.checkpoints.findings import entropy, scale_rule
from waterlevel.validate.checkpoints.reading import open_checkpoint
from waterlevel.validate.checkpoints.tensor_files import TensorFiles
from waterlevel.validate.checkpoints.under_covariance import moments_in
from waterlevel.validate.checkpoints.writing import write_checkpoint
from waterlevel.validate.cli.main import main

from ...helpers.checkpoints import DOWN, UP, model, stored

STEM = UP.removesuffix(".weight")


def covariance(n):
    x = np.random.default_rng(4).normal(size=(4 * n, n)) @ np.diag(np.linspace(0.3, 2, n))
    x[:, 1:] += x[:, :-1]
    return x.T @ x / len(x)


def quantize(source, name=UP, method=gptq, bits=4, asymmetric=True, **options):
    """A weight of the source on a grid of groups of 32, scales in float16."""
    weight = TensorFiles(source).numbers(name).astype(np.float64)
    if method is gptq:
        options["static_groups"] = True
    result = method(
        weight,
        covariance(weight.shape[1]),
        bits=bits,
        asymmetric=asymmetric,
        group_size=32,
        **options,
    )
    return QuantizedWeight(
        name,
        "int",
        bits,
        result.codes.astype(np.uint8),
        result.scales.scale.astype(np.float16).astype(np.float32),
        result.scales.group.astype(np.int32),
        bits_stored=0,
        scale_dtype="F16",
        zero=result.scales.zero.astype(np.int16),
    )


SHAPES = {UP: (96, 96), DOWN: (96, 96)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return model(tmp_path_factory.mktemp("audit") / "source", SHAPES)


@pytest.fixture(scope="module")
def good(source):
    return quantize(source)


def findings(tmp_path, source, weight, form="gptq", change=None, both=True, **settings):
    """The names of what is found in UP; DOWN is correct, and `change` works on the tensors."""
    weights = {UP: lambda: weight}
    if both:
        weights[DOWN] = lambda: replace(quantize(source, DOWN), bits=weight.bits)
    write_checkpoint(source, tmp_path / "written", form, weights)
    directory = tmp_path / "written"
    if change is not None or settings:
        files = TensorFiles(directory)
        tensors = {name: (e.dtype, files.read(name)) for name, e in files.entries.items()}
        if change is not None:
            change(tensors)
        config = json.loads((directory / "config.json").read_text())
        config["quantization_config"] |= settings.pop("quantization", {})
        directory = stored(tmp_path / "changed", tensors, config | settings)
    found = audit(open_checkpoint(directory), open_checkpoint(source), NUMPY)
    return {(item.name, item.where) for item in found.findings}


@pytest.mark.parametrize("form", ["gptq", "pack-quantized"])
@pytest.mark.parametrize("asymmetric", [True, False])
def test_a_correct_checkpoint_is_quiet(tmp_path, source, form, asymmetric):
    assert findings(tmp_path, source, quantize(source, asymmetric=asymmetric), form) == set()


def test_a_correct_activation_order_is_quiet(tmp_path, source, good):
    order = np.random.default_rng(0).permutation(96)
    assert findings(tmp_path, source, permuted(source, good, order)) == set()


def permuted(source, weight, order):
    """Groups of columns that are not neighbours, their grids found for them; codes not RTN's."""
    original = TensorFiles(source).numbers(UP)
    inverse = np.argsort(order)
    group = even_groups(96, 32)[inverse].astype(np.int32)
    scale = np.empty_like(weight.scale)
    zero = np.empty_like(weight.zero)
    for index in range(3):
        part = original[:, group == index]
        low, high = part.min(axis=1), part.max(axis=1)
        scale[:, index] = ((high - low) / 15).astype(np.float16)
        zero[:, index] = np.clip(np.rint(-low / scale[:, index]), 1, 14)
    level = original / scale[:, group] + zero[:, group]
    level[:, ::3] += 0.3  # as if something had been made good for
    codes = np.clip(np.rint(level), 0, 15).astype(np.uint8)
    return replace(weight, codes=codes, scale=scale, zero=zero, group=group)


def test_codes_of_rounding_to_nearest_are_no_calibration(tmp_path, source):
    weight = quantize(source, method=rtn)
    assert findings(tmp_path, source, weight) == {("no calibration", UP)}


def test_version_1_read_as_version_2(tmp_path, source, good):
    names = findings(tmp_path, source, good, quantization={"checkpoint_format": "gptq_v2"})
    assert names == {("zeros off by one", UP), ("zeros off by one", DOWN)}


def test_version_2_read_as_version_1(tmp_path, source, good):
    moved = replace(good, zero=np.minimum(good.zero + np.int16(1), 15))
    assert findings(tmp_path, source, moved) == {("zeros off by one", UP)}


def test_nibble_order(tmp_path, source, good):
    swapped = good.codes.reshape(96, -1, 2)[..., ::-1].reshape(96, 96)
    assert ("nibble order", UP) in findings(tmp_path, source, replace(good, codes=swapped))


def test_transposed_square(tmp_path, source):
    original = TensorFiles(source).numbers(UP)
    turned = model(tmp_path / "turned", SHAPES)
    tensors = {name: TensorFiles(turned).read(name) for name in TensorFiles(turned).entries}
    save_file(tensors | {UP: np.ascontiguousarray(original.T)}, turned / "model.safetensors")
    assert ("transposed", UP) in findings(tmp_path, source, quantize(turned), both=False)


def test_g_idx_that_does_not_belong_to_the_codes(tmp_path, source, good):
    """Scales of very different sizes in the groups, and a g_idx of another run."""
    order = np.random.default_rng(1).permutation(96)
    factor = np.array([1, 8, 64], np.float32)
    original = TensorFiles(source).numbers(UP)
    wide = original * factor[even_groups(96, 32)]
    spread = tmp_path / "spread"
    model(spread, SHAPES)
    tensors = {name: TensorFiles(spread).read(name) for name in TensorFiles(spread).entries}
    save_file(tensors | {UP: wide}, spread / "model.safetensors")
    weight = quantize(spread)
    right = findings(tmp_path / "a", spread, weight) if (tmp_path / "a").mkdir() is None else None
    assert right == set()
    (tmp_path / "b").mkdir()
    wrong = replace(weight, group=weight.group[order])
    assert ("g_idx ignored", UP) in findings(tmp_path / "b", spread, wrong)


def test_unused_codes(tmp_path, source, good):
    half = replace(good, codes=(good.codes // 2 * 2))
    assert ("unused codes", UP) in findings(tmp_path, source, half)


def test_saturation(tmp_path, source, good):
    narrow = (good.scale * np.float32(0.6)).astype(np.float16).astype(np.float32)
    assert ("saturation", UP) in findings(tmp_path, source, replace(good, scale=narrow))


def test_scales_that_are_zero_or_subnormal(tmp_path, source, good):
    scale = good.scale.copy()
    scale[3, 1] = 0
    (tmp_path / "zero").mkdir()
    assert ("scale underflow", UP) in findings(
        tmp_path / "zero", source, replace(good, scale=scale)
    )
    scale = np.float16(3e-6) * (1 + np.arange(288).reshape(96, 3) % 5)
    small = replace(good, scale=scale.astype(np.float16).astype(np.float32))
    (tmp_path / "small").mkdir()
    assert ("scale underflow", UP) in findings(tmp_path / "small", source, small)


def test_an_asymmetric_range_that_is_wasted(tmp_path, source):
    """Positive weights on a symmetric grid use its upper half only."""
    positive = tmp_path / "positive"
    model(positive, SHAPES)
    tensors = {name: TensorFiles(positive).read(name) for name in TensorFiles(positive).entries}
    tensors[UP] = np.abs(tensors[UP])
    save_file(tensors, positive / "model.safetensors")
    weight = quantize(positive, asymmetric=False)
    original = tensors[UP]
    scale = (np.abs(original.reshape(96, 3, 32)).max(axis=2) / 7).astype(np.float16)
    scale = scale.astype(np.float32)
    level = original / scale.take(weight.group, axis=1) + 8
    level[:, ::3] += 0.3
    codes = np.clip(np.rint(level), 8, 15).astype(np.uint8)
    zero = np.full_like(weight.zero, 8)
    names = findings(tmp_path, positive, replace(weight, codes=codes, scale=scale, zero=zero))
    assert ("asymmetric range wasted", UP) in names


def test_layers_left_out_and_missing(tmp_path, source, good):
    several = tmp_path / "several"
    other = UP.replace("layers.0", "layers.1")
    model(several, {**SHAPES, other: (96, 96)})
    weight = quantize(several)
    names = findings(tmp_path, several, weight, change=lambda t: t.pop("model.norm.weight"))
    assert names == {("left out", other), ("missing", "model.norm.weight")}


def test_a_tied_head_that_is_quantised(tmp_path):
    head = "lm_head.weight"
    tied = model(tmp_path / "tied", {head: (96, 96), DOWN: (96, 96)}, tie_word_embeddings=True)
    weights = {head: lambda: quantize(tied, head)}
    write_checkpoint(tied, tmp_path / "out", "gptq", weights)
    found = audit(open_checkpoint(tmp_path / "out"), open_checkpoint(tied), NUMPY)
    assert [(item.name, item.where) for item in found.findings] == [
        ("tied weights quantised twice", head)
    ]


def test_a_weight_of_another_shape(tmp_path, source, good):
    narrow = model(tmp_path / "narrow", {UP: (96, 64), DOWN: (96, 96)})
    write_checkpoint(source, tmp_path / "out", "gptq", {UP: lambda: good})
    found = audit(open_checkpoint(tmp_path / "out"), open_checkpoint(narrow), NUMPY)
    assert ("wrong shape", UP) in {(item.name, item.where) for item in found.findings}


RULES = {
    "floor": lambda m: np.floor(np.log2(m)) - 2,
    "ceil": lambda m: np.ceil(np.log2(m)) - 2,
    "nvidia": lambda m: np.ceil(np.log2(m / 6)),
    # Two significant digits, ties up: what adding a quarter of the last bit kept does.
    "even": lambda m: np.floor(np.log2(np.floor(m / 2 ** np.floor(np.log2(m)) * 2 + 0.5)
                                       / 2 * 2 ** np.floor(np.log2(m)))) - 2,
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_of_the_scales_is_told(rule):
    original = np.random.default_rng(11).normal(size=(64, 320)).astype(np.float32)
    largest = np.abs(original.reshape(64, 10, 32)).max(axis=2).astype(np.float64)
    scale = np.exp2(RULES[rule](largest)).astype(np.float32)
    weight = QuantizedWeight(
        UP,
        "mxfp4-pack-quantized",
        4,
        np.zeros((64, 320), np.uint8),
        scale,
        even_groups(320, 32),
        bits_stored=0,
        scale_dtype="F8_E8M0",
        element=ELEMENTS["fp4-e2m1"],
    )
    assert scale_rule(weight, original) == rule


def test_entropy_of_four_equal_codes_is_two_bits():
    assert entropy(np.arange(4, dtype=np.uint8).repeat(8).reshape(4, 8)) == 2.0


def test_moments_give_distortion_limit_and_gap(tmp_path, source, good):
    write_checkpoint(source, tmp_path / "out", "gptq", {UP: lambda: good})
    sigma = covariance(96)
    (tmp_path / "moments").mkdir()
    original = TensorFiles(source).numbers(UP)
    save_file({"weight": original, "covariance": sigma}, tmp_path / "moments" / f"{UP}.safetensors")
    found = audit(
        open_checkpoint(tmp_path / "out"),
        open_checkpoint(source),
        NUMPY,
        moments_in(tmp_path / "moments"),
    )
    (row,) = found.rows
    difference = good.dequantize().astype(np.float64) - original
    assert row.distortion == pytest.approx(
        np.trace(difference @ sigma @ difference.T) / 96**2, rel=1e-12
    )
    assert row.gap == row.entropy - row.limit
    assert 0 < row.gap < 2


def test_the_command_prints_writes_and_exits(tmp_path, source, good, capsys):
    write_checkpoint(source, tmp_path / "out", "gptq", {UP: lambda: good})
    file = tmp_path / "audit.json"
    command = ["model", "audit", str(tmp_path / "out"), "--against", str(source)]
    assert main([*command, "--json", str(file)]) == 0
    assert capsys.readouterr().out.endswith("nothing found\n")
    assert json.loads(file.read_text())["findings"] == []
    bad = quantize(source, method=rtn)
    write_checkpoint(source, tmp_path / "bad", "gptq", {UP: lambda: bad})
    command[2] = str(tmp_path / "bad")
    assert main(command) == 1
    assert f"no calibration: {UP}" in capsys.readouterr().out


def test_a_wrong_command_line_is_one_line(capsys):
    assert main(["model", "audit", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "waterlevel model audit: the following arguments are required: --against"
    )
    assert error.count("\n") == 1
    assert main(["model", "audit", "--help"]) == 0
    assert "exit code" in capsys.readouterr().out.lower()


def test_the_oracle_runs_the_methods_at_the_same_rate(tmp_path, source, good, capsys):
    write_checkpoint(source, tmp_path / "out", "gptq", {UP: lambda: good})
    (tmp_path / "moments").mkdir()
    layer = {"weight": TensorFiles(source).numbers(UP), "covariance": covariance(96)}
    save_file(layer, tmp_path / "moments" / f"{UP}.safetensors")
    command = ["model", "audit", str(tmp_path / "out"), "--against", str(source), "--oracle"]
    assert main(command) == 2
    assert "--oracle needs --moments" in capsys.readouterr().err
    assert main([*command, "--moments", str(tmp_path / "missing")]) == 2
    assert "not a directory with layer files" in capsys.readouterr().err
    files = ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    assert main([*command, "--moments", str(tmp_path / "moments"), *files]) == 0
    (row,) = json.loads((tmp_path / "a.json").read_text())["layers"]
    weight = layer["weight"].astype(np.float64)
    expected = rtn(weight, layer["covariance"], rate=row["bits_per_weight"]).distortion
    assert row["reached"]["RTN"] == expected
    assert row["reached"]["GPTQ"] < expected
    assert row["made_by"] == "natural order, damping 0.01"
    assert "D of GPTQ" in (tmp_path / "a.html").read_text("utf-8")


def test_a_mistake_of_gptq_is_a_finding(tmp_path, source):
    """Activation order is stated, the codes are those of natural order."""
    weight = quantize(source)
    write_checkpoint(source, tmp_path / "out", "gptq", {UP: lambda: weight})
    config = json.loads((tmp_path / "out/config.json").read_text())
    config["quantization_config"]["desc_act"] = True
    (tmp_path / "out/config.json").write_text(json.dumps(config))
    quantized, original = open_checkpoint(tmp_path / "out"), open_checkpoint(source)
    found = audit(quantized, original, NUMPY, lambda name: covariance(96))
    assert [(item.name, item.where) for item in found.findings] == [("wrong order", UP)]
    assert audit(quantized, original, NUMPY).ok


def test_moments_of_another_width_are_refused(tmp_path, source, good):
    write_checkpoint(source, tmp_path / "out", "gptq", {UP: lambda: good})
    checkpoint = open_checkpoint(tmp_path / "out")
    with pytest.raises(BadInput, match=f"{UP} has 96 columns, but the Σ given for it 95"):
        audit(checkpoint, open_checkpoint(source), NUMPY, lambda name: np.eye(95))


def peak(tmp_path, layers):
    """Largest memory of Python and NumPy while a model of so many equal layers is audited."""
    names = [UP.replace("layers.0", f"layers.{index}") for index in range(layers)]
    source = model(tmp_path / f"source-{layers}", dict.fromkeys(names, (256, 512)))
    group = even_groups(512, 32)
    weight = QuantizedWeight(
        UP,
        "int",
        4,
        np.random.default_rng(0).integers(0, 16, (256, 512), dtype=np.uint8),
        np.full((256, 16), 0.5, np.float32),
        group,
        bits_stored=0,
        scale_dtype="F16",
        zero=np.full((256, 16), 8, np.int16),
    )
    weights = {name: (lambda name=name: replace(weight, name=name)) for name in names}
    output = tmp_path / f"written-{layers}"
    write_checkpoint(source, output, "gptq", weights)
    quantized, original = open_checkpoint(output), open_checkpoint(source)
    tracemalloc.start()
    try:
        rows = audit(quantized, original, NUMPY).rows
        assert len(rows) == layers
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_one_layer(tmp_path):
    """Sixteen layers take what two take, and a little for their rows in the table."""
    assert peak(tmp_path, 16) < peak(tmp_path, 2) + 100_000 < 16 * 256 * 512 * 4 * 4
