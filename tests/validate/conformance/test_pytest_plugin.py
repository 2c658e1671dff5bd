"""pytest --pyargs waterlevel.validate: each probe and each case is a test of the backend named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = "waterlevel.validate.conformance.example_backend:Backend"
TEMPTING = "waterlevel.validate.conformance.example_backend:Tempting"


def run_pytest(directory: Path, *arguments: str) -> tuple[int, str]:
    """Outside the checkout, so that its settings play no part."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def conformance(directory: Path, backend: str, *arguments: str) -> tuple[int, str]:
    pyargs = ("--pyargs", "waterlevel.validate", "--waterlevel-backend", backend)
    return run_pytest(directory, *pyargs, *arguments)


def test_a_right_backend_passes(tmp_path: Path):
    code, text = conformance(
        tmp_path, EXAMPLE, "--waterlevel-cases", "matmul/*", "--waterlevel-cases", "cholesky/inv*"
    )
    assert code == 0, text
    assert " passed" in text
    assert " skipped" in text  # the large cases of matmul


def test_a_wrong_backend_fails_where_it_is_wrong(tmp_path: Path):
    code, text = conformance(
        tmp_path, TEMPTING, "--waterlevel-cases", "matmul/*-float32", "-k", "test_case"
    )
    assert code == 1, text
    assert f"FAILED conformance/test_conformance.py::test_case[{TEMPTING}: matmul/order/" in text
    assert "matmul/order-free/" not in text
    assert " ulp" in text
    assert "Traceback" not in text


def test_an_unknown_backend_ends_the_run_with_one_line(tmp_path: Path):
    code, text = conformance(tmp_path, "abacus")
    assert code == 2, text
    assert "no backend is called 'abacus'" in text


def test_other_test_runs_are_left_alone(tmp_path: Path):
    """The plugin is loaded everywhere; it must import nothing of this package."""
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_plain():\n"
        "    ours = {name for name in sys.modules if name.startswith('waterlevel')}\n"
        "    parents = ('waterlevel', 'waterlevel.validate', 'waterlevel.validate.conformance')\n"
        "    plugin = (*parents, 'waterlevel.validate.conformance.pytest_plugin')\n"
        "    assert ours <= set(plugin)\n"
        "    assert 'numpy' not in sys.modules\n"
    )
    code, text = run_pytest(tmp_path, "-W", "error")
    assert code == 0, text
