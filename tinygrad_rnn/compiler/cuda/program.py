"""The CUDA engine: a schedule as kernels, with products by cuBLAS between them, on the device of its arrays.

The host does nothing but launch: no array is read, and none is copied to the device.
"""

from __future__ import annotations

import functools
import itertools
import math

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.devices import load_cupy
from tinygrad_rnn.compiler.cuda.calls import Outputs, Site, Step, call
from tinygrad_rnn.compiler.cuda.cublas import library, workspace
from tinygrad_rnn.compiler.cuda.graphs import Fixed, Replays, Steady
from tinygrad_rnn.compiler.cuda.listing import launches, listing
from tinygrad_rnn.compiler.cuda.pipeline import PASSES
from tinygrad_rnn.compiler.cuda.scan import said
from tinygrad_rnn.compiler.cuda.threads import WARP
from tinygrad_rnn.compiler.cuda.writer import Action, Launch, Part, Written, written
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.runtime.backend import Backend, Told
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.runtime.layouts import Layouts
from tinygrad_rnn.compiler.runtime.memory import Arena, address
from tinygrad_rnn.compiler.runtime.program import Program, Run, inputs_of
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming
from tinygrad_rnn.compiler.schedule.places import Buffer
from tinygrad_rnn.compiler.schedule.policy import Nests
from tinygrad_rnn.compiler.schedule.schedule import Schedule, schedule

NAME = "cuda"
OPTIONS = ("-std=c++17",)


class Code:
    """A circuit from which programs are made, which share a schedule and its kernels: those know no sizes.

    batch  the size in the circuit that stands for the size of any batch, or 0
    """

    def __init__(self, c: Circuit, batch: int):
        self.c, self.batch = c, batch

    @functools.cached_property
    def s(self) -> Schedule:
        """The schedule for a batch of the size that stands for any."""
        return schedule(self.c, Nests(accumulate=False, one_shape=True, copies_in=True))

    @functools.cached_property
    def written(self) -> dict[str, Written]:
        """What was written, forward and backward."""
        first = self.s.first_backward
        return {"forward": written(self.s, self.s.stages[:first]), "backward": written(self.s, self.s.stages[first:])}

    def program(self, steps: int, batch: int, arena: Arena) -> Program:
        """A program for so many steps or fewer."""
        renaming = Renaming(self.batch, batch)
        buffers = Buffers(renaming.schedule(self.s), steps, arena)
        make = {name: Actions(name, w.text(), renaming, buffers) for name, w in self.written.items()}
        run = {name: run_of(w, make[name], buffers, name == "forward") for name, w in self.written.items()}
        texts = [functools.partial(listing, name, w) for name, w in self.written.items()]
        told: dict[str, list[Told]] = {name: [*launches(w), *make[name].notes] for name, w in self.written.items()}
        return Program(buffers, batch, arena, run, texts, told)


def run_of(w: Written, make: Actions, buffers: Buffers, forward: bool) -> Run | None:
    """What was written for one direction, as a function of the arrays that are bound at a call."""
    if not w.parts:
        return None
    parts = [(part, make.ready(part, part.actions), make.ready(part, part.turn or ())) for part in w.parts]
    given = [b for b in inputs_of(buffers.s) if b.bound] if forward else []
    steady, replays, space = Steady(buffers.device), Replays(), workspace(buffers.arena)

    def run(bound: dict[Buffer, Array]) -> None:
        for buffer in given:
            bound[buffer] = steady(buffer, bound[buffer])
        T = buffers.steps.T
        ready = [_Ready(part, [r() for r in actions], [r() for r in turn], T) for part, actions, turn in parts]
        for fixed, group in itertools.groupby(ready, lambda r: r.where is not None):
            several = list(group)
            launch = functools.partial(_launch, several, space)
            if fixed:
                key = T, *[r.where for r in several]
                replays.run(key, sum([r.launches for r in several]), launch)
            else:
                launch()

    return run


class _Ready:
    """A part whose arrays are known, for so many steps.

    where     the addresses that it was given, if it does nothing but launch; else None
    launches  how often it launches something
    """

    def __init__(self, part: Part, actions: Sequence[Step | Fixed], turn: Sequence[Step | Fixed], T: int):
        self.steps = range(1) if not part.loop else range(T - 1, -1, -1) if part.backward else range(T)
        fixed = [a for a in (*actions, *turn) if isinstance(a, Fixed)]
        self.where = tuple([a.where for a in fixed]) if len(fixed) == len(actions) + len(turn) else None
        self.actions, self.turn = [[a.run if isinstance(a, Fixed) else a for a in each] for each in (actions, turn)]
        self.launches = len(self.steps) * (sum([a.launches for a in fixed[: len(actions)]]) + bool(turn)) + bool(turn)

    def run(self) -> None:
        """Do it all."""
        actions, steps = self.actions, self.steps
        if not self.turn:
            for t in steps:
                for action in actions:
                    action(t)
            return
        begin, between, end = self.turn
        begin(steps[0])
        for t in steps:
            for action in actions:
                action(t)
            (end if t == steps[-1] else between)(t)


