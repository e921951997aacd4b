"""Recordings: those of one Recurrent's cell, found again by what they were made for."""

from __future__ import annotations

import threading

from collections.abc import Callable
from functools import partial
from typing import Any

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.runtime.call import Call, recurrent
from tinygrad_rnn.compiler.runtime.compiled_step import CompiledStep
from tinygrad_rnn.compiler.runtime.memory import Arenas
from tinygrad_rnn.compiler.runtime.plan import report, size
from tinygrad_rnn.compiler.runtime.programs import Programs
from tinygrad_rnn.nn.capture import Inventory
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recompiling import MANY, tell
from tinygrad_rnn.nn.recording import Recording, RunOptions, record, still_valid, structure_of
from tinygrad_rnn.nn.replay import replay, show_gradients
from tinygrad_rnn.nn.state_hooks import followed

MOST_RECORDINGS = 256  # recordings kept, one for each combination of shapes
TRIES = 8  # calls at which recording is tried although it failed before


class Borrower:
    """Who has a program while a plan is written."""


class Recordings:
    """The recordings of a cell, by shapes and by what its modules hold.

    by_key    the recordings, the one used last comes last; for a step that cannot be compiled, why; each with what its
              key knows by identity
    last      the cell's inventory, and the recordings for what it holds by what they are for: a shorter way to them
    failed    what could not be recorded: why, and how many calls ago
    arenas    the memory that all of them use, one after the other
    programs  those of the steps recorded last, which may serve batches of other sizes
    count     how many there have been; counted: the last ones of them
    before    the key of the last recording
    """

    last: tuple[Inventory, dict[tuple, Recording]] | None = None

    def __init__(self) -> None:
        self.by_key: dict[Any, tuple[Recording | Unsupported, list[Any]]] = {}
        self.failed: dict[tuple, tuple[Unsupported, int]] = {}
        self.arenas = Arenas()
        self.programs: list[Programs] = []
        self.count, self.counted, self.before = 0, list[Programs](), None
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return Recordings, ()  # neither copied nor pickled

    def __call__(
        self, cell: Module, options: RunOptions, xs: Tensor, state: Any, alive: Any, there: Any = None
    ) -> tuple[Tensor, Any]:
        """Run the cell over xs. Unsupported if its step cannot be compiled. there: `alive` beside xs, if it is there"""
        given = nest.leaves(state)
        recording, held = self.recording_for(cell, options, xs, state, alive is not None)
        step = recording.compiled
        moving = [_fitted(given[i], step.states[i].array) for i in recording.moving]
        moving = followed(moving) if options.hooks and context.recording else moving
        captured = recording.captured(given, held.tensors)
        inputs = [xs, *moving, *captured]
        call = Call(step, len(xs), alive if there is None else there, options.every, options.reverse)
        call.eager = partial(replay, recording, held, options, state, alive)
        if options.hooks:
            call.watcher = partial(show_gradients, recording, options.hooks, len(xs))
        keep = context.recording and any(t.requires_grad for t in inputs)
        found = recurrent(*inputs, call=call, keep=keep)
        if step.slower:
            first = options.engines[0].name
            options.tell(f'by the engine "{step.engine.name}", because "{first}" cannot: {step.slower}')
        if recording.outputs == 0:
            ys, *new = found
        else:  # more than one tensor
            ys = nest.map_leaves(found.__getitem__, recording.outputs)
            new = found[len(nest.leaves(ys)) :]
        if options.all_states:
            return ys, nest.map_leaves(new.__getitem__, recording.structure)
        leaves = list(given if context.recording else [s.detach() for s in given])
        for i, s in zip(recording.moving, new, strict=True):
            leaves[i] = s
        return ys, nest.map_leaves(leaves.__getitem__, recording.structure)

    def plan(
        self, cell: Module, options: RunOptions, xs: Tensor, state: Any, masked: bool
    ) -> tuple[CompiledStep, list[str], int, Callable[[], str]]:
        """What would run a call, what it does, the bytes that it needs, and what makes the text of its code."""
        recording, _ = self.recording_for(cell, options, xs, state, masked)
        step, T, every = recording.compiled, len(xs), options.every
        borrower = Borrower()
        program = step.acquire(min(T, every or T), borrower)
        lines, nbytes, source = list(report(program)), program.nbytes, program.source
        step.release(borrower)
        if every:
            kept = sum(s.array.nbytes for i, s in enumerate(step.states) if i not in step.constant) * -(-T // every)
            lines.append(f"for {every} steps at a time; the states before each such part: {size(kept)}")
            nbytes += kept
        return step, lines, nbytes, source

    def recording_for(
        self, cell: Module, options: RunOptions, xs: Tensor, state: Any, masked: bool
    ) -> tuple[Recording, Inventory]:
        """The recording for these shapes and this cell as it is now, and what the cell holds. Unsupported if none can
        be made."""
        shapes = (xs.array.shape[1:], xs.array.dtype, context.recording and xs.requires_grad, structure_of(state))
        engine = options.engines[0].name, options.device, options.form
        asked = (*engine, masked, context.recording, options.all_states, bool(options.hooks), shapes)
        last = self.last
        if last is None or not last[0].unchanged(cell):
            last = Inventory(cell), {}
        held, quick = last
        if asked in quick and still_valid(quick[asked]):
            return quick[asked], held
        found = self._known((asked, held.key))
        if found is None:
            found = self._made(asked, held, cell, options, xs, state, masked)
        if isinstance(found, Unsupported):
            raise type(found)(*found.args)
        if len(quick) > MOST_RECORDINGS:
            quick.clear()
        quick[asked] = found
        self.last = last  # only now: a cell that cannot be compiled may hold a whole graph
        return found, held

    def _known(self, key: Any) -> Recording | Unsupported | None:
        """What was recorded before by this key, if it is still valid."""
        with self.lock:
            found = self.by_key.pop(key, None)
            if found is None or not still_valid(found[0]):
                return None
            self.by_key[key] = found
            return found[0]

    def _made(
        self, asked: tuple, held: Inventory, cell: Module, options: RunOptions, xs: Tensor, state: Any, masked: bool
    ) -> Recording | Unsupported:
        """A new recording, or why there is none."""
        made: Any = self._held_back(asked)
        if made is not None:
            return made
        try:
            held.check()
            with held.restoring():
                made = record(cell, options, xs, state, masked, held, self.arenas, self.programs)
            self.failed.pop(asked, None)
        except Unsupported as reason:
            made = type(reason)(*reason.args)  # without the traceback, which holds all that was recorded
            self.failed[asked] = made, self.failed.get(asked, (made, 1))[1]
        key = (asked, held.key)
        self._count(cell, key, made)
        with self.lock:
            self.by_key[key] = made, held.others
            if len(self.by_key) > MOST_RECORDINGS:
                self.by_key.pop(next(iter(self.by_key)))
        return made

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
        if isinstance(made, Recording) and made.compiled.programs not in self.counted:
            self.count += 1
            if self.count == MANY:
                tell(type(cell), self.before, key)
        self.counted, self.before = list(self.programs), key


def _fitted(given: Tensor, expected: Any) -> Tensor:
    """A state in the shape and dtype that the step keeps."""
    array = given.array
    if array.shape == expected.shape and array.dtype == expected.dtype:
        return given
    return given.broadcast_to(expected.shape).astype(expected.dtype)
