"""The steps of training a small model, with torch; the command is `training`.

A decoder of the Llama architecture over bytes (1.97 million weights), AdamW, a constant rate and
then a linear descent to zero over the last 12 % of the steps. Until that descent starts, the
number of steps may still be changed: an interrupted training goes on from its last checkpoint, and
with another `--steps` it ends as if it had been asked for them from the beginning.

The same seeds, versions, processor and number of threads give the same weights; other processors
round otherwise. What is shipped is therefore the result of one run, with its digests.
"""

from __future__ import annotations

import copy
import io
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]
from transformers import LlamaConfig, LlamaForCausalLM  # pyright: ignore[reportMissingImports]

from ...reference.errors import BadInput
from ..support.whole_files import write_whole
from .small_model import write_model
from .training_text import Text

SEED = 0
LENGTH = 256  # bytes a sequence
BATCH = 8  # sequences a step
RATE = 3e-3
WARM_UP = 100  # steps
DESCENT = 0.12  # of all steps
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.1
LARGEST_GRADIENT = 1.0  # norm of all of them together
CHECKPOINT_EVERY = 100  # steps
CHECKPOINT = {"model", "optimizer", "generator", "steps", "done", "seconds", "losses"}


def architecture() -> LlamaConfig:
    """Six blocks of width 192: what fits in 4 MB of float16."""
    return LlamaConfig(
        vocab_size=256,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        initializer_range=0.02,
    )


@dataclass
class Training:
    """A training under way: the model, its optimiser, and where in the schedule it stands."""

    model: LlamaForCausalLM
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    steps: int
    done: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Training loss in bits per byte, the mean of every hundred steps."""

    @classmethod
    def start(cls, steps: int) -> Training:
        """A new training, to end after `steps` steps."""
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(architecture())
        matrices = [p for p in model.parameters() if p.ndim == 2]
        gains = [p for p in model.parameters() if p.ndim == 1]
        optimizer = torch.optim.AdamW(
            [{"params": matrices}, {"params": gains, "weight_decay": 0.0}],
            lr=RATE,
            betas=BETAS,
            weight_decay=WEIGHT_DECAY,
        )
        return cls(model, optimizer, torch.Generator().manual_seed(SEED), steps)

    def save(self, checkpoint: Path) -> None:
        """Everything that the rest of the training depends on, as one whole file."""
        content = io.BytesIO()
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "steps": self.steps,
                "done": self.done,
                "seconds": self.seconds,
                "losses": self.losses,
            },
            content,
        )
        write_whole(checkpoint, content.getvalue())

    def restore(self, checkpoint: Path) -> None:
        """Goes to where a checkpoint stood.

        Raises:
            BadInput: it is no checkpoint; or it belongs to another number of steps, and either
                descent has begun.
        """
        state = read_checkpoint(checkpoint)
        free = min(descent_start(self.steps), descent_start(state["steps"]))
        if state["steps"] != self.steps and state["done"] > free:
            raise BadInput(
                f"{checkpoint}: {state['done']} of {state['steps']} steps are done; a training of "
                f"{self.steps} steps can go on from step {free} or before"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.done, self.seconds, self.losses = state["done"], state["seconds"], state["losses"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Training.save` wrote; nothing in the file is executed."""
    try:
        state = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        state = None
    if not isinstance(state, dict) or set(state) != CHECKPOINT:
        raise BadInput(f"{path} is no checkpoint of a training; name another file, or remove it")
    return state


def rate_at(index: int, steps: int) -> float:
    """Learning rate of step `index` of `steps`, both from 0.

    >>> [round(rate_at(i, 1000) / RATE, 3) for i in (0, 99, 500, 879, 880, 940, 999)]
    [0.01, 1.0, 1.0, 1.0, 1.0, 0.5, 0.008]
    """
    return RATE * min(1.0, (index + 1) / WARM_UP, (steps - index) / (DESCENT * steps))


def descent_start(steps: int) -> int:
    """The first step whose rate depends on the number of steps."""
    return round((1 - DESCENT) * steps)


def train(training: Training, text: bytes, compiled: bool = True) -> Iterator[None]:
    """Goes on to the last step; yields after every hundred, and at the end."""
    tokens = torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))
    forward = torch.compile(training.model) if compiled else training.model
    losses, began = [], time.monotonic()
    training.model.train()
    while training.done < training.steps:
        for group in training.optimizer.param_groups:
            group["lr"] = rate_at(training.done, training.steps)
        starts = torch.randint(len(tokens) - LENGTH, (BATCH,), generator=training.generator)
        rows = tokens[starts[:, None] + torch.arange(LENGTH + 1)]
        with torch.autocast("cpu", torch.bfloat16):
            logits = forward(input_ids=rows[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        training.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), LARGEST_GRADIENT)
        training.optimizer.step()
        training.done += 1
        losses.append(loss.item() / log(2))
        if training.done % CHECKPOINT_EVERY == 0 or training.done == training.steps:
            training.losses.append(sum(losses) / len(losses))
            training.seconds += time.monotonic() - began
            losses, began = [], time.monotonic()
            yield


@torch.no_grad()
def bits_per_byte(model: LlamaForCausalLM, text: bytes) -> float:
    """Mean of −log2 p over whole windows of 257 bytes: 256 are read, and each predicts the next.

    Windows overlap by one byte; what is left at the end of the text is not used.
    """
    tokens = torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))
    count = (len(tokens) - 1) // LENGTH
    rows = tokens[: count * LENGTH + 1].unfold(0, LENGTH + 1, LENGTH)
    model.eval()
    total = 0.0
    for part in rows.split(16):
        logits = model(input_ids=part[:, :-1], use_cache=False).logits
        targets = part[:, 1:].flatten()
        total += functional.cross_entropy(
            logits.flatten(0, 1).double(), targets, reduction="sum"
        ).item()
    return total / (count * LENGTH) / log(2)


def finish(directory: Path, training: Training, text: Text) -> None:
    """Rounds the weights to float16, measures what is left, and writes the directory."""
    model = training.model.half()
    held_out = bits_per_byte(copy.deepcopy(model).float(), text.held_out)
    recipe = {
        "seed": SEED,
        "steps": training.steps,
        "minutes": round(training.seconds / 60, 1),
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "length": LENGTH,
        "optimizer": "AdamW",
        "learning_rate": RATE,
        "warm_up_steps": WARM_UP,
        "descent": DESCENT,
        "betas": BETAS,
        "weight_decay": WEIGHT_DECAY,
        "largest_gradient": LARGEST_GRADIENT,
        "arithmetic": "bfloat16 products, float32 weights",
        "train_bits_per_byte_each_100_steps": [round(loss, 4) for loss in training.losses],
    }
    write_model(
        directory, model, text, {"held_out_bits_per_byte": round(held_out, 4), "training": recipe}
    )
