"""One run of `reproducibility`, in a process of its own: GPTQ at 4 bits in groups of 64.

Columns in activation order, groups by original place, damping .01: both packages alike.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ...backends import get
from .loading import load_decoder
from .pipeline import Plan, quantize_model

BITS, GROUP = 4, 64
Weights = dict[str, NDArray[np.float32]]


def llmcompressor(directory: Path, sequences: NDArray[np.int64], options: Any) -> Weights:
    """`oneshot` in float32, all linear layers but the output's."""
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")
    compressor: Any = import_module("llmcompressor")
    modifiers: Any = import_module("llmcompressor.modifiers.gptq")
    schemes: Any = import_module("compressed_tensors.quantization")
    data: Any = import_module("datasets")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    rows = sequences.tolist()
    weights = schemes.QuantizationArgs(
        num_bits=BITS, type="int", strategy="group", group_size=GROUP, symmetric=True
    )
    scheme = schemes.QuantizationScheme(targets=["Linear"], weights=weights)
    recipe = modifiers.GPTQModifier(
        config_groups={"all": scheme}, ignore=["lm_head"], actorder="static", dampening_frac=0.01
    )
    compressor.oneshot(
        model=model,
        dataset=data.Dataset.from_dict(
            {"input_ids": rows, "attention_mask": np.ones_like(sequences).tolist()}
        ),
        recipe=recipe,
        num_calibration_samples=len(rows),
        max_seq_length=sequences.shape[1],
        batch_size=options["batch"],
        shuffle_calibration_samples=options["shuffled"],
    )
    return {
        f"{name}.weight": module.weight.detach().float().numpy().copy()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }


def waterlevel(directory: Path, sequences: NDArray[np.int64], options: Any) -> Weights:
    """`model quantize` without its files."""
    decoder = load_decoder(directory, options["library"])
    order = {"actorder": True, "static_groups": True}
    plan = Plan("gptq", {"bits": BITS, "group_size": GROUP, **order})
    found = quantize_model(decoder, sequences, plan, get("numba"), batch=options["batch"])
    return {layer.name: layer.weight for _, layers in found for layer in layers}


PACKAGES: dict[str, Callable[[Path, NDArray[np.int64], Any], Weights]] = {
    "llmcompressor": llmcompressor,
    "waterlevel": waterlevel,
}


def main() -> None:
    """PACKAGE DIRECTORY TOKENS OUTPUT OPTIONS, as `reproducibility` gives them."""
    package, directory, tokens, output, options = sys.argv[1:]
    sequences = np.load(tokens, allow_pickle=False)
    started = time.monotonic()
    weights = PACKAGES[package](Path(directory), sequences, json.loads(options))
    seconds = time.monotonic() - started
    save_file(weights, output)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": round(seconds, 1), "peak_mb": round(peak)}))


if __name__ == "__main__":
    main()
