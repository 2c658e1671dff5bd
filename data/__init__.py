"""Where the files of this package lie: real layers, golden cases and small models."""

from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent
LAYERS = DIRECTORY / "layers"
GOLDEN = DIRECTORY / "golden"
MODELS = DIRECTORY / "models"
