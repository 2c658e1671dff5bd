"""`waterlevel model`: what is done with whole models.

Each subcommand is a module of this folder, imported when it is asked for.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from types import ModuleType
from typing import Any

from ..support.console import Parser

SUMMARY = "whole models: quantise, evaluate, audit a checkpoint"
# Name, module, summary.
SUBCOMMANDS = {
    "quantize": ("model_quantize", "quantise a model block by block, the same bits everywhere"),
    "evaluate": ("model_evaluate", "bits per byte of models on a text, and KL from the original"),
    "audit": ("model_audit", "compare a quantised checkpoint with the original, layer by layer"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=_LateParser
    )
    for name, (_, summary) in SUBCOMMANDS.items():
        actions.add_parser(name, help=summary, description=f"{summary}.").set_defaults(action=name)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; its exit code."""
    return _module(arguments.action).run(arguments)


class _LateParser(Parser):
    """A parser that asks the module of its subcommand for options once it has to parse."""

    asked = False

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        if not self.asked:
            self.asked = True
            _module(self.get_default("action")).add_arguments(self)
        return super().parse_known_args(args, namespace)


def _module(action: str) -> ModuleType:
    return import_module(f".{SUBCOMMANDS[action][0]}", __package__)
