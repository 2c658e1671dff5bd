"""Orthogonal changes of basis: Hadamard, Haar, and how a layer gets there and back."""
