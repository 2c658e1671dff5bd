"""Published packages read what is written here, bit for bit, and the other way round."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from waterlevel.validate.checkpoints.reading import open_checkpoint
from waterlevel.validate.checkpoints.tensor_files import TensorFiles
from waterlevel.validate.checkpoints.writing import write_checkpoint

from ...helpers.checkpoints import (
    DOWN,
    UP,
    float_weight,
    integer_weight,
    model,
    nvidia_weight,
    same_bits,
    stored,
)

# Packages of others warn about themselves.
pytestmark = pytest.mark.filterwarnings("default")


def write(tmp_path, form, *weights):
    output = tmp_path / "quantised"
    write_checkpoint(
        model(tmp_path / "source"), output, form, {w.name: (lambda w=w: w) for w in weights}
    )
    return output


def from_torch(tensor):
    return tensor.detach().float().contiguous().numpy()


# --- compressed-tensors


def compressor(directory):
    compressed = pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    assert compressed.__name__
    settings = open_checkpoint(directory).configuration["quantization_config"]
    config = QuantizationConfig.model_validate(settings)
    return BaseCompressor.get_value_from_registry(config.format), config.config_groups


def decompressed(directory, name):
    from safetensors.torch import load_file

    read, groups = compressor(directory)
    stem = name.removesuffix("weight")
    scheme = next(g for g in groups.values() if stem[:-1] in g.targets)
    state = load_file(directory / "model.safetensors")
    local = {key.removeprefix(stem): value for key, value in state.items() if key.startswith(stem)}
    return read.decompress(local, scheme)["weight"]


@pytest.mark.parametrize(
    ("form", "weights"),
    [
        *(
            ("pack-quantized", [integer_weight(bits=bits, symmetric=symmetric)])
            for bits in range(2, 9)
            for symmetric in (True, False)
        ),
        ("pack-quantized", [integer_weight(size=96)]),
        (
            "pack-quantized",  # two groups of the configuration
            [integer_weight(), integer_weight(DOWN, 96, 64, symmetric=False)],
        ),
        ("float-quantized", [float_weight("fp8-e4m3")]),
        ("float-quantized", [float_weight("fp8-e4m3", size=96)]),
        ("mxfp4-pack-quantized", [float_weight("fp4-e2m1")]),
        ("nvfp4-pack-quantized", [nvidia_weight()]),
    ],
)
def test_compressed_tensors_reads_what_we_write(tmp_path, form, weights):
    pytest.importorskip("compressed_tensors")
    torch = pytest.importorskip("torch")
    directory = write(tmp_path, form, *weights)
    for weight in weights:
        theirs = decompressed(directory, weight.name)
        # They compute in the dtype of the scale and FP4 ends in bfloat16: one rounding of ours.
        ours = torch.from_numpy(weight.dequantize()).to(theirs.dtype)
        assert same_bits(from_torch(theirs), from_torch(ours))
        assert same_bits(open_checkpoint(directory).dequantized(weight.name), weight.dequantize())


@pytest.mark.parametrize(
    ("form", "arguments"),
    [
        ("pack-quantized", {"num_bits": 3, "strategy": "group", "group_size": 32}),
        ("pack-quantized", {"num_bits": 4, "strategy": "channel", "symmetric": False}),
        ("int-quantized", {"num_bits": 8, "strategy": "channel"}),
        ("int-quantized", {"num_bits": 8, "strategy": "tensor", "symmetric": False}),
        ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}),
        (
            "float-quantized",
            {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [32, 48]},
        ),
        (
            "mxfp4-pack-quantized",
            {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32},
        ),
        (
            "nvfp4-pack-quantized",
            {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
        ),
    ],
)
def test_we_read_what_compressed_tensors_writes(tmp_path, form, arguments):
    pytest.importorskip("compressed_tensors")
    torch = pytest.importorskip("torch")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from safetensors.torch import save_file

    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))
    torch.manual_seed(0)
    weight = torch.randn(64, 96)
    shapes = {"group": (64, 3), "tensor_group": (64, 6), "channel": (64, 1), "tensor": (1,)}
    shape = shapes.get(arguments["strategy"], (2, 2))
    top = {2: 1, 3: 3, 4: 7, 8: 127}[arguments["num_bits"]]
    scale = torch.rand(shape) * 0.02 + 3 / top
    state = {"weight": weight, "weight_scale": scale}
    if form == "mxfp4-pack-quantized":
        state["weight_scale"] = torch.exp2(torch.randint(-3, 1, shape).float())
    if form == "nvfp4-pack-quantized":
        state["weight_global_scale"] = torch.tensor([300.0])
        state["weight_scale"] = (scale * 300).to(torch.float8_e4m3fn).float()
    if arguments.get("symmetric") is False:
        state["weight_zero_point"] = torch.randint(-top, top, shape).to(torch.int8)
    module = BaseCompressor.get_value_from_registry(form)
    compressed = module.compress(state, scheme)
    directory = tmp_path / "theirs"
    directory.mkdir()
    stem = UP.removesuffix("weight")
    save_file({stem + key: value.contiguous() for key, value in compressed.items()},
              directory / "model.safetensors")  # fmt: skip
    settings = {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": arguments}},
    }
    (directory / "config.json").write_text(json.dumps({"quantization_config": settings}))
    theirs = module.decompress(compressed, scheme)["weight"]
    ours = torch.from_numpy(open_checkpoint(directory).dequantized(UP)).to(theirs.dtype)
    assert same_bits(from_torch(ours), from_torch(theirs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "make"),
    [
        ("pack-quantized", lambda name, a, n: integer_weight(name, a, n)),
        ("pack-quantized", lambda name, a, n: integer_weight(name, a, n, symmetric=False)),
        ("float-quantized", lambda name, a, n: float_weight("fp8-e4m3", name, a, n, n)),
        ("mxfp4-pack-quantized", lambda name, a, n: float_weight("fp4-e2m1", name, a, n)),
    ],
)
def test_transformers_loads_the_whole_directory(tmp_path, form, make):
    pytest.importorskip("compressed_tensors")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=96,
    )
    source, output = tmp_path / "source", tmp_path / "out"
    transformers.LlamaForCausalLM(config).save_pretrained(source)
    shapes = {name: entry.shape for name, entry in TensorFiles(source).entries.items()}
    weights = {
        name: (lambda name=name: make(name, *shapes[name]))
        for name in shapes
        if name.endswith("_proj.weight")
    }
    write_checkpoint(source, output, form, weights)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        output,
        dtype=torch.float32,
        quantization_config=transformers.CompressedTensorsConfig(run_compressed=False),
    )
    assert torch.isfinite(loaded(torch.arange(5)[None]).logits).all()
    theirs = dict(loaded.named_parameters())
    checkpoint = open_checkpoint(output)
    assert len(weights) == 14
    for name in weights:
        # They dequantise in the dtype of the scale, float16 or bfloat16, and widen the result.
        stored = torch.float16 if form == "pack-quantized" else torch.bfloat16
        ours = torch.from_numpy(checkpoint.dequantized(name)).to(stored)
        assert same_bits(from_torch(theirs[name]), from_torch(ours))


# --- GPTQ


def gptqmodel_reads(directory):
    pytest.importorskip("gptqmodel")
    torch = pytest.importorskip("torch")
    from gptqmodel.utils import model_dequant

    settings = open_checkpoint(directory).configuration["quantization_config"]
    file = directory / "model.safetensors"
    return model_dequant.convert_gptq_file(file, torch.float32, settings, "cpu")


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("actorder", [True, False])
def test_gptqmodel_reads_what_we_write(tmp_path, bits, symmetric, actorder):
    order = np.random.default_rng(3).permutation(96) if actorder else None
    weight = integer_weight(bits=bits, symmetric=symmetric, order=order)
    directory = write(tmp_path, "gptq", weight)
    theirs = gptqmodel_reads(directory)[UP]
    assert same_bits(from_torch(theirs), weight.dequantize())
    ours = open_checkpoint(directory)
    assert ours.format == "gptq-v1"
    assert same_bits(ours.dequantized(UP), weight.dequantize())


def module_of(package, path, name):
    """One file of a package whose own start needs what is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"could not import {package!r}")
    file = f"{spec.submodule_search_locations[0]}/{path}"
    loaded = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(loaded)
    sys.modules[name] = module
    try:
        loaded.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_we_read_what_autogptq_writes(tmp_path, bits):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    path = "nn_modules/qlinear/qlinear_cuda_old.py"
    linear = module_of("auto_gptq", path, "auto_gptq_linear").QuantLinear
    weight = integer_weight(bits=bits, symmetric=False)
    layer = linear(bits, 32, 96, 64, bias=False, weight_dtype=torch.float16)
    dense = torch.nn.Linear(96, 64, bias=False, dtype=torch.float16)
    dense.weight.data = torch.from_numpy(weight.dequantize()).half()
    scales, zeros = torch.from_numpy(weight.scale), torch.from_numpy(weight.zero.astype(np.float32))
    layer.pack(dense, scales, zeros, None)
    stem = UP.removesuffix(".weight")
    tensors = {
        f"{stem}.{name}": ({torch.int32: "I32", torch.float16: "F16"}[value.dtype], value.numpy())
        for name, value in layer.state_dict().items()
    }
    config = {"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": 32}}
    found = open_checkpoint(stored(tmp_path / "theirs", tensors, config)).weight(UP)
    assert same_bits(found.codes, weight.codes)
    assert same_bits(found.zero, weight.zero)
    assert same_bits(found.dequantize(), weight.dequantize())


