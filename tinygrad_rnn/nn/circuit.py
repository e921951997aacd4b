"""circuit: one step of a cell as the compiler sees it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from tinygrad_rnn.autograd import random
from tinygrad_rnn.autograd.graph import recording
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.runtime.settle import settled
from tinygrad_rnn.nn.capture import Inventory
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.recording import flattened


def circuit(cell: Any, x: Tensor, state: Any = None) -> Circuit:
    """One step of a cell, forward and backward, as the compiler records it; print it to read it as a program.

    cell: or an nn.Recurrent, or a layer, of one cell  x: (B, I)  state: as the cell's; None for its initial state

    TypeError if the step reads a value, ValueError if it cannot be recorded for another reason.
    """
    cell = _only_cell(cell)
    if not isinstance(x, Tensor):
        raise TypeError(f"circuit: x must be a tensor, that of one step, got {type(x).__name__}")
    state = cell.initial_state(len(x)) if state is None else state
    if cell._name.unread:  # so that drawings know what its code calls what it computes
        with suppress(Unsupported), Inventory(cell).restoring(), random.untouched(), recording(True):
            cell(x, state)
    try:
        flat, leaves, _, options = flattened(cell, cell, state)
        held = Inventory(cell)
        held.check()
        with held.restoring():
            return settled(flat, x, leaves, x_tracked=x.requires_grad, **options)[0]
    except Unsupported as reason:
        raise ValueError(f"circuit: {type(cell).__name__} cannot be recorded: {reason}") from None


def _only_cell(given: Any) -> Cell:
    """The cell that is meant. TypeError if there is none, or more than one."""
    name = type(given).__name__
    if isinstance(given, type):
        raise TypeError(f"circuit: cell must be a cell, got a class; make one: circuit({given.__name__}(…), x)")
    if isinstance(given, Cell):
        return given
    cells = getattr(given, "cells", None) or [getattr(given, "cell", None)]
    if not isinstance(cells[0], Cell):
        raise TypeError(f"circuit: cell must be an nn.Cell, got {name}")
    if len(cells) > 1:
        raise TypeError(f"circuit: cell must be one cell, got {name} of {len(cells)}; pass one: circuit(….cells[0], x)")
    return cells[0]
