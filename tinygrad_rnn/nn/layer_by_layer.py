"""A stack of cells as one layer for each: its gradients come one layer after the other, not all in the end.

As one program a stack is as fast, and its weights' gradients are made together. Who sends them somewhere as they come
(`parallel.World.overlapping`) would have nothing to send until the last is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.cells import Cell, Stack


class LayerByLayer:
    """The cells of a stack, each unrolled by itself: a `Recurrent` each, which is kept.

    It is no module: what it holds are the cells of the module whose it is.
    """

    def __init__(self) -> None:
        self.layers: list[Any] = []

    @staticmethod
    def can_run(cell: Cell) -> bool:
        """Is it a stack that computes the same one layer after the other? One that drops does not: its masks are drawn
        step by step."""
        if type(cell) is not Stack or context.trace is not None:
            return False
        return len(cell.cells) > 1 and not (cell.dropout.training and cell.dropout.p)

    def run(
        self, layer: Any, make: Callable[[Cell], Any], xs: Any, state: Any, lengths: Any, all_states: bool
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """As a call of a layer over a stack. make: unrolls a cell as it does"""
        cells = layer.cell.cells
        if [(id(each.cell), each.engine) for each in self.layers] != [(id(cell), layer.engine) for cell in cells]:
            self.layers = [make(cell) for cell in cells]
        states: Any = [None] * len(cells) if state is None else state
        ys, new = xs, []
        for each, s in zip(self.layers, states, strict=True):
            ys, s = each(ys, s, lengths, all_states=all_states)
            new.append(s)
        return ys, tuple(new)
