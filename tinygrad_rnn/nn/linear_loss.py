"""A linear layer and the cross entropy of its outputs in one pass over blocks of rows, for large vocabularies.

The logits of all positions, (N, V), are most of the memory of a language model, and are read and written many times. A
block of them at a time stays in memory that is used again, and its gradients are taken while it is there:

    z = y W + b    p = softmax(z)    ∂L/∂z = p - target    ∂L/∂y = ∂L/∂z Wᵀ    ∂L/∂W = yᵀ ∂L/∂z    ∂L/∂b = Σ ∂L/∂z
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.blas import FLOATS
from tinygrad_rnn.autograd.gradients import partials
from tinygrad_rnn.autograd.primitive import operation
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.ops.row_kernels import LONGEST, softmax_loss

BLOCK = 1 << 24  # bytes of logits at a time: what the caches of a processor bear
ON_GPU = 1 << 28  # there each block costs launches


class Pass:
    """One call: what it needs besides its arrays, and the gradients that it found.

    plain      the same in several operations, of the tensors (ys, W, b): for second derivatives, and for drawings
    wanted     for each of ys, W, b: is its gradient?
    targets    of the rows of ys, (N,), from 0 to V - 1; counts: which rows count, (N,) of bool
    kept       on the CPU the numbers of the rows that count, and targets are theirs: no product is computed for the
               others; None for all, as on a GPU, where nobody waits to learn how many they are
    gradients  of ys, W, b for ∂loss = 1, from the forward to the backward pass
    """

    def __init__(
        self, plain: Callable[..., Tensor], wanted: Sequence[bool], targets: Array, counts: Array, smoothing: float
    ):
        self.plain, self.wanted, self.smoothing = plain, wanted, smoothing
        some = xp(counts) is np and not counts.all()
        self.kept = np.flatnonzero(counts) if some else None
        self.targets = targets if self.kept is None else targets[self.kept]
        self.counts = None if xp(counts) is np else counts
        self.gradients: list[Any] | None = None

    def run(self, ys: Array, W: Array, b: Array | None) -> Array:
        """The summed loss; the gradients are kept."""
        arrays = [a for a in (ys, W, b) if a is not None]
        ours = all(type(a) is np.ndarray and a.dtype == ys.dtype for a in arrays) and ys.dtype in FLOATS
        fast = engines.cross_entropy() if ours and len(self.targets) and W.size else None
        rows = ys if self.kept is None else ys[self.kept]
        run = fast or partial(in_blocks, counts=self.counts)
        block = BLOCK if xp(ys) is np else ON_GPU
        loss, self.gradients = run(rows, W, b, self.targets, self.smoothing, self.wanted, block)
        if self.kept is not None and self.wanted[0]:
            dys = xp(ys).zeros(ys.shape, loss.dtype)
            dys[self.kept] = self.gradients[0]
            self.gradients[0] = dys
        return loss


def in_blocks(
    ys: Array, W: Array, b: Array | None, targets: Array, smoothing: float, wanted: Sequence[bool], block: int,
    counts: Array | None = None,
) -> tuple[Array, list[Any]]:  # fmt: skip
    """The summed loss, and the gradients of ys, W, b that are wanted, by the array library.

    ys: (N, H)  W: (H, V)  b: (V,)  targets: (N,), from 0 to V - 1  block: bytes of logits at a time
    counts: (N,) of bool, which rows count; None for all
    """
    lib, (N, _), V = xp(ys), ys.shape, W.shape[1]
    arrays = [ys, W, b]
    dtype = np.result_type(*[a.dtype for a in arrays if a is not None])
    found = [lib.zeros(a.shape, dtype) if a is not None and w else None for a, w in zip(arrays, wanted, strict=True)]
    losses, size = lib.zeros(N, dtype), max(1, block // max(1, V * dtype.itemsize))
    by_kernel = lib is not np and dtype in FLOATS and 0 < V <= LONGEST
    b = b if b is None else b.astype(dtype, copy=False)
    for start in range(0, N, size):
        rows = slice(start, start + size)
        some = None if counts is None else counts[rows]
        y = ys[rows] if some is None else lib.where(some[:, None], ys[rows], dtype.type(0))  # they may be NaN
        z, of = (y @ W).astype(dtype, copy=False), softmax_loss if by_kernel else _softmax_loss
        losses[rows] = of(z, b, targets[rows], some, smoothing, any(wanted))
        if any(wanted):
            _add_gradients(found, y, W, z, start)
    return losses.sum(), found


def _softmax_loss(
    z: Array, b: Array | None, targets: Array, counts: Array | None, smoothing: float, grad: bool
) -> Array:
    """See `softmax_loss`."""
    if b is not None:
        z += b
    at = xp(z).arange(len(z)), targets
    losses = _softmax_in_place(z, at, smoothing)
    if grad:
        z[at] -= 1 - smoothing
        z -= smoothing / z.shape[1]
        if counts is not None:
            z *= counts[:, None]
    return losses if counts is None else losses * counts


def _softmax_in_place(z: Array, at: tuple[Array, Array], smoothing: float) -> Array:
    """Turn logits into probabilities; the loss of each row."""
    lib = xp(z)
    z -= z.max(-1, keepdims=True)
    target, mean = z[at], z.mean(-1) if smoothing else 0
    lib.exp(z, out=z)
    total = z.sum(-1, keepdims=True)
    z /= total
    return lib.log(total)[:, 0] - (1 - smoothing) * target - smoothing * mean


def _add_gradients(found: list[Any], y: Array, W: Array, dz: Array, start: int) -> None:
    dys, dW, db = found
    if dys is not None:
        dys[start : start + len(y)] = dz @ W.T
    if dW is not None:
        dW += y.T @ dz
    if db is not None:
        db += dz.sum(0) if xp(dz) is np else xp(dz).ones(len(dz), dz.dtype) @ dz  # CuPy's own sum takes 5 times as long


def _linear_cross_entropy(ys: Array, W: Array, b: Array | None, *, call: Pass) -> Array:
    """-Σ log P(target), P = softmax(ys W + b)."""
    return call.run(ys, W, b)


linear_nll = operation(_linear_cross_entropy)


@linear_nll.vjp
def _rule(g: Any, ys: Any, W: Any, b: Any, call: Pass, tracked: tuple[bool, ...]) -> Sequence[Any]:
    if isinstance(g, Tensor):
        return partials(lambda xs: [call.plain(*xs)], (ys, W, b), [g], tracked)[0]
    if call.gradients is None:  # a second backward: the first one gave its arrays away
        call.run(ys, W, b)
    gradients, call.gradients = call.gradients, None
    assert gradients is not None
    for d in gradients:
        if d is not None:
            d *= g
    return gradients
