"""Logits, their cross entropy and all gradients as machine code: what nn.linear_loss does, shared out to workers.

Three products take nearly all of the time. Weights are packed once for all blocks of rows. Of each block a worker has
some rows: it computes 64 rows of logits, makes probabilities and then ∂L/∂z of them while they are in the cache, and
multiplies these by Wᵀ. Then it has some columns of ∂L/∂W, to which it adds yᵀ ∂L/∂z of the whole block.
"""

from __future__ import annotations

import ctypes
import functools

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.compiler.llvm import kernels, workers
from tinygrad_rnn.compiler.llvm.assembly import Module, constant
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.functions import exp
from tinygrad_rnn.compiler.llvm.machine import compiled
from tinygrad_rnn.compiler.llvm.shared_products import shares
from tinygrad_rnn.compiler.runtime.memory import address, recycled

ROWS = 64  # of logits that a worker computes at a time
INNER = 2048  # rows of a packed part of Wᵀ: a panel of it stays in the L2 cache
STEP = 192  # rows of a block are a multiple of it, because the kernel of yᵀ ∂L/∂z takes so many at a time


class Block(NamedTuple):
    """The numbers in the table of a block of rows; those in bytes or addresses are marked so."""

    V: int
    H: int
    ys: int  # address
    ys_row: int  # bytes
    W: int  # address of the packed weights
    b: int  # address, or 0
    z: int  # address of the logits
    ids: int  # address
    losses: int  # address
    Wt: int  # address of the packed Wᵀ, or 0: no ∂L/∂y is wanted
    Wt_part: int  # bytes of INNER rows of it
    dys: int  # address
    dys_row: int  # bytes
    db: int  # address of a row for each worker, or 0
    dW: int  # address
    dW_row: int  # bytes
    add: int  # is there something in dW?
    rows: int
    wanted: int  # is any gradient?


