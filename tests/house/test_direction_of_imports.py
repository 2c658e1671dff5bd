"""Who knows whom: a folder imports only folders that stand below it, and no two know each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("reference", "backends", "validate", "data")

# From top to bottom. Modules that stand in no folder are at the end of their package: all may
# import them, and they import no folder, but for `ENTRANCES`.
ORDER = {
    "reference": (
        "decoder order_free theory methods calibration limits bases operations grids coding "
        "arithmetic"
    ),
    "backends": "numba_cpu numba_cuda cupy cuda",
    "validate": (
        "cli field models checkpoints plots claims benchmark real_layers quantizers conformance "
        "diagnosis golden probes layers support"
    ),
}
MAY_KNOW = {
    "reference": {"reference"},
    "backends": {"reference", "backends"},
    "validate": {"reference", "backends", "validate", "data"},
    "data": {"data"},
    "front": {"reference", "backends", "validate"},
}
FRONT = "reference/front"  # `import waterlevel`: no folder of the reference, it only lies there
# Pages at the top that hand on what stands below them.
ENTRANCES = {"reference/__init__.py", "backends/__init__.py", "validate/__main__.py"}


def imported(path: Path, source: str) -> set[Path]:
    """What the relative imports of a module name, as paths below the root without an ending."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found |= {base / alias.name for alias in node.names}
    return found


def place(path: Path) -> tuple[str, str]:
    """(package, folder) of a module; the folder of a module that stands in none is ""."""
    if path.is_relative_to(FRONT):
        return "front", ""
    package, *rest = path.parts
    inside = rest[0] if rest and rest[0] in ORDER.get(package, "").split() else ""
    return package, inside


def violations(path: Path, source: str) -> list[str]:
    found = []
    package, folder = place(path)
    for target in imported(path, source):
        other, other_folder = place(target)
        if other not in MAY_KNOW[package]:
            found.append(f"{path} imports {target}: {package} does not know {other}")
        elif other == package and str(path) not in ENTRANCES and other_folder != folder:
            ranks = [*ORDER.get(package, "").split(), ""]
            if ranks.index(other_folder) < ranks.index(folder):
                found.append(f"{path} imports {target}: {other_folder} stands above {folder}")
    return found


def modules() -> list[Path]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in paths)


def test_imports_go_one_way():
    found = [line for path in modules() for line in violations(path, (ROOT / path).read_text())]
    assert not found, "\n".join(found)


def test_every_folder_has_its_place():
    for package, order in ORDER.items():
        folders = {path.parts[1] for path in modules() if path.parts[0] == package} - {"."}
        folders = {name for name in folders if not name.endswith(".py")} - {Path(FRONT).name}
        assert folders == set(order.split())


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("reference/arithmetic/sums.py", "from ..methods import gptq"),
        ("reference/arithmetic/sums.py", "from ..methods.gptq import gptq"),
        ("reference/errors.py", "from .coding.rates import rates"),
        ("reference/methods/gptq.py", "from ..front import gptq"),
        ("reference/methods/gptq.py", "from ...backends import get"),
        ("backends/cuda/device.py", "from ..cupy.device import CupyDevice"),
        ("backends/cuda/device.py", "from ...validate.support import console"),
        ("validate/golden/case.py", "from ..conformance import runner"),
        ("validate/claims/plan.py", "def f():\n    from ..plots.draw import draw"),
    ],
)
def test_a_planted_violation_is_seen(path: str, source: str):
    assert len(violations(Path(path), source)) == 1


def test_what_is_allowed_passes():
    allowed = "from ..coding import rates\nfrom ..errors import BadInput\nfrom . import rtn\n"
    assert violations(Path("reference/methods/gptq.py"), allowed) == []
