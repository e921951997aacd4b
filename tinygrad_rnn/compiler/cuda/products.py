"""Products of matrices by cuBLAS, which reads and writes them where they are: columns of rows too, and transposes.

CuPy's matmul would copy such operands first, and make new views of them at each step. Here a step is one call with the
addresses of its matrices.
"""

from __future__ import annotations

import math

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.compiler.cuda.cublas import check, library
from tinygrad_rnn.compiler.cuda.graphs import Fixed
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.runtime.layouts import Layouts
from tinygrad_rnn.compiler.runtime.memory import address
from tinygrad_rnn.compiler.schedule.places import Buffer

COMPUTE_32F, COMPUTE_64F, DEFAULT_ALGORITHM = 68, 70, -1  # cublasComputeType_t, cublasGemmAlgo_t
KINDS = {"float16": (2, COMPUTE_32F), "float32": (0, COMPUTE_32F), "float64": (1, COMPUTE_64F)}  # cudaDataType_t
ONE = {COMPUTE_32F: np.ones(1, np.float32), COMPUTE_64F: np.ones(1, np.float64)}
ZERO = {name: np.zeros_like(one) for name, one in ONE.items()}

Address = Callable[[], int]


@dataclass(frozen=True)
class Matrix:
    """A matrix in memory.

    at             a function that says where it begins, in this call
    time           how many bytes further that of the next step begins
    rows, columns  how many
    across         columns: are those of a row next to each other? Else the rows of a column are
    ld             elements from one row to the next, or from one column to the next
    """

    at: Address
    time: int
    rows: int
    columns: int
    across: bool
    ld: int

    @property
    def transposed(self) -> Matrix:
        """Its transpose, which is the same memory."""
        return Matrix(self.at, self.time, self.columns, self.rows, not self.across, self.ld)


def matrix(v: Value, buffers: Buffers, layouts: Layouts, all_steps: bool) -> Matrix | None:
    """A value as a matrix of its rows, at one step or at all of them; None if no strides say where they are."""
    if v.op == "zeros" or np.dtype(v.dtype).name not in KINDS or len(v.shape) < 2:
        return None
    like, buffer = layouts.of(v), buffers.s.where(v).buffer
    time, steps = like.strides[0] if buffer.time else 0, 1
    if all_steps and buffer.time:
        steps, time = buffers.steps.T, 0
        like = like[:steps]
    elif buffer.time:
        like = like[0]
    rows = rows_of(like) if like.ndim == 2 or _even(like) else None
    if rows is None:
        return None
    (down, across), (m, n), size = rows.strides, rows.shape, like.itemsize
    start = _start(buffer, buffers, address(layouts.of(v)) - address(layouts.base(buffer)))
    if across == size or n == 1:
        return Matrix(start, time, m, n, True, max(down // size, n, 1)) if down >= size * n or m == 1 else None
    if down == size or m == 1:
        return Matrix(start, time, m, n, False, max(across // size, m, 1)) if across >= size * m else None
    return None


def rows(v: Value, lead: int, buffers: Buffers, layouts: Layouts) -> Matrix | None:
    """A value, of all steps if it has steps, as a matrix with a row for each index into its first axes, of which time
    is one; None if no strides say where they are."""
    if v.op == "zeros" or np.dtype(v.dtype).name not in KINDS:
        return None
    like, buffer = layouts.of(v), buffers.s.where(v).buffer
    if buffer.time != bool(lead):
        return None
    like = like[: buffers.steps.T] if lead else like
    columns = math.prod(like.shape[lead:])
    row = np.lib.stride_tricks.as_strided(like, like.shape[lead:], like.strides[lead:])
    if 0 in like.shape or not row.flags.c_contiguous:
        return None
    flat = np.lib.stride_tricks.as_strided(like, (*like.shape[:lead], columns), (*like.strides[:lead], like.itemsize))
    if not _even(flat):
        return None
    start = _start(buffer, buffers, address(layouts.of(v)) - address(layouts.base(buffer)))
    many = math.prod(like.shape[:lead])
    ld = next((s for s, n in zip(flat.strides[-2::-1], flat.shape[-2::-1], strict=True) if n != 1), 0) // like.itemsize
    return Matrix(start, 0, many, columns, True, max(ld, columns)) if ld >= columns or many == 1 else None


def _even(a: np.ndarray) -> bool:
    """Are its rows, of all its leading axes, equally far from each other?"""
    strides = [stride for stride, n in zip(a.strides[:-1], a.shape[:-1], strict=True) if n != 1]
    sizes = [n for n in a.shape[:-1] if n != 1]
    return all(strides[i] == strides[i + 1] * sizes[i + 1] for i in range(len(sizes) - 1))


def _start(buffer: Buffer, buffers: Buffers, offset: int) -> Address:
    if buffer.bound:
        return lambda: address(buffers.bound[buffer]) + offset
    fixed = address(buffers.arrays[buffer]) + offset
    return lambda: fixed


def product(a: Matrix, b: Matrix, out: Matrix, dtype: Any) -> Callable[[], Fixed]:
    """What is called at the beginning of a run, and returns what computes out = a @ b at a step.

    cuBLAS counts columns first: for it rows of numbers are columns, and it computes outᵀ = bᵀ aᵀ.
    """
    assert out.across
    number, compute = KINDS[np.dtype(dtype).name]
    one, zero = address(ONE[compute]), address(ZERO[compute])
    sizes = int(not b.across), int(not a.across), out.columns, out.rows, a.columns

    def ready() -> Fixed:
        gemm, handle = library().gemm, library().handle
        left, right, result = a.at(), b.at(), out.at()

        def run(t: int) -> None:
            status = gemm(
                handle, *sizes, one, right + t * b.time, number, b.ld, left + t * a.time, number, a.ld, zero,
                result + t * out.time, number, out.ld, compute, DEFAULT_ALGORITHM,
            )  # fmt: skip
            if status:
                check(status)

        return Fixed(run, (left, right, result))

    return ready


def multiply(a: Array, b: Array, out: Array) -> None:
    """out = a @ b for whatever numbers, all rows of a at once."""
    product = rows_of(a) @ b if b.ndim == 2 else a @ b
    out[...] = product.reshape(out.shape)


def rows_of(a: Array) -> Array:
    """An array as a matrix of its rows. A number of rows, where -1 would not say how many there are of no columns."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
