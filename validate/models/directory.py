"""A Hugging Face directory: config.json, and the tensors of model.safetensors or of its shards.

Files are not trusted. A field of the configuration is one of three kinds: it is used; it changes
nothing (`INERT`); or it must have the one value with which it changes nothing (`REQUIRED`). Any
other is refused by name. Names of files come from the index, and must be plain names of files that
lie in the directory. Tensors are read one at a time, when they are asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ...reference.decoder import Configuration, Rotary
from ...reference.decoder.decoder import tensor_shapes
from ...reference.errors import BadInput
from ..checkpoints.reading import Checkpoint, open_checkpoint
from ..layers.layer_files import DTYPES, read_bfloat16

CONFIGURATION, WEIGHTS = "config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_JSON = 64 << 20
LARGEST = 1 << 24
"""Above every size in a configuration."""
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
UNUSED = re.compile(
    r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|model\.rotary_emb\.inv_freq"
)
"""Tables that old checkpoints carry, and that the configuration gives."""

QUANTIZATION = "quantization_config"
ATTENTION = frozenset(("q_proj", "k_proj", "v_proj"))
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
USED = {
    *("architectures", "model_type", "vocab_size", "hidden_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"),
    *("rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings"),
    *("attention_bias", "mlp_bias", "sliding_window", "use_sliding_window", "layer_types"),
    *("max_window_layers", QUANTIZATION),
}
INERT = {
    *("_name_or_path", "attention_dropout", "bos_token_id", "chunk_size_feed_forward", "dtype"),
    *("eos_token_id", "id2label", "initializer_range", "label2id", "max_position_embeddings"),
    *("output_attentions", "output_hidden_states", "pad_token_id", "pretraining_tp"),
    *("problem_type", "return_dict", "torch_dtype", "transformers_version", "use_cache"),
    *("transformers.js_config", "unsloth_version", "_attn_implementation_autoset"),
}
REQUIRED = {
    "hidden_act": "silu",
    "is_encoder_decoder": False,
    "is_llama_config": True,
    "rope_interleaved": False,
    "use_mrope": False,
    "partial_rotary_factor": 1.0,
}
ROPE_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        *("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    ),
}


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file of bounded size. Raises BadInput for anything else."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a Hugging Face directory")
    if path.stat().st_size > LARGEST_JSON:
        raise BadInput(f"{path} has {path.stat().st_size} bytes, more than {LARGEST_JSON}")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: expected an object, found {type(found).__name__}")
    return found


class _Fields:
    """The fields of a configuration, each checked as it is read."""

    def __init__(self, path: Path, fields: Mapping[str, Any]) -> None:
        self.path, self.fields = path, fields

    def refuse(self, name: str, why: str) -> BadInput:
        return BadInput(f"{self.path}: {name} is {repr(self.fields.get(name))[:200]}; {why}")

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.fields.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= LARGEST:
            raise self.refuse(name, f"expected an integer from 1 to {LARGEST}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.fields.get(name, default)
        if type(value) not in (int, float) or not 0 < value < 1e12:
            raise self.refuse(name, "expected a positive number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.fields.get(name, default)
        if type(value) is not bool:
            raise self.refuse(name, "expected true or false")
        return value


def read_configuration(directory: Path) -> Configuration:
    """What config.json says.

    Raises:
        BadInput: no such file, or one that is damaged; an architecture or a field that is not
            known; a value that does not fit.
    """
    path = directory / CONFIGURATION
    fields = _Fields(path, read_json(path))
    kind = fields.fields.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise fields.refuse("model_type", f"known are {', '.join(ARCHITECTURES)}")
    if fields.fields.get("architectures") not in (None, [ARCHITECTURES[kind]]):
        raise fields.refuse("architectures", f"expected {ARCHITECTURES[kind]}")
    for name, value in fields.fields.items():
        if name in REQUIRED:
            if value is not None and value != REQUIRED[name]:
                raise fields.refuse(name, f"only {REQUIRED[name]!r} is known")
        elif name not in USED | INERT:
            raise fields.refuse(name, "a field that is not known may change the function")
    if "hidden_act" not in fields.fields:
        raise fields.refuse("hidden_act", "it must be there")
    heads, width = fields.integer("num_attention_heads"), fields.integer("hidden_size")
    return Configuration(
        vocabulary=fields.integer("vocab_size"),
        width=width,
        blocks=fields.integer("num_hidden_layers"),
        heads=heads,
        key_heads=fields.integer("num_key_value_heads", heads),
        head_width=fields.integer("head_dim", 128 if kind == "qwen3" else width // heads),
        feed_forward=fields.integer("intermediate_size"),
        epsilon=fields.number("rms_norm_eps"),
        rotary=_rotary(fields),
        tied=fields.flag("tie_word_embeddings"),
        biases=_biases(fields, kind),
        query_key_norm=kind == "qwen3",
        windows=_windows(fields, kind),
    )


def read_length(directory: Path) -> int | None:
    """The tokens of a sequence that the model is made for, or None if config.json does not say."""
    path = directory / CONFIGURATION
    fields = _Fields(path, read_json(path))
    if fields.fields.get("max_position_embeddings") is None:
        return None
    return fields.integer("max_position_embeddings")


def _biases(fields: _Fields, kind: str) -> frozenset[str]:
    attention, feed_forward = fields.flag("attention_bias"), fields.flag("mlp_bias")
    if kind == "qwen2":
        return ATTENTION
    if (attention and kind == "mistral") or (feed_forward and kind != "llama"):
        name = "mlp_bias" if feed_forward else "attention_bias"
        raise fields.refuse(name, f"a model of type {kind} has none")
    found = ATTENTION | {"o_proj"} if attention else frozenset()
    return found | ({"gate_proj", "up_proj", "down_proj"} if feed_forward else frozenset())


def _windows(fields: _Fields, kind: str) -> tuple[int | None, ...]:
    blocks, given = fields.integer("num_hidden_layers"), fields.fields.get("sliding_window")
    kinds = fields.fields.get("layer_types")
    use = fields.flag("use_sliding_window", kind == "mistral")
    if kind == "llama":
        if given is not None or kinds not in (None, ["full_attention"] * blocks):
            raise fields.refuse("sliding_window", "a model of type llama has no window")
        return ()
    if kind == "mistral":
        if kinds is not None:
            raise fields.refuse("layer_types", "a model of type mistral has one kind of block")
        return (fields.integer("sliding_window"),) * blocks if given is not None else ()
    if not use or given is None:
        if kinds is not None and kinds != ["full_attention"] * blocks:
            raise fields.refuse("layer_types", "blocks with a window, but there is no window")
        return ()
    window, first = fields.integer("sliding_window"), fields.fields.get("max_window_layers", 28)
    if kinds is None:
        if type(first) is not int or first < 0:
            raise fields.refuse("max_window_layers", "expected a number of blocks")
        return tuple(window if i >= first else None for i in range(blocks))
    known = {"full_attention": None, "sliding_attention": window}
    if not isinstance(kinds, list) or len(kinds) != blocks or not all(k in known for k in kinds):
        raise fields.refuse("layer_types", f"expected {blocks} of {', '.join(known)}")
    return tuple(known[kind] for kind in kinds)


def _rotary(fields: _Fields) -> Rotary:
    given = fields.fields.get("rope_parameters")
    given = fields.fields.get("rope_scaling") if given is None else given
    if given is not None and not isinstance(given, dict):
        raise fields.refuse("rope_parameters", "expected an object")
    inner = _Fields(fields.path, dict(given or {}))
    base = fields.number("rope_theta", 10000.0)
    if "rope_theta" in inner.fields:
        base = inner.number("rope_theta")
    kind = inner.fields.get("rope_type", inner.fields.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_FIELDS:
        raise BadInput(f"{fields.path}: rope_type is {kind!r}; known are {', '.join(ROPE_FIELDS)}")
    wanted = ROPE_FIELDS[kind]
    for name, value in inner.fields.items():
        harmless = name in ("rope_type", "type", "rope_theta") or (
            name == "partial_rotary_factor" and value == 1.0
        )
        if name not in wanted and not harmless:
            raise inner.refuse(name, f"it is not known with rope_type {kind}")
    if kind != "llama3":
        return Rotary(base, kind, inner.number("factor") if wanted else 1.0)
    factor, low, high = (inner.number(name) for name in wanted[:3])
    if high <= low:
        raise inner.refuse("high_freq_factor", f"it must be above low_freq_factor, {low}")
    return Rotary(base, kind, factor, low, high, inner.integer(wanted[3]))


class Tensors(Mapping[str, NDArray]):
    """The tensors of a directory, read when they are asked for; bfloat16 as float32.

    Args:
        files: where a tensor stands. quantized: names of those that `checkpoint` dequantises.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        checkpoint: Checkpoint | None = None,
        quantized: Collection[str] = (),
    ) -> None:
        self.files, self.checkpoint, self.quantized = files, checkpoint, frozenset(quantized)

    def __iter__(self) -> Iterator[str]:
        yield from self.files
        yield from self.quantized

    def __len__(self) -> int:
        return len(self.files) + len(self.quantized)

    def __getitem__(self, name: str) -> NDArray:
        if self.checkpoint is not None and name in self.quantized:
            found = self.checkpoint.dequantized(name)
            if not np.isfinite(found).all():
                raise BadInput(f"{self.checkpoint.path}: {name} has elements that are not finite")
            return found
        path = self.files[name]
        with path.open("rb") as file, safe_open(path, framework="numpy") as tensors:
            bfloat16 = tensors.get_slice(name).get_dtype() == "BF16"
            found = read_bfloat16(file, name) if bfloat16 else tensors.get_tensor(name)
        if not np.isfinite(found).all():
            raise BadInput(f"{path}: {name} has elements that are not finite")
        return found


