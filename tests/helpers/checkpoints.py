"""Small models and quantised weights for the tests of checkpoints."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from waterlevel.validate.checkpoints.description import QuantizedWeight, even_groups
from waterlevel.validate.checkpoints.elements import ELEMENTS
from waterlevel.validate.checkpoints.writing import TensorWriter

UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
NORM = "model.norm.weight"


def integer_weight(
    name=UP, rows=64, columns=96, bits=4, size=32, symmetric=True, order=None, seed=0
):
    """Codes that use the whole grid, float16 scales, zero points that version 1 can hold."""
    rng = np.random.default_rng(seed)
    groups = columns // size
    group = even_groups(columns, size)
    zero = np.full((rows, groups), 1 << (bits - 1), np.int16)
    if not symmetric:
        zero = rng.integers(1, 1 << bits, (rows, groups)).astype(np.int16)
    return QuantizedWeight(
        name,
        "int",
        bits,
        rng.integers(0, 1 << bits, (rows, columns), dtype=np.uint8),
        rng.uniform(0.001, 0.1, (rows, groups)).astype(np.float16).astype(np.float32),
        group if order is None else group[order],
        bits_stored=0,
        scale_dtype="F16",
        zero=zero,
    )


def float_weight(element, name=UP, rows=64, columns=96, size=32, scale=None, seed=0, **more):
    """Every finite pattern, -0 too; powers of two as scales unless others are given."""
    rng = np.random.default_rng(seed)
    form = ELEMENTS[element]
    patterns = np.flatnonzero(np.isfinite(form.values)).astype(np.uint8)
    groups = columns // size
    if scale is None:
        scale = np.exp2(rng.integers(-20, 5, (rows, groups))).astype(np.float32)
    return QuantizedWeight(
        name,
        element,
        form.bits,
        rng.choice(patterns, (rows, columns)),
        scale,
        even_groups(columns, size),
        bits_stored=0,
        scale_dtype=more.pop("scale_dtype", "BF16"),
        element=form,
        **more,
    )


def nvidia_weight(name=UP, **more):
    """NVFP4: E4M3 scales divided by a float32."""
    rng = np.random.default_rng(7)
    form = ELEMENTS["fp8-e4m3"]
    whole = np.float32(1234.5678)
    scale = form.decode(rng.integers(1, 127, (64, 6)).astype(np.uint8)) / whole
    return float_weight("fp4-e2m1", name, size=16, scale=scale, global_scale=float(whole), **more)


def model(directory: Path, shapes=None, sharded=False, **config) -> Path:
    """A directory with weights of these shapes, one file or two, a norm, a tokenizer."""
    directory.mkdir()
    rng = np.random.default_rng(1)
    shapes = shapes or {UP: (64, 96), DOWN: (96, 64)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors[NORM] = rng.normal(size=7).astype(np.float16)
    if sharded:
        names = sorted(tensors)
        parts = {
            "model-00001-of-00002.safetensors": names[:1],
            "model-00002-of-00002.safetensors": names[1:],
        }
        for file, part in parts.items():
            save_file({name: tensors[name] for name in part}, directory / file)
        weight_map = {name: file for file, part in parts.items() for name in part}
        index = {"metadata": {}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "modeling_own.py").write_text("raise SystemExit")
    return directory


def stored(directory: Path, tensors: dict, quantization) -> Path:
    """A directory with tensors as (safetensors dtype, array) and a configuration."""
    directory.mkdir()
    with TensorWriter(directory / "model.safetensors", 1 << 14) as writer:
        for name, (dtype, content) in tensors.items():
            writer.add(name, dtype, content)
    (directory / "config.json").write_text(json.dumps(quantization))
    return directory


def same_bits(found: np.ndarray, expected: np.ndarray) -> bool:
    """Shape, dtype and every bit; -0 is not 0."""
    return (
        found.shape == expected.shape
        and found.dtype == expected.dtype
        and found.tobytes() == expected.tobytes()
    )
