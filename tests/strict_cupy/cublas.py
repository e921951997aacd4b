"""cupy.cuda.cublas, as far as it multiplies: matrices are addresses, sizes, and how far their columns are apart."""

import ctypes

import numpy as np

from strict_cupy import counts, cuda

CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT = 68, 70, -1
KINDS = {2: np.float16, 0: np.float32, 1: np.float64}  # CUDA_R_16F, CUDA_R_32F, CUDA_R_64F
HANDLE = 0xB1A5


def gemmEx(
    handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, computeType, algo
):
    """C = alpha op(A) op(B) + beta C, of matrices whose columns lie one behind the other."""
    given = transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, computeType, algo
    if not all(type(x) is int for x in given) or handle != HANDLE:
        raise TypeError(f"gemmEx takes integers, and the handle of the device; got {handle}, {given}")
    if min(m, n, k) < 0 or lda < max(1, k if transa else m) or ldb < max(1, n if transb else k) or ldc < max(1, m):
        raise RuntimeError(f"CUBLAS_STATUS_INVALID_VALUE: {m} {n} {k}, {lda} {ldb} {ldc}")
    scalar = np.float64 if computeType == CUBLAS_COMPUTE_64F else np.float32
    if scalar is np.float32 and np.float64 in (KINDS[Atype], KINDS[Btype], KINDS[Ctype]):
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED: float64 is computed in float64")
    cuda.begin_work()
    counts.launch("gemmEx")
    a = _matrix(A, KINDS[Atype], *((k, m) if transa else (m, k)), lda)
    b = _matrix(B, KINDS[Btype], *((n, k) if transb else (k, n)), ldb)
    c = _matrix(C, KINDS[Ctype], m, n, ldc)
    by, old = (_matrix(x, scalar, 1, 1, 1)[0, 0] for x in (alpha, beta))
    with np.errstate(all="ignore"):
        found = by * ((a.T if transa else a).astype(scalar) @ (b.T if transb else b).astype(scalar))
        c[...] = found + old * c if old else found


def _matrix(at, dtype, rows, columns, ld):
    """A matrix of the host's memory that is at an address, column by column."""
    size = np.dtype(dtype).itemsize
    if not rows or not columns:
        return np.zeros((rows, columns), dtype)
    memory = (ctypes.c_char * (((columns - 1) * ld + rows) * size)).from_address(at)
    return np.lib.stride_tricks.as_strided(np.frombuffer(memory, dtype), (rows, columns), (size, ld * size))
