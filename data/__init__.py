"""Where the files of this package lie: real layers and, beside them, whatever else is data."""

from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent
LAYERS = DIRECTORY / "layers"
