"""Cells by name: "lstm", "gru", "rnn", or a class of the user's own as "package.module:Class"."""

from __future__ import annotations

import importlib
import inspect
import sys

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinygrad_rnn import nn
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.tensor import Tensor

HOME = str(Path(__file__).parents[2])  # where viz is too; an editable install is not on sys.path
MakeCell = Callable[[int, int], nn.Cell]  # input size, hidden size
CELLS: dict[str, MakeCell] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}


def make_cell(name: str, input_size: int, hidden_size: int) -> nn.Cell:
    """The cell "lstm", "gru", "rnn" or "package.module:Class", tried out for one step; ValueError if it is none."""
    cls = CELLS.get(name) or _import_cell(name)
    try:
        inspect.signature(cls).bind(input_size, hidden_size)
    except TypeError as error:
        raise ValueError(f"--cell: {name} must be made as Class(input_size, hidden_size); {error}") from None
    try:
        cell = cls(input_size, hidden_size)
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(f"--cell: making {name} failed ({type(error).__name__}: {error})") from None
    for batch in 2, 3:
        problem = _try_cell(cell, input_size, hidden_size, batch)
        if problem:
            raise ValueError(f"--cell: {name}: {problem}")
    return cell


def stacked(make: MakeCell, input_size: int, hidden_size: int, layers: int, dropout: float = 0.0) -> nn.Cell:
    """Layers of cells as one cell, lowest first; one layer is the cell that `make` gives. dropout: as in nn.Stack"""
    cells = [make(hidden_size if i else input_size, hidden_size) for i in range(layers)]
    return cells[0] if layers == 1 else nn.Stack(cells, dropout=dropout)


def _import_cell(name: str) -> Any:
    module_name, _, class_name = name.partition(":")
    if not (module_name and class_name):
        raise ValueError(f'--cell: must be one of {", ".join(CELLS)} or "package.module:Class", got {name!r}')
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path += [HOME, str(Path.cwd())]  # last: what lies there takes no other module's place, ours included
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's own module raises
        raise ValueError(
            f"--cell: {module_name!r} cannot be imported from {Path.cwd()} ({type(error).__name__}: {error})"
        ) from None
    here, file = Path.cwd() / f"{module_name}.py", getattr(module, "__file__", None) or "built into Python"
    if here.exists() and not (Path(file).exists() and here.samefile(file)):
        raise ValueError(f"--cell: {module_name!r} is {file}, not the {here.name} here; rename this one")
    cls = getattr(module, class_name, None)
    if not (inspect.isclass(cls) and issubclass(cls, nn.Cell)):
        what = (
            "a class that is not"
            if inspect.isclass(cls)
            else "something else"
            if cls is not None
            else "nothing of that name"
        )
        raise ValueError(f"--cell: {class_name} in {module_name} must be a class derived from nn.Cell, found {what}")
    return cls


def _try_cell(cell: nn.Cell, input_size: int, hidden_size: int, batch: int) -> str:
    """What is wrong with a cell, found by a step on zeros; "" if nothing is."""
    try:
        with no_grad():
            state = cell.initial_state(batch)
            result = cell(cell.zeros(batch, input_size), state)
    except Exception as error:  # whatever the user's own code raises
        return f"a step on zeros failed ({type(error).__name__}: {error})"
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor)):
        return f"forward(x, state) must return (y, state), got {nest.describe(result)}"
    y, new = result
    if y.shape != (batch, hidden_size):
        return f"y must be (batch, hidden_size), got {y.shape} for batch {batch} and hidden_size {hidden_size}"
    strange = [leaf for leaf in nest.leaves(state) if not isinstance(leaf, Tensor)]
    if strange:
        return f"the state must hold tensors, got {type(strange[0]).__name__}"
    if nest.describe(new) != nest.describe(state):
        return f"the state must keep its shapes, got {nest.describe(new)} after {nest.describe(state)}"
    return ""
