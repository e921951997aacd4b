"""Recording: a step of a cell as it was compiled, and where to find what it captured."""

from __future__ import annotations

import itertools

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import Array, device_of, move
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.value import Unsupported, Value
from tinygrad_rnn.compiler.runtime.compiled_step import CompiledStep
from tinygrad_rnn.compiler.runtime.memory import Arenas
from tinygrad_rnn.compiler.runtime.programs import Programs
from tinygrad_rnn.nn.capture import Inventory
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.state_hooks import Hook


class RunOptions(NamedTuple):
    """How a Recurrent runs its cell over a sequence.

    step        step(x, state[, alive]) -> (y, new state)
    eager       eager(xs, state, alive[, steps]) -> (ys, the states after each step): the same step by step
    engines     the compiled engine, and those that take over where it cannot
    every       keep the state of every so many steps, or None
    all_states  is the state after each step wanted?
    hooks       what is shown the gradients of the state after each step
    reverse     from the last step to the first?
    tell        what is told why a slower engine runs the step
    device      where it runs
    form        how several inputs lie in xs, or None
    """

    step: Callable[..., tuple[Tensor, Any]]
    eager: Callable[..., tuple[Tensor, list[Any]]]
    engines: Any
    every: int | None
    all_states: bool
    hooks: tuple[Hook, ...]
    reverse: bool
    tell: Callable[[str], None]
    device: str
    form: Any = None


class Recording(NamedTuple):
    """A compiled step, and where to find at each call what it captured.

    compiled   the step and its programs
    sources    for each captured tensor: ("state", i), ("module", i), or the tensor or array itself
    outputs    y, with the number of each leaf in its place
    structure  the new state, the same way
    outside    the sources that are tensors, with the values that they are in the circuit
    pick       takes what was captured out of the leaves of the state and the module's tensors, if all of it is there
    moving     the leaves of the state that change from step to step
    looked_up  large arrays that it does not read as a whole but perhaps items of, and what they held
    """

    compiled: CompiledStep
    sources: list[Any]
    outputs: Any
    structure: Any
    outside: list[tuple[Tensor, Value]]
    pick: Callable[[list[Tensor]], Sequence[Tensor]] | None
    moving: list[int]
    looked_up: list[tuple[np.ndarray, np.ndarray]]

    def captured(self, given: list[Tensor], tensors: list[Tensor]) -> Sequence[Tensor]:
        """What the step captured, now. given: the leaves of the state  tensors: those of the module"""
        if self.pick is not None:
            return self.pick([*given, *tensors])
        return [current_tensor(source, given, tensors) for source in self.sources]


def record(
    cell: Module, options: RunOptions, xs: Tensor, state: Any, masked: bool, held: Inventory, arenas: Arenas,
    known: list[Programs],
) -> Recording:  # fmt: skip
    """Record and compile a step for such xs (T, B, I) and such a state. Unsupported where that is not possible.

    masked: is it told which sequences go on?  held: what the cell holds  arenas, known: shared with other recordings
    """
    flat, leaves, structure, names = flattened(cell, options.step, state, options.all_states)
    tracked, distinct = context.recording and xs.requires_grad, bool(options.hooks)
    step = CompiledStep(
        flat, Tensor(xs.array[0]), leaves, options.engines, arenas, known, masked=masked, x_tracked=tracked,
        backward=context.recording, distinct=distinct, **names,
    )  # fmt: skip
    sources = _sources(step, held, leaves)
    step.captured = []  # the first call's, with all that they were computed from
    pairs = zip(sources, step.circuit.captured, strict=True)
    outside = [(t, v) for t, v in pairs if isinstance(t, Tensor)]
    first = {"state": 0, "module": len(leaves)}
    places = [first[s[0]] + s[1] for s in sources if isinstance(s, tuple)]
    pick = itemgetter(*places) if len(places) == len(sources) > 1 else None
    moving = [i for i in range(len(leaves)) if i not in step.constant]
    looked_up = [(a, a.copy()) for a in held.named_arrays() if not any(a is s for s in sources)]
    outputs, new = structure[-1]
    return Recording(step, sources, outputs, new, outside, pick, moving, looked_up)


