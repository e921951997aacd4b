"""From a module to the circuit of its step, with what it captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import nest, random
from tinygrad_rnn.autograd.arrays import to_numpy
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.runtime.settle import settled
from tinygrad_rnn.nn.capture import Inventory
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recording import flattened

Step = Callable[[Tensor, Any], tuple[Any, Any]]


class Recorded(NamedTuple):
    """A step on symbols.

    circuit   forward only
    captured  the arrays behind the circuit's `captured`; in their stead the number of a leaf of the state that no step
              changes
    states    the numbers of the leaves that a step changes, in the circuit's order
    leaves    the shape and the dtype of each leaf, as the step keeps it
    outputs   the names of the leaves of y: ys, or ys[0], ys.h
    """

    circuit: Circuit
    captured: list[Any]
    states: list[int]
    leaves: list[tuple[tuple[int, ...], np.dtype]]
    outputs: list[str]

    @property
    def given(self) -> list[int]:
        """The numbers of the leaves that the step reads and never changes."""
        return sorted(a for a in self.captured if isinstance(a, int))


def record(module: Module, step: Step, x: tuple[tuple[int, ...], Any], state: Any) -> Recorded:
    """Record step(x, state) -> (y, state). x: a shape and a dtype  state: a nest of (shape, dtype, name) as tensors

    ValueError if it cannot be recorded.
    """
    paths: list[str] = []

    def noted(x: Tensor, s: Any) -> tuple[Any, Any]:
        y, new = step(x, s)
        paths[:] = nest.paths(y, "ys")
        return y, new

    who = type(module).__name__
    try:
        with no_grad(), random.untouched(), Inventory(module).restoring():
            flat, leaves, _, options = flattened(module, noted, state)
            circuit, captured, kept, constant = settled(
                flat, Tensor(stand_in(*x)), leaves, x_tracked=False, backward=False, **options
            )
    except Unsupported as reason:
        raise ValueError(f"export: {who} cannot be recorded: {reason}") from None
    if circuit.draws:
        raise ValueError(f"export: {who} draws random numbers in its step, which no file can; export it without")
    numbers = {id(s): i for i, s in enumerate(kept)}
    known = [numbers[id(t)] if id(t) in numbers else to_numpy(getattr(t, "array", t)) for t in captured]
    states = [i for i in range(len(kept)) if i not in constant]
    return Recorded(circuit, known, states, [(s.shape, s.dtype) for s in kept], paths)
