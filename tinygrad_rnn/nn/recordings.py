"""Compiled: the recordings of one Recurrent's cell, and what they are recorded for."""

from __future__ import annotations

import itertools
import threading

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import nest, random
from tinygrad_rnn.autograd.graph import context, recording
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.call import Call, recurrent
from tinygrad_rnn.compiler.runtime.compiled_step import Layer, Unsupported
from tinygrad_rnn.compiler.runtime.memory import Arenas
from tinygrad_rnn.compiler.runtime.plan import report, size
from tinygrad_rnn.compiler.runtime.programs import Programs
from tinygrad_rnn.compiler.runtime.settle import settled
from tinygrad_rnn.nn.capture import Inventory
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recompiling import MANY, tell
from tinygrad_rnn.nn.state_hooks import Hook, followed, show, zeros
from tinygrad_rnn.ops import stack

LAYERS = 256  # recordings kept, one for each combination of shapes
TRIES = 8  # calls at which recording is tried although it failed before


class Job(NamedTuple):
    """How a Recurrent runs its cell over a sequence.

    step        step(x, state[, alive]) -> (y, new state)
    eager       eager(xs, state, alive[, steps]) -> (ys, the states after each step): the same step by step
    engine      the compiled engine, and those that take over where it cannot
    every       keep the state of every so many steps, or None
    all_states  is the state after each step wanted?
    hooks       what is shown the gradients of the state after each step
    reverse     from the last step to the first?
    tell        what is told why a slower engine runs the step
    """

    step: Callable[..., tuple[Tensor, Any]]
    eager: Callable[..., tuple[Tensor, list[Any]]]
    engine: Any
    every: int | None
    all_states: bool
    hooks: tuple[Hook, ...]
    reverse: bool
    tell: Callable[[str], None]


class Recording(NamedTuple):
    """A layer, and where to find at each call what it captured.

    sources    for each captured tensor: ("state", i), ("module", i), or the tensor or array itself
    outputs    y, with the number of each leaf in its place
    structure  the new state, the same way
    outside    the sources that are tensors, with the values that they are in the circuit
    pick       takes what was captured out of the leaves of the state and the module's tensors, if all of it is there
    moving     the leaves of the state that change from step to step
    looked_up  large arrays that it does not read as a whole but perhaps items of, and what they held
    """

    layer: Layer
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
        return [_bound(source, given, tensors) for source in self.sources]


class Asks:
    """Who has a program while a plan is written."""


