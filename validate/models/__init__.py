"""Whole models: read from a directory, run over integers; and the small one of the package."""

from .loading import load_decoder

__all__ = ["load_decoder"]
