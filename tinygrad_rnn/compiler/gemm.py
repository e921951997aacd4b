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
FEW = 16  # rows for which it is not worth packing the right matrix
ROWS = 64  # of the left matrix that a worker takes at a time; where there are fewer, workers share the columns


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """a @ b, matrices of one dtype, float32 or float64; None if a product of BLAS is as good."""
    if a.strides[1] == a.itemsize:
        return _packed(a, b) if len(a) >= FEW else None
    if a.strides[0] == a.itemsize:
        return _contracted(a.T, b if b.strides[1] == b.itemsize else b.copy())
    return None


def _packed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b: each worker packs some panels of b, and multiplies some rows of a, or with some panels."""
    (M, K), N = a.shape, b.shape[1]
    out = np.empty((M, N), a.dtype)
    shape, wide = kernels.packed_shape((K, N), b.dtype), kernels.panel(b.dtype)
    packed, at = recycled(shape, b.dtype)
    panels = _shares(shape[0])
    numbers, where = _numbers(len(panels))
    numbers[:SIZES] = N, K, address(a), a.strides[0], at, address(out), out.strides[0], M
    for i, (first, last) in enumerate(panels):
        start, apart = address(b) + first * wide * b.strides[1], packed.strides[0]
        job = K, min(last * wide, N) - first * wide, start, *b.strides, at + first * apart, apart
        numbers[SIZES + i * len(job) : SIZES + (i + 1) * len(job)] = job
    pack = *kernels.packer(b.dtype), where + 8 * SIZES, [(i, i + 1) for i in range(len(panels))]
    multiply = _phase("rows", a.dtype, where, _shares(M)) if M >= ROWS else _phase("panels", a.dtype, where, panels)
    workers.run(workers.Job(pack, multiply))
    return out


def _contracted(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """aᵀ @ g: each worker has some columns of a."""
    (rows, M), N = a.shape, g.shape[1]
    out = np.empty((M, N), a.dtype)
    numbers, where = _numbers(0)
    numbers[:SIZES] = N, address(a), a.strides[0], address(g), g.strides[0], rows, address(out), out.strides[0]
    workers.run(workers.Job(_phase("columns", a.dtype, where, _shares(M))))
    return out


def _shares(n: int) -> list[tuple[int, int]]:
    """n things shared out to all workers."""
    parts = workers.all_of_them()
    return [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]


def _numbers(jobs: int) -> tuple[Any, int]:
    """The numbers of a product and of the jobs of packing before it, and where they are; some for each thread that
    multiplies."""
    size = SIZES + jobs * len(kernels.JOB)
    if len(getattr(_local, "numbers", ())) < size:
        _local.numbers = (ctypes.c_int64 * size)()
        _local.where = ctypes.addressof(_local.numbers)
    return _local.numbers, _local.where


_local = threading.local()


def _phase(name: str, dtype: Any, where: int, shares: list[tuple[int, int]]) -> tuple:
    """A product, shared out; a phase of a `workers.Job`."""
    function, at, _ = _function(name, dtype)
    return function, at, where, shares


# ---- machine code ---------------------------------------------------------------------------------------------------


@functools.cache
def _function(name: str, dtype: np.dtype) -> tuple[Callable[..., None], int, Machine]:
    """A function of (numbers, first, last, worker), where it is, and what must live as long."""
    module = ir.Module(name)
    {"rows": _write_rows, "panels": _write_panels, "columns": _write_columns}[name](module, dtype)
    made = compiled(str(module))
    return made.function(name, 4), made.address(name), made


def _write_rows(module: ir.Module, dtype: Any) -> None:
    code = Code(module, "rows", 4, dtype)
    N, K, a, a_row, packed, out, out_row = _read(code, 7)
    _, first, last, _ = code.arguments
    zero = code.integer(0)
    with code.loop(first, last, ROWS) as i:  # so few that they stay in the cache from one panel to the next
        more = code.b.sub(last, i)
        few = kernels.least(code, more, code.integer(ROWS))
        kernels.call(code, "product", [
            few, N, K, code.add(a, code.mul(i, a_row)), a_row, packed, zero, zero,
            code.add(out, code.mul(i, out_row)), out_row,
        ])  # fmt: skip
    code.finish()


def _write_panels(module: ir.Module, dtype: Any) -> None:
    code = Code(module, "panels", 4, dtype)
    N, K, a, a_row, packed, out, out_row, M = _read(code, 8)
    _, first, last, _ = code.arguments
    wide, zero = kernels.panel(dtype), code.integer(0)
    start = code.mul(first, wide)
    kernels.call(code, "product", [
        M, kernels.least(code, code.b.sub(code.mul(last, wide), start), code.b.sub(N, start)), K, a, a_row,
        code.add(packed, code.mul(start, code.mul(K, code.item))), zero, zero,
        code.add(out, code.mul(start, code.item)), out_row,
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
