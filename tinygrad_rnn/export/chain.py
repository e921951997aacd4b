"""Modules one after the other, of which some have a state: what an embedding, a recurrent layer and a linear one are
together."""

from __future__ import annotations

import re

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.rnn import Bidirectional, Layers
from tinygrad_rnn.nn.several import are_several

PART = "part_of_chain_"


class Part(NamedTuple):
    """One that has a state: a cell, and how it runs over time.

    step, initial  step(x, state) -> (y, state), and the state before the first step of so many sequences
    """

    module: Module
    step: Callable[[Any, Any], tuple[Any, Any]]
    initial: Callable[[int], Any]
    reverse: bool = False


def of_cell(cell: Cell, reverse: bool = False) -> Part:
    """A cell as a part."""
    return Part(cell, cell, cell.initial_state, reverse)


def modules_of(given: Any, who: str) -> list[Module]:
    """The modules that are meant, one after the other. TypeError if it is something else."""
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    for module in found:
        if not isinstance(module, Module):
            raise TypeError(f"{who}: module must be an nn.Module, or a list of them, got {type(module).__name__}")
    return found


def sequence_of(xs: Any, who: str) -> Tensor:
    """An example of what is read, as a tensor (T, B, I), or (T, B) of ids. ValueError if it is something else."""
    if are_several(xs):
        raise ValueError(f"{who}: xs must be one tensor, several inputs have no form in a file; concatenate them")
    xs = xs if isinstance(xs, Tensor) else tensor(xs)
    if xs.ndim not in (2, 3):
        raise ValueError(f"{who}: xs must be (T, B, I), or (T, B) of ids, got {xs.shape}")
    return xs


def part_of(module: Module) -> Part | None:
    """The module as a part, if it has one state and runs in one direction; None for one without a state."""
    if isinstance(module, Cell):
        return of_cell(module)
    if isinstance(module, Recurrent):
        return of_cell(module.cell, module.reverse)
    if isinstance(module, Layers) and not module.bidirectional:
        return of_cell(module.layers[0].cell)
    step, initial = (getattr(module, name, None) for name in ("step", "initial_state"))
    if callable(step) and callable(initial) and not isinstance(module, (Bidirectional, Layers)):
        return Part(module, step, initial)
    return None


class Chain(Module):
    """Modules as one step. The state is that of the one that has one, or a tuple if there are several.

    ValueError if a part needs to know the future.
    """

    def __init__(self, modules: Sequence[Module], who: str):
        for module in modules:
            part = part_of(module)
            if part.reverse if part is not None else isinstance(module, (Bidirectional, Layers)):
                name = type(module).__name__
                raise ValueError(f"{who}: {name} reads the future, which no step knows; export it by export.onnx")
        for i, module in enumerate(modules):
            setattr(self, f"{PART}{i}", module)
        self.count = len(modules)

    @property
    def parts(self) -> list[Module]:
        """The modules, first to last."""
        return [getattr(self, f"{PART}{i}") for i in range(self.count)]

    def initial_state(self, batch_size: int) -> Any:
        """That of each part that has one."""
        return self._state([part.initial(batch_size) for m in self.parts if (part := part_of(m)) is not None])

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step through all parts."""
        known = [part_of(m) for m in self.parts]
        given = iter([state] if sum(part is not None for part in known) == 1 else state)
        new = []
        for module, part in zip(self.parts, known, strict=True):
            if part is None:
                x = module(x)
            else:
                x, s = part.step(x, next(given))
                new.append(s)
        return x, self._state(new)

    @staticmethod
    def _state(states: list[Any]) -> Any:
        return states[0] if len(states) == 1 else tuple(states)


def own_name(name: str) -> str:
    """What a part of a chain calls its parameter."""
    return re.sub(rf"^{PART}\d+\.", "", name)
