"""Checkpoints against bytes made by hand, and what is refused."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st

from waterlevel.reference.errors import BadInput
from waterlevel.validate.checkpoints.bit_packing import pack, unpack, words_for
from waterlevel.validate.checkpoints.elements import ELEMENTS
from waterlevel.validate.checkpoints.reading import open_checkpoint
from waterlevel.validate.checkpoints.tensor_files import TensorFiles
from waterlevel.validate.checkpoints.writing import FORMATS, write_checkpoint

from ...helpers.checkpoints import (
    DOWN,
    NORM,
    UP,
    float_weight,
    integer_weight,
    model,
    nvidia_weight,
    same_bits,
    stored,
)

STEM = UP.removesuffix(".weight")
TYPES = {
    "fp4-e2m1": ml_dtypes.float4_e2m1fn,
    "fp6-e2m3": ml_dtypes.float6_e2m3fn,
    "fp6-e3m2": ml_dtypes.float6_e3m2fn,
    "fp8-e4m3": ml_dtypes.float8_e4m3fn,
    "fp8-e5m2": ml_dtypes.float8_e5m2,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}


@pytest.mark.parametrize("name", TYPES)
def test_every_pattern_is_the_number_that_ml_dtypes_says(name):
    element = ELEMENTS[name]
    patterns = np.arange(1 << element.bits, dtype=np.uint8)
    theirs = patterns.view(TYPES[name]).astype(np.float32)
    ours = element.decode(patterns)
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    finite = np.isfinite(ours)
    assert same_bits(ours[~np.isnan(ours)], theirs[~np.isnan(theirs)])
    assert same_bits(element.encode(ours[finite]), patterns[finite])


def test_mxint8_is_two_s_complement_over_64():
    element = ELEMENTS["mxint8"]
    assert element.decode(np.array([1, 127, 128, 255], np.uint8)).tolist() == [
        1 / 64,
        127 / 64,
        -2.0,
        -1 / 64,
    ]


def test_a_number_outside_the_set_is_refused():
    with pytest.raises(BadInput, match=r"5.0 is not a value of fp4-e2m1"):
        ELEMENTS["fp4-e2m1"].encode(np.array([4.0, 5.0], np.float32))


@given(st.integers(1, 8), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_bit_k_of_the_stream_is_bit_k_of_the_words(bits, count, seed):
    numbers = np.random.default_rng(seed).integers(0, 1 << bits, (2, count), dtype=np.uint8)
    words = pack(numbers, bits)
    assert words.shape == (2, words_for(count, bits))
    for row in range(2):
        stream = sum(int(number) << (index * bits) for index, number in enumerate(numbers[row]))
        expected = [(stream >> (32 * word)) & 0xFFFFFFFF for word in range(words.shape[1])]
        assert words[row].tolist() == expected
    assert same_bits(unpack(words, bits, count), numbers)


def test_gptq_of_three_bits_by_hand(tmp_path):
    """32 inputs: code 5 (101) at input 10 straddles the first two words, 6 (110) at 21 the next."""
    qweight = np.zeros((3, 32), np.uint32)
    qweight[0, 0] = 0b01 << 30
    qweight[1, 0] = 0b1 | 0b0 << 31
    qweight[2, 0] = 0b11
    qzeros = np.zeros((1, 3), np.uint32)
    qzeros[0, 0] = 0b011  # output 0: zero point 3 as it stands
    stem = UP.removesuffix(".weight")
    tensors = {
        f"{stem}.qweight": ("I32", qweight.view(np.int32)),
        f"{stem}.qzeros": ("I32", qzeros.view(np.int32)),
        f"{stem}.scales": ("F16", np.full((1, 32), 0.5, np.float16)),
    }
    found = {}
    for version in ("gptq", "gptq_v2"):
        settings = {"quant_method": "gptq", "bits": 3, "checkpoint_format": version}
        directory = stored(tmp_path / version, tensors, {"quantization_config": settings})
        found[version] = open_checkpoint(directory).weight(UP)
    weight = found["gptq_v2"]
    assert weight.shape == (32, 32)
    assert weight.codes[0, [10, 21]].tolist() == [5, 6]
    assert weight.codes.sum() == 11
    assert weight.zero[:2, 0].tolist() == [3, 0]
    assert found["gptq"].zero[:2, 0].tolist() == [4, 1]
    assert weight.dequantize()[0, [10, 21, 0]].tolist() == [1.0, 1.5, -1.5]
    assert found["gptq"].dequantize()[0, [10, 21, 0]].tolist() == [0.5, 1.0, -2.0]
    assert weight.bits_stored == 8 * (3 * 32 * 4 + 3 * 4 + 32 * 2)


def test_awq_by_hand(tmp_path):
    word = sum(field << (4 * field) for field in range(8))  # field i holds i
    stem = UP.removesuffix(".weight")
    tensors = {
        f"{stem}.qweight": ("I32", np.full((2, 1), word, np.uint32).view(np.int32)),
        f"{stem}.qzeros": ("I32", np.zeros((1, 1), np.int32)),
        f"{stem}.scales": ("F16", np.ones((1, 8), np.float16)),
    }
    config = {"quantization_config": {"quant_method": "awq", "bits": 4, "version": "GEMM"}}
    ours = open_checkpoint(stored(tmp_path / "awq", tensors, config)).dequantized(UP)
    # Outputs 0 2 4 6 1 3 5 7 take fields 0 … 7.
    assert ours[[0, 2, 4, 6, 1, 3, 5, 7], 1].tolist() == list(range(8))


def test_nvfp4_by_hand(tmp_path):
    """Byte 0x2F: the lower half first, -6 and then 1; scale 0x38 is 1, divided by 4."""
    stem = UP.removesuffix(".weight")
    tensors = {
        f"{stem}.weight_packed": ("U8", np.full((1, 8), 0x2F, np.uint8)),
        f"{stem}.weight_scale": ("F8_E4M3", np.array([[0x38]], np.uint8)),
        f"{stem}.weight_global_scale": ("F32", np.array([4.0], np.float32)),
    }
    arguments = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "nvfp4-pack-quantized",
        "config_groups": {"g": {"targets": ["re:.*up_proj"], "weights": arguments}},
    }
    directory = stored(tmp_path / "nv", tensors, {"quantization_config": settings})
    assert open_checkpoint(directory).dequantized(UP)[0, :4].tolist() == [-1.5, 0.25, -1.5, 0.25]


def test_fp8_blocks_by_hand(tmp_path):
    """Blocks of 2 rows and 3 columns; the last ones are smaller. 0x38 is 1, 0xC0 is -2."""
    codes = np.full((3, 4), 0x38, np.uint8)
    codes[2, 3] = 0xC0
    tensors = {
        UP: ("F8_E4M3", codes),
        UP + "_scale_inv": ("F32", np.array([[1, 2], [3, 4]], np.float32)),
    }
    settings = {"quant_method": "fp8", "weight_block_size": [2, 3]}
    directory = stored(tmp_path / "fp8", tensors, {"quantization_config": settings})
    expected = [[1, 1, 1, 2], [1, 1, 1, 2], [3, 3, 3, -8]]
    assert open_checkpoint(directory).dequantized(UP).tolist() == expected


def test_gpt_oss_by_hand(tmp_path):
    blocks = np.zeros((2, 1, 1, 16), np.uint8)
    blocks[1, 0, 0, 0] = 0x2F
    scales = np.array([[[127]], [[128]]], np.uint8)
    tensors = {"x.down_proj_blocks": ("U8", blocks), "x.down_proj_scales": ("U8", scales)}
    config = {"quantization_config": {"quant_method": "mxfp4"}}
    checkpoint = open_checkpoint(stored(tmp_path / "oss", tensors, config))
    assert checkpoint.quantized() == ["x.down_proj[0]", "x.down_proj[1]"]
    assert not checkpoint.dequantized("x.down_proj[0]").any()
    assert checkpoint.dequantized("x.down_proj[1]")[0, :3].tolist() == [-12.0, 2.0, 0.0]


def test_mlx_by_hand(tmp_path):
    """Codes 0 … 7 in the first word; 0.5·code - 1; a layer with bits of its own."""
    word = sum(code << (4 * code) for code in range(8))
    tensors = {
        UP: ("U32", np.array([[word] * 4], np.uint32)),
        f"{STEM}.scales": ("F16", np.array([[0.5]], np.float16)),
        f"{STEM}.biases": ("F16", np.array([[-1.0]], np.float16)),
    }
    settings = {"group_size": 64, "bits": 8, STEM: {"group_size": 32, "bits": 4}}
    directory = stored(tmp_path / "mlx", tensors, {"quantization": settings})
    ours = open_checkpoint(directory).dequantized(UP)
    assert ours[0, :8].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_int_quantized_by_hand(tmp_path):
    tensors = {
        UP: ("I8", np.array([[-128, 127], [3, -3]], np.int8)),
        UP + "_scale": ("F16", np.array([[0.5], [2.0]], np.float16)),
        UP + "_zero_point": ("I8", np.array([[-1], [1]], np.int8)),
    }
    arguments = {"num_bits": 8, "strategy": "channel", "symmetric": False}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {"g": {"targets": ["Linear"], "weights": arguments}},
    }
    directory = stored(tmp_path / "int", tensors, {"quantization_config": settings})
    assert open_checkpoint(directory).dequantized(UP).tolist() == [[-63.5, 64.0], [4.0, -8.0]]


def with_g_idx(tmp_path, g_idx):
    """Two groups of two columns on 8 bits: codes 0 1 2 3, scales 1 and 10."""
    tensors = {
        f"{STEM}.weight_packed": ("I32", np.array([[0x83828180]], np.uint32).view(np.int32)),
        f"{STEM}.weight_scale": ("F16", np.array([[1.0, 10.0]], np.float16)),
        f"{STEM}.weight_shape": ("I64", np.array([1, 4])),
        f"{STEM}.weight_g_idx": ("I32", np.array(g_idx, np.int32)),
    }
    arguments = {"num_bits": 8, "strategy": "group", "group_size": 2, "actorder": "group"}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"g": {"targets": ["Linear"], "weights": arguments}},
    }
    return stored(tmp_path / "g_idx", tensors, {"quantization_config": settings})


@pytest.mark.parametrize(
    ("g_idx", "expected"),
    [
        ([1, 0, 0, 1], [0.0, 1.0, 2.0, 30.0]),
        ([0, 0, 1, 1], [0.0, 1.0, 20.0, 30.0]),
        ([-1, -1, -1, -1], [0.0, 1.0, 20.0, 30.0]),  # never filled
    ],
)
def test_g_idx_of_compressed_tensors_by_hand(tmp_path, g_idx, expected):
    directory = with_g_idx(tmp_path, g_idx)
    assert open_checkpoint(directory).dequantized(UP).tolist() == [expected]


@pytest.mark.parametrize("g_idx", [[0, 0, 0, 1], [0, 0, 1, 2], [-1, 0, 1, 1], [0, 1, -7, 1]])
def test_g_idx_that_is_no_grouping_is_refused(tmp_path, g_idx):
    with pytest.raises(BadInput, match="weight_g_idx does not give each of 2 groups 2 columns"):
        open_checkpoint(with_g_idx(tmp_path, g_idx)).weight(UP)


def test_a_name_that_would_steer_a_terminal_is_refused(tmp_path):
    directory = stored(tmp_path / "x", {"a\x1b[2J": ("F32", np.zeros(1, np.float32))}, {})
    with pytest.raises(BadInput, match=r"tensor name 'a\\x1b\[2J' cannot be printed"):
        open_checkpoint(directory)


def test_bfloat16_and_small_floats_become_exact_numbers(tmp_path):
    values = np.array([1.0, -2.5, 3.0e38], ml_dtypes.bfloat16)
    tensors = {
        "b": ("BF16", values.view(np.uint16)),
        "e": ("F8_E8M0", np.array([0, 127, 254], np.uint8)),
        "f": ("F4", np.array([[0x2F]], np.uint8)),
    }
    files = TensorFiles(stored(tmp_path / "x", {k: tensors[k] for k in "be"}, {}))
    assert same_bits(files.numbers("b"), values.astype(np.float32))
    assert files.numbers("e").tolist() == [2.0**-127, 1.0, 2.0**127]
    with pytest.raises(BadInput, match="tensor c is missing"):
        files.numbers("c")


WEIGHTS = {
    "gptq": integer_weight,
    "pack-quantized": integer_weight,
    "float-quantized": lambda name: float_weight("fp8-e4m3", name),
    "mxfp4-pack-quantized": lambda name: float_weight("fp4-e2m1", name),
    "nvfp4-pack-quantized": nvidia_weight,
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("sharded", [False, True])
def test_a_whole_directory_comes_back(tmp_path, form, sharded):
    source = model(tmp_path / "source", sharded=sharded, auto_map={"AutoModel": "modeling_own.X"})
    weight = WEIGHTS[form](UP)
    output = tmp_path / "out"
    remarks = write_checkpoint(source, output, form, {UP: lambda: weight})
    assert remarks == ["auto_map of config.json is left out", "not copied: modeling_own.py"]
    checkpoint = open_checkpoint(output)
    found = checkpoint.weight(UP)
    assert same_bits(found.dequantize(), weight.dequantize())
    assert found.bits_stored == sum(
        8 * entry.length
        for name, entry in checkpoint.files.entries.items()
        if name.startswith(UP.removesuffix("weight"))
    )
    before = TensorFiles(source)
    for name in (DOWN, NORM):  # as it was
        assert same_bits(checkpoint.files.read(name), before.read(name))
        assert checkpoint.files.entry(name).dtype == before.entry(name).dtype
    assert UP not in checkpoint.files or form == "float-quantized"
    assert (output / "tokenizer.json").exists()
    assert not (output / "modeling_own.py").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_nothing_is_left_behind_when_a_weight_does_not_fit(tmp_path):
    source = model(tmp_path / "source")
    weight = integer_weight(rows=32)
    with pytest.raises(BadInput, match=rf"tensor {UP} is 64×96, but .* is 32×96"):
        write_checkpoint(source, tmp_path / "out", "gptq", {UP: lambda: weight})
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def refused(tmp_path, form, weight, pattern):
    with pytest.raises(BadInput, match=pattern):
        write_checkpoint(model(tmp_path / "source"), tmp_path / "out", form, {UP: lambda: weight})
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_zero_point_that_version_1_cannot_hold_is_refused(tmp_path):
    weight = integer_weight(symmetric=False)
    weight.zero[5, 1] = 0
    refused(tmp_path, "gptq", weight, r"zero point 0 of row 5, group 1: version 1 .* 1 to 15")


def test_a_scale_that_the_type_cannot_hold_is_refused(tmp_path):
    weight = integer_weight()
    weight.scale[0, 0] = 0.1
    refused(tmp_path, "gptq", weight, r"scale 0\.1\d* is not a number of F16")


def test_a_scale_that_is_no_power_of_two_is_refused(tmp_path):
    weight = float_weight("fp4-e2m1")
    weight.scale[0, 0] = 0.75
    refused(tmp_path, "mxfp4-pack-quantized", weight, r"scale 0\.75 is not a value of e8m0")


def test_a_scale_that_is_no_e4m3_is_refused(tmp_path):
    weight = nvidia_weight()
    weight.scale[3, 2] *= np.float32(1.01)
    refused(tmp_path, "nvfp4-pack-quantized", weight, r"row 3, group 2 is no E4M3 number")


def test_groups_out_of_order_are_refused_where_there_is_no_g_idx(tmp_path):
    weight = integer_weight(order=np.random.default_rng(0).permutation(96))
    refused(tmp_path, "pack-quantized", weight, "groups of equal size, one after the other")


# --- untrusted files


def gptq_directory(tmp_path, change=lambda tensors: None, **settings):
    source = model(tmp_path / "source")
    write_checkpoint(source, tmp_path / "good", "gptq", {UP: integer_weight})
    files = TensorFiles(tmp_path / "good")
    tensors = {name: (entry.dtype, files.read(name)) for name, entry in files.entries.items()}
    change(tensors)
    config = json.loads((tmp_path / "good/config.json").read_text())
    config["quantization_config"] |= settings
    return stored(tmp_path / "bad", tensors, config)


@pytest.mark.parametrize(
    ("change", "settings", "pattern"),
    [
        (lambda t: t.pop(f"{STEM}.scales"), {}, rf"tensor {STEM}.scales is missing"),
        (
            lambda t: t.update({f"{STEM}.scales": ("F16", np.ones((3, 63), np.float16))}),
            {},
            rf"model.safetensors: tensor {STEM}.scales has shape 3×63, expected any×64",
        ),
        (
            lambda t: t.update({f"{STEM}.scales": ("F16", np.full((3, 64), np.nan, np.float16))}),
            {},
            r"scales has nan at \[0, 0\]; it must be finite",
        ),
        (
            lambda t: t.update({f"{STEM}.g_idx": ("I32", np.full(96, 3, np.int32))}),
            {},
            "g_idx has groups from 3 to 3, but there are 3",
        ),
        (
            lambda t: t.update({f"{STEM}.qzeros": ("I64", np.zeros((3, 8), np.int64))}),
            {},
            "qzeros has dtype I64, expected I32",
        ),
        (lambda t: None, {"bits": 7}, "do not hold codes of 7 bits"),
        (lambda t: None, {"bits": 8}, r"g_idx has shape 96, expected 48|qzeros has shape"),
        (lambda t: None, {"checkpoint_format": "marlin"}, "checkpoint_format 'marlin'"),
        (lambda t: None, {"quant_method": "quip"}, "quant_method 'quip' is not known"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, change, settings, pattern):
    directory = gptq_directory(tmp_path, change, **settings)
    with pytest.raises(BadInput, match=pattern) as caught:
        open_checkpoint(directory).weight(UP)
    assert "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)


def test_a_huge_shape_is_refused_before_memory_is_asked_for(tmp_path):
    tensors = {
        f"{STEM}.weight_packed": ("I32", np.zeros((1, 4), np.int32)),
        f"{STEM}.weight_scale": ("F16", np.ones((1, 1), np.float16)),
        f"{STEM}.weight_shape": ("I64", np.array([2**40, 2**40])),
    }
    arguments = {"num_bits": 4, "strategy": "channel"}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"g": {"targets": ["Linear"], "weights": arguments}},
    }
    directory = stored(tmp_path / "huge", tensors, {"quantization_config": settings})
    with pytest.raises(BadInput, match="weight_packed has shape 1×4, expected 1099511627776×"):
        open_checkpoint(directory).weight(UP)


@pytest.mark.parametrize("file", ["../source/model.safetensors", "/etc/passwd", "model.bin", 3])
def test_an_index_names_files_beside_it_only(tmp_path, file):
    directory = model(tmp_path / "source", sharded=True)
    index = json.dumps({"weight_map": {UP: file}})
    (directory / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadInput, match="no safetensors file beside it"):
        open_checkpoint(directory)


def test_a_tensor_that_the_index_lists_must_be_there(tmp_path):
    directory = model(tmp_path / "source", sharded=True)
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lost"] = index["weight_map"][UP]
    path.write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"tensor lost is missing, which model\.safetensors\.index"):
        open_checkpoint(directory)


def test_pickles_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BadInput, match=r"pytorch_model.bin: a pickle .* safe_serialization=True"):
        open_checkpoint(tmp_path)


def test_a_file_that_was_cut_is_refused(tmp_path):
    directory = model(tmp_path / "source")
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        open_checkpoint(directory)
    path.write_bytes(struct.pack("<Q", 2**62))
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        open_checkpoint(directory)


def test_auto_map_is_said_and_not_run(tmp_path):
    directory = model(tmp_path / "source", auto_map={"AutoModel": "modeling_own.X"})
    checkpoint = open_checkpoint(directory)
    assert checkpoint.format == "none"
    assert checkpoint.remarks == ["auto_map in config.json names code of the model; it is not run"]


@pytest.mark.filterwarnings("default")
def test_a_broken_gguf_is_refused(tmp_path):
    """Cut anywhere, or with any byte of its header changed: one line, or numbers all the same."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    form = gguf.GGMLQuantizationType.Q4_0
    writer = gguf.GGUFWriter(path, "llama")
    data = gguf.quants.quantize(np.ones((4, 64), np.float32), form)
    writer.add_tensor("a.weight", data, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = path.read_bytes()
    refusals = 0
    for place in range(len(whole)):
        for content in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            path.write_bytes(content)
            try:
                checkpoint = open_checkpoint(path)
                for name in checkpoint.quantized():
                    checkpoint.dequantized(name)
            except BadInput:
                refusals += 1
    assert refusals > len(whole)
