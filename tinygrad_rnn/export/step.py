"""What is exported: the step of a model, and what it is recorded with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import arrays, nest
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.circuit import Circuit, Value
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.runtime.settle import settled
from tinygrad_rnn.nn.capture import Inventory
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.layers import Embedding, Linear
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recording import flattened
from tinygrad_rnn.nn.recurrent import Recurrent


class Recorded(NamedTuple):
    """A step as a circuit, forward only.

    held    what each input from outside holds
    states  the first numbers of each leaf of the state
    """

    circuit: Circuit
    held: dict[Value, np.ndarray]
    states: list[np.ndarray]


class Chain(Module):
    """An embedding, a cell and a linear layer as one step; the first and the last may be None."""

    def __init__(self, embedding: Embedding | None, cell: Cell, output: Linear | None):
        self.embedding, self.cell, self.output = embedding, cell, output

    def initial_state(self, batch_size: int) -> Any:
        """That of the cell."""
        return self.cell.initial_state(batch_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step: what the last of them makes of x, and the new state of the cell."""
        y, state = self.cell(x if self.embedding is None else self.embedding(x), state)
        return y if self.output is None else self.output(y), state


def recorded(who: str, model: Any, example: Any = None) -> Recorded:
    """One step of a model for one sequence. model, example: as in `export.c`"""
    module, step = _step_of(who, model)
    x = _example(who, module, example)
    try:
        state = module.initial_state(1)
        flat, leaves, _, options = flattened(module, step, state)
        held = Inventory(module)
        held.check()
        with held.restoring():
            c, captured, _, constant = settled(flat, x, leaves, x_tracked=False, backward=False, **options)
    except Unsupported as reason:
        raise ValueError(f"{who}: {type(module).__name__} cannot be recorded: {reason}") from None
    if c.draws:
        raise ValueError(f"{who}: the step draws random numbers (as nn.Dropout does in training); call .eval() first")
    numbers = lambda t: arrays.to_numpy(getattr(t, "array", t))
    moving = [s for i, s in enumerate(nest.leaves(state)) if i not in constant]
    first = [np.broadcast_to(numbers(s), v.shape) for s, v in zip(moving, c.states, strict=True)]
    return Recorded(c, dict(zip(c.captured, map(numbers, captured), strict=True)), first)


def _step_of(who: str, model: Any) -> tuple[Any, Callable]:
    """The module that holds the parameters, and its step(x, state) -> (y, new state)."""
    if isinstance(model, Recurrent):
        model = _forward_cell(who, model)
    if isinstance(model, Cell):
        return model, model
    if isinstance(model, (list, tuple)):
        chain = _chain(who, model)
        return chain, chain.step
    if isinstance(model, Module) and hasattr(model, "step") and hasattr(model, "initial_state"):
        return model, model.step
    raise TypeError(
        f"{who}: module must be a cell, an nn.Recurrent, a list [nn.Embedding,] one of these [, nn.Linear], or a "
        f"module with step(x, state) and initial_state(batch_size), got {type(model).__name__}"
    )


def _chain(who: str, parts: Sequence[Any]) -> Chain:
    rest: list[Any] = [_forward_cell(who, p) if isinstance(p, Recurrent) else p for p in parts]
    embedding = rest.pop(0) if rest and isinstance(rest[0], Embedding) else None
    output = rest.pop() if rest and isinstance(rest[-1], Linear) else None
    if len(rest) != 1 or not isinstance(rest[0], Cell):
        got = ", ".join(type(p).__name__ for p in parts)
        raise TypeError(f"{who}: a list must be [nn.Embedding,] a cell or an nn.Recurrent[, nn.Linear], got [{got}]")
    return Chain(embedding, rest[0], output)


def _forward_cell(who: str, layer: Recurrent) -> Cell:
    if layer.reverse:
        raise ValueError(f"{who}: a layer must run from the first step to the last, this one has reverse=True")
    return layer.cell


def _example(who: str, module: Any, example: Any) -> Tensor:
    """x of one step: (1, I) numbers, or (1,) of an id."""
    like = next(iter(module.parameters()), None)
    device, dtype = ("cpu", np.dtype("float32")) if like is None else (like.device, like.dtype)
    if example is None:
        inner = [] if isinstance(module, Cell) else [m for m in module.modules() if isinstance(m, Embedding)]
        sizes = [m.input_size for m in module.modules() if hasattr(m, "input_size")]
        if not inner and not sizes:
            raise ValueError(f"{who}: {type(module).__name__} does not say how large its input is; pass an example")
        example = np.zeros(1, np.int64) if inner else np.zeros((1, sizes[0]))
    x = np.asarray(arrays.to_numpy(getattr(example, "array", example)))
    whole = x.dtype.kind in "iu"
    x = x.reshape(1) if whole and x.size == 1 else x[None] if x.ndim == 1 else x
    if x.dtype.kind not in "iuf" or x.shape[:1] != (1,) or x.ndim != (1 if whole else 2):
        raise ValueError(f"{who}: example must be numbers (1, I) or an id (1,), got {x.dtype} {x.shape}")
    return Tensor(arrays.from_numpy(x.astype(np.int64 if whole else dtype), device))
