"""The LLVM engine: the moving part of a schedule as machine code, one function forward and one backward.

What is computed once a call (weights put together, gradients taken apart) stays with NumPy. The batch is shared out to
workers, each of which runs the whole function for its rows: they meet only at the end.
"""

from __future__ import annotations

import dataclasses
import functools

from collections.abc import Callable, Sequence

import numpy as np

from tinygrad_rnn.autograd import blas
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm import panels, shared_products, workers
from tinygrad_rnn.compiler.llvm.assembly import Module
from tinygrad_rnn.compiler.llvm.builder import Code as FunctionCode
from tinygrad_rnn.compiler.llvm.machine import compiled
from tinygrad_rnn.compiler.llvm.one_dtype import dtype_of
from tinygrad_rnn.compiler.llvm.operands import Operands, Slots
from tinygrad_rnn.compiler.llvm.pipeline import PASSES
from tinygrad_rnn.compiler.llvm.table import Shares, Written, machine_code
from tinygrad_rnn.compiler.llvm.writer import Writer
from tinygrad_rnn.compiler.numpy.emit import emitted
from tinygrad_rnn.compiler.runtime.backend import Backend
from tinygrad_rnn.compiler.runtime.buffers import Buffers, Fresh
from tinygrad_rnn.compiler.runtime.layouts import Layouts
from tinygrad_rnn.compiler.runtime.memory import Arena
from tinygrad_rnn.compiler.runtime.program import Program, Run, inputs_of
from tinygrad_rnn.compiler.schedule.batch_rows import by_rows
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.places import Buffer
from tinygrad_rnn.compiler.schedule.policy import Nests
from tinygrad_rnn.compiler.schedule.schedule import Schedule, schedule

NAME = "llvm"
workers.when_started.append(lambda: blas.share_products(shared_products.product))


class Code:
    """A circuit from which programs are made, which share a schedule and its machine code: that knows no sizes.

    batch  the size in the circuit that stands for the size of any batch, or 0
    """

    def __init__(self, c: Circuit, batch: int):
        self.c, self.batch = c, batch
        self.written: dict[str, Written | None] = {}

    @functools.cached_property
    def s(self) -> Schedule:
        """The schedule for a batch of the size that stands for any."""
        return schedule(self.c, Nests())

    def machine(self, name: str, stages: Sequence[Stage]) -> Written | None:
        """The machine code of one direction, if there is something to do."""
        if name not in self.written:
            self.written[name] = _written(name, self.s, stages) if stages else None
        return self.written[name]

    def text(self, name: str) -> str:
        """The machine code of one direction as it was before LLVM, with comments."""
        stages = _moving(self.s, self.s.stages[_part(self.s, name)])
        return _module(name, self.s, stages, said=True)[0] if stages else ""

    def program(self, steps: int, batch: int, arena: Arena) -> Program:
        """A program for so many steps or fewer."""
        renaming = Renaming(self.batch, batch)
        s = renaming.schedule(self.s)
        buffers = Buffers(s, steps, arena, _fresh(s))
        run: dict[str, Run | None] = {}
        texts: list[Callable[[], str]] = []
        for name in ("forward", "backward"):
            part = _part(s, name)
            written = self.machine(name, _moving(self.s, self.s.stages[part]))
            again = written and _renamed(written, renaming)
            run[name], before, after = _direction(name, again, s.stages[part], buffers, batch, arena)
            texts += [before, functools.partial(self.text, name), after]
        return Program(buffers, batch, arena, run, texts)


def _part(s: Schedule, name: str) -> slice:
    """The stages of a direction."""
    return slice(s.first_backward) if name == "forward" else slice(s.first_backward, None)


def _moving(s: Schedule, stages: Sequence[Stage]) -> list[Stage]:
    """What is machine code: what is computed once a call stays with NumPy."""
    return [stage for stage in stages if s.flow.moves(stage.values[0]) or stage.values[0].op == "tsum"]


