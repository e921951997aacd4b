"""Products of large matrices outside compiled layers, by the same kernels and shared out to the same workers."""

from __future__ import annotations

import ctypes
import functools
import threading

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.llvm import kernels, workers
from tinygrad_rnn.compiler.llvm.assembly import Module
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.machine import compiled
from tinygrad_rnn.compiler.runtime.memory import address, recycled

SIZES = 8  # numbers of a product
FEW = 16  # rows for which it is not worth packing the right matrix
ROWS = 64  # of the left matrix that a worker takes at a time; where there are fewer, workers share the columns
PLANS = 256  # kept, for matrices of as many shapes


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """a @ b, matrices of one dtype, float32 or float64; None if a product of BLAS is as good."""
    if a.strides[1] == a.itemsize:
        return _plan(Packed, a, b)(a, b) if len(a) >= FEW else None
    if a.strides[0] == a.itemsize:
        left, g = a.T, b if b.strides[1] == b.itemsize else b.copy()
        return _plan(Contracted, left, g)(left, g)
    return None


def _plan(kind: Callable, a: np.ndarray, b: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """How to multiply matrices of these shapes: made once for each thread, whose own numbers it has."""
    plans = _local.__dict__.setdefault("plans", {})
    key = kind, a.shape, a.strides, b.shape, b.strides, a.dtype
    found = plans.get(key)
    if found is None:
        if len(plans) >= PLANS:
            plans.clear()
        found = plans[key] = kind(a, b)
    return found


_local = threading.local()


class Packed:
    """a @ b: each worker packs some panels of b, and multiplies some rows of a, or all with some panels.

    a, b: two such matrices
    """

    def __init__(self, a: np.ndarray, b: np.ndarray):
        (M, K), N, dtype = a.shape, b.shape[1], a.dtype
        self.shape, self.dtype, self.packed = (M, N), dtype, kernels.packed_shape((K, N), dtype)
        wide, panels = kernels.panel(dtype), shares(self.packed[0], workers.all_of_them())
        apart = K * wide * dtype.itemsize
        numbers = [N, K, 0, a.strides[0], 0, 0, N * dtype.itemsize, M]
        self.parts = []  # of b: where the job is, how far the part is from the start, and how far its panels are
        for first, last in panels:
            self.parts.append((len(numbers), first * wide * b.strides[1], first * apart))
            numbers += [K, min(last * wide, N) - first * wide, 0, *b.strides, 0, apart]
        self.numbers = (ctypes.c_int64 * len(numbers))(*numbers)
        where = ctypes.addressof(self.numbers)
        pack = *kernels.packer(dtype), where + 8 * SIZES, [(i, i + 1) for i in range(len(panels))]
        name, ranges = ("rows", shares(M, workers.all_of_them())) if M >= ROWS else ("panels", panels)
        self.job = workers.Job(pack, (*_function(name, dtype), where, ranges))

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out, numbers, start = np.empty(self.shape, self.dtype), self.numbers, address(b)
        _held, at = recycled(self.packed, self.dtype)  # nobody else is given it while we hold it
        numbers[2], numbers[4], numbers[5] = address(a), at, address(out)
        for job, source, target in self.parts:
            numbers[job + 2], numbers[job + 5] = start + source, at + target
        workers.run(self.job)
        return out


class Contracted:
    """aᵀ @ g: each worker has some columns of a. a, g: two such matrices"""

    def __init__(self, a: np.ndarray, g: np.ndarray):
        (rows, M), N, dtype = a.shape, g.shape[1], a.dtype
        self.shape, self.dtype = (M, N), dtype
        numbers = N, 0, a.strides[0], 0, g.strides[0], rows, 0, N * dtype.itemsize
        self.numbers = (ctypes.c_int64 * SIZES)(*numbers)
        self.job = workers.Job(
            (*_function("columns", dtype), ctypes.addressof(self.numbers), shares(M, workers.all_of_them()))
        )

    def __call__(self, a: np.ndarray, g: np.ndarray) -> np.ndarray:
        out, numbers = np.empty(self.shape, self.dtype), self.numbers
        numbers[1], numbers[3], numbers[6] = address(a), address(g), address(out)
        workers.run(self.job)
        return out


def shares(n: int, parts: int) -> list[tuple[int, int]]:
    """n things shared out to so many."""
    return [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]


# ---- machine code ---------------------------------------------------------------------------------------------------


@functools.cache
def _function(name: str, dtype: np.dtype) -> tuple[Callable[..., None], int]:
    """A function of (numbers, first, last, worker), and where it is."""
    module = Module(name)
    {"rows": _write_rows, "panels": _write_panels, "columns": _write_columns}[name](module, dtype)
    made = compiled(str(module))
    return made.function(name, 4), made.address(name)


def _write_rows(module: Module, dtype: Any) -> None:
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


def _write_panels(module: Module, dtype: Any) -> None:
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


def _write_columns(module: Module, dtype: Any) -> None:
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
    return [code.load_integer(where, i) for i in range(n)]