def read_tensors(directory: Path, configuration: Configuration) -> Tensors:
    """The tensors of a model, checked against its configuration.

    Quantised ones, in any format of `checkpoints.reading`, are dequantised to float32.

    Raises:
        BadInput: a file that is missing or not whole; a tensor that is missing, not known, or has
            another shape or a dtype without fractions.
    """
    expected, files = tensor_shapes(configuration), {}
    checkpoint, quantized = _quantized(directory)
    stems = {name.removesuffix("weight") for name in quantized}
    for path in _weight_files(directory):
        try:
            with safe_open(path, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (it is no mapping)
                    found = tensors.get_slice(name)
                    if UNUSED.fullmatch(name) or (configuration.tied and name == "lm_head.weight"):
                        continue
                    if name.rpartition(".")[0] + "." in stems and not name.endswith(".bias"):
                        continue
                    _check(path, name, found.get_shape(), found.get_dtype(), expected)
                    files[name] = path
        except SafetensorError as error:
            reason = str(error).rpartition(": ")[2]
            raise BadInput(f"{path}: not a whole safetensors file ({reason})") from None
    for name in quantized:
        if name not in expected:
            raise BadInput(f"{directory}: tensor {name[:200]!r} is not known in this architecture")
    missing = [name for name in expected if name not in files and name not in quantized]
    if missing:
        raise BadInput(f"{directory}: tensor {missing[0]} is missing, and {len(missing) - 1} more")
    return Tensors(files, checkpoint, quantized)


def is_quantized(directory: Path) -> bool:
    """Whether its configuration says so."""
    return QUANTIZATION in read_json(directory / CONFIGURATION)


def _quantized(directory: Path) -> tuple[Checkpoint | None, set[str]]:
    """The checkpoint and the names of its quantised weights, if there are any."""
    if not is_quantized(directory):
        return None, set()
    checkpoint = open_checkpoint(directory)
    settings = checkpoint.configuration[QUANTIZATION]
    groups = settings.get("config_groups")
    for part in (settings, *(groups.values() if isinstance(groups, dict) else ())):
        for name in ("input_activations", "output_activations", "kv_cache_scheme"):
            if isinstance(part, dict) and part.get(name) is not None:
                raise BadInput(
                    f"{directory / CONFIGURATION}: {name} is quantised, too; only weights are known"
                )
    return checkpoint, set(checkpoint.quantized())


def _check(
    path: Path, name: str, shape: list[int], dtype: str, expected: Mapping[str, tuple[int, ...]]
) -> None:
    if name not in expected:
        raise BadInput(f"{path}: tensor {name[:200]!r} is not known in this architecture")
    if tuple(shape) != expected[name]:
        raise BadInput(f"{path}: {name} has shape {tuple(shape)}, expected {expected[name]}")
    if dtype not in DTYPES:
        raise BadInput(f"{path}: {name} is {dtype}; known are {', '.join(DTYPES)}")
    assert prod(shape) > 0


def _weight_files(directory: Path) -> list[Path]:
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    index = directory / INDEX
    if not index.is_file():
        raise BadInput(f"{directory}: neither {WEIGHTS} nor {INDEX} is there")
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise BadInput(f"{index}: weight_map is missing")
    names = sorted({str(name) for name in table.values()})
    for name in names:
        if not PLAIN.fullmatch(name):
            raise BadInput(f"{index}: {name[:200]!r} is no plain name of a safetensors file")
        if not (directory / name).is_file():
            raise BadInput(f"{index}: the file {name} is missing")
    return [directory / name for name in names]
