"""The smallest honest adapter for each published package: what is called, and with what.

Each function is a subject of `waterlevel validate --quantizer`. It takes those of the parameters
that its package has, calls the package's own function, and hands back what that returned. Where
something stands in the way of running it on a CPU, the adapter says what was put aside, in its
docstring, which the report prints.
"""

from __future__ import annotations

import inspect
import os
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

SCHEMES = "compressed_tensors.quantization"
RANGES = f"{SCHEMES}.utils"


def llmcompressor_gptq(
    weight: Any,
    covariance: Any,
    bits: int,
    actorder: bool = False,
    block_size: int = 128,
    damping: float = 0.01,
) -> Any:
    """llmcompressor.modifiers.gptq.gptq_quantize.quantize_weight, one scale a row, symmetric; the
    scale is that of compressed_tensors' calculate_qparams."""
    torch: Any = import_module("torch")
    schemes, ranges = import_module(SCHEMES), import_module(RANGES)
    gptq: Any = import_module("llmcompressor.modifiers.gptq.gptq_quantize")

    W = torch.tensor(weight, dtype=torch.float32)
    order = schemes.ActivationOrdering.WEIGHT if actorder else None
    scheme = schemes.QuantizationArgs(num_bits=bits, strategy="channel", symmetric=True)
    scale, zero = ranges.calculate_qparams(W.amin(1, keepdim=True), W.amax(1, keepdim=True), scheme)
    if order is not None:
        scheme = scheme.model_copy(update={"actorder": order})
    H = torch.tensor(covariance, dtype=torch.float32)
    made, _, _ = gptq.quantize_weight(
        W.clone()[None], H[None], scale[None], zero[None], None, scheme, block_size, damping
    )
    return {"dequantized": made[0], "scale": scale}


def llmcompressor_gptq_groups(
    weight: Any,
    covariance: Any,
    bits: int,
    group_size: int,
    static_groups: bool,
    asymmetric: bool = False,
    actorder: bool = False,
    block_size: int = 128,
    damping: float = 0.01,
) -> Any:
    """llmcompressor.modifiers.gptq.gptq_quantize.quantize_weight with groups, whose scales are
    those of the original weights (static groups)."""
    torch: Any = import_module("torch")
    schemes, ranges = import_module(SCHEMES), import_module(RANGES)
    gptq: Any = import_module("llmcompressor.modifiers.gptq.gptq_quantize")

    if group_size is None or weight.shape[1] % group_size or (actorder and not static_groups):
        raise NotImplementedError("static groups that divide the row")
    W = torch.tensor(weight, dtype=torch.float32)
    scheme = schemes.QuantizationArgs(
        num_bits=bits, strategy="group", group_size=group_size, symmetric=not asymmetric,
        actorder=schemes.ActivationOrdering.WEIGHT if actorder else None,
    )  # fmt: skip
    grouped = W.unflatten(1, (-1, group_size))
    scale, zero = ranges.calculate_qparams(grouped.amin(-1), grouped.amax(-1), scheme)
    H = torch.tensor(covariance, dtype=torch.float32)
    made, _, _ = gptq.quantize_weight(
        W.clone()[None], H[None], scale[None], zero[None], None, scheme, block_size, damping
    )
    return {"dequantized": made[0], "scale": scale}


def compressed_tensors_rtn(
    weight: Any, covariance: Any, bits: int, asymmetric: bool = False, group_size: int | None = None
) -> Any:
    """compressed_tensors' calculate_qparams and fake_quantize."""
    torch: Any = import_module("torch")
    schemes, ranges = import_module(SCHEMES), import_module(RANGES)

    if group_size is not None and weight.shape[1] % group_size:
        raise NotImplementedError("groups that do not divide the row")
    W = torch.tensor(weight, dtype=torch.float32)
    scheme = schemes.QuantizationArgs(
        num_bits=bits, strategy="group" if group_size else "channel", group_size=group_size,
        symmetric=not asymmetric,
    )  # fmt: skip
    grouped = W.unflatten(1, (-1, group_size or W.shape[1]))
    scale, zero = ranges.calculate_qparams(grouped.amin(-1), grouped.amax(-1), scheme)
    return {"dequantized": schemes.fake_quantize(W, scale, zero, scheme), "scale": scale}


