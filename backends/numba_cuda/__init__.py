"""The backend `numba-cuda`: the same operations as kernels of Numba CUDA."""
