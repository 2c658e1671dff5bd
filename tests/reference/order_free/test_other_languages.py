"""A program in C, written from the page for other languages, finds the same bits."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from waterlevel.reference.errors import BadInput
from waterlevel.reference.order_free import NoGrid, order_free, order_free_grid

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


GRIDS = {
    "symmetric": (3, False, 8, 16),
    "asymmetric": (4, True, 16, 8),
    "straddling": (2, True, 6, 16),
    "whole row": (4, False, 70, 128),
}


def run_grids(program: ctypes.CDLL, W: np.ndarray, L: np.ndarray, grid: str) -> tuple:
    """p, codes, values, scales and zero points, columns in the order of L."""
    bits, asymmetric, size, block = GRIDS[grid]
    W, L = (np.ascontiguousarray(x, np.float64) for x in (W, L))
    codes, values = np.zeros(W.shape, np.int32), np.zeros(W.shape)
    groups = -(-len(L) // size)
    scale, zero = np.zeros((len(W), groups)), np.zeros((len(W), groups), np.int32)
    addresses = [x.ctypes.data_as(ctypes.c_void_p) for x in (W, L, codes, values, scale, zero)]
    numbers = [ctypes.c_int64(x) for x in (len(W), len(L), size, block)]
    p = program.order_free_grids(
        *numbers[:2], *addresses[:2], bits, int(asymmetric), *numbers[2:], *addresses[2:]
    )
    return p, codes, values + 0, scale, zero


def our_grids(W: np.ndarray, L: np.ndarray, grid: str) -> tuple:
    bits, asymmetric, size, block = GRIDS[grid]
    found = order_free_grid(
        W, L, bits, asymmetric=asymmetric, group_size=size, block_size=block,
        order=np.arange(len(L))[::-1],
    )  # fmt: skip
    values = [found.codes, found.dequantized + 0, found.scale, found.zero]
    return found.slice_bits, *(np.ascontiguousarray(x) for x in values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_program_finds_the_same_grids(program: ctypes.CDLL, name: str, grid: str):
    W, L = layer(name, 12, 70)
    assert agree(run_grids(program, W, L, grid), our_grids(W, L, grid))


def test_it_takes_the_same_slices(program: ctypes.CDLL):
    W, L = layer("plain", 12, 70)
    taken = set()
    for factor in (1.0, 2.0**4, 2.0**8, 2.0**16):
        wide = L.copy()
        wide[:, :35] *= factor * np.tri(70, 35, -1) + np.eye(70, 35)
        found = run_grids(program, W, wide, "symmetric")
        taken.add(found[0])
        if found[0]:
            assert agree(found, our_grids(W, wide, "symmetric"))
        else:
            with pytest.raises(BadInput, match="no grid holds"):
                our_grids(W, wide, "symmetric")
    assert len(taken) > 1


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("39 - ceil_log2", "38 - ceil_log2"),
        ("if (rest) q |= 1", "q += 512"),
        ("rint(ldexp(y[i], f))", "floor(ldexp(y[i], f))"),
        ("{0, 1}", "{1, 1}"),
        ("errors[i] = x->W[i * n + k]", "errors[i] = (float)x->W[i * n + k]"),
        ("errors[i] = -F", "errors[i] = F"),
        ("E[i] * M2 + E[a + i] * M1", "E[i] * M2"),
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
    grids = run_grids(program, W, L, "straddling"), our_grids(W, L, "straddling")
    assert not (agree(found, expected) and agree(*grids))