def keras_gptq(
    weight: Any,
    covariance: Any,
    bits: int,
    asymmetric: bool = False,
    group_size: int | None = None,
    actorder: bool = False,
    block_size: int = 128,
    damping: float = 0.01,
) -> Any:
    """keras.src.quantizers.gptq.gptq_quantize_matrix, prepared as
    GPTQ.quantize_and_correct_layer does it: the inverse of the damped moment by keras.ops, scales
    by compute_quantization_parameters. Where there are no groups, the function finds a scale anew
    in every block of columns and returns them all, but its map of groups names the first one
    alone; here each code is read with the scale that decided it."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    ops: Any = import_module("keras.src.ops")
    linalg: Any = import_module("keras.src.ops.linalg")
    gptq_quantize_matrix: Any = import_module("keras.src.quantizers.gptq").gptq_quantize_matrix
    compute_quantization_parameters: Any = import_module(
        "keras.src.quantizers.quantizers"
    ).compute_quantization_parameters
    dequantize_with_sz_map: Any = import_module(
        "keras.src.quantizers.quantizers"
    ).dequantize_with_sz_map

    H = np.array(covariance, np.float32)
    dead = np.diagonal(H) == 0
    H[dead, dead] = 1
    H = H + np.float32(damping) * np.diagonal(H).mean() * np.eye(len(H), dtype=np.float32)
    taken = -1 if group_size is None else group_size
    find = partial(
        compute_quantization_parameters, bits=bits, symmetric=not asymmetric, per_channel=True,
        group_size=taken,
    )  # fmt: skip
    codes, scale, zero, group = gptq_quantize_matrix(
        ops.convert_to_tensor(np.array(weight, np.float32)), linalg.inv(ops.convert_to_tensor(H)),
        blocksize=block_size, group_size=taken,
        activation_order=actorder, order_metric=ops.convert_to_tensor(np.diagonal(H).copy()),
        compute_scale_zero=find,
    )  # fmt: skip
    # The map of groups is place / size, not rounded down; a scale is found where a group begins,
    # and anew where a block does.
    size = group_size or len(H)
    place = np.arange(len(H))
    found = np.cumsum((place % size == 0) | (place % block_size == 0)) - 1
    if scale.shape[1] != found[-1] + 1:
        raise NotImplementedError("another version of this function")
    place = np.rint(ops.convert_to_numpy(group).astype(np.float64) * size).astype(np.int64)
    made = dequantize_with_sz_map(codes, scale, zero, ops.convert_to_tensor(found[place]))
    return {"dequantized": ops.convert_to_numpy(made)}


def torchao_gptq(weight: Any, covariance: Any, bits: int, damping: float = 0.01) -> Any:
    """torchao.prototype.gptq.api.gptq_quantize with Int8WeightOnlyConfig, one scale a row. The
    assertion that the device is CUDA and the call torch.cuda.synchronize are put aside, so that it
    runs on a CPU; nothing else is changed."""
    torch: Any = import_module("torch")
    api: Any = import_module("torchao.prototype.gptq.api")
    Int8WeightOnlyConfig: Any = import_module("torchao.quantization").Int8WeightOnlyConfig
    PerRow: Any = import_module("torchao.quantization").PerRow

    if bits != 8:
        raise NotImplementedError("8 bits alone")
    source = inspect.getsource(api.gptq_quantize)
    for line in ('    assert device.type == "cuda", "GPTQ only supports CUDA currently"\n',
                 "    torch.cuda.synchronize()\n"):  # fmt: skip
        if line not in source:
            raise NotImplementedError("another version of this function")
        source = source.replace(line, "")
    inside = dict(vars(api))
    exec(compile(source, api.__file__, "exec"), inside)
    config = api.GPTQConfig(
        step="convert", base_config=Int8WeightOnlyConfig(granularity=PerRow(), version=2),
        percdamp=damping,
    )  # fmt: skip
    made = inside["gptq_quantize"](
        torch.tensor(covariance, dtype=torch.float32), torch.tensor(weight, dtype=torch.float32),
        config,
    )  # fmt: skip
    return {"dequantized": made.dequantize(), "scale": made.scale}


# name → (function, the distribution whose version counts, the method that it claims to be)
ADAPTERS = {
    "llmcompressor-gptq": (llmcompressor_gptq, "llmcompressor", "gptq"),
    "llmcompressor-gptq-groups": (llmcompressor_gptq_groups, "llmcompressor", "gptq"),
    "compressed-tensors-rtn": (compressed_tensors_rtn, "compressed-tensors", "rtn"),
    "keras-gptq": (keras_gptq, "keras", "gptq"),
    "torchao-gptq-int8": (torchao_gptq, "torchao", "gptq"),
}