class Compiled:
    """The recordings of a cell, by shapes and by what its modules hold.

    recordings  the one found last comes last; for a step that cannot be compiled, why; each with what its key knows by
                identity
    last        the cell's inventory, and the recordings for what it holds by what they are for: a shorter way to them
    failed      what could not be recorded: why, and how many calls ago
    arenas      the memory that all of them use, one after the other
    programs    those of the steps recorded last, which may serve batches of other sizes
    count       how many there have been; counted: the last ones of them
    before      the key of the last recording
    """

    last: tuple[Inventory, dict[tuple, Recording]] | None = None

    def __init__(self) -> None:
        self.recordings: dict[Any, tuple[Recording | Unsupported, list[Any]]] = {}
        self.failed: dict[tuple, tuple[Unsupported, int]] = {}
        self.arenas = Arenas()
        self.programs: list[Programs] = []
        self.count, self.counted, self.before = 0, list[Programs](), None
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return Compiled, ()  # neither copied nor pickled

    def __call__(self, cell: Module, job: Job, xs: Tensor, state: Any, alive: Any) -> tuple[Tensor, Any]:
        """Run the cell over xs. Unsupported if its step cannot be compiled."""
        given = nest.leaves(state)
        recording, held = self.find(cell, job, xs, state, alive is not None)
        layer = recording.layer
        moving = [_fit(given[i], layer.states[i].array) for i in recording.moving]
        moving = followed(moving) if job.hooks and context.recording else moving
        captured = recording.captured(given, held.tensors)
        inputs = [xs, *moving, *captured]
        call = Call(layer, len(xs), alive, job.every, job.reverse)
        call.eager = partial(_again, held, recording, job, state, alive)
        if job.hooks:
            call.watcher = partial(_show, recording, job.hooks, len(xs))
        keep = context.recording and any(t.requires_grad for t in inputs)
        found = recurrent(*inputs, call=call, keep=keep)
        if layer.slower:
            job.tell(f'by the engine "{layer.engine.NAME}", because "llvm" cannot: {layer.slower}')
        if recording.outputs == 0:
            ys, *new = found
        else:  # more than one tensor
            ys = nest.map_leaves(found.__getitem__, recording.outputs)
            new = found[len(nest.leaves(ys)) :]
        if job.all_states:
            return ys, nest.map_leaves(new.__getitem__, recording.structure)
        leaves = list(given if context.recording else [s.detach() for s in given])
        for i, s in zip(recording.moving, new, strict=True):
            leaves[i] = s
        return ys, nest.map_leaves(leaves.__getitem__, recording.structure)

    def plan(self, cell: Module, job: Job, xs: Tensor, state: Any, masked: bool) -> tuple[Layer, list[str], int]:
        """What would run a call, what it does, and the bytes that it needs."""
        recording, _ = self.find(cell, job, xs, state, masked)
        layer, T, every = recording.layer, len(xs), job.every
        asks = Asks()
        program = layer.acquire(min(T, every or T), asks)
        lines, nbytes = list(report(program)), program.nbytes
        layer.release(asks)
        if every:
            kept = sum(s.array.nbytes for i, s in enumerate(layer.states) if i not in layer.constant) * -(-T // every)
            lines.append(f"for {every} steps at a time; the states before each such part: {size(kept)}")
            nbytes += kept
        return layer, lines, nbytes

    def find(self, cell: Module, job: Job, xs: Tensor, state: Any, masked: bool) -> tuple[Recording, Inventory]:
        """The recording for these shapes and this cell as it is now, and what the cell holds."""
        shapes = (xs.array.shape[1:], xs.array.dtype, context.recording and xs.requires_grad, _structure(state))
        asked = (job.engine[0].NAME, masked, context.recording, job.all_states, bool(job.hooks), shapes)
        last = self.last
        if last is None or not last[0].unchanged(cell):
            last = Inventory(cell), {}
        held, quick = last
        if asked in quick and _is_of_now(quick[asked]):
            return quick[asked], held
        key = (asked, held.key)
        with self.lock:
            found = self.recordings.pop(key, None)
            if found is not None and _is_of_now(found[0]):
                self.recordings[key] = found
            else:
                found = None
        if found is None:
            made: Any = self._held_back(asked)
            if made is not None:
                raise type(made)(*made.args)
            try:
                held.check()
                with held.kept():
                    made = _record(cell, job, xs, state, masked, held, self.arenas, self.programs)
                self.failed.pop(asked, None)
            except Unsupported as reason:
                made = type(reason)(*reason.args)  # without the traceback, which holds all that was recorded
                self.failed[asked] = made, self.failed.get(asked, (made, 1))[1]
            found = made, held.others
            self._count(cell, key, made)
            with self.lock:
                self.recordings[key] = found
                if len(self.recordings) > LAYERS:
                    self.recordings.pop(next(iter(self.recordings)))
        if isinstance(found[0], Unsupported):
            raise type(found[0])(*found[0].args)
        if len(quick) > LAYERS:
            quick.clear()
        quick[asked] = found[0]
        self.last = last  # only now: a cell that cannot be compiled may hold a whole graph
        return found[0], held

    def _held_back(self, asked: tuple) -> Unsupported | None:
        """Why recording is not tried now: it failed a few times, and is tried again after as many calls as so far.

        A cell that counts its steps is another one at each call, which to find out costs more than to run it.
        """
        if asked not in self.failed:
            return None
        reason, calls = self.failed[asked]
        self.failed[asked] = reason, calls + 1
        return reason if calls > TRIES and calls & (calls - 1) else None

    def _count(self, cell: Module, key: Any, made: Recording | Unsupported) -> None:
        """Count what was compiled; a recording that has the programs of another one was not."""
        if isinstance(made, Recording) and made.layer.programs not in self.counted:
            self.count += 1
            if self.count == MANY:
                tell(type(cell), self.before, key)
        self.counted, self.before = list(self.programs), key


def _record(
    cell: Module, job: Job, xs: Tensor, state: Any, masked: bool, held: Inventory, arenas: Arenas, known: list[Programs]
) -> Recording:
    flat, leaves, structure, options = _flattened(cell, job.step, state, job.all_states)
    layer = Layer(
        flat, Tensor(xs.array[0]), leaves, job.engine, arenas, known, masked=masked,
        x_tracked=context.recording and xs.requires_grad, backward=context.recording, distinct=bool(job.hooks),
        **options,
    )  # fmt: skip
    positions = {id(t): ("module", i) for i, t in enumerate(held.tensors)}
    positions |= {id(s): ("state", i) for i, s in enumerate(leaves)}
    sources = [positions.get(id(t), t) for t in layer.captured]
    for t in sources:
        if isinstance(t, Tensor) and not t.is_leaf:
            raise Unsupported(
                "it reads a tensor that was computed outside and is not found from its code; make it an attribute of "
                "the cell, or a part of its state"
            )
    layer.captured = []  # the first call's, with all that they were computed from
    pairs = zip(sources, layer.circuit.captured, strict=True)
    outside = [(t, v) for t, v in pairs if isinstance(t, Tensor)]
    first = {"state": 0, "module": len(leaves)}
    places = [first[s[0]] + s[1] for s in sources if isinstance(s, tuple)]
    pick = itemgetter(*places) if len(places) == len(sources) > 1 else None
    moving = [i for i in range(len(leaves)) if i not in layer.constant]
    looked_up = [(a, a.copy()) for a in held.named_arrays() if not any(a is s for s in sources)]
    outputs, new = structure[-1]
    return Recording(layer, sources, outputs, new, outside, pick, moving, looked_up)


def _is_of_now(recording: Recording | Unsupported) -> bool:
    """Is what the key does not know as it was: tensors that are found nowhere, items of large arrays?"""
    if isinstance(recording, Unsupported):
        return True
    kind = lambda t: (t.shape, t.dtype, context.recording and t.requires_grad)
    tensors = all(kind(t) == (v.shape, v.dtype, v.tracked) for t, v in recording.outside)
    return tensors and all(np.array_equal(a, was, equal_nan=a.dtype.kind in "fc") for a, was in recording.looked_up)


def _flattened(
    cell: Module, step: Callable, state: Any, all_states: bool = False
) -> tuple[Callable, list[Tensor], list[Any], dict[str, Any]]:
    """A step on lists of leaves, those of the state, where it leaves how y and the new one are built; names to use."""
    structure: list[Any] = []

    def flat(x: Tensor, leaves: Sequence[Tensor], *alive: Any) -> tuple[list[Tensor], list[Tensor]]:
        rest = iter(leaves)
        y, new = step(x, nest.map_leaves(lambda _: next(rest), state), *alive)
        structure.append((_numbered(y), _numbered(new)))
        ys, new = nest.leaves(y), nest.leaves(new)
        return [*ys, *new] if all_states else ys, new

    _structure(state)
    leaves = [Tensor(s.array, s.node) for s in nest.leaves(state)]  # each another one, which the state's need not be
    names = {id(p): path for path, p in (*cell.named_buffers(), *cell.named_parameters())}
    names |= {id(s): path.removeprefix("state.") for s, path in zip(leaves, nest.paths(state), strict=True)}
    return flat, leaves, structure, {"names": names, "who": type(cell).__name__}


def circuit(cell: Any, x: Tensor, state: Any = None) -> Circuit:
    """One step of a cell, forward and backward, as the compiler records it; print it to read it as a program.

    cell: or an nn.Recurrent, or a layer, of one cell  x: (B, I)  state: as the cell's; None for its initial state

    TypeError if the step reads a value, ValueError if it cannot be recorded for another reason.
    """
    cell = _only_cell(cell)
    state = cell.initial_state(len(x)) if state is None else state
    if cell._name.unread:  # so that drawings know what its code calls what it computes
        with suppress(Unsupported), Inventory(cell).kept(), random.untouched(), recording(True):
            cell(x, state)
    try:
        flat, leaves, _, options = _flattened(cell, cell, state)
        held = Inventory(cell)
        held.check()
        with held.kept():
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


def _numbered(state: Any) -> Any:
    """A nest with the number of each leaf in its place."""
    count = itertools.count()
    return nest.map_leaves(lambda _: next(count), state)


def _fit(given: Tensor, expected: Any) -> Tensor:
    """A state in the shape and dtype that the step keeps."""
    array = given.array
    if array.shape == expected.shape and array.dtype == expected.dtype:
        return given
    return given.broadcast_to(expected.shape).astype(expected.dtype)


def _bound(source: Any, given: list[Tensor], tensors: list[Tensor]) -> Tensor:
    if isinstance(source, Tensor):
        return source
    if isinstance(source, np.ndarray):  # a copy: its owner may write into it before backward
        return Tensor(source.copy())
    kind, i = source
    return given[i] if kind == "state" else tensors[i]


def _again(
    held: Inventory, recording: Recording, job: Job, state: Any, alive: Any, tensors: Sequence[Tensor],
    steps: Sequence[int] | None = None,
) -> list[Tensor]:  # fmt: skip
    """The call once more, step by step, from the same tensors; of all steps, or of some. held: what its cell held"""
    given, constant = nest.leaves(state), recording.layer.constant
    n = 1 + len(given) - len(constant)
    moving = iter(tensors[1:n])
    leaves = iter([s if i in constant else next(moving) for i, s in enumerate(given)])
    captured = recording.captured(given, held.tensors)
    with held.as_it_was(), _with_values(captured, tensors[n:]):
        ys, states = job.eager(tensors[0], nest.map_leaves(lambda _: next(leaves), state), alive, steps)
    every = [stack(each) for each in zip(*map(nest.leaves, states), strict=True)] if job.all_states else []
    last = states[0 if job.reverse else -1]
    return [*nest.leaves(ys), *every, *(s for i, s in enumerate(nest.leaves(last)) if i not in constant)]


def _show(recording: Recording, hooks: tuple[Hook, ...], T: int, grads: list[Any]) -> None:
    """Show the hooks the gradients of the state after each step; None for zeros."""
    pairs = zip(grads, recording.layer.states, strict=True)
    show(hooks, recording.structure, [zeros(s, T) if g is None else Tensor(g) for g, s in pairs])


@contextmanager
def _with_values(tensors: Sequence[Tensor], were: Sequence[Tensor]) -> Iterator[None]:
    """Inside the block tensors have the values that they had, though they have been trained since."""
    now = [(t.array, t.node) for t in tensors]
    _set(tensors, [(t.array, t.node) for t in were])
    try:
        yield
    finally:
        _set(tensors, now)


def _set(tensors: Sequence[Tensor], contents: list[tuple]) -> None:
    for t, (array, node) in zip(tensors, contents, strict=True):
        t.array, t.node = array, node


def _structure(state: Any) -> Any:
    """How a nest is built, with shapes and dtypes: equal for equal ones."""
    if isinstance(state, Tensor):
        return (state.array.shape, state.array.dtype, context.recording and state.requires_grad)
    if isinstance(state, tuple):
        return (type(state), *map(_structure, state))
    if nest.is_leaf(state):
        raise Unsupported(f"its state must be a nest of tensors, got {type(state).__name__}")
    return nest.structure(state, _structure)
