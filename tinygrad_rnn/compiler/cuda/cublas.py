"""cuBLAS by its C interface: a product by it can be in a CUDA graph, one by CuPy's own call cannot.

cuBLAS chooses how to multiply by the sizes and by how much workspace it has. It has the same here whether a product is
launched or in a graph, so that both are bit for bit the same.
"""

from __future__ import annotations

import ctypes
import functools
import threading

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.devices import load_cupy
from tinygrad_rnn.compiler.runtime.memory import Arena, address

WORKSPACE = 32 << 20  # bytes, as cuBLAS itself takes on compute capability 9.0

_INT, _SIZE, _POINTER = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
_SIGNATURES = {
    "cublasCreate_v2": [_POINTER],
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, _SIZE],
    "cublasGemmEx": [_POINTER, *[_INT] * 5, _POINTER, *[_POINTER, _INT, _INT] * 2, *[_POINTER] * 2, *[_INT] * 4],
}


class Library:
    """Its functions, and a handle for each thread and device. gemm: cublasGemmEx, which returns 0 if all is well"""

    def __init__(self) -> None:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # noqa: PLC0415 CuPy needs it too

        loaded: Any = ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
        for name, types in _SIGNATURES.items():
            getattr(loaded, name).argtypes = types
        self.loaded, self.gemm, self.thread = loaded, loaded.cublasGemmEx, threading.local()

    @property
    def handle(self) -> int:
        """The handle of this thread's current device."""
        handles = self.thread.__dict__
        device = load_cupy().cuda.Device().id
        if device not in handles:
            made = ctypes.c_void_p()
            check(self.loaded.cublasCreate_v2(ctypes.byref(made)))
            handles[device] = made.value
        return handles[device]

    def begin(self, workspace: Array) -> None:
        """Multiply on the current stream from now on, with a workspace that nobody else uses meanwhile."""
        handle = self.handle
        check(self.loaded.cublasSetStream_v2(handle, load_cupy().cuda.get_current_stream().ptr))  # forgets the next one
        check(self.loaded.cublasSetWorkspace_v2(handle, address(workspace), WORKSPACE))


def workspace(arena: Arena) -> Array:
    """That of the programs of an arena, of which one runs at a time."""
    return arena.for_a_moment([((WORKSPACE,), np.uint8)])[0]


def check(status: int) -> None:
    """RuntimeError unless cuBLAS has done what it was told."""
    if status:
        raise RuntimeError(f"cuBLAS: failed with status {status} (cublasStatus_t)")


@functools.cache
def library() -> Library:
    """The library, loaded when it is first needed."""
    return Library()