def _written(name: str, s: Schedule, stages: Sequence[Stage]) -> Written:
    """Machine code that computes some stages of a schedule."""
    text, writer = _module(name, s, stages)
    o = writer.o
    weights, convolutions = list(writer.products.weights), list(writer.convolutions.values)
    return Written(o.code.dtype, compiled(text), o.slots.numbers, weights, convolutions, o.by_rows)


def _module(name: str, s: Schedule, stages: Sequence[Stage], said: bool = False) -> tuple[str, Writer]:
    """The text of a module that computes some stages of a schedule, and what wrote it.

    said: with comments; what is compiled has none, so that cells share their machine code wherever they are written
    """
    module = Module(name)
    code = FunctionCode(module, name, 4, dtype_of(s.c), said=said)
    writer = Writer(Operands(code, s, Slots(), Layouts(s, 1, {}).of, by_rows(s)))
    writer.write(stages)
    return str(module), writer


def _renamed(written: Written, renaming: Renaming) -> Written:
    """The same machine code, said of the values of a schedule for another batch."""
    slots = {renaming.any(key): i for key, i in written.slots.items()}
    products, convolutions = renaming.values(written.products), renaming.values(written.convolutions)
    return dataclasses.replace(written, slots=slots, products=products, convolutions=convolutions)


def _fresh(s: Schedule) -> Fresh:
    """Where results are, bound to new arrays at each call from now on: an address in a table costs nothing."""
    fresh: Fresh = {"forward": [], "backward": []}
    early = {s.place[v].buffer for v in s.lifetimes.position if v in s.forward and v in s.place}
    for name, time in (("y", True), ("dx", True), ("dwatched", True), ("dcaptured", False)):
        for v in s.c.roots.get(name, ()):
            buffer = s.where(v).buffer if v is not None and v.op != "zeros" else None
            if buffer is not None and not buffer.bound and buffer.time == time:
                buffer.bound = True
                fresh["forward" if buffer in early else "backward"].append(buffer)
    return fresh


def _direction(
    name: str, written: Written | None, stages: Sequence[Stage], buffers: Buffers, batch: int, arena: Arena
) -> tuple[Run, Callable[[], str], Callable[[], str]]:
    """One direction of a program: what NumPy computes before, the machine code, what NumPy computes after it; and how
    people read what NumPy does."""
    s, code = buffers.s, _moving(buffers.s, stages)
    sums = [stage.values[0] for stage in code if stage.values[0].op == "tsum"]
    fixed = [stage for stage in stages if stage not in code]
    packs = [stage.values[0] for stage in fixed if panels.side_by_side(s, stage.values[0])]
    fixed = [stage for stage in fixed if stage.values[0] not in packs]
    after = _after(s.c, sums)
    first = emitted([stage for stage in fixed if stage.values[0] not in after], buffers)
    then = emitted([stage for stage in fixed if stage.values[0] in after], buffers)
    machine = None
    if written is not None:
        shares = Shares(written, s, sums, batch, arena)
        machine = machine_code(name, written, buffers, shares, [v for v in packs if len(v.shape) == 1])
    given = inputs_of(s) if name == "forward" else []
    run = _in_turn(given, first.finished(name), machine, then.finished(name))
    return run, first.source(f"{name}_before"), then.source(f"{name}_after")


def _after(c: Circuit, sums: list[Value]) -> set[Value]:
    """What is computed from sums over time."""
    found = set(sums)
    for v in c.order():
        if not found.isdisjoint(v.values):
            found.add(v)
    return found


def _in_turn(given: list[Buffer], *functions: Run | None) -> Run:
    """One function after the other, on arrays of which those that are given are made contiguous: the machine code knows
    only these."""
    present = [f for f in functions if f is not None]

    def run(bound: dict[Buffer, np.ndarray]) -> None:
        for buffer in given:
            if not bound[buffer].flags.c_contiguous:
                bound[buffer] = bound[buffer].copy()
        for f in present:
            f(bound)

    return run


backend = Backend(NAME, "cpu", PASSES, Code)
