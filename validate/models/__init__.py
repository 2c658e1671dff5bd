"""Whole models: from tokens to a quantised checkpoint."""
