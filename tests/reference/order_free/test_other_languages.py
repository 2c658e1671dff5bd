"""A program in C, written from the page for other languages, finds the same bits."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from waterlevel.reference.order_free import NoGrid, order_free

from .layers import NAMES, layer

SOURCE = Path(__file__).parents[2] / "helpers" / "order_free_lattice.c"
METHODS = {"watersic": (1, 1), "without gains": (1, 0), "gptq": (0, 0)}


def compiled(folder: Path, source: Path) -> ctypes.CDLL:
    library = folder / "lattice.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler named cc")
    return compiled(tmp_path_factory.mktemp("c"), SOURCE)


def run(
    program: ctypes.CDLL, W: np.ndarray, L: np.ndarray, spacing: float, method: str
) -> tuple[int, np.ndarray, np.ndarray]:
    W, L = (np.ascontiguousarray(x, np.float64) for x in (W, L))
    codes, gains = np.zeros(W.shape, np.int32), np.zeros(len(L))
    f = program.order_free_lattice(
        ctypes.c_int64(len(W)), ctypes.c_int64(len(L)),
        W.ctypes.data_as(ctypes.c_void_p), L.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_double(spacing), *METHODS[method],
        codes.ctypes.data_as(ctypes.c_void_p), gains.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    return f, codes, gains


def ours(W: np.ndarray, L: np.ndarray, spacing: float, method: str) -> tuple:
    found = order_free(
        W, L, spacing, method="gptq" if method == "gptq" else "watersic", lmmse=method == "watersic"
    )
    return found.fraction_bits, found.codes, found.gains


def agree(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] and all(
        a.tobytes() == b.tobytes() for a, b in zip(one[1:], other[1:], strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spacing", [0.7, 2.0**-7])
def test_the_program_finds_the_same_bits(
    program: ctypes.CDLL, name: str, method: str, spacing: float
):
    W, L = layer(name, 12, 70)
    assert agree(run(program, W, L, spacing, method), ours(W, L, spacing, method))


def test_it_takes_the_same_grid_and_refuses_the_same_rows(program: ctypes.CDLL):
    W, L = layer("a large row", 12, 70)
    grids = set()
    for power in range(0, 40, 3):
        found = run(program, W * 300, L, 2.0**-power, "watersic")
        grids.add(found[0])
        try:
            assert agree(found, ours(W * 300, L, 2.0**-power, "watersic"))
        except NoGrid:
            assert found[0] == 0
    assert grids >= {0, 28}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("39 - ceil_log2", "38 - ceil_log2"),
        ("if (rest) q |= 1", "q += 512"),
        ("rint(ldexp(y[i], f))", "floor(ldexp(y[i], f))"),
        ("{0, 1}", "{1, 1}"),
    ],
)
def test_a_wrong_integer_is_noticed(tmp_path: Path, text: str, wrong: str):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler named cc")
    source = tmp_path / "wrong.c"
    assert text in SOURCE.read_text()
    source.write_text(SOURCE.read_text().replace(text, wrong))
    program = compiled(tmp_path, source)
    W, L = layer("plain", 12, 70)
    found, expected = run(program, W, L, 2.0**-7, "watersic"), ours(W, L, 2.0**-7, "watersic")
    assert not agree(found, expected)