def _sources(step: CompiledStep, held: Inventory, leaves: list[Tensor]) -> list[Any]:
    """Where to find what a step captured, at each call (see Recording)."""
    positions = {id(t): ("module", i) for i, t in enumerate(held.tensors)}
    positions |= {id(s): ("state", i) for i, s in enumerate(leaves)}
    there = [_there(t, step.device) for t in step.captured]
    sources = [positions.get(id(t), t) for t in there]
    for t in sources:
        if isinstance(t, Tensor) and not t.is_leaf:
            raise Unsupported(
                "it reads a tensor that was computed outside and is not found from its code; make it an attribute of "
                "the cell, or a part of its state"
            )
    return sources


def _there(captured: Tensor | Array, device: str) -> Tensor | Array:
    """What was captured; of a number that NumPy has, one on the device. Unsupported if it is somewhere else."""
    at = captured.device if isinstance(captured, Tensor) else device_of(captured)
    if at == device:
        return captured
    if isinstance(captured, Tensor) or captured.ndim:
        raise Unsupported(f"it reads numbers on {at}, and its inputs are on {device}")
    return move(captured, device)


def still_valid(recording: Recording | Unsupported) -> bool:
    """May it be used again? What its key does not tell is compared: tensors found nowhere, items of large arrays."""
    if isinstance(recording, Unsupported):
        return True
    kind = lambda t: (t.shape, t.dtype, context.recording and t.requires_grad)
    tensors = all(kind(t) == (v.shape, v.dtype, v.tracked) for t, v in recording.outside)
    return tensors and all(np.array_equal(a, was, equal_nan=a.dtype.kind in "fc") for a, was in recording.looked_up)


def flattened(
    cell: Module, step: Callable, state: Any, all_states: bool = False
) -> tuple[Callable, list[Tensor], list[Any], dict[str, Any]]:
    """A step as a function of x and the leaves of the state, that returns lists of leaves.

    returns: the function; the leaves of this state; a list, to which each call of the function appends how y and the
    new state are built; what messages and pictures call things
    """
    structure: list[Any] = []

    def flat(x: Tensor, leaves: Sequence[Tensor], *alive: Any) -> tuple[list[Tensor], list[Tensor]]:
        rest = iter(leaves)
        y, new = step(x, nest.map_leaves(lambda _: next(rest), state), *alive)
        structure.append((_numbered(y), _numbered(new)))
        ys, new = nest.leaves(y), nest.leaves(new)
        return [*ys, *new] if all_states else ys, new

    structure_of(state)
    leaves = [Tensor(s.array, s.node) for s in nest.leaves(state)]  # each another one, which the state's need not be
    names = {id(p): path for path, p in (*cell.named_buffers(), *cell.named_parameters())}
    names |= {id(s): path.removeprefix("state.") for s, path in zip(leaves, nest.paths(state), strict=True)}
    return flat, leaves, structure, {"names": names, "who": type(cell).__name__}


def _numbered(state: Any) -> Any:
    """A nest with the number of each leaf in its place."""
    count = itertools.count()
    return nest.map_leaves(lambda _: next(count), state)


def structure_of(state: Any) -> Any:
    """How a nest is built, with shapes and dtypes: equal for equal ones."""
    if isinstance(state, Tensor):
        return (state.array.shape, state.array.dtype, context.recording and state.requires_grad)
    if isinstance(state, tuple):
        return (type(state), *map(structure_of, state))
    if nest.is_leaf(state):
        raise Unsupported(f"its state must be a nest of tensors, got {type(state).__name__}")
    return nest.structure(state, structure_of)


def current_tensor(source: Any, given: list[Tensor], tensors: list[Tensor]) -> Tensor:
    """What a source (see Recording) stands for now. given: the leaves of the state  tensors: those of the module"""
    if isinstance(source, Tensor):
        return source
    if not isinstance(source, tuple):  # a copy: its owner may write into it before backward
        return Tensor(source.copy())
    kind, i = source
    return given[i] if kind == "state" else tensors[i]