def in_blocks(
    ys: np.ndarray, W: np.ndarray, b: np.ndarray | None, targets: np.ndarray, smoothing: float,
    wanted: Sequence[bool], block: int,
) -> tuple[np.ndarray, list[Any]]:  # fmt: skip
    """The summed loss, and the gradients of ys, W, b that are wanted; as nn.linear_loss.in_blocks."""
    dtype, (N, H), V = ys.dtype, ys.shape, W.shape[1]
    ys, ids = np.ascontiguousarray(ys), np.ascontiguousarray(targets, np.int64)
    bias = None if b is None else np.ascontiguousarray(b)
    parts = workers.count(N)
    rows = min(N, max(STEP, block // (V * dtype.itemsize) // STEP * STEP))
    new: Callable[..., np.ndarray] = lambda *shape: recycled(shape, dtype)[0]
    dys, dW = new(N, H) if wanted[0] else None, new(H, V) if wanted[1] else None
    sums = np.zeros((parts, V), dtype) if wanted[2] else None
    z, losses = new(rows, V), np.empty(N, dtype)
    packed, turned = new(*kernels.packed_shape((H, V), dtype)), None
    if dys is not None:
        turned = new(*kernels.packed_shape((V, H), dtype))
    at: Callable[[Any], int] = lambda a: 0 if a is None else address(a)
    part = INNER * kernels.packed_shape((1, H), dtype)[0] * kernels.panel(dtype) * dtype.itemsize
    numbers: list[int] = []
    for start in range(0, N, rows):
        numbers += Block(
            V, H, at(ys) + start * H * dtype.itemsize, H * dtype.itemsize, at(packed), at(bias), at(z),
            at(ids) + 8 * start, at(losses) + start * dtype.itemsize, at(turned), part,
            dys is not None and at(dys) + start * H * dtype.itemsize, H * dtype.itemsize, at(sums), at(dW),
            V * dtype.itemsize, start > 0, min(rows, N - start), any(wanted),
        )  # fmt: skip
    _run(dtype, smoothing, parts, numbers, [*_packing(W, packed, turned)])
    db = None if sums is None else sums.sum(0)
    return losses.sum(), [dys, dW, db]


def _packing(W: np.ndarray, packed: np.ndarray, turned: np.ndarray | None) -> Iterator[list[int]]:
    """Jobs of the kernel that packs weights: W in groups of panels, Wᵀ in parts of INNER rows."""
    (H, V), item, wide = W.shape, W.itemsize, kernels.panel(W.dtype)
    row, column = W.strides
    for first in range(0, V, INNER):
        width = min(INNER, V - first)
        apart = H * wide * item
        yield [H, width, address(W) + first * column, row, column, address(packed) + first // wide * apart, apart]
        if turned is not None:
            source, target = address(W) + first * column, address(turned) + first * len(turned) * wide * item
            yield [width, H, source, column, row, target, width * wide * item]


def _run(dtype: np.dtype, smoothing: float, parts: int, blocks: list[int], packing: list[list[int]]) -> None:
    """Pack the weights, then for each block of rows do its rows and its columns, each shared out to all workers."""
    size = len(Block._fields)
    jobs = (ctypes.c_int64 * (len(packing) * len(kernels.JOB)))(*[n for job in packing for n in job])
    table = (ctypes.c_int64 * len(blocks))(*blocks)
    phases: list[tuple] = [(*kernels.packer(dtype), ctypes.addressof(jobs), shares(len(packing), parts))]
    rows, columns = _function("rows", dtype, smoothing), _function("columns", dtype, smoothing)
    panels = kernels.packed_shape((1, blocks[0]), dtype)[0]
    for i in range(0, len(blocks), size):
        block, where = Block(*blocks[i : i + size]), ctypes.addressof(table) + 8 * i
        phases.append((*rows, where, shares(block.rows, parts)))
        if block.dW:
            phases.append((*columns, where, shares(panels, parts)))
    workers.run(workers.Job(*phases))


# ---- machine code ---------------------------------------------------------------------------------------------------


@functools.lru_cache(64)
def _function(name: str, dtype: np.dtype, smoothing: float) -> tuple[Callable[..., None], int]:
    """A function of (table of a block, first, last, worker), and where it is."""
    module = Module(name)
    _write_rows(module, dtype, smoothing) if name == "rows" else _write_columns(module, dtype)
    made = compiled(str(module))
    return made.function(name, 4), made.address(name)


def _read(code: Code) -> Any:
    """The numbers of the block, by name."""
    return Block(*[code.load_integer(code.arguments[0], i) for i in range(len(Block._fields))])


def _write_rows(module: Module, dtype: np.dtype, smoothing: float) -> None:
    """rows(block, first, last, worker): the losses of some rows, ∂L/∂z in place of their logits, and ∂L/∂y"""
    code = Code(module, "rows", 4, dtype)
    _, first, last, worker = code.arguments
    block, b, zero = _read(code), code.b, code.integer(0)
    z_row = code.mul(block.V, code.item)
    db = b.select(b.icmp_signed("==", block.db, zero), zero, code.add(block.db, code.mul(worker, z_row)))
    softmax = _write_softmax(module, dtype, smoothing)
    with code.loop(first, last, ROWS) as i:
        few = kernels.least(code, b.sub(last, i), code.integer(ROWS))
        z = code.add(block.z, code.mul(i, z_row))
        y = code.add(block.ys, code.mul(i, block.ys_row))
        kernels.call(code, "product", [few, block.V, block.H, y, block.ys_row, block.W, block.b, zero, z, z_row])
        with code.loop(i, code.add(i, few)) as n:
            target = code.load_integer(code.add(block.ids, code.mul(n, 8)))
            loss = code.add(block.losses, code.mul(n, code.item))
            b.call(softmax, [block.V, code.add(block.z, code.mul(n, z_row)), target, loss, db, block.wanted])
        with b.if_then(b.icmp_signed("!=", block.Wt, zero)):
            _write_dys(code, block, i, few, z, z_row)
    code.finish()


def _write_dys(code: Code, block: Any, i: Any, few: Any, z: Any, z_row: Any) -> None:
    """∂L/∂y = ∂L/∂z Wᵀ of a few rows, a part of the inner dimension after the other."""
    b, zero = code.b, code.integer(0)
    dy = code.add(block.dys, code.mul(i, block.dys_row))
    with code.loop(0, block.V, INNER) as k:
        inner = kernels.least(code, b.sub(block.V, k), code.integer(INNER))
        weights = code.add(block.Wt, code.mul(b.sdiv(k, code.integer(INNER)), block.Wt_part))
        start = b.select(b.icmp_signed("==", k, zero), zero, dy)
        left = code.add(z, code.mul(k, code.item))
        kernels.call(
            code, "product", [few, block.H, inner, left, z_row, weights, start, block.dys_row, dy, block.dys_row]
        )


def _write_columns(module: Module, dtype: np.dtype) -> None:
    """columns(block, first, last, worker): some panels of ∂L/∂W (+)= yᵀ ∂L/∂z"""
    code = Code(module, "columns", 4, dtype)
    _, first, last, _ = code.arguments
    block, b, zero = _read(code), code.b, code.integer(0)
    start = code.mul(first, kernels.panel(dtype))
    columns = kernels.least(code, b.sub(code.mul(last, kernels.panel(dtype)), start), b.sub(block.V, start))
    offset = code.mul(start, code.item)
    kernels.call(code, "contraction", [
        block.H, columns, code.integer(1), block.ys, zero, code.add(block.z, offset), zero, block.rows, block.ys_row,
        code.mul(block.V, code.item), code.add(block.dW, offset), block.dW_row, block.add,
    ])  # fmt: skip
    code.finish()


def _write_softmax(module: Module, dtype: np.dtype, smoothing: float) -> Any:
    """f(V, z, target, loss, db, wanted): the loss of a row, and ∂L/∂z in place of its logits, added to db"""
    code = Code(module, "softmax", 6, dtype, inner=True)
    V, z, target, loss, db, wanted = code.arguments
    b, zero = code.b, code.integer(0)
    at = code.add(z, code.mul(target, code.item))
    top, mean = _extremes(code, V, z, smoothing)
    right = code.load_one(at)
    total = _exponentials(code, V, z, top)
    log = code.external("logf" if code.item == 4 else "log", code.real, [code.real])
    number = lambda x: constant(code.real, float(dtype.type(x)))
    least = b.fadd(top, b.call(log, [total]))
    least = b.fsub(least, b.fmul(number(1 - smoothing), right))
    if mean is not None:
        least = b.fsub(least, b.fmul(number(smoothing), mean))
    code.store_one(least, loss)
    with b.if_then(b.icmp_signed("!=", wanted, zero)):
        _write_gradient(code, V, z, db, b.fdiv(number(1), total), smoothing)
        places = [at, code.add(db, code.mul(target, code.item))]
        code.store_one(b.fsub(code.load_one(at), number(1 - smoothing)), at)
        with b.if_then(b.icmp_signed("!=", db, zero)):
            code.store_one(b.fsub(code.load_one(places[1]), number(1 - smoothing)), places[1])
    code.finish()
    return code.function


def _extremes(code: Code, V: Any, z: Any, smoothing: float) -> tuple[Any, Any]:
    """The largest logit, and the mean of all if there is smoothing."""
    b = code.b
    most, total = code.top.alloca(code.vector), code.top.alloca(code.vector)
    b.store(code.constant(-np.inf), most)
    b.store(code.constant(0.0), total)

    def body(j: Any, mask: Any) -> None:
        x = code.load(code.add(z, code.mul(j, code.item)), mask)
        if smoothing:
            b.store(b.fadd(b.load(total), x), total)
        x = x if mask is None else b.select(mask, x, code.constant(-np.inf))
        b.store(code.binary("maximum", b.load(most), x), most)

    code.over(0, V, body)
    top = code.extreme(b.load(most), "maximum")
    mean = b.fdiv(code.total(b.load(total)), b.sitofp(V, code.real)) if smoothing else None
    return top, mean


def _exponentials(code: Code, V: Any, z: Any, top: Any) -> Any:
    """Turn logits into exp(z - top); their sum."""
    b, down = code.b, code.spread(top)
    total = code.top.alloca(code.vector)
    b.store(code.constant(0.0), total)

    def body(j: Any, mask: Any) -> None:
        place = code.add(z, code.mul(j, code.item))
        e = exp(code, b.fsub(code.load(place, mask), down))
        code.store(e, place, mask)
        e = e if mask is None else b.select(mask, e, code.constant(0.0))
        b.store(b.fadd(b.load(total), e), total)

    code.over(0, V, body)
    return code.total(b.load(total))


def _write_gradient(code: Code, V: Any, z: Any, db: Any, scale: Any, smoothing: float) -> None:
    """Turn exp(z - top) into ∂L/∂z, but for the 1 of the target; add it to db, if that is wanted."""
    b, by = code.b, code.spread(scale)
    share = b.fdiv(constant(code.real, float(smoothing)), b.sitofp(V, code.real))

    def gradient(j: Any, mask: Any) -> tuple[Any, Any]:
        offset = code.mul(j, code.item)
        g = b.fmul(code.load(code.add(z, offset), mask), by)
        g = b.fsub(g, code.spread(share)) if smoothing else g
        code.store(g, code.add(z, offset), mask)
        return offset, g

    def summed(j: Any, mask: Any) -> None:
        offset, g = gradient(j, mask)
        place = code.add(db, offset)
        code.store(b.fadd(code.load(place, mask), g), place, mask)

    with b.if_else(b.icmp_signed("==", db, code.integer(0))) as (without, with_bias):
        with without:
            code.over(0, V, lambda j, mask: gradient(j, mask) and None)
        with with_bias:
            code.over(0, V, summed)
