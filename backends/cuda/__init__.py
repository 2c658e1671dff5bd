"""What the two families of CUDA kernels share: plans of launches, devices, meters."""