# --- AWQ, FP8 blocks, GPT-OSS, MLX, GGUF


def test_awq_as_autoawq_reads_it(tmp_path):
    torch = pytest.importorskip("torch")
    packing = module_of("awq", "utils/packing_utils.py", "awq_packing")
    rng = np.random.default_rng(2)
    qweight = rng.integers(-(2**31), 2**31, (96, 8), dtype=np.int64).astype(np.int32)
    qzeros = rng.integers(-(2**31), 2**31, (3, 8), dtype=np.int64).astype(np.int32)
    scales = rng.uniform(0.001, 0.1, (3, 64)).astype(np.float16)
    stem = UP.removesuffix(".weight")
    tensors = {
        f"{stem}.qweight": ("I32", qweight),
        f"{stem}.qzeros": ("I32", qzeros),
        f"{stem}.scales": ("F16", scales),
    }
    settings = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}
    directory = stored(tmp_path / "awq", tensors, {"quantization_config": settings})
    ours = open_checkpoint(directory).dequantized(UP)
    theirs = packing.dequantize_gemm(
        *(torch.from_numpy(part) for part in (qweight, qzeros, scales)), 4, 32
    )
    assert same_bits(ours.astype(np.float16), np.ascontiguousarray(theirs.numpy().T))


def test_fp8_blocks_as_transformers_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("transformers.integrations.finegrained_fp8")
    weight = float_weight("fp8-e4m3", rows=200, columns=300, size=300)
    scale = np.random.default_rng(5).uniform(0.01, 1, (2, 3)).astype(np.float32)
    tensors = {
        UP: ("F8_E4M3", weight.codes),
        UP + "_scale_inv": ("F32", scale),
    }
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    directory = stored(tmp_path / "fp8", tensors, {"quantization_config": settings})
    codes = torch.from_numpy(weight.codes).view(torch.float8_e4m3fn)
    theirs = peer._dequantize_fp8_weight(codes, torch.from_numpy(scale), [128, 128], torch.float32)
    assert same_bits(open_checkpoint(directory).dequantized(UP), from_torch(theirs))


