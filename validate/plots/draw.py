"""All figures, and their captions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...reference.errors import BadInput
from ..claims.measurements import Measurements
from ..real_layers.generation import write_whole
from . import cells, components, curves, diagonals, layer_types
from .style import save, styled

CAPTIONS = "captions.md"


@dataclass(frozen=True)
class Drawing:
    """A figure and the words below it; None where the measurements have nothing to draw."""

    name: str
    draw: Callable[[Measurements], tuple[Any, str] | None]


DRAWINGS = (
    Drawing("rate-distortion", curves.rate_distortion),
    Drawing("gap-against-rate", curves.gap_against_rate),
    Drawing("layer-types", layer_types.advantages),
    Drawing("cells", cells.in_two_dimensions),
    Drawing("cholesky-diagonals", diagonals.rotated),
    Drawing("component-rates", components.against_waterfilling),
)


def check(directory: Path) -> None:
    """Refuse what `draw` could not do, before any work is done.

    Raises:
        BadInput: no matplotlib, a directory that cannot be made or written to.
    """
    with styled():
        pass
    if directory.exists() and not directory.is_dir():
        raise BadInput(f"--plots: {directory} is not a directory")
    there = directory if directory.exists() else directory.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"--plots: {directory} cannot be made or written to")


def draw(directory: Path, measurements: Measurements) -> list[Path]:
    """Every figure as SVG and PNG, and `captions.md`; the SVG files are returned."""
    drawn = []
    captions = ["# Figures of `waterlevel claims`", ""]
    with styled():
        for drawing in DRAWINGS:
            made = drawing.draw(measurements)
            if made is None:
                continue
            figure, caption = made
            svg, _ = save(figure, directory, drawing.name, caption)
            drawn.append(svg)
            captions += [f"![{drawing.name}]({svg.name})", "", f"**{drawing.name}** {caption}", ""]
    write_whole(directory / CAPTIONS, "\n".join(captions).encode())
    return drawn
