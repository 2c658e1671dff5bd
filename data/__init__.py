"""Where the files of this package lie: real layers and golden cases."""

from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent
LAYERS = DIRECTORY / "layers"
GOLDEN = DIRECTORY / "golden"
