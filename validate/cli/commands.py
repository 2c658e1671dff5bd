"""Commands that are imported when they are asked for.

A table gives each its module in this folder and its summary, so that the help of all needs none of
them. A module of a command has `add_arguments(parser)` and `run(arguments)`, which returns the exit
code.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from ..support.console import Parser

Commands = Mapping[str, tuple[str, str]]  # name: module, summary


def add_commands(parser: argparse.ArgumentParser, commands: Commands, dest: str) -> None:
    """To choose one of the commands; its name becomes `dest`."""
    choices = parser.add_subparsers(
        dest=dest, required=True, metavar=dest.upper(), parser_class=_LateParser
    )
    for name, (module, summary) in commands.items():
        command = choices.add_parser(name, help=summary, description=f"{summary}.")
        command.set_defaults(module=module)


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was chosen; its exit code."""
    return _module(arguments.module).run(arguments)


def _module(name: str) -> ModuleType:
    return import_module(f".{name}", __package__)


class _LateParser(Parser):
    """A parser that asks the module of its command for options once it has to parse."""

    asked = False  # parsers below it are of this class, too, and have nothing to ask for

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        module = self.get_default("module")
        if module and not self.asked:
            self.asked = True
            _module(module).add_arguments(self)
        return super().parse_known_args(args, namespace)
