"""The CUDA backend: kernels as C text, compiled at run time."""
