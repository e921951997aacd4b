"""Weights in panels, as products read them: what is copied where at the start of each call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.compiler.ir.columns import is_transpose, spans
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import kernels
from tinygrad_rnn.compiler.schedule.schedule import Schedule


class Job(NamedTuple):
    """A matrix to copy into panels: where it is, its shape, its strides, where the first panel is and how far the next
    one is from it, in bytes."""

    source: Value
    shape: tuple[int, int]
    strides: tuple[int, int]
    out: int
    apart: int

    def row(self, at: int) -> list[int]:
        """As the kernel reads it, if the source is at an address."""
        return [*self.shape, at, *self.strides, self.out, self.apart]


def side_by_side(s: Schedule, v: Value) -> bool:
    """Are these captured arrays side by side that only products read? Then they need not be put together before."""
    if v.op != "pack" or v.moves or v.dtype.kind != "f" or any(p.op != "input" for p in v.args):
        return False
    if any(p.shape[-1] % kernels.panel(v.dtype) for p in v.args):
        return False
    if len(v.shape) == 1:
        return all(u in s.flow.accumulated and s.flow.accumulated[u][1] is v for u in s.flow.users[v])
    users = s.flow.users
    return all(_weight(s, v, u) or (u is not None and is_transpose(u) and _weight(s, u, *users[u])) for u in users[v])


def _weight(s: Schedule, W: Any, *readers: Any) -> bool:
    return all(u is not None and s.flow.is_product(u) and u.args[1] is W for u in readers)


def of_weight(s: Schedule, W: Value, look: Callable[[Any], np.ndarray], out: int) -> Iterator[Job]:
    """How to bring a weight (K, N) into panels."""
    whole = W.args[0] if is_transpose(W) else W
    apart = W.shape[0] * kernels.panel(W.dtype) * W.dtype.itemsize
    if len(whole.shape) != 2 or not side_by_side(s, whole):
        yield Job(W, W.shape, look(W).strides, out, apart)  # type: ignore[arg-type]
    elif whole is W:
        yield from _columns(W, look, out, apart)
    else:
        for p, lo, _ in spans(whole):
            row, column = look(p).strides
            yield Job(p, p.shape[::-1], (column, row), out + lo * kernels.panel(W.dtype) * W.dtype.itemsize, apart)


def of_bias(v: Value, look: Callable[[Any], np.ndarray], out: int) -> Iterator[Job]:
    """How to put a row (N,) together."""
    return _columns(v, look, out, kernels.panel(v.dtype) * v.dtype.itemsize)


def _columns(v: Value, look: Callable[[Any], np.ndarray], out: int, apart: int) -> Iterator[Job]:
    for p, lo, _ in spans(v):
        shape, strides = (1, *p.shape)[-2:], (0, *look(p).strides)[-2:]
        yield Job(p, shape, strides, out + lo // kernels.panel(v.dtype) * apart, apart)  # type: ignore[arg-type]
