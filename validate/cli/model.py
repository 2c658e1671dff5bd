"""`waterlevel model`: what is done with whole models."""

from __future__ import annotations

import argparse

from .commands import add_commands

ACTIONS = {
    "quantize": ("model_quantize", "quantise a model block by block, the same bits everywhere"),
    "evaluate": ("model_evaluate", "bits per byte of models on a text, and KL from the original"),
    "audit": ("model_audit", "compare a quantised checkpoint with the original, layer by layer"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions, each a command of its own."""
    add_commands(parser, ACTIONS, "action")