def _launch(several: Sequence[_Ready], space: Array) -> None:
    library().begin(space)  # on the current stream, which is another one while a graph is made
    for each in several:
        each.run()


class Actions:
    """Makes what was written into functions, for the buffers of a program.

    direction, text  forward or backward, and the kernels
    layouts          of the program's values, however many steps are run
    outputs          what operations with several outputs returned last
    notes            which way each loop is run that there are two ways for
    """

    def __init__(self, direction: str, text: str, renaming: Renaming, buffers: Buffers):
        self.direction, self.text, self.renaming, self.buffers = direction, text, renaming, buffers
        self.layouts = Layouts(buffers.s, buffers.capacity, {})
        self.outputs: Outputs = {}
        self.notes: list[Callable[[], str]] = []

    def ready(self, part: Part, actions: Sequence[Action]) -> list[Callable[[], Step | Fixed]]:
        """For each action what is called at the beginning of a run, and returns what does it at a step."""
        site = Site(self.buffers, self.layouts, part.loop, self.outputs)
        return [self._launch(a) if isinstance(a, Launch) else call(self.renaming.value(a.value), site) for a in actions]

    def _launch(self, launch: Launch) -> Callable[[], Fixed]:
        launcher = lambda way: Launcher(way, self.text, self.renaming, self.layouts, self.buffers)
        if launch.scan is None:
            return launcher(launch)
        scan, in_turn, head = (
            launcher(launch.scan),
            launcher(launch),
            f"the loop {launch.kernel.name}, {self.direction}",
        )
        self.notes.append(lambda: f"{head}: {said(scan.sizes)}")
        return lambda: (scan if scan.sizes else in_turn)()


class Launcher:
    """A kernel with the table of a program, ready to be launched at any step.

    table  what the kernel reads; entries: the same memory as integers
    given  the entries that are addresses of what a call is given: (entry, buffer, so many bytes behind its start)
    sizes  (blocks, threads of each), for the steps that are run; None if there is nothing to compute or it does not pay
    """

    sizes: tuple | None = None

    def __init__(self, launch: Launch, text: str, renaming: Renaming, layouts: Layouts, buffers: Buffers):
        self.buffers = buffers
        self.function = compiled(text, buffers.device).get_function(launch.kernel.name)
        keys = [tuple(renaming.any(key)) for key in launch.kernel.fields]
        self.entries = np.zeros(len(keys), np.int64)
        self.table = self.entries.view(np.dtype((np.void, self.entries.nbytes)))
        self.given: list[tuple[int, Buffer, int]] = []
        for n, (kind, *key) in enumerate(keys):
            self._fill(n, kind, key, layouts)
        timed = [n for n, key in enumerate(keys) if key == ("T",)]
        shapes = [renaming.value(v).shape for v in launch.grid.over]
        buffers.steps.depends(
            lambda: launch.grid.of(shapes, buffers.steps.T), functools.partial(self._aim, timed, shapes)
        )

    def _fill(self, n: int, kind: str, key: Sequence[Any], layouts: Layouts) -> None:
        if kind == "T":
            return
        v = key[0]
        if kind == "n":
            self.entries[n] = v.shape[key[1]]
            return
        like, buffer = layouts.of(v), layouts.s.where(v).buffer
        offset = address(like) - address(layouts.base(buffer))
        if kind == "time":
            self.entries[n] = like.strides[0] // like.itemsize
        elif kind == "stride":
            self.entries[n] = like.strides[key[1] + buffer.time] // like.itemsize
        elif buffer.bound:
            self.given.append((n, buffer, offset))
        else:
            self.entries[n] = address(self.buffers.arrays[buffer]) + offset

    def _aim(self, timed: Sequence[int], shapes: Sequence[tuple[int, ...]], sizes: tuple | None) -> None:
        """Run other numbers of steps from now on."""
        for n in timed:
            self.entries[n] = self.buffers.steps.T
        self.sizes = None if sizes is None or all(0 in shape for shape in shapes) else self._fitting(*sizes)

    def _fitting(self, blocks: tuple, threads: tuple) -> tuple:
        """(blocks, threads of each): as many threads of a row as there are registers for, if each uses many."""
        most = self.function.max_threads_per_block
        return blocks, threads if math.prod(threads) <= most else (most // WARP * WARP,)

    def __call__(self) -> Fixed:
        """What launches it at a step, for what the call is given."""
        where = [address(self.buffers.bound[buffer]) + offset for _, buffer, offset in self.given]
        for (n, _, _), at in zip(self.given, where, strict=True):
            self.entries[n] = at
        function, table = self.function, self.table
        if self.sizes is None:
            return Fixed(lambda t: None)
        blocks, threads = self.sizes
        return Fixed(lambda t: function(blocks, threads, (table, t)), tuple(where))


@functools.lru_cache(1 << 10)
def compiled(text: str, device: str) -> Any:
    """The kernels of a text, for a device."""
    return load_cupy().RawModule(code=text, options=OPTIONS)


backend = Backend(NAME, "gpu", PASSES, Code)
