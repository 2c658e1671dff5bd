"""Sums, products, triangular systems and logarithms with every bit fixed."""
