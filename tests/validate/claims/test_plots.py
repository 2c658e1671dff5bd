"""The figures of `waterlevel claims`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from waterlevel.reference import gptq, rtn, watersic
from waterlevel.reference.theory.scalar import SCALAR_GAP
from waterlevel.validate import plots
from waterlevel.validate.claims.entropy_bias import entropy_bias
from waterlevel.validate.claims.measure import WATERSIC
from waterlevel.validate.claims.measurements import Measurements, measure_plan
from waterlevel.validate.claims.moments import Synthetic, layer_of
from waterlevel.validate.claims.plan import Plan
from waterlevel.validate.claims.scalar_waterfilling import component_rates
from waterlevel.validate.cli.main import main
from waterlevel.validate.plots import cells, layer_types, style
from waterlevel.validate.plots.draw import DRAWINGS

from .test_claims import write_layers

NAMES = {
    "rate-distortion",
    "gap-against-rate",
    "layer-types",
    "cells",
    "cholesky-diagonals",
    "component-rates",
}


@pytest.fixture(scope="module")
def measurements(tmp_path_factory: pytest.TempPathFactory) -> Measurements:
    directory = write_layers(tmp_path_factory.mktemp("layers"))
    plan = Plan(
        spectra=(Synthetic("log-normal", 1.0, 8), Synthetic("log-normal", 2.0, 8)),
        epsilons=(-4,),
        n=8,
        layers=tuple(layer_of(path)[0] for path in sorted(directory.glob("*.safetensors"))),
        rates=(1.0, 2.0, 4.0),
        rows_per_symbol=16,
        layer_rates=(1.0,),
        layer_rows=64,
        own_rates=(2.0,),
        repetitions=2,
        layer_repetitions=2,
    )
    return measure_plan(plan, "numpy", workers=1)


def test_every_figure_as_svg_and_png_with_a_caption(measurements: Measurements, tmp_path: Path):
    pytest.importorskip("matplotlib")
    directory = tmp_path / "figures"
    drawn = plots.draw(directory, measurements)
    assert {path.stem for path in drawn} == NAMES == {drawing.name for drawing in DRAWINGS}
    expected = {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")} | {"captions.md"}
    assert {path.name for path in directory.iterdir()} == expected
    captions = (directory / "captions.md").read_text()
    for name in NAMES:
        assert f"![{name}]({name}.svg)" in captions
        assert ElementTree.parse(directory / f"{name}.svg").getroot().tag.endswith("svg")
        assert (directory / f"{name}.svg").stat().st_size < 150_000
        assert (directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_numbers_give_the_same_bytes(measurements: Measurements, tmp_path: Path):
    pytest.importorskip("matplotlib")
    first, second = tmp_path / "1", tmp_path / "2"
    plots.draw(first, measurements)
    plots.draw(second, measurements)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
        assert str(tmp_path).encode() not in path.read_bytes()


def test_series_differ_by_more_than_colour():
    looks = list(style.LOOKS.values())
    assert len({look.color for look in looks}) == len(looks)
    assert len({(look.marker, look.line) for look in looks}) == len(looks)


def test_a_method_has_a_line_of_its_own_for_each_type_of_layer(measurements: Measurements):
    pytest.importorskip("matplotlib")
    made = layer_types.advantages(measurements)
    assert made is not None
    figure, caption = made
    (panel,) = figure.axes  # of the rates that are shown, 2 bits alone was measured
    assert "at 2 bits" in caption
    marks = [line for line in panel.lines if line.get_marker() != "None"]
    heights = [y for line in marks for y in line.get_ydata()]
    assert len(heights) == len(set(heights)) == 4 * len(measurements.plan.layers)


def test_rates_of_components_are_without_the_error_of_counting(measurements: Measurements):
    """n = 8 and 1024 rows: at 4 bits each component is 0.2546 above waterfilling's."""
    moment = Synthetic("log-normal", 1.0, 8)
    rates, allocated = component_rates(measurements, moment, WATERSIC, 4.0)
    above = np.subtract(rates, allocated)
    rows = measurements.find(moment, False, WATERSIC, 4.0)[0].case.rows
    # An entropy of a counts has a standard deviation of about 1/(√(2a)·ln 2) bits, a Gaussian's.
    assert np.max(np.abs(above - SCALAR_GAP)) < 4 / (np.sqrt(2 * rows) * np.log(2))
    # 8 bits as counted are more, and what so few rows cannot tell is not drawn.
    counted = replace_rates(measurements, moment, 8.0)
    true = component_rates(counted, moment, WATERSIC, 4.0)[0][0]
    assert true + entropy_bias(true, rows) == pytest.approx(8.0, abs=0.01)
    assert true > 8.05
    wide = replace_rates(measurements, moment, np.log2(rows) - 0.5)
    assert np.isnan(component_rates(wide, moment, WATERSIC, 4.0)[0]).all()


def replace_rates(measurements: Measurements, moment: Synthetic, rate: float) -> Measurements:
    found = {
        case: replace(m, column_rates=np.full(8, rate)) if case.moment == moment else m
        for case, m in measurements.by_case.items()
    }
    return replace(measurements, by_case=found)


METHODS: dict[str, Callable] = {
    "RTN": lambda W, S: rtn(W, S, spacing=1.0).dequantized,
    # The loop of GPTQ runs from the first column to the last; the panel shows the other way.
    "GPTQ": lambda W, S: gptq(W[:, ::-1], S[::-1, ::-1], spacing=1.0, damping=0.0).dequantized[
        :, ::-1
    ],
    "WaterSIC": lambda W, S: (
        watersic(
            W, S, spacing=float(np.sqrt(cells.AREA)), lmmse=False, rescale=False, damping=0.0
        ).dequantized
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_cells_are_those_of_the_algorithms(method: str):
    Y = np.random.default_rng(3).uniform(-1.5, 1.5, (400, 2))
    W = np.linalg.solve(cells.FACTOR.T, Y.T).T
    decided = METHODS[method](W, cells.FACTOR @ cells.FACTOR.T) @ cells.FACTOR
    # In the coordinates of the cell's edges every point lies in the unit square around its point.
    corners = cells.shape(method)
    edges = np.stack((corners[1] - corners[0], corners[3] - corners[0]))
    inside = np.linalg.solve(edges.T, (Y - decided).T).T
    assert np.max(np.abs(inside)) <= 0.5 + 1e-12
    assert np.max(np.abs(inside)) > 0.45  # the cell is no larger than it has to be
    # And the points are those of the lattice.
    lattice = cells.centres(method, reach=6)
    distance = np.min(np.sum((decided[:, None] - lattice[None]) ** 2, axis=2), axis=1)
    assert np.max(distance) < 1e-24
    assert np.mean(np.sum((Y - decided) ** 2, axis=1)) == pytest.approx(
        cells.second_moment(method), rel=0.1
    )


def test_cells_have_one_area():
    for method in METHODS:
        first, second, _, fourth = cells.shape(method)
        (a, b), (c, d) = second - first, fourth - first
        assert abs(a * d - b * c) == pytest.approx(cells.AREA)
    moments = [cells.second_moment(method) for method in ("WaterSIC", "GPTQ", "RTN")]
    assert moments == sorted(moments)


def test_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["claims", "--plots", str(tmp_path / "figures")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"waterlevel claims: {style.MISSING}\n"
    assert not (tmp_path / "figures").exists()


def test_a_place_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "no" / "such" / "directory"):
        assert main(["claims", "--plots", str(place)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(f"waterlevel claims: --plots: {place} ")
        assert printed.err.count("\n") == 1
