"""Every probe and every golden case as a test of its own.

    pytest --pyargs waterlevel.validate --waterlevel-backend mypackage.kernels:Backend

`-k`, `-x`, `--lf`, `-n` and all that pytest offers work on single cases. The imports are absolute,
because `--pyargs` may import this file without its package.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import pytest

from waterlevel.backends import available, get
from waterlevel.reference.errors import WaterlevelError
from waterlevel.reference.operations import Operations
from waterlevel.validate.conformance.outcomes import judge, run_case
from waterlevel.validate.conformance.selection import Selection
from waterlevel.validate.golden.case import SIZES, Case, load_index
from waterlevel.validate.probes.questions import Inquiry, inquiries


def pytest_generate_tests(metafunc: Any) -> None:
    """A test for each backend and each probe or case."""
    try:
        backends = _backends(metafunc.config.getoption("waterlevel_backend", None))
        if "inquiry" in metafunc.fixturenames:
            asked = [(name, inquiry) for name, b in backends for inquiry in inquiries(b)]
            ids = [f"{name}: {i.probe}: {i.operation} {i.dtype}" for name, i in asked]
            metafunc.parametrize("inquiry", [inquiry for _, inquiry in asked], ids=ids)
        elif "case" in metafunc.fixturenames:
            globs = metafunc.config.getoption("waterlevel_cases", None) or ["*"]
            size = metafunc.config.getoption("waterlevel_size", "medium")
            selection = Selection(tuple(globs), SIZES[: SIZES.index(size) + 1])
            cases = selection.of(load_index().cases)
            parameters = [
                (backend, case, selection.reason_to_skip(case, name))
                for name, backend in backends
                for case in cases
            ]
            ids = [f"{name}: {case.id}" for name, _ in backends for case in cases]
            metafunc.parametrize(("backend", "case", "reason"), parameters, ids=ids)
    except WaterlevelError as error:
        raise pytest.UsageError(str(error)) from None


def _backends(names: list[str] | None) -> list[tuple[str, Operations]]:
    if not names:
        names = [entry.name for entry in available() if entry.reason is None]
    return [(name, get(name)) for name in names]


def test_probe(inquiry: Inquiry) -> None:
    """The backend computes as the contract asks for."""
    finding = inquiry.ask()
    if not finding.passed:
        pytest.fail(finding.message, pytrace=False)


def test_case(backend: Operations, case: Case, reason: str | None) -> None:
    """The outputs are the expected ones, bit by bit."""
    if reason is not None:
        pytest.skip(reason)
    lines = judge(case, run_case(case, case.load_inputs(), backend))
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)
