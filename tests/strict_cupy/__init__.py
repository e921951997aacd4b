"""A strict stand-in for the module `cupy`, over NumPy: what CuPy 14 refuses, it refuses; what CuPy lacks, it lacks.

It computes in host memory, and so runs without a GPU, but an array of it is as far from NumPy as one on a device:
nothing converts it implicitly, and no operator, function or index takes it together with a numpy.ndarray. Functions
and methods have CuPy's parameters, reductions return arrays without axes, integer indices that are out of range wrap,
nothing warns, and arrays of a device other than the current one are refused. There are two devices. Kernels in CUDA C
run through g++. What each call costs on a GPU can be counted: `counted`.

Where CuPy is more generous than it should be relied on to be, the stand-in refuses:
- an index, or an operand of einsum, that is a numpy.ndarray: CuPy copies it to the device, unasked;
- an array of another device: CuPy reads it over the bus, with a warning;
- a numpy.ndarray without axes beside an array: some functions take it for a number, others do not;
- `add.at` on int64, which some versions of CuPy 14 have not.
"""
# ruff: noqa: F401

import sys

from types import ModuleType

from numpy import inf, nan, pi

from strict_cupy import cublas, cuda, functions, nccl
from strict_cupy.arrays import ndarray
from strict_cupy.counts import counted
from strict_cupy.cuda import get_default_memory_pool
from strict_cupy.kernels import ElementwiseKernel, RawKernel, RawModule

for _name, _function in vars(functions).items():
    if isinstance(_function, functions.Ufunc) or getattr(_function, "__module__", "") == functions.__name__:
        globals()[_name] = _function
del Ufunc, empty_pinned, erf  # noqa: F821


cuda.nccl = nccl


def modules():
    """What stands in sys.modules where CuPy is installed, by name."""
    found = {"cupy": sys.modules[__name__], "cupy.cuda": cuda, "cupy.cuda.nccl": nccl}
    for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.special"):
        found[name] = ModuleType(name)
    found["cupyx.scipy.special"].erf = functions.erf
    found["cupyx"].empty_pinned = functions.empty_pinned
    found["cuda"] = ModuleType("cuda")
    found["cuda.pathfinder"] = found["cuda"].pathfinder = cublas
    return found
