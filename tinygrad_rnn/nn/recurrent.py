"""Recurrent: runs any cell over time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn import backend, nest
from tinygrad_rnn.backend import xp
from tinygrad_rnn.graph import scope
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.ops import stack, unbind, where
from tinygrad_rnn.tensor import Tensor, no_grad


class Recurrent(Module):
    """A cell unrolled over the first axis.

        for t in range(T): ys[t], state = cell(xs[t], state)

    xs: (T, B, I)  state: as the cell's; None for its initial state  lengths: (B,) integers from 0 to T, any order
    returns: ys (T, B, H), and the state after the last step

    With lengths, ys is 0 from each sequence's end on, and the state is each sequence's own last one; what xs holds
    behind an end changes nothing. Each step is a scope in the graph, numbered from 0.
    """

    def __init__(self, cell: Cell):
        if not isinstance(cell, Cell):
            raise TypeError(f"Recurrent: cell must be an nn.Cell, got {type(cell).__name__}")
        self.cell = cell

    def forward(self, xs: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        if xs.ndim != 3:
            raise ValueError(f"Recurrent: xs must be (T, B, I), got {xs.shape}")
        T, B, _ = xs.shape
        state = self.cell.initial_state(B) if state is None else state
        alive = _alive(lengths, T, B)
        if alive is not None:
            on_device = backend.move(alive, xs.device)
            xs = where(on_device[:, :, None], xs, 0)  # what stands behind an end may be NaN: 0 times that would be too
        ys = []
        for t, x in enumerate(unbind(xs)):
            with scope(t):
                y, new = self._step(x, state)
                if alive is None or alive[t].all():
                    state = new
                else:
                    y = _where(on_device[t], y, 0)
                    state = nest.map_leaves(partial(_where, on_device[t]), new, state)
            ys.append(y)
        return (stack(ys) if ys else self._nothing(xs, state)), state

    def _step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        result = self.cell(x, state)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"{type(self.cell).__name__}: forward(x, state) must return (y, state), got {nest.describe(result)}"
            )
        return result

    def _nothing(self, xs: Tensor, state: Any) -> Tensor:
        """The outputs of no steps: a step on zeros tells their size."""
        with no_grad():
            y, _ = self._step(Tensor(xp(xs.array).zeros(xs.shape[1:], xs.dtype)), state)
        return Tensor(xp(y.array).zeros((0, *y.shape), y.dtype))


def _alive(lengths: Any, T: int, B: int) -> np.ndarray | None:
    """Which sequences go on at each step, (T, B) of bool; None where all always do."""
    if lengths is None:
        return None
    if isinstance(lengths, Tensor):
        lengths = lengths.numpy()
    host = backend.to_numpy(lengths) if backend.is_array(lengths) else np.asarray(lengths)
    if host.shape != (B,) or host.dtype.kind not in "iu":
        raise ValueError(f"Recurrent: lengths must be ({B},) integers, got {host.shape} of dtype {host.dtype}")
    if B and (host.min() < 0 or host.max() > T):
        raise ValueError(f"Recurrent: lengths must be from 0 to T = {T}, got {host.min()} to {host.max()}")
    alive = np.arange(T)[:, None] < host
    return None if alive.all() else alive


def _where(mask: Any, new: Tensor, old: Any) -> Tensor:
    """new (B, ...) for the sequences that go on, old for those that have ended. mask: (B,)"""
    return where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
