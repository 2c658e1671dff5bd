"""Options for `pytest --pyargs waterlevel.validate --waterlevel-backend NAME`.

The plugin is loaded in every run of pytest where this package is installed, so it imports nothing
and does nothing but add options; `test_conformance` reads them.
"""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add the options of `test_conformance`."""
    group = parser.getgroup("waterlevel", "golden cases of waterlevel, one test each")
    group.addoption(
        "--waterlevel-backend",
        action="append",
        metavar="NAME",
        help="a backend, or module:attribute (repeatable; default: every usable one)",
    )
    group.addoption(
        "--waterlevel-cases",
        action="append",
        metavar="GLOB",
        help="only cases whose id matches (repeatable)",
    )
    group.addoption(
        "--waterlevel-size",
        choices=("small", "medium", "large"),
        default="medium",
        help="cases up to this size (medium)",
    )
