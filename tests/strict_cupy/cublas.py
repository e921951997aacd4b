"""libcublas.so, as far as it multiplies: matrices are addresses, sizes, and how far their columns are apart.

It is a library that g++ compiles, whose functions call those below; `load_nvidia_dynamic_lib` says where it is.
"""

import ctypes
import functools

from pathlib import Path
from types import SimpleNamespace

import cuda_on_cpu
import numpy as np
import pytest

from strict_cupy import cuda

COMPUTE_64F = 70
KINDS = {2: np.float16, 0: np.float32, 1: np.float64}  # CUDA_R_16F, CUDA_R_32F, CUDA_R_64F
LEAST = 1 << 19  # bytes of workspace, without which a graph may not multiply
_INVALID, _UNSUPPORTED = 7, 15
_I, _P = ctypes.c_int, ctypes.c_void_p

_handles = {}  # the stream of each, and how large its workspace is


def create(handle):
    """A handle multiplies on the null stream at first."""
    number = 0xB1A5 + len(_handles)
    _handles[number] = SimpleNamespace(stream=0, workspace=0)
    handle[0] = number
    return 0


def set_stream(handle, stream):
    """Which forgets the workspace."""
    _handles[handle].stream, _handles[handle].workspace = stream or 0, 0
    return 0


def set_workspace(handle, at, size):
    _handles[handle].workspace = size if at else 0
    return 0


def gemm(handle, ta, tb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, compute, algorithm):
    """C = alpha op(A) op(B) + beta C, of matrices whose columns lie one behind the other."""
    current = cuda.get_current_stream()
    if _handles[handle].stream != current.ptr or _handles[handle].workspace < LEAST:
        return _INVALID
    if min(m, n, k) < 0 or lda < max(1, k if ta else m) or ldb < max(1, n if tb else k) or ldc < max(1, m):
        return _INVALID
    scalar = np.float64 if compute == COMPUTE_64F else np.float32
    if scalar is np.float32 and np.float64 in (KINDS[Atype], KINDS[Btype], KINDS[Ctype]):
        return _UNSUPPORTED
    by, old = (_matrix(x, scalar, 1, 1, 1)[0, 0] for x in (alpha, beta))

    def work():
        a = _matrix(A, KINDS[Atype], *((k, m) if ta else (m, k)), lda)
        b = _matrix(B, KINDS[Btype], *((n, k) if tb else (k, n)), ldb)
        c = _matrix(C, KINDS[Ctype], m, n, ldc)
        with np.errstate(all="ignore"):
            found = by * ((a.T if ta else a).astype(scalar) @ (b.T if tb else b).astype(scalar))
            c[...] = found + old * c if old else found

    cuda.launch("gemmEx", work)
    return 0


def _matrix(at, dtype, rows, columns, ld):
    """A matrix of the host's memory that is at an address, column by column."""
    size = np.dtype(dtype).itemsize
    if not rows or not columns:
        return np.zeros((rows, columns), dtype)
    memory = (ctypes.c_char * (((columns - 1) * ld + rows) * size)).from_address(at)
    return np.lib.stride_tricks.as_strided(np.frombuffer(memory, dtype), (rows, columns), (size, ld * size))


_TYPES = (
    (create, [ctypes.POINTER(_P)]),
    (set_stream, [_P, _P]),
    (set_workspace, [_P, _P, ctypes.c_size_t]),
    (gemm, [_P, *[_I] * 5, _P, _P, _I, _I, _P, _I, _I, _P, _P, *[_I] * 4]),
)


def load_nvidia_dynamic_lib(name):
    """cuda.pathfinder's: where the library is."""
    assert name == "cublas"
    return SimpleNamespace(abs_path=str(_compiled()[0]))


@functools.cache
def _compiled():
    """The library, and what it calls, which must live as long."""
    if why := cuda_on_cpu.missing():
        pytest.skip(why)
    path = cuda_on_cpu.shared_library(Path(__file__).with_suffix(".cpp").read_text(encoding="utf-8"))
    calls = [ctypes.CFUNCTYPE(_I, *types)(function) for function, types in _TYPES]
    places = (_P * len(calls)).in_dll(ctypes.CDLL(str(path)), "does")
    for i, call in enumerate(calls):
        places[i] = ctypes.cast(call, _P)
    return path, calls