def test_gpt_oss_as_transformers_reads_it(tmp_path):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("transformers.integrations.mxfp4")
    rng = np.random.default_rng(6)
    blocks = rng.integers(0, 256, (3, 8, 2, 16), dtype=np.uint8)
    scales = rng.integers(100, 140, (3, 8, 2), dtype=np.uint8)
    stem = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = {f"{stem}_blocks": ("U8", blocks), f"{stem}_scales": ("U8", scales)}
    config = {"quantization_config": {"quant_method": "mxfp4"}}
    checkpoint = open_checkpoint(stored(tmp_path / "oss", tensors, config))
    theirs = peer.convert_moe_packed_tensors(
        torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32
    )
    for index, name in enumerate(checkpoint.quantized()):
        assert same_bits(checkpoint.dequantized(name), from_torch(theirs[index].T))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_we_read_what_mlx_writes(tmp_path, bits):
    mlx = pytest.importorskip("mlx.core")
    weight = mlx.array(np.random.default_rng(8).normal(size=(16, 128)).astype(np.float32))
    packed, scales, biases = mlx.quantize(weight, group_size=64, bits=bits)
    stem = UP.removesuffix(".weight")
    directory = tmp_path / "mlx"
    directory.mkdir()
    tensors = {UP: packed, f"{stem}.scales": scales, f"{stem}.biases": biases}
    mlx.save_safetensors(str(directory / "model.safetensors"), tensors)
    (directory / "config.json").write_text(
        f'{{"quantization": {{"group_size": 64, "bits": {bits}}}}}'
    )
    theirs = np.array(mlx.dequantize(packed, scales, biases, group_size=64, bits=bits))
    ours = open_checkpoint(directory).dequantized(UP)
    # Product and sum may be fused there; here each is rounded, by u = 2^-24 of its size. So the two
    # differ by at most u of the product, and u of each of the two sums.
    bias = np.abs(np.repeat(np.array(biases), 64, axis=1))
    size = np.maximum(np.abs(ours), np.abs(theirs)).astype(np.float64)
    bound = 2.0**-24 * ((size + bias) * (1 + 2.0**-23) + 2 * size)
    assert (np.abs(ours.astype(np.float64) - theirs) <= bound).all()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q8_0"])
def test_gguf_as_the_package_reads_it(tmp_path, kind):
    gguf = pytest.importorskip("gguf")
    weight = np.random.default_rng(9).normal(size=(16, 128)).astype(np.float32)
    form = gguf.GGMLQuantizationType[kind]
    data = gguf.quants.quantize(weight, form)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("blk.0.ffn_up.weight", data, raw_dtype=form)
    writer.add_tensor("norm.weight", weight[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    assert checkpoint.quantized() == ["blk.0.ffn_up.weight"]
    ours = checkpoint.dequantized("blk.0.ffn_up.weight")
    assert same_bits(ours, gguf.quants.dequantize(data, form))
