"""The backend `numba`: compiled, tiled and threaded code for any CPU."""
