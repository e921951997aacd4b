"""Products of large matrices outside compiled layers, by the same kernels and shared out to the same workers."""

from __future__ import annotations

import ctypes
import functools
import threading

from collections.abc import Callable
from typing import Any

import numpy as np

from llvmlite import ir

from tinygrad_rnn.compiler import kernels, workers
from tinygrad_rnn.compiler.llvm import I64, Code, Machine, compiled
from tinygrad_rnn.compiler.spare import address, recycled

SIZES = 8  # numbers of a product
FEW = 64  # rows for which it is not worth packing the right matrix
ROWS = 64  # of the left matrix that a worker takes at a time


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """a @ b, matrices of one dtype, float32 or float64; None if a product of BLAS is as good."""
    if a.strides[1] == a.itemsize:
        return _by_rows(a, b) if len(a) >= FEW else None
    if a.strides[0] == a.itemsize:
        return _by_columns(a.T, b if b.strides[1] == b.itemsize else b.copy())
    return None


def _by_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b: each worker has some rows of a, and all of b, packed."""
    (M, K), N = a.shape, b.shape[1]
    out = np.empty((M, N), a.dtype)
    packed, at = recycled(kernels.packed_shape((K, N), b.dtype), b.dtype)
    numbers, where = _numbers()
    numbers[:7] = N, K, address(a), a.strides[0], at, address(out), out.strides[0]
    numbers[SIZES:] = K, N, address(b), *b.strides, at, packed.strides[0]
    pack = *kernels.packer(b.dtype), where + 8 * SIZES, [(0, 1)]
    workers.run(workers.Job(pack, _phase("rows", a.dtype, where, M)))
    return out


def _by_columns(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """aᵀ @ g: each worker has some columns of a."""
    (rows, M), N = a.shape, g.shape[1]
    out = np.empty((M, N), a.dtype)
    numbers, where = _numbers()
    numbers[:SIZES] = N, address(a), a.strides[0], address(g), g.strides[0], rows, address(out), out.strides[0]
    workers.run(workers.Job(_phase("columns", a.dtype, where, M)))
    return out


def _numbers() -> tuple[Any, int]:
    """The numbers of a product and of the packing before it, one for each thread that gives some, and where they are."""
    if not hasattr(_local, "numbers"):
        numbers = (ctypes.c_int64 * (SIZES + len(kernels.JOB)))()
        _local.numbers = numbers, ctypes.addressof(numbers)
    return _local.numbers


_local = threading.local()


def _phase(name: str, dtype: Any, where: int, n: int) -> tuple:
    """Rows, or columns, shared out; a phase of a `workers.Job`."""
    function, at, _ = _function(name, dtype)
    parts = workers.all_of_them()
    return function, at, where, [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]


# ---- machine code ---------------------------------------------------------------------------------------------------


@functools.cache
def _function(name: str, dtype: np.dtype) -> tuple[Callable[..., None], int, Machine]:
    """A function of (numbers, first, last, worker), where it is, and what must live as long."""
    module = ir.Module(name)
    {"rows": _write_rows, "columns": _write_columns}[name](module, dtype)
    made = compiled(str(module))
    return made.function(name, 4), made.address(name), made


def _write_rows(module: ir.Module, dtype: Any) -> None:
    code = Code(module, "rows", 4, dtype)
    N, K, a, a_row, packed, out, out_row = _read(code, 7)
    _, first, last, _ = code.arguments
    zero = code.integer(0)
    with code.loop(first, last, ROWS) as i:  # so few that they stay in the cache from one panel to the next
        more = code.b.sub(last, i)
        few = code.b.select(code.b.icmp_signed("<", more, code.integer(ROWS)), more, code.integer(ROWS))
        kernels.call(code, "product", [
            few, N, K, code.add(a, code.mul(i, a_row)), a_row, packed, zero, zero,
            code.add(out, code.mul(i, out_row)), out_row,
        ])  # fmt: skip
    code.finish()


def _write_columns(module: ir.Module, dtype: Any) -> None:
    code = Code(module, "columns", 4, dtype)
    N, a, a_row, g, g_row, rows, out, out_row = _read(code, 8)
    _, first, last, _ = code.arguments
    zero, one = code.integer(0), code.integer(1)
    kernels.call(code, "contraction", [
        code.b.sub(last, first), N, one, code.add(a, code.mul(first, code.item)), zero, g, zero, rows, a_row, g_row,
        code.add(out, code.mul(first, out_row)), out_row, zero,
    ])  # fmt: skip
    code.finish()


def _read(code: Code, n: int) -> list[Any]:
    """The first numbers of the job."""
    where = code.arguments[0]
    return [code.b.load(code.b.inttoptr(code.add(where, 8 * i), I64.as_pointer())) for i in range(n)]
