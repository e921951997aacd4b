"""The CUDA backend: what lies between the products of a step as kernels in C, compiled at run time."""
