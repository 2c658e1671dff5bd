"""The backend `cupy`: CUDA C++ kernels, compiled and launched by CuPy."""
