"""Weights as the tensors of compressed-tensors, and the arguments that describe them.

Nothing is rounded: a code, scale or zero point that the format cannot hold is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.errors import BadInput
from .bit_packing import pack
from .description import QuantizedWeight, integers_and_zeros
from .elements import ELEMENTS
from .tensor_files import stored_numbers

Stored = dict[str, tuple[str, NDArray]]
Written = tuple[Stored, dict[str, Any]]


def pack_quantized(weight: QuantizedWeight) -> Written:
    """Integers of 2 to 8 bits with a scale for each row or group, symmetric or not."""
    _needs(weight, weight.element is None and 2 <= weight.bits <= 8, "integers of 2 to 8 bits")
    stem, half = weight.name.removesuffix(".weight"), 1 << (weight.bits - 1)
    codes, zero = integers_and_zeros(weight)
    _needs(weight, 0 <= zero.min() <= zero.max() < 2 * half, "zero points that are codes")
    symmetric = bool((zero == half).all())
    tensors: Stored = {
        f"{stem}.weight_packed": ("I32", pack(codes, weight.bits)),
        f"{stem}.weight_scale": _scale(weight, weight.scale),
        f"{stem}.weight_shape": ("I64", np.array(weight.shape, np.int64)),
    }
    if not symmetric:
        packed = pack(np.ascontiguousarray(zero.T.astype(np.uint8)), weight.bits)
        tensors[f"{stem}.weight_zero_point"] = ("I32", packed.T)
    return tensors, _arguments(weight, "int", symmetric)


def float_quantized(weight: QuantizedWeight) -> Written:
    """FP8 E4M3 with a scale for each row or group."""
    _needs(weight, weight.element is ELEMENTS["fp8-e4m3"], "fp8-e4m3 elements")
    tensors: Stored = {
        weight.name: ("F8_E4M3", weight.codes),
        f"{weight.name}_scale": _scale(weight, weight.scale),
    }
    return tensors, _arguments(weight, "float", True)


def mxfp4_pack_quantized(weight: QuantizedWeight) -> Written:
    """FP4 E2M1 in blocks of 32 with powers of two."""
    arguments = _arguments(weight, "float", True)
    _needs(weight, arguments.get("group_size") == 32, "blocks of 32")
    try:
        scale = ELEMENTS["e8m0"].encode(weight.scale)
    except BadInput as error:
        raise BadInput(f"{weight.name}: scale {error}") from None
    tensors = _fp4(weight) | {f"{weight.name}_scale": ("U8", scale)}
    return tensors, {**arguments, "scale_dtype": "torch.uint8"}


def nvfp4_pack_quantized(weight: QuantizedWeight) -> Written:
    """FP4 E2M1 in blocks of 16 with E4M3 scales, divided by one float32 for the tensor."""
    arguments = _arguments(weight, "float", True)
    _needs(weight, arguments.get("group_size") == 16, "blocks of 16")
    form = ELEMENTS["fp8-e4m3"]
    whole = np.float32(1 if weight.global_scale is None else weight.global_scale)
    # The product is off by less than a rounding of float32, far less than E4M3 tells apart.
    positive = form.values[: 1 << 7][np.isfinite(form.values[: 1 << 7])]
    product = weight.scale * whole
    middle = (positive[1:] + positive[:-1]) / 2
    patterns = np.searchsorted(middle, product).astype(np.uint8)
    wrong = form.decode(patterns) / whole != weight.scale
    if wrong.any():
        row, group = np.argwhere(wrong)[0]
        raise BadInput(
            f"{weight.name}: scale {weight.scale[row, group]} of row {row}, group {group} is "
            f"no E4M3 number divided by {whole}"
        )
    tensors = _fp4(weight) | {
        f"{weight.name}_scale": ("F8_E4M3", patterns),
        f"{weight.name}_global_scale": ("F32", np.array([whole], np.float32)),
    }
    arguments |= {"strategy": "tensor_group", "scale_dtype": "torch.float8_e4m3fn"}
    return tensors, arguments


WRITERS: dict[str, Callable[[QuantizedWeight], Written]] = {
    "pack-quantized": pack_quantized,
    "float-quantized": float_quantized,
    "nvfp4-pack-quantized": nvfp4_pack_quantized,
    "mxfp4-pack-quantized": mxfp4_pack_quantized,
}


def configuration(form: str, arguments: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The quantization_config; modules with equal arguments share a group.

    Args:
        arguments: by module.
    """
    groups: list[dict[str, Any]] = []
    for module, described in arguments.items():
        for group in groups:
            if group["weights"] == described:
                group["targets"].append(module)
                break
        else:
            groups.append({"targets": [module], "weights": described})
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": [],
        "config_groups": {f"group_{index}": group for index, group in enumerate(groups)},
    }


def _arguments(weight: QuantizedWeight, kind: str, symmetric: bool) -> dict[str, Any]:
    groups = weight.scale.shape[1]
    size = weight.shape[1] // groups
    even = size * groups == weight.shape[1]
    _needs(
        weight,
        even and (weight.group == np.arange(weight.shape[1]) // size).all(),
        "groups of equal size, one after the other (quantise with static groups)",
    )
    described = {"num_bits": weight.bits, "type": kind, "symmetric": symmetric, "dynamic": False}
    if groups == 1:
        return described | {"strategy": "channel"}
    return described | {"strategy": "group", "group_size": size}


def _scale(weight: QuantizedWeight, scale: NDArray[np.float32]) -> tuple[str, NDArray]:
    dtype = weight.scale_dtype
    _needs(weight, dtype in ("F32", "F16", "BF16"), "scales in float32, float16 or bfloat16")
    return dtype, stored_numbers(f"{weight.name}: scale", scale, dtype)


def _fp4(weight: QuantizedWeight) -> Stored:
    _needs(weight, weight.element is ELEMENTS["fp4-e2m1"], "fp4-e2m1 elements")
    rows, columns = weight.shape
    _needs(weight, columns % 2 == 0, "an even number of columns")
    packed = weight.codes[:, 0::2] | (weight.codes[:, 1::2] << np.uint8(4))
    return {f"{weight.name}_packed": ("U8", packed.reshape(rows, columns // 2))}


def _needs(weight: QuantizedWeight, fits: object, what: str) -> None:
    if not fits:
        raise BadInput(f"{weight.name}: this format needs {what}; it is {weight.format}")
