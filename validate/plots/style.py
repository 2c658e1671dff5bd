"""How the figures look, and how they are written.

Colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart; and
nothing is told by colour alone: every series has its own marker and line style, so a copy in black
and white can be read. The same numbers give the same bytes.

Source: M. Okabe and K. Ito, "Color universal design", 2008.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...reference.errors import BadInput
from ..real_layers.generation import write_whole

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#777777"

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "savefig.facecolor": "white",
    "svg.hashsalt": "waterlevel",
    "svg.fonttype": "path",
    "path.simplify_threshold": 0.5,
}
DPI = 160
MISSING = "--plots needs matplotlib: pip install 'waterlevel[plots]'"


@dataclass(frozen=True)
class Look:
    """Of one series."""

    color: str
    marker: str
    line: str

    def options(self, **more: Any) -> dict[str, Any]:
        """For `Axes.plot`."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.line} | more


LOOKS = {
    "limit": Look(BLACK, "", "-"),
    "WaterSIC": Look(BLUE, "o", "-"),
    "waterfilling": Look(GREEN, "D", "-."),
    "GPTQ": Look(VERMILION, "s", "--"),
    "RTN": Look(ORANGE, "^", ":"),
}


@contextmanager
def styled() -> Iterator[None]:
    """The settings above, and those of matplotlib for everything else, whatever the user's are.

    Raises:
        BadInput: there is no matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        raise BadInput(MISSING) from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)  # pyright: ignore
        yield


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Any, Any]:
    """(figure, axes: one, or an array of several) in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def legend_below(figure: Any, axes: Any, columns: int) -> None:
    """One legend for all panels, with the series of this one, where no number can be behind it."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def save(figure: Any, directory: Path, name: str, caption: str) -> list[Path]:
    """As SVG and PNG, whole or not at all."""
    written = []
    for kind, options in (
        ("svg", {"metadata": {"Date": None, "Creator": None, "Description": caption}}),
        ("png", {"metadata": {"Software": None, "Description": caption}, "dpi": DPI}),
    ):
        content = io.BytesIO()
        figure.savefig(content, format=kind, **options)
        path = directory / f"{name}.{kind}"
        write_whole(path, content.getvalue())
        written.append(path)
    return written
